//! What people expect of a pool. For the zfs lane.

use crate::lab::{Kind, Lab, Print, Ran, on, only_on, sh};

/// Why these cases run on pools alone.
pub const POOLS: &str = "pools only";

/// A property of a dataset, and where it comes from.
pub fn get(lab: &Lab, path: &str, property: &str) -> String {
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
pub fn listed(lab: &Lab) -> Vec<String> {
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
    // The laboratory has no place for what has a snapshot in a nested dataset alone, to compare it.
    lab.json(&["destroy", "-s", "blue"]).refused(3, &["srv@mine"]);
    lab.json(&["destroy", "-s", "green"]).refused(3, &["green@no name"]);
    assert_eq!(listed(&lab), ["default -", "blue default", "blue@base", "green blue@base"]);
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

#[test]
fn a_snapshot_of_ours_goes_with_the_last_that_came_from_it() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.leave_top();
    let snapshots = || sh(&format!("zfs list -Hro name -t snapshot {}", lab.store().display())).lines().count();
    lab.nest("default", "srv");
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "-e", "blue", "green"]).ok();
    assert_eq!(snapshots(), 4);
    // green's went to green with what was blue, and default's has green for a clone now.
    lab.bootenv(&["destroy", "blue"]).ok();
    assert_eq!(snapshots(), 2);
    lab.bootenv(&["destroy", "green"]).ok();
    assert_eq!(snapshots(), 0);
    // Somebody else who destroys a BE does not know of it.
    lab.bootenv(&["create", "blue"]).ok();
    sh(&format!("zfs destroy -r {}/ROOT/blue", lab.store().display()));
    assert_eq!(snapshots(), 2);
    let check = lab.bootenv(&["check"]);
    assert!(check.status == 1 && check.stdout.contains("ROOT/default@.bootenv-"), "{}", check.stdout);
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(snapshots(), 0);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout.trim(), "nothing is wrong");
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

#[test]
fn a_name_that_is_a_file_and_a_pool_is_refused() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    let pool = lab.store();
    let at = lab.path(pool.to_str().unwrap());
    let list = || -> Ran { lab.command(&["list", "--json"]).current_dir(lab.path("")).output().unwrap().into() };
    list().ok();
    std::fs::create_dir(&at).unwrap();
    list().refused(3, &["file or directory", "and a pool", "./"]);
    std::fs::remove_dir(&at).unwrap();
    std::fs::write(&at, "text").unwrap();
    list().refused(3, &["file or directory", "and a pool", "./"]);
    for (deep, status) in [("ROOT", 0), ("ROOT/default", 0), ("ROOT/nosuch", 4), ("nosuch", 4), ("nosuch/ROOT", 4)] {
        assert_eq!(on(&pool.join(deep), &["list"]).status, status, "{deep}");
    }
}

#[test]
fn what_a_store_keeps_is_no_store_and_two_pools_are_two() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let (lab, other) = (Lab::new(), Lab::new());
    lab.leave_top();
    let before = other.print();
    other.leave_top();
    let root = lab.root("").display().to_string();
    for part in ["SHARED", "BOOTENV"] {
        for args in [&["list"][..], &["init"], &["init", "--from", &root]] {
            on(&lab.store().join(part), args).refused(3, &[part, &lab.store().display().to_string()]);
        }
    }
    lab.bootenv(&["create", "-a", "blue"]).ok();
    assert_eq!((lab.names().len(), other.names().len()), (2, 1));
    before.assert_same(&other.print(), "the other pool has changed");
}

#[test]
fn properties_that_cannot_be_set_are_refused_and_nothing_is_made() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    for (property, status) in [
        ("mountpoint=/x", 3),
        ("canmount=on", 3),
        ("readonly=on", 3),
        ("zoned=on", 3),
        ("nosuch=1", 1),
        ("compression=bogus", 1),
        ("encryption=on", 1),
        ("used=5", 1),
        ("volsize=1G", 1),
        ("utf8only=on", 1),
        ("quota", 2),
        ("=x", 2),
    ] {
        lab.refuses(&["create", "-o", property, "blue"], status, &[property.split('=').next().unwrap()]);
    }
    lab.bootenv(&["create", "-o", "org.example:x=y", "-o", "quota=1G", "blue"]).ok();
    assert_eq!(get(&lab, "ROOT/blue", "org.example:x"), "y local");
}

#[test]
fn bes_of_other_tools_are_listed_before_init_and_as_they_are() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::empty();
    let pool = lab.store().display().to_string();
    sh(&format!(
        "zfs create -o canmount=off -o org.zfsbootmenu:commandline=quiet {pool}/ROOT; zfs create -u -o mountpoint=/home {pool}/home"
    ));
    for be in ["debian", "older"] {
        let root = lab.foreign(&format!("ROOT/{be}"), "");
        assert!(root.join("etc").is_dir());
        lab.leave_top();
    }
    sh(&format!(
        "zfs snapshot {pool}/ROOT/debian@auto && zfs clone -o canmount=noauto -o mountpoint=/ {pool}/ROOT/debian@auto {pool}/ROOT/copy"
    ));
    let before = lab.print();
    assert_eq!(listed(&lab), ["debian -", "debian@auto", "older -", "copy debian@auto"]);
    let status = lab.bootenv(&["--json"]).ok().json();
    assert_eq!((&status["on_reboot"], &status["next_boot_known"]), (&serde_json::Value::Null, &false.into()));
    assert!(status["attention"].to_string().contains("bootenv init"), "{status}");
    for args in [&["create", "new"][..], &["activate", "copy"], &["destroy", "copy"], &["mount", "copy"], &["check"]] {
        lab.refuses(args, 3, &["debian", "bootenv init"]);
    }
    before.assert_same(&lab.print(), "looking has changed something");
    lab.leave_top();
    // What `/` would be on in a machine, and a directory that has nothing to do with BEs.
    sh(&format!("zfs set -u mountpoint='{0}' {pool}/home && zfs mount {pool}/home", lab.path("home").display()));
    on(&lab.path("home"), &["list"]).refused(3, &["home", "no boot environment", &format!("--store {pool}")]);
    sh(&format!("zfs unmount {pool}/home"));
    lab.bootenv(&["init"]).ok();
    assert!(lab.names().len() == 4, "{:?}", lab.names());
    assert_eq!(get(&lab, "ROOT/default", "org.zfsbootmenu:commandline"), format!("quiet inherited from {pool}/ROOT"));
    assert_eq!(sh(&format!("zpool get -Ho value bootfs {pool}")).trim(), format!("{pool}/ROOT/default"));
}

#[test]
fn what_is_mounted_over_shared_directories_whatever_boots_stays() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::empty();
    let pool = lab.store().display().to_string();
    sh(&format!("zfs create -o canmount=off {pool}/ROOT"));
    lab.foreign("ROOT/debian", "rm -r var/spool; mkdir var/spool");
    lab.leave_top();
    sh(&format!(
        "zfs create -u -o canmount=off -o mountpoint=/var {pool}/var; zfs create -u {pool}/var/log; \
         zfs create -u -o canmount=noauto {pool}/var/mail; zfs create -u {pool}/var/spool; zfs create -u {pool}/var/spool/mqueue"
    ));
    let said = lab.bootenv(&["init"]).ok();
    for (name, dataset) in [("log", "var/log"), ("spool", "var/spool")] {
        let note = format!("/var/{name} of default stays: {pool}/{dataset} is mounted there, whatever boots");
        assert!(said.stderr.contains(&note), "{note} is not in {}", said.stderr);
    }
    let files = lab.files("default");
    assert!(files.join("var/log").is_dir() && !files.join("var/log").is_symlink());
    assert!(files.join("var/spool").is_dir() && !files.join("var/spool").is_symlink());
    assert!(files.join("var/mail").is_symlink(), "that is not mounted by itself");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

/// The hostid that an entry tells the kernel.
fn told(lab: &Lab, be: &str) -> String {
    let arguments = lab.entry(be).unwrap().arguments;
    arguments.split(' ').find_map(|word| word.strip_prefix("spl.spl_hostid=")).unwrap_or_default().to_string()
}

#[test]
fn all_of_a_store_boot_with_one_hostid() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::with(r"printf '\001\002\003\004' > etc/hostid");
    assert_eq!(told(&lab, "default"), "0x04030201", "the first root's own");
    lab.bootenv(&["create", "blue"]).ok();
    std::fs::write(lab.files("blue").join("etc/hostid"), [9, 9, 9, 9]).unwrap();
    let root = lab.root("rm -f etc/hostid");
    lab.init(&root, &["--name", "other"]).ok();
    lab.bootenv(&["check", "--repair"]).ok();
    for be in ["default", "blue", "other"] {
        assert_eq!(told(&lab, be), "0x04030201", "{be}");
    }
    // What somebody has set on a BE is not the store's.
    set(&lab, "ROOT/default", "org.bootenv:hostid=00000009");
    lab.bootenv(&["create", "green"]).ok();
    assert_eq!(told(&lab, "green"), "0x04030201");
    // Where the first root has none, it is that of the system which makes the store.
    let lab = Lab::new();
    assert_eq!(told(&lab, "default"), format!("0x{}", sh("hostid").trim()));
}
