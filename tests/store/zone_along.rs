//! What verbs of the host do in attached zones.

use crate::lab::strace::killed_at;
use crate::lab::zone::STARTS;
use crate::lab::{Kind, Lab, Print, kind, only_on, sh};
use std::os::unix::fs::symlink;

/// The zones `db` and `web`, and what tells the roots of one from those of the other.
fn two_zones() -> Lab {
    let lab = Lab::with_zone();
    let root = lab.path("root");
    lab.zone("db", &root).ok();
    for zone in ["db", "web"] {
        mark(&lab, zone, "default", zone);
    }
    lab
}

fn mark(lab: &Lab, zone: &str, be: &str, text: &str) {
    std::fs::write(lab.zone_files(zone, &format!("ROOT/{be}/etc/which")), text).unwrap();
}

fn marked(lab: &Lab, zone: &str, be: &str) -> String {
    std::fs::read_to_string(lab.zone_files(zone, &format!("ROOT/{be}/etc/which"))).unwrap()
}

/// What a zone runs with a BE of the host, as that tells it.
fn runs(lab: &Lab, host: &str, zone: &str) -> Option<String> {
    let be = lab.be(host);
    let zones = be["zones"].as_array().unwrap();
    zones.iter().find(|told| told["name"] == zone)?["active"].as_str().map(str::to_string)
}

fn steps(lab: &Lab, args: &[&str]) -> String {
    lab.json(&[&["--dry-run"], args].concat()).ok().json()["steps"].to_string()
}

fn healthy(lab: &Lab) {
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    for zone in ["db", "web"] {
        assert_eq!(lab.in_zone(zone, &["check"]).ok().stdout, "nothing is wrong\n", "{zone}");
    }
}

#[test]
fn a_new_be_of_the_host_has_a_root_of_each_attached_zone() {
    let lab = two_zones();
    let root = lab.path("root");
    lab.bootenv(&["zone", "create", "--detached", "--from", root.to_str().unwrap(), "apart"]).ok();
    lab.nest_at(&lab.zone_files("web", "ROOT/default/srv"), "echo inner > file");
    let shared = Print::of(&lab.zone_files("web", "SHARED"));
    let shown = steps(&lab, &["create", "-d", "text", "blue"]);
    let done = lab.json(&["create", "-d", "text", "blue"]).ok().json();
    assert_eq!(done["steps"].to_string(), shown);
    let one = "at one instant ROOT/default to ROOT/blue, zones/db/ROOT/default to zones/db/ROOT/blue, zones/web/";
    assert!(shown.contains(one), "{shown}");
    if kind() == Kind::Zfs {
        let list = sh(&format!("zfs list -Hpt snapshot -o name,createtxg -r {}", lab.store().display()));
        let mut groups: Vec<&str> = list.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
        // Of `ROOT/default`, of `default` in both zones, and of what is nested in one of them.
        assert_eq!(groups.len(), 4, "{list}");
        groups.dedup();
        assert_eq!(groups.len(), 1, "all of them are made in one transaction group: {list}");
    }
    for zone in ["db", "web"] {
        assert_eq!(marked(&lab, zone, "blue"), zone);
        let be = lab.zone_be(zone, "blue");
        assert_eq!((&be["belongs_to"], &be["would_run_with"]), (&"blue".into(), &"blue".into()));
        assert_eq!((&be["description"], &be["can_run"]), (&serde_json::Value::Null, &true.into()));
        assert_eq!(runs(&lab, "blue", zone).as_deref(), Some("blue"));
        assert_eq!(runs(&lab, "default", zone).as_deref(), Some("default"));
    }
    assert_eq!(std::fs::read_to_string(lab.zone_files("web", "ROOT/blue/srv/file")).unwrap(), "inner\n");
    assert_eq!(lab.zone_told("apart")["boot_environments"], 1, "a detached zone does not follow");
    assert_eq!(runs(&lab, "blue", "apart"), None);
    // The new roots are for what boots then, and share what the old ones do.
    mark(&lab, "web", "blue", "changed");
    assert_eq!(marked(&lab, "web", "default"), "web");
    shared.assert_same(&Print::of(&lab.zone_files("web", "SHARED")), "what the zone shares has changed");
    lab.bootenv(&["activate", "blue"]).ok();
    assert_eq!(lab.zone_told("web")["active"], "blue");
    lab.in_zone("web", &["create", "-a", "mine"]).ok();
    lab.bootenv(&["create", "-a", "green"]).ok();
    assert_eq!((marked(&lab, "web", "green").as_str(), marked(&lab, "db", "green").as_str()), ("changed", "db"));
    assert_eq!(lab.zone_told("web")["active"], "green");
    healthy(&lab);
}

#[test]
fn names_that_are_taken_in_a_zone_get_a_number() {
    let lab = two_zones();
    for name in ["blue", "blue-2"] {
        lab.in_zone("web", &["create", name]).ok();
    }
    mark(&lab, "web", "blue", "another");
    let told = lab.bootenv(&["create", "blue"]).ok().stdout;
    assert!(told.contains("web runs blue-3 with it, made from default"), "{told}");
    assert_eq!(runs(&lab, "blue", "web").as_deref(), Some("blue-3"));
    assert_eq!(runs(&lab, "blue", "db").as_deref(), Some("blue"));
    assert_eq!((marked(&lab, "web", "blue").as_str(), marked(&lab, "web", "blue-3").as_str()), ("another", "web"));
    lab.bootenv(&["destroy", "blue"]).ok();
    assert_eq!(lab.zone_be("web", "blue-3"), serde_json::Value::Null);
    assert_eq!(marked(&lab, "web", "blue"), "another");
    healthy(&lab);
}

#[test]
fn a_be_with_which_a_zone_runs_nothing_has_none_to_copy() {
    let lab = Lab::new();
    lab.bootenv(&["create", "old"]).ok();
    let root = lab.root(STARTS);
    lab.zone("web", &root).ok();
    let told = lab.bootenv(&["create", "-e", "old", "blue"]).ok().stdout;
    assert!(told.contains("the zone web runs nothing with old, so it has no root for blue"), "{told}");
    assert_eq!(runs(&lab, "blue", "web"), None);
    let told = lab.bootenv(&["create", "--no-zones", "green"]).ok().stdout;
    assert!(!told.contains("web"), "{told}");
    assert_eq!(runs(&lab, "green", "web"), None);
    assert_eq!(lab.zone_told("web")["boot_environments"], 1);
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_snapshot_of_the_host_has_snapshots_of_zones_that_go_with_it() {
    let lab = two_zones();
    lab.in_zone("web", &["create", "default@one"]).ok();
    lab.bootenv(&["create", "-d", "text", "default@one"]).ok();
    let taken = lab.zone_be("web", "default")["snapshots"].clone();
    assert_eq!(taken[1]["name"], "default@one-2", "{taken}");
    for zone in ["db", "web"] {
        mark(&lab, zone, "default", "later");
    }
    lab.bootenv(&["create", "-e", "default@one", "blue"]).ok();
    for zone in ["db", "web"] {
        assert_eq!(marked(&lab, zone, "blue"), zone, "as it was when the snapshot was taken");
        assert_eq!(runs(&lab, "blue", zone).as_deref(), Some("blue"));
    }
    lab.bootenv(&["create", "--no-zones", "default@two"]).ok();
    let told = lab.bootenv(&["create", "-e", "default@two", "green"]).ok().stdout;
    assert!(told.contains("the zone db has no snapshot that was taken with default@two"), "{told}");
    lab.bootenv(&["destroy", "green"]).ok();
    lab.bootenv(&["destroy", "-o", "blue"]).ok();
    let left = lab.zone_be("web", "default")["snapshots"].clone();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
    assert_eq!(left[0]["name"], "default@one", "one that the zone has taken itself stays");
    healthy(&lab);
}

#[test]
fn what_belongs_to_a_be_of_the_host_goes_with_it() {
    let lab = two_zones();
    let names = |lab: &Lab| sh(&format!("cd '{}' && find . ! -name lock | sort", lab.home().join("zones").display()));
    let before = names(&lab);
    lab.bootenv(&["create", "blue"]).ok();
    lab.refuses(&["--zone", "web", "destroy", "blue"], 3, &["what web runs when blue boots"]);
    let shown = steps(&lab, &["destroy", "blue"]);
    for zone in ["db", "web"] {
        assert!(shown.contains(&format!("in the zone {zone}: destroy ROOT/blue")), "{shown}");
    }
    let done = lab.json(&["destroy", "blue"]).ok().json();
    assert_eq!(done["steps"].to_string(), shown);
    assert_eq!(names(&lab), before, "something is kept of what is gone");
    for zone in ["db", "web"] {
        assert_eq!(lab.zone_told(zone)["boot_environments"], 1);
        let record = std::fs::read_to_string(lab.zone_home(zone).join("boot.toml")).unwrap();
        assert_eq!(record.matches("[runs.").count(), 1, "{record}");
    }
    healthy(&lab);
}

#[test]
fn what_is_pinned_or_mounted_stays_and_belongs_to_none() {
    let lab = two_zones();
    lab.bootenv(&["create", "blue"]).ok();
    lab.in_zone("db", &["pin", "blue"]).ok();
    lab.in_zone("web", &["mount", "blue"]).ok();
    let told = lab.bootenv(&["destroy", "blue"]).ok().stdout;
    assert!(told.contains("blue of the zone db stays, and belongs to none: it is pinned"), "{told}");
    assert!(told.contains("blue of the zone web stays, and belongs to none: it is mounted at"), "{told}");
    lab.in_zone("web", &["unmount", "blue"]).ok();
    for zone in ["db", "web"] {
        assert_eq!(lab.zone_be(zone, "blue")["belongs_to"], serde_json::Value::Null);
        assert_eq!(marked(&lab, zone, "blue"), zone);
    }
    lab.in_zone("web", &["destroy", "blue"]).ok();
    healthy(&lab);
}

#[test]
fn snapshots_of_what_would_go_are_asked_for() {
    let lab = two_zones();
    lab.bootenv(&["create", "blue"]).ok();
    lab.in_zone("web", &["create", "blue@mine"]).ok();
    lab.refuses(&["destroy", "blue"], 3, &["blue of the zone web", "blue@mine"]);
    lab.bootenv(&["destroy", "-s", "blue"]).ok();
    assert_eq!(lab.zone_told("web")["boot_environments"], 1);
    // What came from it stays, whatever the store has to do for that.
    lab.bootenv(&["create", "red"]).ok();
    mark(&lab, "web", "red", "red");
    lab.in_zone("web", &["create", "-e", "red", "kept"]).ok();
    lab.bootenv(&["destroy", "red"]).ok();
    assert_eq!(marked(&lab, "web", "kept"), "red");
    healthy(&lab);
}

#[test]
fn a_be_of_the_host_that_is_renamed_keeps_what_zones_run_with_it() {
    let lab = two_zones();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["rename", "blue", "green"]).ok();
    for zone in ["db", "web"] {
        assert_eq!(runs(&lab, "green", zone).as_deref(), Some("blue"), "zone BEs keep their own names");
        assert_eq!(lab.zone_be(zone, "blue")["belongs_to"], "green");
    }
    lab.bootenv(&["create", "-e", "green", "blue"]).ok();
    assert_eq!(runs(&lab, "blue", "web").as_deref(), Some("blue-2"));
    lab.bootenv(&["destroy", "green"]).ok();
    assert_eq!(runs(&lab, "blue", "web").as_deref(), Some("blue-2"));
    assert_eq!(lab.zone_be("web", "blue"), serde_json::Value::Null);
    healthy(&lab);
}

#[test]
fn a_rollback_of_the_host_takes_back_what_zones_run_with_it() {
    let lab = two_zones();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@one"]).ok();
    for zone in ["db", "web"] {
        mark(&lab, zone, "blue", "later");
    }
    // Another one runs meanwhile, which stays as it is.
    lab.bootenv(&["activate", "blue"]).ok();
    lab.in_zone("web", &["create", "-a", "-e", "blue", "mine"]).ok();
    lab.bootenv(&["activate", "default"]).ok();
    let shown = steps(&lab, &["rollback", "blue@one"]);
    assert!(shown.contains("in the zone web: clone ROOT/blue@one"), "{shown}");
    lab.bootenv(&["rollback", "blue@one"]).ok();
    for zone in ["db", "web"] {
        assert_eq!(marked(&lab, zone, "blue"), zone);
        assert_eq!(runs(&lab, "blue", zone).as_deref(), Some("blue"));
        assert_eq!(marked(&lab, zone, "default"), zone);
    }
    assert_eq!(marked(&lab, "web", "mine"), "later");
    assert_eq!(lab.zone_be("web", "mine")["belongs_to"], "blue");
    lab.bootenv(&["rollback", "blue@one"]).ok();
    healthy(&lab);
    // Without a snapshot of the zones they stay as they are.
    lab.bootenv(&["create", "--no-zones", "blue@two"]).ok();
    mark(&lab, "web", "blue", "stays");
    let told = lab.bootenv(&["rollback", "blue@two"]).ok().stdout;
    assert!(told.contains("blue of the zone web stays as it is"), "{told}");
    assert_eq!(marked(&lab, "web", "blue"), "stays");
    assert_eq!(runs(&lab, "blue", "web").as_deref(), Some("blue"));
    // What is in use in a zone is not changed under its feet.
    lab.bootenv(&["create", "blue@three"]).ok();
    lab.in_zone("web", &["mount", "blue"]).ok();
    lab.refuses(&["rollback", "blue@three"], 5, &["the zone web", "blue is mounted", "--zone web unmount blue"]);
    lab.in_zone("web", &["unmount", "blue"]).ok();
    healthy(&lab);
}

#[test]
fn an_automatic_be_has_roots_of_zones_and_is_pruned_with_them() {
    let lab = two_zones();
    // As the hook of a package manager would, were this the running system.
    lab.bootenv(&["create", "old"]).ok();
    let uuid = lab.be("old")["uuid"].as_str().unwrap().to_string();
    match kind() {
        Kind::Btrfs => {
            let facts = lab.home().join(format!("facts/{uuid}.toml"));
            std::fs::create_dir_all(facts.parent().unwrap()).unwrap();
            std::fs::write(facts, "version = 1\nautomatic = \"x\"\n").unwrap();
        }
        Kind::Zfs => {
            let dataset = format!("{}/ROOT/old", lab.store().display());
            sh(&format!("zfs set org.bootenv:version=1 org.bootenv:rest='automatic = \"x\"' {dataset}"));
        }
    }
    lab.in_zone("web", &["create", "old@mine"]).ok();
    let told = lab.bootenv(&["prune", "--keep", "0"]).ok().stdout;
    assert!(told.contains("old stays: what zones run with it has snapshots"), "{told}");
    lab.in_zone("web", &["destroy", "old@mine"]).ok();
    lab.bootenv(&["prune", "--keep", "0"]).ok();
    assert_eq!(lab.names(), ["default"]);
    assert_eq!(lab.zone_told("web")["boot_environments"], 1);
    healthy(&lab);
}

#[test]
fn a_zone_that_is_busy_is_named_and_nothing_is_done() {
    let lab = two_zones();
    let before = lab.print();
    let held = lab.hold("zones/web/lock");
    for args in [&["create", "blue"][..], &["create", "default@one"], &["upgrade", "--", "true"]] {
        lab.bootenv(args).fails(5, &["the zone web", "another bootenv"]);
    }
    drop(held);
    before.assert_same(&lab.print(), "something was done though a zone is busy");
    lab.bootenv(&["zone", "detach", "web"]).ok();
    let _held = lab.hold("zones/web/lock");
    lab.bootenv(&["create", "blue"]).ok();
    // What belongs to it there may have to go too.
    lab.bootenv(&["destroy", "blue"]).fails(5, &["the zone web", "another bootenv"]);
}

#[test]
fn a_zone_that_is_damaged_does_not_stop_the_host() {
    let lab = two_zones();
    let whole = |file: &str| std::fs::read(lab.zone_home("web").join(file)).unwrap();
    let (settings, record) = (whole("zone.toml"), whole("boot.toml"));
    for (file, damage, word) in [
        ("zone.toml", "brand", "zone.toml is damaged"),
        ("zone.toml", "version = 2\nbrand = \"nspawn\"\nattached = true\n", "newer bootenv"),
        ("zone.toml", "version = 1\nbrand = \"none\"\nattached = true\n", "no brand none"),
        ("boot.toml", "=", "boot.toml of the zone is damaged"),
    ] {
        std::fs::write(lab.zone_home("web").join("zone.toml"), &settings).unwrap();
        std::fs::write(lab.zone_home("web").join(file), damage).unwrap();
        let kept = Print::of(&lab.zone_files("web", "ROOT/default"));
        for args in
            [&["create", "blue"][..], &["create", "blue@one"], &["rollback", "blue@one"], &["destroy", "-s", "blue"]]
        {
            let ran = lab.bootenv(args).ok();
            assert!(ran.stderr.contains("the zone web is left out") && ran.stderr.contains(word), "{}", ran.stderr);
            let in_db = lab.zone_be("db", "blue");
            assert_eq!(in_db.is_null(), args[0] == "destroy", "{args:?}");
        }
        kept.assert_same(
            &Print::of(&lab.zone_files("web", "ROOT/default")),
            "something was done in a zone that was left out",
        );
        if !word.contains("newer") {
            let found = lab.bootenv(&["check"]).fails(1, &[]).stdout;
            assert!(found.contains("the zone web") && found.contains(word), "{found}");
        }
        std::fs::write(lab.zone_home("web").join("boot.toml"), &record).unwrap();
    }
    std::fs::write(lab.zone_home("web").join("zone.toml"), &settings).unwrap();
    healthy(&lab);
}

#[test]
fn a_zone_damaged_while_something_waits_does_not_stop_the_host() {
    let lab = two_zones();
    let whole = |file: &str| std::fs::read(lab.zone_home("web").join(file)).unwrap();
    let mut kept = ["zone.toml", "boot.toml"].map(|file| (file, whole(file)));
    // Where the machine is emulated, not at every call.
    let step = if kind() == Kind::Zfs { 4 } else { 1 };
    let mut undone = 0;
    for (damaged, damage) in [("zone.toml", "brand"), ("zone.toml", "brand = \"none\""), ("boot.toml", "=")] {
        for verb in [&["create", "blue"][..], &["destroy", "blue"]] {
            for nth in (1..).step_by(step) {
                let killed = killed_at(&lab, verb, "renameat,renameat2,unlinkat", nth).status == -9;
                kept.iter_mut().for_each(|(file, content)| *content = whole(file));
                std::fs::write(lab.zone_home("web").join(damaged), damage).unwrap();
                let next = lab.bootenv(&["describe", "default", &format!("{nth}")]).ok();
                undone += usize::from(next.stderr.contains("undid"));
                for (file, content) in &kept {
                    std::fs::write(lab.zone_home("web").join(file), content).unwrap();
                }
                if !killed {
                    break;
                }
                lab.in_zone("web", &["check", "--repair"]).ok();
                let _ = lab.bootenv(&["destroy", "-F", "blue"]);
                if verb[0] == "destroy" {
                    lab.bootenv(&["create", "blue"]).ok();
                }
            }
        }
    }
    assert!(undone > 0, "nothing was begun and not finished");
    healthy(&lab);
}

#[test]
fn a_place_that_has_become_a_symlink_is_left_out() {
    if !only_on(Kind::Btrfs, "in a pool there are no symlinks between datasets") {
        return;
    }
    let lab = two_zones();
    let zones = lab.top().join("zones");
    std::fs::rename(zones.join("web"), zones.join("aside")).unwrap();
    for target in ["db", "/ROOT", "../ROOT", "nowhere"] {
        symlink(target, zones.join("web")).unwrap();
        let ran = lab.bootenv(&["create", "blue"]).ok();
        assert!(ran.stderr.contains("the zone web is left out: zones/web is no directory"), "{}", ran.stderr);
        assert_eq!(runs(&lab, "blue", "db").as_deref(), Some("blue"));
        lab.bootenv(&["destroy", "blue"]).ok();
        std::fs::remove_file(zones.join("web")).unwrap();
        assert_eq!(lab.zone_told("db")["boot_environments"], 1, "{target}");
        assert_eq!(lab.names(), ["default"]);
    }
    std::fs::rename(zones.join("aside"), zones.join("web")).unwrap();
    healthy(&lab);
}

#[test]
fn something_in_the_way_in_one_zone_leaves_everything_as_it_was() {
    if !only_on(Kind::Btrfs, "in a pool everything below ROOT is a BE, whose name is taken") {
        return;
    }
    let lab = two_zones();
    std::fs::write(lab.zone_files("web", "ROOT/blue"), "").unwrap();
    lab.refuses(&["create", "blue"], 3, &["something that is no boot environment stands at zones/web/ROOT/blue"]);
}
