//! `create`: boot environments and snapshots.

use crate::lab::{Kind, Lab, Loader, Print, kind, rounds};
use std::collections::HashSet;
use std::path::Path;

/// A store whose BE `default` has a dataset nested in another one.
fn nested() -> Lab {
    let lab = Lab::new();
    let outer = lab.nest("default", "var/lib/machines");
    lab.nest_at(&outer.join("inner"), "echo inner > file");
    std::fs::write(outer.join("file"), "outer\n").unwrap();
    lab
}

#[track_caller]
fn same_files(lab: &Lab, a: &str, b: &str) {
    print(lab, a).assert_same(&print(lab, b), &format!("{b} is not what {a} is"));
}

/// Everything but the two directories that hold nested datasets: their times change when those are put in.
fn print(lab: &Lab, name: &str) -> Print {
    Print::of_copy(&lab.files(name))
        .without(|path| path == Path::new("var/lib") || path == Path::new("var/lib/machines"))
}

#[test]
fn a_be_is_a_copy_of_what_is_active_on_reboot_with_what_is_nested() {
    let lab = nested();
    let before = Print::of(&lab.files("default"));
    lab.bootenv(&["create", "blue"]).ok();
    before.assert_same(&Print::of(&lab.files("default")), "the source was changed");
    same_files(&lab, "default", "blue");
    for dataset in ["", "var/lib/machines", "var/lib/machines/inner"] {
        assert!(lab.is_dataset(&lab.files("blue").join(dataset)), "{dataset:?}");
    }
    let be = lab.be("blue");
    assert_eq!(
        (&be["active_on_reboot"], &be["origin"], &be["description"]),
        (&false.into(), &"default".into(), &().into())
    );
    assert_eq!(be["datasets"].as_array().unwrap().len(), 3);
    assert_eq!(lab.asked("default").as_deref(), Some("default"));
    // Writing to one is not writing to the other.
    std::fs::write(lab.files("blue").join("var/lib/machines/inner/file"), "changed\n").unwrap();
    before.assert_same(&Print::of(&lab.files("default")), "the copy is not a copy");
}

#[test]
fn a_be_has_a_menu_entry_that_boots_its_own_kernel() {
    let lab = Lab::new();
    lab.bootenv(&["create", "-d", "it's \"new\" $HOME `x` \\", "blue"]).ok();
    let entry = lab.entry("blue").unwrap();
    assert_eq!((entry.path.as_str(), entry.kernel.as_str()), ("ROOT/blue", "vmlinuz-6.12.1-amd64"));
    assert_eq!(entry.title, "blue: it's \"new\" $HOME `x` \\");
    assert!(
        entry.arguments.contains(&lab.root_arguments("ROOT/blue")) && entry.arguments.contains("root="),
        "{}",
        entry.arguments
    );
    assert_eq!(lab.be("blue")["boot"]["kernel"], "ROOT/blue/boot/vmlinuz-6.12.1-amd64");
    let ids: Vec<String> = lab.menu().into_iter().map(|e| e.id).collect();
    match lab.loader {
        Loader::Grub => assert_eq!(ids, ["blue", "default"], "the newest goes first"),
        Loader::SystemdBoot => assert_eq!(ids, ["default", "blue"], "what was activated last goes first"),
    }
}

#[test]
fn from_another_be() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    std::fs::write(lab.files("blue").join("etc/colour"), "blue\n").unwrap();
    lab.bootenv(&["create", "-e", "blue", "green"]).ok();
    same_files(&lab, "blue", "green");
    assert_eq!(lab.be("green")["origin"], "blue");
}

#[test]
fn from_a_snapshot_with_what_was_nested_then() {
    let lab = nested();
    lab.bootenv(&["create", "default@then"]).ok();
    std::fs::write(lab.files("default").join("var/lib/machines/file"), "later\n").unwrap();
    std::fs::write(lab.files("default").join("etc/later"), "").unwrap();
    lab.bootenv(&["create", "-e", "default@then", "blue"]).ok();
    same_files(&lab, "default@then", "blue");
    assert_eq!(std::fs::read_to_string(lab.files("blue").join("var/lib/machines/file")).unwrap(), "outer\n");
    assert!(lab.is_dataset(&lab.files("blue").join("var/lib/machines/inner")));
    std::fs::write(lab.files("blue").join("var/lib/machines/inner/file"), "it can be written to\n").unwrap();
    assert_eq!(lab.be("blue")["origin"], "default@then");
}

#[test]
fn activated_at_once_for_good_or_for_one_boot() {
    let lab = Lab::new();
    lab.bootenv(&["create", "-t", "once"]).ok();
    assert_eq!((lab.asked("default").as_deref(), lab.asked("once").as_deref()), (Some("default"), Some("once")));
    lab.bootenv(&["create", "-a", "-d", "for good", "blue"]).ok();
    assert_eq!((lab.asked("default").as_deref(), lab.asked("once").as_deref()), (Some("blue"), None));
    let be = lab.be("blue");
    assert_eq!((&be["active_on_reboot"], &be["description"]), (&true.into(), &"for good".into()));
    lab.json(&["create", "-a", "-t", "both"]).fails(2, &[]);
    assert_eq!(lab.names(), ["default", "once", "blue"]);
}

#[test]
fn a_name_that_was_given_up_can_be_given_again() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    lab.bootenv(&["create", "blue"]).ok();
    assert_eq!(lab.names(), ["default", "azure", "blue"]);
    for be in ["azure", "blue"] {
        assert_eq!(lab.be(be)["origin"], "default");
        lab.bootenv(&["destroy", be]).ok();
    }
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn names_made_for_bes_never_collide() {
    let lab = Lab::new();
    lab.top();
    let count = rounds(100);
    for _ in 0..count {
        lab.bootenv(&["-q", "create"]).ok();
    }
    let names = lab.names();
    assert_eq!(names.len(), count + 1);
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), count + 1);
    assert_eq!(lab.menu().len(), count + 1);
    // Oldest first, although many were made within one second.
    let numbers: Vec<u32> = names[1..].iter().map(|n| n.strip_prefix("default-").unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    // A number that was given up is not given again while a higher one is there.
    lab.bootenv(&["destroy", "default-10"]).ok();
    lab.bootenv(&["create"]).ok();
    lab.bootenv(&["create", "-e", "default-7"]).ok();
    assert_eq!(lab.names()[count..], [count + 1, count + 2].map(|n| format!("default-{n}")));
}

#[test]
fn names_are_made_for_sources_of_any_name() {
    let lab = Lab::new();
    let longest = "n".repeat(lab.longest_name());
    for (name, made) in [
        ("blue", Some("blue-1")),
        ("blue-7", Some("blue-8")),
        ("6.12.1-3", Some("6.12.1-4")),
        ("x-999999999", Some("x-1000000000")),
        ("y-18446744073709551615", Some("y-18446744073709551615-1")),
        ("y--1", Some("y--2")),
        (longest.as_str(), None),
    ] {
        lab.bootenv(&["create", "-e", "default", name]).ok();
        let before = lab.names();
        let ran = lab.json(&["create", "-e", name]);
        match made {
            Some(made) => {
                ran.ok();
                assert_eq!(lab.names().last().unwrap(), made, "{name}");
            }
            None => {
                ran.refused(2, &["too long"]);
                assert_eq!(lab.names(), before);
            }
        }
    }
}

#[test]
fn a_number_too_large_to_count_on_from_does_not_stop_others() {
    let lab = Lab::new();
    lab.bootenv(&["create", "default-18446744073709551615"]).ok();
    lab.bootenv(&["create"]).ok();
    lab.bootenv(&["create"]).ok();
    assert_eq!(lab.names().len(), 4);
}

#[test]
fn the_longest_names_work_everywhere() {
    let lab = Lab::new();
    let [a, b, c] = ["a", "b", "c"].map(|l| l.repeat(lab.longest_name()));
    lab.bootenv(&["create", &a]).ok();
    lab.bootenv(&["create", &b]).ok();
    // Default, previous and one-shot all have to find room in the loader's state.
    lab.bootenv(&["activate", &a]).ok();
    lab.bootenv(&["activate", &b]).ok();
    lab.bootenv(&["create", "-t", &c]).ok();
    assert_eq!((lab.asked("default"), lab.asked("once")), (Some(b.clone()), Some(c.clone())));
    // Only a loader that reads the store can be led through the rename of what is due.
    if kind() == Kind::Zfs {
        lab.bootenv(&["activate", "-T", &c]).ok();
    }
    lab.bootenv(&["rename", &c, "short"]).ok();
    assert_eq!(lab.asked("once"), (kind() == Kind::Btrfs).then(|| "short".into()));
    let length = lab.longest_snapshot("short");
    let snapshot = format!("{:s<length$}", "short@");
    lab.bootenv(&["create", &snapshot]).ok();
    assert!(lab.holds(&snapshot));
    // What is longer is refused, and says how long it may be.
    lab.refuses(&["create", &format!("{snapshot}x")], 2, &[&(length + 1).to_string(), &length.to_string()]);
    lab.refuses(&["create", &format!("{a}x")], 2, &[&(a.len() + 1).to_string(), &a.len().to_string()]);
    lab.refuses(&["rename", "short", &format!("{a}x")], 2, &[&a.len().to_string()]);
    lab.refuses(&["rename", "short", &"l".repeat(60)], 2, &["too long"]);
    // What comes after has its room.
    lab.bootenv(&["rollback", &snapshot]).ok();
    lab.bootenv(&["create", "-e", &a, "from-a"]).ok();
    let at = lab.bootenv(&["mount", &a]).ok().stdout;
    lab.bootenv(&["unmount", at.trim()]).ok();
    lab.bootenv(&["destroy", &a]).ok();
}

#[test]
fn a_snapshot_is_read_only_with_what_is_nested() {
    let lab = nested();
    lab.bootenv(&["create", "-d", "before the upgrade", "default@monday"]).ok();
    same_files(&lab, "default", "default@monday");
    let snapshot = lab.files("default@monday");
    for file in ["new", "var/lib/machines/new", "var/lib/machines/inner/new"] {
        assert_eq!(
            std::fs::write(snapshot.join(file), "").unwrap_err().raw_os_error(),
            Some(nix::libc::EROFS),
            "{file}"
        );
    }
    assert!(lab.is_dataset(&snapshot.join("var/lib/machines/inner")));
    let be = lab.be("default");
    assert_eq!(be["snapshots"][0]["name"], "default@monday");
    assert_eq!(be["snapshots"][0]["description"], "before the upgrade");
    assert_eq!(lab.names(), ["default"], "a snapshot is no boot environment");
    assert_eq!(lab.menu().len(), 1, "and has no menu entry");
    assert_eq!(be["datasets"].as_array().unwrap().len(), 3, "what is nested in a snapshot is not the BE's");
}

#[test]
fn a_snapshot_of_a_be_that_is_mounted_holds_what_was_written_so_far() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout;
    std::fs::write(format!("{}/etc/so-far", at.trim()), "yes").unwrap();
    lab.bootenv(&["create", "blue@then"]).ok();
    std::fs::write(format!("{}/etc/so-far", at.trim()), "later").unwrap();
    assert_eq!(std::fs::read_to_string(lab.files("blue@then").join("etc/so-far")).unwrap(), "yes");
    lab.bootenv(&["unmount", "blue"]).ok();
}

#[test]
fn the_shared_dataset_is_never_copied() {
    let lab = Lab::new();
    let before = Print::of(&lab.shared());
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@now"]).ok();
    before.assert_same(&Print::of(&lab.shared()), "create touched shared data");
    assert_eq!(std::fs::read_dir(lab.files("blue").join("var/shared")).unwrap().count(), 0);
}

#[test]
fn a_be_without_a_kernel_is_made_but_not_activated() {
    let lab = Lab::new();
    std::fs::remove_dir_all(lab.files("default").join("boot")).unwrap();
    lab.refuses(&["create", "-a", "blue"], 3, &["kernel"]);
    lab.refuses(&["create", "-t", "-e", "default", "blue"], 3, &["kernel"]);
    lab.bootenv(&["create", "-e", "default", "blue"]).ok();
    assert_eq!(lab.be("blue")["boot"]["kernel"], serde_json::Value::Null);
    lab.refuses(&["activate", "blue"], 3, &["kernel"]);
}

#[test]
fn two_at_the_same_time_both_end_well_or_say_busy() {
    let lab = Lab::new();
    let mut running: Vec<_> = (0..8)
        .map(|n| lab.command(&["create", &format!("be{n}")]).stderr(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    let made: Vec<bool> = running
        .iter_mut()
        .map(|child| match child.wait().unwrap().code() {
            Some(0) => true,
            Some(5) => false,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(made.contains(&true));
    let names = lab.names();
    for (n, made) in made.iter().enumerate() {
        assert_eq!(names.contains(&format!("be{n}")), *made, "be{n}");
    }
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}
