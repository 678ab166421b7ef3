//! `destroy` and `rollback`.

use crate::lab::{Kind, Lab, Print, kind};
use std::path::Path;

#[test]
fn destroy_takes_the_be_with_what_is_nested_its_entry_and_its_facts() {
    let lab = Lab::new();
    lab.bootenv(&["create", "-d", "text", "blue"]).ok();
    let outer = lab.nest("blue", "var/lib/machines");
    lab.nest_at(&outer.join("inner"), "touch file");
    let before = lab.print_without("blue");
    let uuid = lab.be("blue")["uuid"].as_str().unwrap().to_string();
    lab.bootenv(&["destroy", "blue"]).ok();
    before.assert_same(&lab.print_without("blue"), "destroy changed something else");
    assert!(!lab.holds("blue"));
    assert_eq!(lab.names(), ["default"]);
    assert_eq!(lab.entry("blue"), None);
    assert!(!lab.print().has(&format!("BOOTENV/facts/{uuid}.toml")));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn destroy_of_a_snapshot() {
    let lab = Lab::new();
    lab.nest("default", "var/lib/machines");
    lab.bootenv(&["create", "default@a"]).ok();
    lab.bootenv(&["create", "-d", "text", "default@b"]).ok();
    let before = Print::of(&lab.files("default"));
    lab.bootenv(&["destroy", "default@b"]).ok();
    assert!(lab.holds("default@a") && !lab.holds("default@b"));
    before.assert_same(&Print::of(&lab.files("default")), "the BE was changed");
    assert_eq!(lab.be("default")["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn destroy_of_a_be_with_snapshots_needs_to_be_told() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.nest("blue", "var/lib/machines");
    lab.bootenv(&["create", "blue@a"]).ok();
    lab.bootenv(&["create", "blue@b"]).ok();
    lab.refuses(&["destroy", "blue"], 3, &["blue@a", "blue@b"]);
    lab.bootenv(&["destroy", "-s", "blue"]).ok();
    assert!(!lab.holds("blue") && !lab.holds("blue@a") && !lab.holds("blue@b"));
}

#[test]
fn destroy_with_the_snapshot_it_came_from() {
    let lab = Lab::new();
    lab.bootenv(&["create", "default@base"]).ok();
    lab.bootenv(&["create", "-e", "default@base", "blue"]).ok();
    lab.bootenv(&["create", "-e", "default@base", "green"]).ok();
    // While others came from it, it stays, and so does everything.
    lab.refuses(&["destroy", "-o", "blue"], 3, &["default@base", "green"]);
    lab.bootenv(&["destroy", "blue"]).ok();
    assert!(lab.holds("default@base"));
    lab.bootenv(&["destroy", "-o", "green"]).ok();
    assert!(!lab.holds("default@base"));
    assert_eq!(lab.names(), ["default"]);
}

#[test]
fn destroy_with_an_origin_that_is_no_snapshot_leaves_the_origin() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let ran = lab.json(&["destroy", "-o", "blue"]).ok().json();
    assert!(ran["notes"].to_string().contains("came from no snapshot"), "{ran}");
    assert_eq!(lab.names(), ["default"]);
}

#[test]
fn a_snapshot_that_others_came_from_stays() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@base"]).ok();
    lab.bootenv(&["create", "-e", "blue@base", "green"]).ok();
    lab.refuses(&["destroy", "blue@base"], 3, &["green"]);
    // On a pool green would take it over.
    if kind() == Kind::Btrfs {
        lab.refuses(&["destroy", "-s", "blue"], 3, &["green"]);
    }
    // The clone may have another name by now.
    lab.bootenv(&["rename", "green", "olive"]).ok();
    lab.refuses(&["destroy", "blue@base"], 3, &["olive"]);
    lab.bootenv(&["destroy", "olive"]).ok();
    lab.bootenv(&["destroy", "-s", "blue"]).ok();
    assert_eq!(lab.names(), ["default"]);
}

#[test]
fn a_be_that_others_came_from_can_go() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "-e", "blue", "green"]).ok();
    let before = Print::of(&lab.files("green"));
    lab.bootenv(&["destroy", "blue"]).ok();
    before.assert_same(&Print::of(&lab.files("green")), "the clone was changed");
}

#[test]
fn several_at_once_or_none() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@base"]).ok();
    lab.bootenv(&["create", "-e", "blue@base", "green"]).ok();
    lab.bootenv(&["create", "default@then"]).ok();
    lab.refuses(&["destroy", "-s", "blue", "green", "nosuch"], 4, &["nosuch"]);
    lab.refuses(&["destroy", "-s", "blue", "green", "default"], 3, &["active on reboot"]);
    let would = lab.json(&["destroy", "--dry-run", "-s", "blue", "green", "default@then"]).ok().json();
    assert!(would.as_object().unwrap().contains_key("frees_bytes"), "{would}");
    // One goes after those that came from it, whatever comes first.
    lab.bootenv(&["destroy", "-s", "blue", "green", "default@then", "blue"]).ok();
    assert_eq!(lab.names(), ["default"]);
    assert!(!lab.holds("green") && !lab.holds("blue@base") && !lab.holds("default@then"));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn destroy_by_force_unmounts_first() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout.trim().to_string();
    lab.refuses(&["destroy", "blue"], 5, &[&at]);
    // In use as well: a process has its directory in it.
    let mut user = std::process::Command::new("sleep").arg("60").current_dir(&at).spawn().unwrap();
    let forced = lab.bootenv(&["--json", "destroy", "-f", "blue"]);
    let hidden = match kind() {
        Kind::Btrfs => None,
        Kind::Zfs => {
            // What is in use cannot be destroyed in a pool, nor can what is in use where nobody sees it.
            assert!(crate::lab::mounts().iter().any(|m| m.contains(&at)));
            lab.bootenv(&["unmount", "-f", "blue"]).ok();
            Some(lab.bootenv(&["--json", "destroy", "-f", "blue"]))
        }
    };
    user.kill().unwrap();
    user.wait().unwrap();
    match hidden {
        None => drop(forced.ok()),
        Some(hidden) => {
            forced.refused(5, &["blue", "in use"]);
            hidden.refused(5, &["blue", "in use"]);
            assert!(lab.holds("blue"));
            lab.bootenv(&["mount", "blue"]).ok();
            lab.bootenv(&["destroy", "-f", "blue"]).ok();
        }
    }
    assert!(!crate::lab::mounts().iter().any(|m| m.contains(&at)));
    assert!(!lab.holds("blue"));
}

#[test]
fn destroy_by_force_that_is_refused_leaves_it_mounted() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@a"]).ok();
    lab.bootenv(&["mount", "blue"]).ok();
    lab.refuses(&["destroy", "-f", "blue"], 3, &["blue@a"]);
    lab.bootenv(&["activate", "-t", "blue"]).ok();
    lab.refuses(&["destroy", "-f", "-s", "blue"], 3, &["next boot"]);
}

#[test]
fn rollback_makes_a_be_what_its_snapshot_was() {
    let lab = Lab::new();
    let inner = lab.nest("default", "var/lib/machines");
    std::fs::write(inner.join("file"), "then\n").unwrap();
    lab.bootenv(&["describe", "default", "kept"]).ok();
    lab.bootenv(&["create", "default@then"]).ok();
    lab.bootenv(&["create", "default@later"]).ok();
    lab.bootenv(&["create", "blue"]).ok();
    let again = match kind() {
        Kind::Btrfs => "default@later",
        Kind::Zfs => {
            // A pool gives up what is later, and has no instant for what boots next.
            lab.refuses(&["rollback", "default@then"], 3, &["default@later"]);
            lab.bootenv(&["destroy", "default@later"]).ok();
            lab.refuses(&["rollback", "default@then"], 3, &["boots next"]);
            lab.bootenv(&["activate", "blue"]).ok();
            "default@then"
        }
    };
    let (due, snapshots) = (lab.be("default")["active_on_reboot"].clone(), lab.be("default")["snapshots"].clone());
    std::fs::write(inner.join("file"), "now\n").unwrap();
    std::fs::write(lab.files("default").join("etc/new"), "").unwrap();
    let others = lab.print_without("default");
    // The time of the directory that holds a nested dataset changes when that is put in.
    let print = |name: &str| Print::of_copy(&lab.files(name)).without(|path| path == Path::new("var/lib"));
    let then = print("default@then");

    lab.bootenv(&["rollback", "default@then"]).ok();
    then.assert_same(&print("default"), "the BE is not what the snapshot was");
    others.assert_same(&lab.print_without("default"), "rollback changed something else");
    std::fs::write(lab.files("default").join("var/lib/machines/file"), "it can be written to\n").unwrap();

    let be = lab.be("default");
    assert_eq!((&be["description"], &be["active_on_reboot"]), (&"kept".into(), &due));
    assert_eq!(be["snapshots"], snapshots, "its snapshots stay");
    assert_eq!(lab.names().len(), 2);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    // And again.
    lab.bootenv(&["rollback", again]).ok();
}

#[test]
fn rollback_to_another_kernel_is_in_the_menu() {
    let lab = Lab::new();
    lab.bootenv(&["create", "default@older"]).ok();
    let boot = lab.files("default").join("boot");
    std::fs::write(boot.join("vmlinuz-6.20.0"), "").unwrap();
    lab.bootenv(&["activate", "default"]).ok();
    assert_eq!(lab.entry("default").unwrap().kernel, "vmlinuz-6.20.0");
    if kind() == Kind::Zfs {
        lab.bootenv(&["create", "-a", "green"]).ok();
    }
    lab.bootenv(&["rollback", "default@older"]).ok();
    assert_eq!(lab.entry("default").unwrap().kernel, "vmlinuz-6.12.1-amd64");
}

#[test]
fn rollback_does_not_take_back_what_is_shared_nor_what_boots_next() {
    let lab = Lab::new();
    lab.bootenv(&["create", "default@then"]).ok();
    lab.bootenv(&["create", "-a", "blue"]).ok();
    lab.bootenv(&["create", "-t", "green"]).ok();
    std::fs::write(lab.shared().join("log/syslog"), "later\n").unwrap();
    let shared = Print::of(&lab.shared());
    lab.bootenv(&["rollback", "default@then"]).ok();
    shared.assert_same(&Print::of(&lab.shared()), "rollback changed shared data");
    assert_eq!((lab.asked("default").as_deref(), lab.asked("once").as_deref()), (Some("blue"), Some("green")));
}

#[test]
fn rollback_of_a_be_others_came_from_leaves_them() {
    let lab = Lab::new();
    // What is made from a BE after a snapshot comes from that on a pool, once the BE has gone back to it.
    lab.bootenv(&["create", "-a", "green"]).ok();
    lab.bootenv(&["create", "default@then"]).ok();
    lab.bootenv(&["create", "-e", "default@then", "blue"]).ok();
    lab.bootenv(&["rollback", "default@then"]).ok();
    lab.refuses(&["destroy", "default@then"], 3, &["blue"]);
    // The BE itself came from it too now, which does not count.
    lab.bootenv(&["destroy", "blue"]).ok();
    lab.bootenv(&["destroy", "default@then"]).ok();
}
