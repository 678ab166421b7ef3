//! `init` on a filesystem that holds a root already: adoption, without a change to that root.

use crate::lab::{Kind, Lab, Print, foreign, kind, only_on, sh};
use std::path::Path;

/// Adopts the root at `subvolume` and checks everything that holds wherever it lay.
fn adopts(subvolume: &str, name: &str) -> Lab {
    let lab = Lab::empty();
    let found = lab.foreign(subvolume, "echo here > etc/marker");
    lab.nest_at(&found.join("var/lib/machines"), "echo inner > file");
    let own = |path: &Path| ["ROOT", "SHARED", "BOOTENV"].iter().any(|o| path.starts_with(o)) || path == Path::new("");
    let before = Print::of(&found).without(own);

    let planned = lab.json(&["--dry-run", "init"]).ok().json();
    assert!(planned["steps"].to_string().contains(&format!("as {name}")), "{planned}");
    assert!(!found.join("BOOTENV").exists() && !lab.top().join("ROOT").exists(), "--dry-run changed something");

    lab.bootenv(&["init"]).ok();
    before.assert_same(&Print::of(&found).without(own), "the adopted root was changed");
    assert_eq!(lab.names(), [name, "default"]);
    let default = lab.be("default");
    assert_eq!((&default["active_on_reboot"], &default["origin"]), (&true.into(), &name.into()));
    assert_eq!(lab.be(name)["active_on_reboot"], false);

    // The new one is a copy with what is nested in it, that finds its shared directories elsewhere.
    let files = lab.files("default");
    assert_eq!(std::fs::read_to_string(files.join("etc/marker")).unwrap(), "here\n");
    assert_eq!(std::fs::read_to_string(files.join("var/lib/machines/file")).unwrap(), "inner\n");
    assert!(lab.is_dataset(&files.join("var/lib/machines")));
    assert_eq!(std::fs::read_link(files.join("var/log")).unwrap(), Path::new("shared/log"));
    for own in ["ROOT", "SHARED", "BOOTENV"] {
        assert!(!files.join(own).exists(), "the copy has {own} inside itself");
    }
    let names = ["log", "mail", "spool"];
    let moved = Print::of_copy(&lab.shared()).only(&names);
    Print::of_copy(&found.join("var")).only(&names).assert_same(&moved, "the shared data is not what was there");

    // Neither fstab names the other's root, and both boot.
    let fstab = std::fs::read_to_string(files.join("etc/fstab")).unwrap();
    // A pool's roots have no line there.
    let root_line = fstab.lines().find(|l| l.contains(" / "));
    assert_eq!(root_line.is_some(), kind() == Kind::Btrfs);
    assert!(root_line.is_none_or(|l| l.contains("noatime") && !l.contains("subvol")), "{fstab}");
    let arguments = |be: &str| lab.entry(be).unwrap().arguments;
    assert!(arguments("default").contains(&lab.root_arguments("ROOT/default")), "{}", arguments("default"));
    assert!(arguments(name).contains(&format!("{} ", lab.root_arguments(subvolume))), "{}", arguments(name));
    assert_eq!(lab.entry(name).unwrap().path, subvolume);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    lab
}

fn adopted() -> Lab {
    adopts(foreign().0, foreign().1)
}

#[test]
fn a_root_in_at() {
    if !only_on(Kind::Btrfs, "that is how roots lie on Btrfs; no pool has names like that") {
        return;
    }
    adopts("@", "root");
}

#[test]
fn a_root_in_at_rootfs_as_debian_makes_it() {
    if !only_on(Kind::Btrfs, "that is how roots lie on Btrfs; no pool has names like that") {
        return;
    }
    adopts("@rootfs", "rootfs");
}

#[test]
fn a_root_in_root_as_fedora_makes_it() {
    adopts("root", "root");
}

#[test]
fn a_root_at_the_top_level() {
    if !only_on(Kind::Btrfs, "no system lies in the first dataset of a pool") {
        return;
    }
    adopts("", "toplevel");
}

#[test]
fn an_adopted_root_boots_again_on_request_and_others_are_made_from_it() {
    let lab = adopted();
    lab.bootenv(&["activate", foreign().1]).ok();
    assert_eq!(
        (&lab.be(foreign().1)["active_on_reboot"], &lab.be("default")["active_on_reboot"]),
        (&true.into(), &false.into())
    );
    let shared = Print::of(&lab.shared());
    lab.bootenv(&["create", "-e", foreign().1, "again"]).ok();
    shared.assert_same(&Print::of(&lab.shared()), "nothing in the shared directories was new");
    assert_eq!(std::fs::read_link(lab.files("again").join("var/log")).unwrap(), Path::new("shared/log"));
    assert_eq!(std::fs::read_to_string(lab.files("again").join("var/lib/machines/file")).unwrap(), "inner\n");
}

#[test]
fn what_an_adopted_root_has_that_evolved_differently_is_kept_beside() {
    let lab = adopted();
    std::fs::write(lab.shared().join("log/syslog"), "evolved\n").unwrap();
    std::fs::write(lab.top().join(foreign().0).join("var/log/new"), "arrived\n").unwrap();
    lab.bootenv(&["create", "-e", foreign().1, "again"]).ok();
    let read = |name: &str| std::fs::read_to_string(lab.shared().join("log").join(name)).unwrap();
    assert_eq!(read("syslog"), "evolved\n");
    assert_eq!(read("syslog.from-again"), "line\n");
    assert_eq!(read("new"), "arrived\n");
}

#[test]
fn an_adopted_root_has_no_snapshots_and_no_other_name() {
    let lab = adopted();
    lab.refuses(&["create", &format!("{}@monday", foreign().1)], 3, &["adopted"]);
    lab.refuses(&["rename", foreign().1, "other"], 3, &["adopted"]);
}

#[test]
fn an_adopted_root_is_mounted_as_it_is() {
    let lab = adopted();
    let at = lab.bootenv(&["mount", foreign().1]).ok().stdout;
    let at = Path::new(at.trim());
    assert_eq!(std::fs::read_to_string(at.join("var/log/syslog")).unwrap(), "line\n");
    assert!(at.join("var/log").symlink_metadata().unwrap().is_dir());
    lab.bootenv(&["unmount", foreign().1]).ok();
}

#[test]
fn an_adopted_root_can_be_destroyed_once_others_are_active() {
    let lab = adopted();
    lab.bootenv(&["destroy", foreign().1]).ok();
    assert_eq!(lab.names(), ["default"]);
    assert!(!lab.top().join(foreign().0).exists());
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_root_around_everything_else_is_not_destroyed() {
    if !only_on(Kind::Btrfs, "no system lies in the first dataset of a pool") {
        return;
    }
    let lab = adopts("", "toplevel");
    let before = lab.print();
    // To look at the top is to have this one mounted.
    lab.leave_top();
    lab.json(&["destroy", "toplevel"]).refused(3, &["top"]);
    before.assert_same(&lab.print(), "a refused request changed something");
}

#[test]
fn a_mounted_filesystem_is_a_store_too() {
    if !only_on(Kind::Btrfs, "a pool is mounted nowhere") {
        return;
    }
    let lab = Lab::empty();
    lab.foreign(foreign().0, "");
    let top = lab.path("top");
    let on = |args: &[&str]| crate::lab::on(&top, args);
    on(&["init"]).ok();
    on(&["create", "blue"]).ok();
    assert_eq!(lab.names(), [foreign().1, "default", "blue"]);
}

#[test]
fn a_filesystem_whose_device_has_lost_its_name_is_a_store_too() {
    if !only_on(Kind::Btrfs, "a pool is not found by a device") {
        return;
    }
    let lab = Lab::new();
    let (node, at) = (lab.path("node"), lab.path("at"));
    let device = crate::lab::attach(&lab.store());
    sh(&format!(
        "cd '{}' && mknod node b $(stat -c '%Hr %Lr' {device}) && mkdir at && mount -o subvolid=5 node at && losetup -d {device} && rm node",
        node.parent().unwrap().display()
    ));
    let shown = sh(&format!("findmnt -no SOURCE '{}'", at.display()));
    assert_eq!(shown.split_whitespace().next().map(Path::new), Some(&*node), "it is known by what is gone");
    crate::lab::on(&at, &["create", "blue"]).ok();
    sh(&format!("umount '{}'", at.display()));
    assert_eq!(lab.names(), ["default", "blue"]);
}

#[test]
fn a_filesystem_without_a_root_is_not_adopted() {
    let lab = Lab::empty();
    let root = lab.foreign("data", "rm -rf etc");
    // On a pool the directory above is none of it.
    let own = |path: &Path| kind() == Kind::Zfs && path == Path::new("");
    let before = Print::of(root.parent().unwrap()).without(own);
    lab.json(&["init"]).refused(3, &["no Linux root"]);
    before.assert_same(&Print::of(root.parent().unwrap()).without(own), "a refused init changed something");
}

#[test]
fn a_root_whose_fstab_does_not_parse_is_not_adopted_and_all_is_as_it_was() {
    for subvolume in [foreign().0, ""].into_iter().filter(|s| !s.is_empty() || kind() == Kind::Btrfs) {
        let lab = Lab::empty();
        let root = lab.foreign(subvolume, "echo broken >> etc/fstab");
        let own = |path: &Path| {
            ["ROOT", "SHARED", "BOOTENV", ""].iter().any(|o| path == Path::new(o)) || path.starts_with("BOOTENV")
        };
        let before = Print::of(&lab.path("top")).without(own);
        let line = std::fs::read_to_string(root.join("etc/fstab")).unwrap().lines().count();
        lab.json(&["init"]).refused(3, &[&format!("/etc/fstab line {line} "), "does not parse"]);
        before.assert_same(&Print::of(&lab.path("top")).without(own), "a refused init changed something");
        // Mended, it works.
        sh(&format!("sed -i /broken/d '{}'", root.join("etc/fstab").display()));
        lab.bootenv(&["init"]).ok();
        assert_eq!(lab.names().last().unwrap(), "default");
    }
}

#[test]
fn shared_directories_that_are_datasets_of_the_root_are_moved_as_a_whole() {
    let lab = Lab::empty();
    let (path, name) = foreign();
    let found = lab.foreign(path, "mv var/log var/old-log; mv var/spool var/old-spool");
    lab.nest_at(&found.join("var/log"), "mv ../old-log/* .; rmdir ../old-log");
    lab.nest_at(&found.join("var/log/journal"), "echo entries > system.journal");
    lab.nest_at(&found.join("var/spool"), "mv ../old-spool/* .; rmdir ../old-spool");
    let names = ["log", "mail", "spool"];
    let (all, shared) = (Print::of(&found), Print::of_copy(&found.join("var")).only(&names));
    lab.bootenv(&["init"]).ok();
    all.assert_same(&Print::of(&found), "the adopted root was changed");
    shared.assert_same(&Print::of_copy(&lab.shared()).only(&names), "the shared data is not what was there");
    let files = lab.files("default");
    for name in ["log", "spool"] {
        assert_eq!(std::fs::read_link(files.join("var").join(name)).unwrap(), Path::new("shared").join(name));
    }
    assert_eq!(lab.be("default")["datasets"], serde_json::json!(["ROOT/default"]));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    lab.bootenv(&["create", "-e", name, "another"]).ok();
    assert_eq!(lab.be("another")["datasets"], serde_json::json!(["ROOT/another"]));
    let kept = Print::of_copy(&lab.shared()).only(&names);
    shared.assert_same(&kept, "what was there already is there again");
    let at = lab.bootenv(&["mount", "another"]).ok().stdout;
    assert_eq!(sh(&format!("cat '{}/var/log/journal/system.journal'", at.trim())), "entries\n");
}

#[test]
fn logs_that_only_grow_by_their_flags_are_moved_too() {
    let lab = Lab::empty();
    let root =
        lab.foreign(foreign().0, "chattr +a var/log/syslog.hard; mkdir var/log/locked; chattr +i var/log/locked");
    lab.bootenv(&["init"]).ok();
    assert_eq!(std::fs::read_to_string(lab.shared().join("log/syslog")).unwrap(), "line\n");
    assert_eq!(std::fs::read_link(lab.files("default").join("var/log")).unwrap(), Path::new("shared/log"));
    sh(&format!("chattr -a '{0}/var/log/syslog.hard'; chattr -i '{0}/var/log/locked'", root.display()));
}
