//! Zone BEs belong to BEs of the host: what is shown of that, and what it decides.

use crate::lab::{Kind, Lab, only_on};

/// The zone `web`, whose BEs `default` and `blue` belong to `default` of the host, which runs `blue`; the host has `green` too,
/// which boots next.
fn two_hosts() -> Lab {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "-a", "blue"]).ok();
    lab.bootenv(&["create", "--no-zones", "-a", "green"]).ok();
    lab
}

/// What `list` shows in the column of flags.
fn flags(lab: &Lab, be: &str) -> String {
    let list = lab.in_zone("web", &["list", "-H", be]).ok().stdout;
    list.split('\t').nth(1).unwrap().to_string()
}

#[test]
fn what_belongs_elsewhere_is_shown_and_cannot_be_activated() {
    let lab = two_hosts();
    assert_eq!((flags(&lab, "default"), flags(&lab, "blue")), ("x".into(), "xb".into()));
    let blue = lab.zone_be("web", "blue");
    assert_eq!(
        (&blue["belongs_to"], &blue["would_run_with"], &blue["can_run"], &blue["active_on_reboot"]),
        (&"default".into(), &"default".into(), &true.into(), &false.into())
    );
    lab.refuses(
        &["--zone", "web", "activate", "blue"],
        3,
        &["blue belongs to default", "--zone web create -a -e blue"],
    );
    lab.refuses(&["--zone", "web", "destroy", "blue"], 3, &["what web runs when default boots"]);
    lab.refuses(&["--zone", "web", "rename", "blue", "red"], 3, &["what web runs when default boots"]);
    // Nothing runs here yet, so there is nothing to copy by itself.
    lab.refuses(&["--zone", "web", "create", "mine"], 3, &["-e"]);
    lab.in_zone("web", &["create", "-a", "-e", "blue", "mine"]).ok();
    lab.in_zone("web", &["create", "two"]).ok();
    assert_eq!((flags(&lab, "mine"), flags(&lab, "two")), ("R".into(), "-".into()));
    assert_eq!(lab.zone_be("web", "two")["belongs_to"], "green");
    // What nobody runs may go, whosever it is.
    lab.in_zone("web", &["destroy", "default"]).ok();
    assert_eq!(lab.zone_told("web")["active"], "mine");
    lab.bootenv(&["activate", "default"]).ok();
    assert_eq!((flags(&lab, "blue"), flags(&lab, "mine"), flags(&lab, "two")), ("R".into(), "xb".into(), "x".into()));
    assert_eq!(lab.zone_told("web")["active"], "blue");
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn what_belongs_to_none_any_more_is_taken_over_or_destroyed() {
    let lab = two_hosts();
    // What is pinned does not go with what it belongs to.
    lab.in_zone("web", &["pin", "default", "blue"]).ok();
    lab.bootenv(&["destroy", "default"]).ok();
    lab.in_zone("web", &["unpin", "default", "blue"]).ok();
    assert_eq!((flags(&lab, "default"), flags(&lab, "blue")), ("O".into(), "O".into()));
    assert_eq!(lab.zone_be("web", "blue")["belongs_to"], serde_json::Value::Null);
    let told = lab.in_zone("web", &["activate", "blue"]).ok().stdout;
    assert!(told.contains("belongs to green now"), "{told}");
    assert_eq!((flags(&lab, "default"), flags(&lab, "blue")), ("O".into(), "R".into()));
    lab.in_zone("web", &["destroy", "default"]).ok();
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn what_belongs_to_a_be_of_the_host_still_does_after_its_rollback() {
    let lab = two_hosts();
    lab.bootenv(&["create", "default@one"]).ok();
    let was = lab.be("default")["uuid"].clone();
    let shown = lab.json(&["--dry-run", "rollback", "default@one"]).ok().json();
    assert!(shown["steps"].to_string().contains("web runs with ROOT/default"), "{shown}");
    lab.bootenv(&["rollback", "default@one"]).ok();
    assert_ne!(lab.be("default")["uuid"], was, "so it is another one to the store");
    assert_eq!((flags(&lab, "default"), flags(&lab, "blue")), ("x".into(), "xb".into()));
    lab.bootenv(&["rename", "default", "old"]).ok();
    assert_eq!(lab.zone_be("web", "blue")["would_run_with"], "old");
    lab.bootenv(&["activate", "old"]).ok();
    assert_eq!((flags(&lab, "default"), flags(&lab, "blue")), ("-".into(), "R".into()));
}

#[test]
fn what_cannot_run_is_marked() {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "blue"]).ok();
    std::fs::remove_file(lab.zone_files("web", "ROOT/blue/usr/sbin/init")).unwrap();
    assert_eq!((flags(&lab, "default"), flags(&lab, "blue")), ("R".into(), "!".into()));
    assert_eq!(lab.zone_be("web", "blue")["can_run"], false);
    lab.destroy_behind(&lab.zone_files("web", "SHARED"));
    assert_eq!(flags(&lab, "default"), "R!", "without what it shares nothing starts");
    assert!(lab.bootenv(&["list", "-H"]).ok().stdout.contains("default\tR\t"), "flags of zones are not for the host's");
}

#[test]
fn a_zone_be_whose_facts_are_lost_is_taken_over() {
    if !only_on(Kind::Btrfs, "in a pool facts cannot be lost without their dataset") {
        return;
    }
    let lab = Lab::with_zone();
    std::fs::remove_dir_all(lab.zone_home("web").join("facts")).unwrap();
    assert_eq!(flags(&lab, "default"), "RO");
    lab.in_zone("web", &["activate", "default"]).ok();
    assert_eq!(flags(&lab, "default"), "R");
    assert_eq!(lab.in_zone("web", &["activate", "default"]).ok().stdout, "default is active on reboot already\n");
}
