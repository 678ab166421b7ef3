//! What people expect of a pool, and pools that are in no good state. For the zfs lane.

use crate::lab::{Kind, Lab, Print, only_on, sh};

/// Why these cases run on pools alone.
const POOLS: &str = "pools only";

/// A property of a dataset, and where it comes from.
fn get(lab: &Lab, path: &str, property: &str) -> String {
    let name = format!("{}/{path}", lab.store().display());
    sh(&format!("zfs get -Hpo value,source {property} '{name}'")).trim().replace('\t', " ")
}

fn set(lab: &Lab, path: &str, settings: &str) {
    sh(&format!("zfs set -u {settings} '{}/{path}'", lab.store().display()));
}

#[test]
fn a_copy_has_what_is_set_on_its_source_and_on_what_is_nested() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.nest("default", "var/lib/machines");
    lab.leave_top();
    set(&lab, "ROOT/default", "compression=zstd recordsize=16K quota=200M snapshot_limit=none readonly=on");
    set(&lab, "ROOT/default", "org.zfsbootmenu:commandline='quiet  50% \"ü\"' org.zfsbootmenu:kernel=6.12");
    set(&lab, "ROOT/default/var/lib/machines", "atime=off com.example:x=-");
    set(&lab, "ROOT/default/var", "canmount=off");
    set(&lab, "ROOT", "checksum=sha512");
    lab.bootenv(&["describe", "default", "its own"]).ok();
    lab.bootenv(&["create", "default@then"]).ok();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "-e", "default@then", "-o", "compression=off", "green"]).ok();
    for (be, compression) in [("blue", "zstd"), ("green", "off")] {
        let be = format!("ROOT/{be}");
        for (property, value) in [
            ("compression", format!("{compression} local")),
            ("recordsize", "16384 local".into()),
            ("quota", "209715200 local".into()),
            ("snapshot_limit", "none local".into()),
            ("org.zfsbootmenu:commandline", "quiet  50% \"ü\" local".into()),
            ("org.zfsbootmenu:kernel", "6.12 local".into()),
            ("org.bootenv:description", "- -".into()),
            ("canmount", "noauto local".into()),
            ("mountpoint", "/ local".into()),
            // A copy is made to be changed.
            ("readonly", "off default".into()),
            ("checksum", format!("sha512 inherited from {}/ROOT", lab.store().display())),
        ] {
            assert_eq!(get(&lab, &be, property), value, "{property} of {be}");
        }
        let nested = format!("{be}/var/lib/machines");
        for (property, value) in [
            ("atime", "off local"),
            ("com.example:x", "- local"),
            ("canmount", "noauto local"),
            ("mountpoint", &format!("/var/lib/machines inherited from {}/{be}", lab.store().display())),
        ] {
            assert_eq!(get(&lab, &nested, property), value, "{property} of {nested}");
        }
        assert_eq!(get(&lab, &format!("{be}/var"), "canmount"), "off local");
    }
}

#[test]
fn a_rollback_keeps_what_is_set_on_a_be() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.leave_top();
    set(&lab, "ROOT/default", "compression=zstd org.zfsbootmenu:commandline=quiet");
    lab.bootenv(&["create", "default@then"]).ok();
    lab.bootenv(&["create", "-a", "blue"]).ok();
    lab.bootenv(&["rollback", "-F", "default@then"]).ok();
    assert_eq!(get(&lab, "ROOT/default", "compression"), "zstd local");
    assert_eq!(get(&lab, "ROOT/default", "org.zfsbootmenu:commandline"), "quiet local");
}

/// `list -s` without the times: names of BEs and snapshots, with where each BE came from.
fn listed(lab: &Lab) -> Vec<String> {
    let list = lab.bootenv(&["list", "--json"]).ok().json();
    let mut lines = Vec::new();
    for be in list["boot_environments"].as_array().unwrap() {
        lines.push(format!("{} {}", be["name"].as_str().unwrap(), be["origin"].as_str().unwrap_or("-")));
        lines.extend(be["snapshots"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_string()));
    }
    lines
}

#[test]
fn each_snapshot_goes_to_who_came_from_it_and_the_plan_says_so() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.nest("default", "srv");
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@old"]).ok();
    lab.bootenv(&["create", "-d", "kept", "blue@base"]).ok();
    lab.bootenv(&["create", "-e", "blue@base", "green"]).ok();
    lab.bootenv(&["create", "-e", "blue", "red"]).ok();
    lab.bootenv(&["create", "blue@late"]).ok();
    lab.refuses(&["destroy", "blue"], 3, &["blue@old", "blue@late"]);
    let files = ["green", "red"].map(|be| Print::of(&lab.files(be)));
    let would = lab.json(&["destroy", "--dry-run", "-s", "blue"]).ok().json();
    let step = "destroy ROOT/blue; ROOT/green takes over ROOT/blue@base; ROOT/red keeps what it shares with it";
    assert!(would["steps"].as_array().unwrap().contains(&step.into()), "{would}");
    lab.bootenv(&["destroy", "-s", "blue"]).ok();
    assert_eq!(listed(&lab), ["default -", "green default", "green@base", "red green@base"]);
    assert_eq!(lab.be("green")["snapshots"][0]["description"], "kept");
    for (be, files) in ["green", "red"].iter().zip(files) {
        files.assert_same(&Print::of(&lab.files(be)), "a BE that stays was changed");
    }
    lab.bootenv(&["destroy", "green", "red"]).fails(3, &["green@base"]);
    lab.bootenv(&["destroy", "-s", "green", "red"]).ok();
    lab.leave_top();
    // Nothing that was made for them is left.
    assert_eq!(sh(&format!("zfs list -Hro name -t snapshot {}", lab.store().display())), "");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_rollback_keeps_a_snapshot_that_is_older_than_a_copy() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "default@then"]).ok();
    lab.bootenv(&["create", "-a", "blue"]).ok();
    lab.bootenv(&["rollback", "-F", "default@then"]).ok();
    assert_eq!(listed(&lab), ["blue default@then", "default -", "default@then"]);
}

#[test]
fn what_cannot_all_be_destroyed_is_refused_before_anything_is() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.nest("default", "srv");
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@base"]).ok();
    lab.bootenv(&["create", "-e", "blue@base", "green"]).ok();
    let pool = lab.store().display().to_string();
    let zfs = |command: &str| {
        lab.leave_top();
        sh(&format!("zfs {}", command.replace("ROOT", &format!("{pool}/ROOT"))));
    };
    zfs("hold keep ROOT/blue/srv@base");
    lab.refuses(&["destroy", "-o", "green"], 5, &["blue/srv@base", "held", "zfs release keep"]);
    lab.refuses(&["destroy", "-s", "blue", "green"], 5, &["held"]);
    // What is held goes over as it is.
    zfs("release keep ROOT/blue/srv@base");
    // A name that is taken where it would go.
    lab.bootenv(&["create", "green@base"]).ok();
    lab.refuses(&["destroy", "blue"], 3, &["green", "blue@base", "zfs rename"]);
    lab.bootenv(&["destroy", "green@base"]).ok();
    // What is no BE is not changed, and what `list` does not show not destroyed.
    zfs(&format!("clone -o mountpoint=none ROOT/blue@base {pool}/foreign"));
    lab.refuses(&["destroy", "-s", "blue", "green"], 3, &["foreign", "zfs promote"]);
    lab.refuses(&["destroy", "-o", "green"], 3, &["foreign"]);
    lab.leave_top();
    sh(&format!("zfs destroy {pool}/foreign"));
    zfs("snapshot ROOT/blue/srv@mine");
    zfs("snapshot 'ROOT/green@no name'");
    lab.refuses(&["destroy", "-s", "blue"], 3, &["srv@mine"]);
    lab.refuses(&["destroy", "-s", "green"], 3, &["green@no name"]);
    zfs("destroy ROOT/blue/srv@mine");
    lab.bootenv(&["destroy", "blue"]).ok();
    assert_eq!(listed(&lab), ["default -", "green default", "green@base"]);
}

#[test]
fn names_of_our_own_snapshots_never_stand_in_the_way() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "-e", "blue", "red"]).ok();
    lab.bootenv(&["rename", "red", "crimson"]).ok();
    lab.bootenv(&["create", "-e", "blue", "green"]).ok();
    // green has a snapshot of the name that it is to take over.
    lab.bootenv(&["create", "-e", "green", "red"]).ok();
    lab.bootenv(&["destroy", "crimson"]).ok();
    lab.bootenv(&["create", "-e", "blue", "red-1"]).ok();
    lab.bootenv(&["destroy", "blue"]).ok();
    lab.bootenv(&["destroy", "green", "red", "red-1"]).ok();
    lab.leave_top();
    assert_eq!(sh(&format!("zfs list -Hro name -t snapshot {}", lab.store().display())), "");
}

/// Bytes that the pool has in use, once everything that is due to be freed is.
fn used(lab: &Lab) -> i64 {
    let pool = lab.store();
    let text = sh(&format!("zpool sync {0}; zpool wait -t free {0}; zfs get -Hpo value used {0}", pool.display()));
    text.trim().parse().unwrap()
}

#[test]
fn space_is_what_really_becomes_free() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    let write = |be: &str, file: &str, mib: u32| {
        sh(&format!("head -c {mib}M /dev/urandom > '{}/{file}'", lab.files(be).display()));
    };
    lab.bootenv(&["create", "blue"]).ok();
    lab.nest("blue", "srv");
    write("blue", "one", 4);
    write("blue", "srv/one", 2);
    lab.bootenv(&["create", "blue@base"]).ok();
    write("blue", "two", 5);
    lab.bootenv(&["create", "-e", "blue@base", "green"]).ok();
    lab.bootenv(&["create", "blue@early"]).ok();
    std::fs::remove_file(lab.files("blue").join("two")).unwrap();
    lab.bootenv(&["create", "-e", "blue", "red"]).ok();
    // It is held by the snapshot that red was made for, by green and by red.
    std::fs::remove_file(lab.files("blue").join("one")).unwrap();
    write("green", "three", 6);
    write("red", "four", 3);
    lab.bootenv(&["create", "blue@late"]).ok();
    write("blue", "five", 7);
    lab.leave_top();
    used(&lab);
    let frees = |args: &[&str]| {
        let would = lab.json(&[&["destroy", "--dry-run"], args].concat()).ok().json();
        would["frees_bytes"].as_i64().unwrap()
    };
    let whole = frees(&["-s", "blue", "green", "red"]);
    let listed = |be: &str| lab.be(be)["used_bytes"].as_i64().unwrap();
    let begin = used(&lab);
    for (be, about) in [("blue", 7), ("green", 6), ("red", 3)] {
        let (said, would) = (listed(be), frees(&["-s", be]));
        assert_eq!(said, would, "{be}: list, and destroy --dry-run");
        let before = used(&lab);
        lab.bootenv(&["destroy", "-s", be]).ok();
        let freed = before - used(&lab);
        assert!((freed - said).abs() < 512 << 10, "{be}: {said} bytes said, {freed} freed");
        if be != "red" {
            assert!(said >= i64::from(about) << 20, "{be}: {said}");
        }
    }
    let freed = begin - used(&lab);
    assert!((freed - whole).abs() < 1 << 20, "together: {whole} bytes said, {freed} freed");
}
