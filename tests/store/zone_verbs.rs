//! Every other verb, told `--zone`: it works on the zone's BEs, and on nothing else.

use crate::lab::{Lab, Print, mounts, sh, try_sh};
use std::path::Path;

/// Verbs that change something in the zone `web`, one after the other.
pub const CHANGES: &[&[&str]] = &[
    &["create"],
    &["create", "-d", "text", "blue"],
    &["create", "blue@one"],
    &["create", "-e", "blue@one", "green"],
    &["create", "-t", "red"],
    &["activate", "blue"],
    &["activate", "-t", "green"],
    &["activate", "-T", "green"],
    &["describe", "blue@one", "text"],
    &["rename", "green", "olive"],
    &["pin", "olive"],
    &["unpin", "olive"],
    &["rollback", "blue@one"],
    &["destroy", "-F", "olive", "default-1"],
    &["destroy", "blue@one"],
    &["check", "--repair"],
];

/// A store with two zones that have the same in them.
pub fn two_zones() -> Lab {
    let lab = Lab::with_zone();
    let root = lab.path("root");
    lab.zone("db", &root).ok();
    lab
}

#[test]
fn what_is_changed_is_the_zones_alone() {
    let lab = two_zones();
    let before = lab.print_without_zone("web");
    for args in CHANGES {
        let shown = lab.in_zone("web", &[&["--dry-run", "--json"], *args].concat()).ok().json();
        let was = lab.print();
        lab.in_zone("web", &[&["--dry-run"], *args].concat()).ok();
        was.assert_same(&lab.print(), &format!("{args:?} with --dry-run"));
        lab.in_zone("web", args).ok();
        before.assert_same(&lab.print_without_zone("web"), &format!("{args:?} has changed more than the zone"));
        assert!(shown["steps"].as_array().is_none_or(|steps| !steps.is_empty()), "{args:?}: {shown}");
    }
    let told = lab.zone_told("web");
    assert_eq!((&told["active"], &told["boot_environments"]), (&"blue".into(), &3.into()));
    assert_eq!(lab.zone_told("db")["boot_environments"], 1);
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn what_is_listed_is_the_zones_alone() {
    let lab = two_zones();
    lab.bootenv(&["create", "--no-zones", "-d", "of the host", "host"]).ok();
    lab.in_zone("db", &["create", "-d", "of db", "data"]).ok();
    lab.in_zone("web", &["create", "-d", "of web", "pages"]).ok();
    for args in [&["list", "-a"][..], &["list", "--tree"], &["list", "--json"], &["status"], &["check"]] {
        let told = lab.in_zone("web", args).ok().stdout;
        assert!(
            !told.contains("of the host") && !told.contains("of db") && !told.contains("zones/web"),
            "{args:?}: {told}"
        );
        let told = lab.bootenv(args).ok().stdout;
        // Programs are told which zone BEs belong to a BE of the host, people are told nothing of them.
        let names = args.contains(&"--json");
        assert!(!told.contains("of db") && (names || !told.contains("pages")), "{args:?}: {told}");
    }
    let origin = lab.zone_be("web", "pages")["origin"].clone();
    assert_eq!(origin, "default");
    for name in ["host", "data", "../db/ROOT/data", "../../ROOT/host"] {
        for verb in ["activate", "destroy", "mount", "describe"] {
            let text = if verb == "describe" { &["text"][..] } else { &[] };
            let status = if name.contains('/') { 2 } else { 4 };
            lab.refuses(&[&["--zone", "web", verb, name], text].concat(), status, &[]);
        }
    }
    assert_eq!(lab.in_zone("web", &["diff", "default", "data"]).status, 4);
}

#[test]
fn what_differs_is_told() {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "blue"]).ok();
    std::fs::write(lab.zone_files("web", "ROOT/blue/etc/colour"), "blue\n").unwrap();
    assert_eq!(lab.in_zone("web", &["diff", "default", "blue"]).ok().stdout, "+ /etc/colour\n");
}

#[test]
fn a_mounted_zone_be_has_its_own_shared_dataset_read_only() {
    let lab = two_zones();
    std::fs::write(lab.zone_files("web", "SHARED/log/which"), "web\n").unwrap();
    std::fs::write(lab.shared().join("log/which"), "host\n").unwrap();
    let at = lab.in_zone("web", &["mount", "default"]).ok().stdout.trim().to_string();
    assert_eq!(at, "/run/bootenv/web:default");
    // One of the same name in another zone, and on the host, is in nobody's way.
    lab.in_zone("db", &["mount", "default"]).ok();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["mount", "blue"]).ok();
    assert_eq!(std::fs::read_to_string(format!("{at}/var/log/which")).unwrap(), "web\n");
    assert!(std::fs::write(format!("{at}/var/log/which"), "").is_err());
    assert_ne!(try_sh(&format!("mount -o remount,rw,bind '{at}/var/shared'")).status, 0, "the flag is locked");
    std::fs::write(format!("{at}/etc/changed"), "").unwrap();
    lab.in_zone("web", &["destroy", "default"]).fails(3, &[]);
    lab.in_zone("web", &["unmount", "default"]).ok();
    for (zone, be) in [(Some("db"), "default"), (None, "blue")] {
        match zone {
            Some(zone) => lab.in_zone(zone, &["unmount", be]).ok(),
            None => lab.bootenv(&["unmount", be]).ok(),
        };
    }
    assert!(lab.zone_files("web", "ROOT/default/etc/changed").exists());
    assert!(!mounts().iter().any(|line| line.contains("/run/bootenv/")));
}

#[test]
fn what_has_nothing_to_start_is_not_activated() {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "blue"]).ok();
    std::fs::remove_file(lab.zone_files("web", "ROOT/blue/usr/sbin/init")).unwrap();
    lab.refuses(&["--zone", "web", "activate", "blue"], 3, &["nothing to start", "--zone web mount blue"]);
    lab.refuses(&["--zone", "web", "create", "-a", "-e", "blue", "red"], 3, &["nothing to start"]);
    // What was due and cannot be started any more is not shown as due.
    std::fs::remove_file(lab.zone_files("web", "ROOT/default/usr/sbin/init")).unwrap();
    assert_eq!(lab.zone_be("web", "default")["active_on_reboot"], false);
    let told = lab.in_zone("web", &["status"]).ok().stdout;
    assert!(told.contains("the default is default, which cannot be started"), "{told}");
}

#[test]
fn a_shared_dataset_that_is_missing_is_told_and_made_again() {
    let lab = Lab::with_zone();
    lab.destroy_behind(&lab.zone_files("web", "SHARED"));
    lab.refuses(&["--zone", "web", "mount", "default"], 3, &["SHARED is missing", "--zone web check --repair"]);
    let told = lab.in_zone("web", &["status"]).ok().stdout;
    assert!(told.contains("`bootenv --zone web check --repair` makes it"), "{told}");
    lab.in_zone("web", &["check", "--repair"]).ok();
    assert!(lab.zone_files("web", "SHARED/log/apt/README").exists(), "filled from the pristine copies");
    assert!(!lab.bootenv(&["check"]).stdout.contains("web"));
}

#[test]
fn a_damaged_record_hides_nothing_and_is_made_anew() {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "-a", "-d", "text", "blue"]).ok();
    let record = lab.zone_home("web").join("boot.toml");
    let whole = std::fs::read_to_string(&record).unwrap();
    for damaged in ["", "x", "version = 1\nentry = 1\n", &whole[..whole.len() / 2]] {
        std::fs::write(&record, damaged).unwrap();
        let list = lab.in_zone("web", &["list", "--json"]).ok().json();
        assert_eq!(list["boot_environments"].as_array().unwrap().len(), 2, "{damaged:?}");
        let found = lab.in_zone("web", &["check"]).fails(1, &[]).stdout;
        assert_eq!(found.matches("boot.toml of the zone is damaged").count(), 1, "{damaged:?}: {found}");
        lab.in_zone("web", &["check", "--repair"]).ok();
        lab.in_zone("web", &["activate", "blue"]).ok();
        assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n", "{damaged:?}");
        assert_eq!(lab.zone_told("web")["active"], "blue");
    }
    std::fs::write(&record, whole.replace("version = 1", "version = 2\nnew = true")).unwrap();
    lab.refuses(&["--zone", "web", "activate", "default"], 3, &["newer bootenv"]);
    lab.in_zone("web", &["check", "--repair"]).fails(3, &["newer bootenv"]);
    let known = lab.zone_home("web").join("zone.toml");
    std::fs::write(&record, &whole).unwrap();
    std::fs::write(&known, "version = 2\nbrand = \"nspawn\"\nattached = true\nnew = true\n").unwrap();
    lab.refuses(&["zone", "detach", "web"], 3, &["newer bootenv"]);
    std::fs::write(&known, "brand").unwrap();
    lab.refuses(&["--zone", "web", "list"], 1, &["zone.toml is damaged"]);
}

#[test]
fn zones_do_not_wait_for_each_other() {
    let lab = two_zones();
    let web = lab.hold("zones/web/lock");
    lab.in_zone("web", &["create", "a"]).fails(5, &["another bootenv"]);
    lab.in_zone("db", &["create", "a"]).ok();
    lab.in_zone("web", &["list"]).ok();
    lab.bootenv(&["create", "a"]).fails(5, &["the zone web", "another bootenv"]);
    lab.bootenv(&["create", "--no-zones", "a"]).ok();
    lab.bootenv(&["zone", "destroy", "web"]).fails(5, &["the zone web"]);
    drop(web);
    let host = lab.hold("lock");
    lab.bootenv(&["create", "b"]).fails(5, &["another bootenv"]);
    lab.in_zone("web", &["create", "b"]).ok();
    drop(host);
}

#[test]
fn what_a_zone_keeps_of_its_bes_says_which_bes_of_the_host_they_belong_to() {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "-d", "text", "blue"]).ok();
    let host = lab.be("default")["uuid"].as_str().unwrap().to_string();
    let print = |lab: &Lab| Print::of(&lab.top());
    for name in ["default", "blue"] {
        let uuid = lab.zone_be("web", name)["uuid"].as_str().unwrap().to_string();
        let facts = match crate::lab::kind() {
            crate::lab::Kind::Btrfs => {
                std::fs::read_to_string(lab.zone_home("web").join(format!("facts/{uuid}.toml"))).unwrap()
            }
            crate::lab::Kind::Zfs => {
                sh(&format!("zfs get -Ho value org.bootenv:rest {}/zones/web/ROOT/{name}", lab.store().display()))
            }
        };
        assert!(facts.contains(&format!("parent = \"{host}\"")), "{name}: {facts}");
    }
    assert!(print(&lab).has("zones/web/ROOT/blue/etc"));
    assert!(Path::new(&lab.zone_home("web")).join("boot.toml").exists());
}
