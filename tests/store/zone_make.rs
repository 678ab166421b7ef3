//! `zone`: containers made, adopted, attached, detached and destroyed.

use crate::lab::zone::STARTS;
use crate::lab::{Kind, Lab, Print, kind, only_on, sh};
use std::os::unix::fs::symlink;
use std::path::Path;

#[test]
fn a_zone_has_roots_and_a_shared_dataset_of_its_own() {
    let lab = Lab::new();
    let root = lab.root(&format!("{STARTS}; echo web > var/log/syslog; echo '# none' > etc/fstab"));
    let host = lab.print_without_zone("web");
    let told = lab.zone("web", &root).ok();
    assert_eq!(told.stdout, "the zone web is made, with the boot environment default, which belongs to default\n");
    host.assert_same(&lab.print_without_zone("web"), "something of the host's has changed");
    for dataset in ["ROOT/default", "SHARED"] {
        assert!(lab.is_dataset(&lab.zone_files("web", dataset)), "{dataset}");
    }
    let be = lab.zone_files("web", "ROOT/default");
    for name in ["adm", "log", "mail", "spool"] {
        let link = std::fs::read_link(be.join("var").join(name)).unwrap();
        assert_eq!(link, Path::new("shared").join(name));
        assert!(lab.zone_files("web", "SHARED").join(name).is_dir(), "{name}");
    }
    let read = |path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(lab.zone_files("web", "SHARED/log/syslog")), "web\n");
    assert_eq!(read(lab.shared().join("log/syslog")), "line\n");
    assert_eq!(read(be.join("etc/fstab")), "# none\n", "a container mounts nothing of the store itself");
    assert!(!lab.bootenv(&["--dry-run", "zone", "list"]).ok().stdout.is_empty());
    let zone = lab.zone_told("web");
    assert_eq!(
        (&zone["brand"], &zone["attached"], &zone["running"], &zone["active"], &zone["boot_environments"]),
        (&"nspawn".into(), &true.into(), &false.into(), &"default".into(), &1.into())
    );
    assert_eq!(lab.zone_be("web", "default")["active_on_reboot"], true);
    assert_eq!(lab.names(), ["default"], "the host has no more BEs than before");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn from_a_tar() {
    let lab = Lab::new();
    let root = lab.root(STARTS);
    let tar = lab.path("root.tar");
    sh(&format!("tar -C '{}' --acls --xattrs -cf '{}' .", root.display(), tar.display()));
    lab.zone("web", &tar).ok();
    assert!(lab.zone_files("web", "ROOT/default/usr/sbin/init").exists());
    assert_eq!(lab.zone_told("web")["active"], "default");
}

#[test]
fn from_another_zone_that_need_not_stay() {
    let lab = Lab::with_zone();
    lab.in_zone("web", &["create", "-a", "-d", "text", "new"]).ok();
    std::fs::write(lab.zone_files("web", "ROOT/new/etc/which"), "new\n").unwrap();
    std::fs::write(lab.zone_files("web", "SHARED/log/secret"), "of web\n").unwrap();
    let before = lab.print_without_zone("db");
    lab.bootenv(&["zone", "create", "-d", "copied", "--clone", "web", "db"]).ok();
    before.assert_same(&lab.print_without_zone("db"), "the zone that was copied has changed");
    assert_eq!(std::fs::read_to_string(lab.zone_files("db", "ROOT/default/etc/which")).unwrap(), "new\n");
    assert!(
        !lab.zone_files("db", "SHARED/log/secret").exists(),
        "what a zone shares with its own BEs it shares with no zone"
    );
    assert!(lab.zone_files("db", "SHARED/log").is_dir());
    assert_eq!(lab.zone_be("db", "default")["description"], "copied");
    lab.bootenv(&["zone", "destroy", "web"]).ok();
    assert_eq!(lab.in_zone("db", &["check"]).ok().stdout, "nothing is wrong\n");
    lab.in_zone("db", &["create", "more"]).ok();
}

#[test]
fn a_root_without_var_gets_one() {
    let lab = Lab::new();
    let root = lab.root(&format!("{STARTS}; rm -r var"));
    lab.zone("web", &root).ok();
    let log = lab.zone_files("web", "ROOT/default/var/log");
    assert_eq!(std::fs::read_link(log).unwrap(), Path::new("shared/log"));
    assert!(lab.zone_files("web", "SHARED/log").is_dir());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let lab = Lab::with_zone();
    let root = lab.path("root");
    let root = root.to_str().unwrap();
    let long = "n".repeat(65);
    for name in [
        "", ".", "..", "../web", "../web2", "/web", "web/", "a/b", "web.", ".web", "a..b", "a_b", "a b", "a\n", "a@b",
        "ü", &long,
    ] {
        lab.refuses(&["zone", "create", "--from", root, name], 2, &["is not a name for a zone"]);
        lab.refuses(&["--zone", name, "list"], 2, &["is not a name for a zone"]);
        lab.refuses(&["zone", "destroy", name], 2, &["is not a name for a zone"]);
        lab.refuses(&["zone", "adopt", name, root], 2, &["is not a name for a zone"]);
    }
    lab.refuses(&["--zone", "db", "list"], 4, &["there is no zone db"]);
    for verb in ["attach", "detach", "destroy"] {
        lab.refuses(&["zone", verb, "db"], 4, &["there is no zone db"]);
    }
    lab.refuses(&["--zone", "web", "zone", "list"], 2, &["--zone"]);
    lab.refuses(&["--zone", "web", "init"], 2, &["init"]);
}

#[test]
fn what_cannot_be_a_zone_is_refused() {
    let lab = Lab::with_zone();
    let root = lab.path("root");
    let create = |more: &[&str], status, words: &[&str]| {
        lab.refuses(&[&["zone", "create"], more].concat(), status, words);
    };
    let from = root.to_str().unwrap();
    create(&["--from", from, "web"], 3, &["the zone web exists"]);
    create(&["--clone", "web", "web"], 3, &["the zone web exists"]);
    create(&["--clone", "none", "db"], 4, &["there is no zone none"]);
    create(&["db"], 2, &["--from"]);
    create(&["--from", "/no/such", "db"], 2, &["/no/such"]);
    create(&["--from", from, "--brand", "bsd", "db"], 4, &["no brand bsd"]);
    create(&["--from", from, "--brand", "../x", "db"], 2, &["brand"]);
    std::fs::create_dir(lab.path("empty")).unwrap();
    create(&["--from", lab.path("empty").to_str().unwrap(), "db"], 3, &["no Linux root"]);
    // An archive is looked into only when it is unpacked; then all that was made is gone again.
    sh(&format!("tar -C '{0}' -cf '{0}.tar' .", lab.path("empty").display()));
    let before = lab.print_without_zone("db");
    let tar = format!("{}.tar", lab.path("empty").display());
    lab.json(&["zone", "create", "--from", &tar, "db"]).refused(3, &["no Linux root"]);
    before.assert_same(&lab.print_without_zone("db"), "something of the zone that was not made is left");
    assert!(!lab.zone_home("db").exists() && !lab.zone_files("db", "").exists());
}

#[test]
fn something_that_stands_in_the_place_is_left_alone() {
    if !only_on(Kind::Btrfs, "in a pool there are no directories and symlinks between datasets") {
        return;
    }
    let lab = Lab::with_zone();
    let root = lab.path("root");
    let zones = lab.top().join("zones");
    std::fs::create_dir(zones.join("dir")).unwrap();
    symlink("web", zones.join("link")).unwrap();
    for name in ["dir", "link"] {
        lab.refuses(&["zone", "create", "--from", root.to_str().unwrap(), name], 3, &[&format!("zones/{name}")]);
    }
}

#[test]
fn a_place_that_has_become_a_symlink_is_not_followed() {
    if !only_on(Kind::Btrfs, "in a pool there are no symlinks between datasets") {
        return;
    }
    let lab = Lab::with_zone();
    lab.bootenv(&["zone", "create", "--clone", "web", "db"]).ok();
    let zones = lab.top().join("zones");
    std::fs::rename(zones.join("web"), zones.join("aside")).unwrap();
    for target in ["db", "/ROOT", "../ROOT", "nowhere"] {
        let _ = std::fs::remove_file(zones.join("web"));
        symlink(target, zones.join("web")).unwrap();
        for args in [&["list"][..], &["create", "x"], &["destroy", "default"], &["mount", "default"], &["check"]] {
            lab.refuses(&[&["--zone", "web"], args].concat(), 3, &["zones/web"]);
        }
        lab.refuses(&["zone", "destroy", "web"], 3, &["zones/web"]);
        assert_eq!(lab.zone_told("db")["active"], "default", "the others are listed all the same");
    }
    std::fs::remove_file(zones.join("web")).unwrap();
    std::fs::rename(zones.join("aside"), zones.join("web")).unwrap();
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn symlinks_in_a_zones_root_lead_to_nothing_of_the_hosts() {
    let lab = Lab::new();
    // What a copy, a conversion and a look at the result come across.
    let root = lab.root(&format!(
        "{STARTS}; rm -r var/mail var/spool; ln -s /../../../../SHARED/mail var/mail; ln -s ../../../../SHARED/spool var/spool; \
         rm etc/fstab; ln -s /../../../../ROOT/default/etc/fstab etc/fstab; mkdir -p usr/share; ln -s ../../../../ROOT usr/share/factory"
    ));
    let before = lab.print_without_zone("web");
    let ran = lab.zone("web", &root);
    before.assert_same(&lab.print_without_zone("web"), "something of the host's has changed");
    if ran.status == 0 {
        lab.in_zone("web", &["create", "x"]).ok();
        lab.in_zone("web", &["list"]).ok();
        before.assert_same(&lab.print_without_zone("web"), "something of the host's has changed");
    }
}

#[test]
fn a_container_that_is_there_is_adopted_and_stays() {
    let lab = Lab::new();
    let dir = lab.root(&format!("{STARTS}; echo here > etc/which"));
    let before = Print::of(&dir);
    let machine = dir.to_str().unwrap();
    let shown = lab.json(&["--dry-run", "zone", "adopt", "web", machine]).ok().json();
    let told = lab.bootenv(&["zone", "adopt", "-d", "as it was", "web", machine]).ok();
    assert!(told.stdout.contains("stays as it is"), "{}", told.stdout);
    assert!(shown["steps"].to_string().contains("copy"), "{shown}");
    before.assert_same(&Print::of(&dir), "what was adopted has changed");
    assert_eq!(std::fs::read_to_string(lab.zone_files("web", "ROOT/default/etc/which")).unwrap(), "here\n");
    assert_eq!(lab.zone_be("web", "default")["description"], "as it was");
    assert_eq!(std::fs::read_to_string(lab.zone_files("web", "SHARED/log/syslog")).unwrap(), "line\n");
}

#[test]
fn a_subvolume_is_adopted_without_copying() {
    if !only_on(Kind::Btrfs, "in a pool a clone and what it came from depend on each other, so files are copied") {
        return;
    }
    let lab = Lab::new();
    let machine = lab.nest("default", "var/lib/machines/web");
    lab.root(STARTS);
    sh(&format!("cp -a '{}/.' '{}'", lab.path("root").display(), machine.display()));
    lab.nest_at(&machine.join("srv"), "echo inner > file");
    let before = Print::of(&machine);
    let steps =
        lab.json(&["--dry-run", "zone", "adopt", "web", machine.to_str().unwrap()]).ok().json()["steps"].to_string();
    assert!(steps.contains("clone ROOT/default/var/lib/machines/web to zones/web/ROOT/default"), "{steps}");
    lab.bootenv(&["zone", "adopt", "web", machine.to_str().unwrap()]).ok();
    before.assert_same(&Print::of(&machine), "what was adopted has changed");
    assert_eq!(std::fs::read_to_string(lab.zone_files("web", "ROOT/default/srv/file")).unwrap(), "inner\n");
    assert!(lab.is_dataset(&lab.zone_files("web", "ROOT/default/srv")));
    assert_eq!(lab.zone_be("web", "default")["datasets"].as_array().unwrap().len(), 2);
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn what_cannot_be_adopted_is_refused() {
    let lab = Lab::new();
    let dir = lab.root(STARTS);
    let refused = |at: &Path, status, words: &[&str]| {
        lab.refuses(&["zone", "adopt", "web", at.to_str().unwrap()], status, words);
    };
    refused(&lab.path("none"), 4, &["none"]);
    refused(Path::new("/"), 3, &["running root"]);
    symlink(&dir, lab.path("link")).unwrap();
    refused(&lab.path("link"), 3, &["symlink"]);
    std::fs::write(lab.path("image"), "").unwrap();
    refused(&lab.path("image"), 3, &["no directory"]);
    std::fs::create_dir(lab.path("empty")).unwrap();
    refused(&lab.path("empty"), 3, &["no Linux root"]);
    // As machined says that it runs.
    let runs = Path::new("/run/systemd/machines");
    std::fs::create_dir_all(runs).unwrap();
    std::fs::write(runs.join("web"), "").unwrap();
    refused(&dir, 5, &["web is running"]);
    std::fs::remove_file(runs.join("web")).unwrap();
    // As nobody says, but as it is.
    let script = format!("mount --bind '{}' /mnt && echo up && exec sleep 60", dir.display());
    let mut holder = std::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "sh", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut [0; 3]).unwrap();
    refused(&dir, 5, &["in use by a container", "/mnt"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    lab.bootenv(&["zone", "adopt", "web", dir.to_str().unwrap()]).ok();
    refused(&dir, 3, &["the zone web exists"]);
}

#[test]
fn attached_and_detached() {
    let lab = Lab::with_zone();
    let other = lab.print().without(|path| path.ends_with("zones/web/zone.toml"));
    lab.bootenv(&["zone", "detach", "web"]).ok();
    assert_eq!(lab.zone_told("web")["attached"], false);
    assert_eq!(lab.bootenv(&["zone", "detach", "web"]).ok().stdout, "web is detached already\n");
    assert!(lab.bootenv(&["zone", "list", "-H"]).ok().stdout.starts_with("web\tnspawn\tdetached\tdefault\t1"));
    lab.bootenv(&["zone", "attach", "web"]).ok();
    assert_eq!(lab.bootenv(&["zone", "attach", "web"]).ok().stdout, "web is attached already\n");
    assert_eq!(lab.zone_told("web")["attached"], true);
    other.assert_same(&lab.print().without(|path| path.ends_with("zones/web/zone.toml")), "more has changed than that");
    let root = lab.path("root");
    lab.bootenv(&["zone", "create", "--detached", "--from", root.to_str().unwrap(), "db"]).ok();
    assert_eq!(lab.zone_told("db")["attached"], false);
}

#[test]
fn a_zone_is_destroyed_with_all_that_it_has() {
    let lab = Lab::new();
    let root = lab.root(STARTS);
    lab.zone("db", &root).ok();
    let before = lab.print_without_zone("web");
    lab.zone("web", &root).ok();
    for args in [
        &["create", "a"][..],
        &["create", "a@one"],
        &["create", "-e", "a", "b"],
        &["create", "-e", "a@one", "-d", "text", "c"],
        &["create", "-a", "-e", "c", "d"],
        &["describe", "a@one", "text"],
    ] {
        lab.in_zone("web", args).ok();
    }
    lab.nest_at(&lab.zone_files("web", "ROOT/a/srv"), "echo inner > file");
    lab.in_zone("web", &["create", "-e", "a", "e"]).ok();
    lab.in_zone("web", &["pin", "e"]).ok();
    lab.refuses(&["zone", "destroy", "web"], 3, &["e of the zone web is pinned"]);
    lab.in_zone("web", &["unpin", "e"]).ok();
    lab.in_zone("web", &["mount", "e"]).ok();
    lab.refuses(&["zone", "destroy", "web"], 5, &["/run/bootenv/web:e"]);
    lab.in_zone("web", &["unmount", "e"]).ok();
    let shown = lab.json(&["--dry-run", "zone", "destroy", "web"]).ok().json();
    let done = lab.json(&["zone", "destroy", "web"]).ok().json();
    assert_eq!(shown["steps"], done["steps"]);
    before.assert_same(&lab.print_without_zone("web"), "something is left, or missing");
    lab.refuses(&["--zone", "web", "list"], 4, &["there is: db"]);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    // A new one of that name knows nothing of the old one.
    lab.zone("web", &root).ok();
    assert_eq!(lab.zone_told("web")["boot_environments"], 1);
}

#[test]
fn what_is_left_of_a_zone_whose_place_is_gone_is_destroyed() {
    let lab = Lab::with_zone();
    let host = lab.print_without_zone("web");
    match kind() {
        Kind::Btrfs => sh(&format!(
            "cd '{}'; btrfs -q subvolume delete web/ROOT/* web/SHARED; rm -r web",
            lab.top().join("zones").display()
        )),
        Kind::Zfs => {
            lab.leave_top();
            sh(&format!("zfs destroy -r {}/zones/web", lab.store().display()))
        }
    };
    lab.refuses(&["--zone", "web", "list"], 3, &["has lost its place"]);
    assert_eq!(lab.zone_told("web")["active"], serde_json::Value::Null);
    lab.bootenv(&["zone", "destroy", "web"]).ok();
    assert_eq!(lab.zone_told("web"), serde_json::Value::Null);
    host.assert_same(&lab.print_without_zone("web"), "something else has changed");
}

#[test]
fn what_a_zone_has_is_no_store_of_its_own() {
    let lab = Lab::with_zone();
    let at = match kind() {
        Kind::Btrfs => lab.zone_files("web", ""),
        Kind::Zfs => {
            lab.leave_top();
            lab.store().join("zones/web")
        }
    };
    match kind() {
        // Any directory of a mounted Btrfs stands for all of it.
        Kind::Btrfs => {
            assert_eq!(crate::lab::on(&at, &["list"]).ok().json()["boot_environments"][0]["name"], "default")
        }
        Kind::Zfs => drop(crate::lab::on(&at, &["list"]).refused(3, &["is a zone of the store", "--zone web"])),
    }
}
