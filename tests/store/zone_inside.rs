//! A zone's own administrator: plain `bootenv` in the zone, by the socket that the host has bound into it.

use crate::lab::inside::{become_a_process_of, unit};
use crate::lab::{Kind, Lab, kind, only_on};
use crate::zone_verbs::{CHANGES, two_zones};
use serde_json::{Value, json};

const LOOKS: &[&[&str]] = &[
    &["list"],
    &["list", "-a"],
    &["list", "-aH", "-K", "name"],
    &["list", "--tree"],
    &["list", "--json"],
    &["list", "blue", "--json"],
    &["diff", "default", "blue"],
    &["diff", "--json", "default", "blue"],
    &["diff", "--packages", "default", "blue"],
    &["diff", "--packages", "--json", "default", "blue"],
];

/// A plan without the names in it that are new each time.
fn without_chance(plan: &str) -> String {
    let mut parts = plan.split(".rollback-");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |told, rest| told + ".rollback-" + &rest[36..])
}

#[test]
fn what_is_changed_from_inside_is_the_zones_alone_and_told_as_outside() {
    let lab = two_zones();
    let before = lab.print_without_zone("web");
    let web = lab.serve("web");
    // Looking for what is wrong is the host's.
    for args in CHANGES.iter().filter(|args| args[0] != "check") {
        let shown = lab.in_zone("web", &[&["--dry-run"], *args].concat()).ok().stdout;
        let was = lab.print();
        let shown_inside = web.admin(&[&["--dry-run"], *args].concat()).ok().stdout;
        assert_eq!(without_chance(&shown_inside), without_chance(&shown), "{args:?}");
        was.assert_same(&lab.print(), &format!("{args:?} with --dry-run"));
        let told = web.admin_json(args).ok().json();
        assert_eq!(told["version"], 1, "{args:?}: {told}");
        before.assert_same(&lab.print_without_zone("web"), &format!("{args:?} has changed more than the zone"));
    }
    let told = lab.zone_told("web");
    assert_eq!((&told["active"], &told["boot_environments"]), (&"blue".into(), &3.into()));
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn what_is_shown_inside_is_what_is_shown_outside() {
    let lab = two_zones();
    lab.in_zone("web", &["create", "-d", "some \u{1b}[2J text", "blue"]).ok();
    lab.in_zone("web", &["create", "blue@one"]).ok();
    lab.in_zone("web", &["create", "-e", "blue@one", "green"]).ok();
    lab.in_zone("web", &["pin", "green"]).ok();
    lab.in_zone("web", &["activate", "-t", "green"]).ok();
    lab.bootenv(&["create", "-a", "host"]).ok();
    let blue = lab.zone_files("web", "ROOT/blue");
    std::fs::write(blue.join("etc/colour"), "blue\n").unwrap();
    std::fs::write(blue.join("etc/os-release"), "other\n").unwrap();
    std::fs::remove_file(blue.join("usr/sbin/init")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    std::fs::write(blue.join(std::ffi::OsStr::from_bytes(b"etc/\xff\n")), "").unwrap();
    let web = lab.serve("web");
    let names: Vec<(String, String)> = lab.json(&["list"]).ok().json()["boot_environments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|be| {
            let uuid = be["uuid"].as_str().unwrap();
            (be["name"].as_str().unwrap().to_string(), format!("host-{}", &uuid[28..]))
        })
        .collect();
    let store = lab.store().display().to_string();
    for args in LOOKS {
        let outside = lab.in_zone("web", args).ok().stdout;
        let inside = web.admin(args).ok().stdout;
        // The host's names are none of its business, and neither is where the store lies.
        let mut veiled = outside.replace(&format!("\"name\": \"{store}\""), "\"name\": \"web\"");
        for (name, veil) in &names {
            for field in ["host", "belongs_to", "would_run_with"] {
                veiled = veiled.replace(&format!("\"{field}\": \"{name}\""), &format!("\"{field}\": \"{veil}\""));
            }
        }
        assert_eq!(inside, veiled, "{args:?}");
    }
    for args in [&["status"][..], &["--json", "status"], &[]] {
        let (outside, inside) = (lab.in_zone("web", args).ok().stdout, web.admin(args).ok().stdout);
        let outside = outside.replace(&store, "web").replace("`bootenv --zone web ", "`bootenv ");
        assert_eq!(inside, outside, "{args:?}");
    }
}

#[test]
fn what_is_refused_outside_is_refused_inside_in_the_same_words() {
    let lab = two_zones();
    lab.in_zone("web", &["create", "blue"]).ok();
    lab.in_zone("web", &["create", "blue@one"]).ok();
    lab.in_zone("db", &["create", "data"]).ok();
    let web = lab.serve("web");
    let long = "n".repeat(256);
    let text = "t".repeat(2000);
    for args in [
        &["create", "blue"][..],
        &["create", "blue@one"],
        &["create", "../db"],
        &["create", "/etc"],
        &["create", "web@x/.."],
        &["create", "a\nb"],
        &["create", &long],
        &["create", "-e", "data", "x"],
        &["create", "-d", &text, "x"],
        &["activate", "nosuch"],
        &["activate", "../../ROOT/default"],
        &["destroy", "-F", "default"],
        &["destroy", "-F", "data"],
        &["destroy", "-F", "blue@two"],
        &["destroy", "-F", "../../db/ROOT/data"],
        &["rename", "blue", "default"],
        &["rename", "blue", "../db/x"],
        &["describe", "data", "text"],
        &["rollback", "-F", "blue@two"],
        &["rollback", "-F", "blue"],
        &["pin", "data"],
        &["diff", "default", "data"],
        &["diff", "default"],
        &["list", "data"],
        &["list", "../db"],
    ] {
        let before = lab.print();
        let outside = lab.in_zone("web", args);
        let inside = web.admin(args);
        assert_eq!(inside.status, outside.status, "{args:?}: {inside:?}");
        let words = outside.stderr.replace("--zone web ", "");
        assert_eq!((inside.stderr, inside.stdout), (words, outside.stdout), "{args:?}");
        let told: Value = serde_json::from_str(&web.admin_json(args).stderr).unwrap();
        assert!(told["error"]["kind"].is_string(), "{args:?}: {told}");
        before.assert_same(&lab.print(), &format!("{args:?} was refused"));
    }
}

#[test]
fn what_runs_is_seen_from_inside() {
    let lab = two_zones();
    lab.in_zone("web", &["create", "blue"]).ok();
    let _web = lab.serve("web");
    become_a_process_of("web");
    let container = lab.running_in_zone("web", "default");
    let flags = |be: &str| {
        let list = container.bootenv(&["list", "-H", be]).ok().stdout;
        list.split('\t').take(3).map(str::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((flags("default"), flags("blue")), ("default NR /".into(), "blue - -".into()));
    assert!(container.bootenv(&["status"]).ok().stdout.contains("running    default\n"));
    container.bootenv(&["destroy", "-F", "default"]).fails(3, &[]);
    container.bootenv(&["create", "default@now"]).ok();
    container.bootenv(&["rollback", "-F", "default@now"]).fails(3, &["default is running"]);
    container.bootenv(&["activate", "blue"]).ok();
    assert_eq!((flags("default"), flags("blue")), ("default N /".into(), "blue R -".into()));
    container.bootenv(&["create"]).ok();
    assert_eq!(lab.zone_be("web", "default-1")["origin"], "default", "made from what runs, not from what boots next");
    container.sh("echo new > /etc/colour");
    assert_eq!(container.bootenv(&["diff", "blue"]).ok().stdout, "+ /etc/colour\n");
    assert!(!container.sh("cat /proc/self/mountinfo").contains("subvolid=5,"), "nothing else of the store is there");
}

#[test]
fn verbs_that_need_the_host_say_so() {
    let lab = Lab::with_zone();
    let web = lab.serve("web");
    let before = lab.print();
    for args in [
        &["mount", "default"][..],
        &["unmount", "default"],
        &["run", "default"],
        &["upgrade", "--", "true"],
        &["pending", "default"],
        &["prune"],
        &["init"],
        &["check"],
        &["zone", "list"],
        &["zone", "create", "--from", "/", "x"],
        &["create", "-o", "mountpoint=/etc", "x"],
        &["destroy", "-f", "default"],
    ] {
        web.admin_json(args).refused(3, &[]);
    }
    web.admin_json(&["--zone", "db", "list"]).refused(2, &["this is a zone"]);
    assert_eq!(web.admin(&["auto", "--before", "apt"]).ok().stdout, "", "a package manager is not held up");
    web.admin(&["completions", "bash"]).ok();
    web.admin(&["pending"]).ok();
    before.assert_same(&lab.print(), "nothing was done");
}

/// Runs a command as root of a user namespace in which root is somebody else outside, as in a container that has one.
const MAPPED: &str = r#"
set -e
mkfifo /run/mapped.$$
unshare --user --keep-caps bash -c 'read -r _ <"$0"; exec setpriv --reuid 0 --regid 0 --clear-groups -- "$@"' /run/mapped.$$ "$@" &
until [ "$(readlink /proc/$!/ns/user)" != "$(readlink /proc/$$/ns/user)" ]; do sleep 0.01; done
echo 0 100000 1000 >/proc/$!/gid_map
echo 0 100000 1000 >/proc/$!/uid_map
echo >/run/mapped.$$
wait $!
"#;

#[test]
fn who_is_not_root_of_the_zone_is_turned_away() {
    let lab = two_zones();
    let web = lab.serve("web");
    let before = lab.print();
    // Whatever it is outside, the binary has to be where everybody can run it.
    std::fs::copy(env!("CARGO_BIN_EXE_bootenv"), "/run/bootenv-tool").unwrap();
    let list = |unit: &str, enter: &str| -> crate::lab::Ran {
        web.command_in(unit, enter, &["/run/bootenv-tool", "list", "-H"]).output().unwrap().into()
    };
    let own = unit("web");
    list(&own, "").ok();
    list("systemd-nspawn@web.service", "").ok();
    let turned_away = |unit: &str, enter: &str| {
        list(unit, enter).fails(3, &["only root of this container"]);
    };
    for other in [
        unit("db"),
        format!("{}/{own}", unit("db")),
        "user.slice/user@0.service".into(),
        String::new(),
        "machine.slice".into(),
        format!("{own}x"),
        format!("x-{own}"),
    ] {
        turned_away(&other, "");
    }
    // Below the zone's own it is still in the zone, as the processes of its services are.
    list(&format!("{own}/system.slice/ssh.service"), "").ok();
    list(&format!("machine.slice/{own}"), "").ok();
    turned_away(&own, "setpriv --reuid 1000 --regid 1000 --clear-groups --");
    // Root in a user namespace that anybody can make is nobody.
    turned_away(&own, "setpriv --reuid 1000 --regid 1000 --clear-groups -- unshare --user --map-root-user");
    // A zone with a user namespace: its root is some user outside, and others in it are others.
    std::fs::write("/run/mapped", MAPPED).unwrap();
    let mapped = "bash /run/mapped";
    list(&own, mapped).ok();
    turned_away(&unit("db"), mapped);
    turned_away(&own, &format!("{mapped} setpriv --reuid 33 --regid 33 --clear-groups --"));
    turned_away(
        &own,
        &format!("{mapped} setpriv --reuid 33 --regid 33 --clear-groups -- unshare --user --map-root-user"),
    );
    turned_away(&own, &format!("{mapped} unshare --user --map-root-user"));
    before.assert_same(&lab.print(), "nobody was let in");
    let journal = std::fs::read_to_string(&web.journal).unwrap();
    assert!(journal.contains("a connection is turned away: process ") && journal.contains(" is not root"), "{journal}");
    assert!(journal.contains(&format!("is in {}, not in web", unit("db"))), "{journal}");
}

#[test]
fn limits_hold_for_what_is_asked_from_inside() {
    let lab = two_zones();
    let told = lab.bootenv(&["zone", "limit", "--boot-environments", "3", "web"]).ok().stdout;
    assert_eq!(told, "web may make 3 boot environments and snapshots, with no limit to its space\n");
    assert_eq!(
        lab.bootenv(&["zone", "limit", "--boot-environments", "3", "web"]).ok().stdout,
        told,
        "it is so already"
    );
    let (web, db) = (lab.serve("web"), lab.serve("db"));
    web.admin(&["create", "blue"]).ok();
    web.admin(&["create", "blue@one"]).ok();
    let full = lab.print();
    for args in [&["create", "red"][..], &["create", "blue@two"], &["create", "-a"]] {
        web.admin_json(args).refused(3, &["there are 3", "there may be 3"]);
        full.assert_same(&lab.print(), &format!("{args:?} was refused"));
    }
    db.admin(&["create", "red"]).ok();
    lab.in_zone("web", &["create", "green"]).ok();
    web.admin(&["destroy", "-F", "green"]).ok();
    web.admin(&["destroy", "blue@one"]).ok();
    web.admin(&["create", "red"]).ok();
    lab.bootenv(&["zone", "limit", "--boot-environments", "none", "web"]).ok();
    web.admin(&["create", "green"]).ok();
}

#[test]
fn a_zone_that_takes_too_much_makes_no_more() {
    let lab = two_zones();
    lab.bootenv(&["zone", "limit", "--space", "20M", "web"]).ok();
    let web = lab.serve("web");
    web.admin(&["create", "blue"]).ok();
    let noise = lab.zone_files("web", "SHARED/log/noise");
    crate::lab::sh(&format!("head -c 24M /dev/urandom > '{}'; sync -f '{0}'", noise.display()));
    // What is copied without being written anew takes nothing more.
    web.admin_json(&["create", "red"]).refused(3, &["the zone takes 2", "may take 20.0M"]);
    lab.in_zone("db", &["create", "red"]).ok();
    std::fs::remove_file(lab.zone_files("web", "SHARED/log/noise")).unwrap();
    crate::lab::sh(&format!("sync -f '{}'", lab.zone_files("web", "SHARED").display()));
    if kind() == Kind::Btrfs {
        web.admin(&["create", "red"]).ok();
    }
    for bad in ["0", "-1", "x", "1.5G"] {
        assert_eq!(lab.bootenv(&["zone", "limit", &format!("--space={bad}"), "web"]).status, 2, "{bad}");
    }
    lab.bootenv(&["zone", "limit", "--space", "1G", "nosuch"]).fails(4, &["no zone nosuch"]);
}

#[test]
fn a_store_that_is_full_loses_nothing() {
    if !only_on(Kind::Btrfs, "a pool of this size keeps more in reserve than it can be filled with") {
        return;
    }
    let lab = two_zones();
    let web = lab.serve("web");
    web.admin(&["create", "blue"]).ok();
    let noise = lab.zone_files("web", "ROOT/blue/noise");
    crate::lab::try_sh(&format!("cat /dev/urandom > '{}'; sync -f '{0}'", noise.display()));
    for n in 0..3 {
        let ran = web.admin(&["create", &format!("more-{n}")]);
        assert!(ran.status == 0 || ran.stderr.contains("full"), "{ran:?}");
    }
    let there = lab.in_zone("web", &["list", "-H"]).ok().stdout;
    assert!(there.contains("default\t") && there.contains("blue\t"), "{there}");
    std::fs::remove_file(&noise).unwrap();
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn the_host_has_a_service_of_its_own() {
    let lab = two_zones();
    let host = lab.serve_host();
    let told = host.call("io.bootenv.List", json!({}));
    let names: Vec<&str> = told["parameters"]["boot_environments"]
        .as_array()
        .unwrap_or_else(|| panic!("{told}"))
        .iter()
        .filter_map(|be| be["name"].as_str())
        .collect();
    assert_eq!(names, ["default"]);
    assert_eq!(told["parameters"], lab.json(&["list"]).ok().json(), "the same document");
    host.call("io.bootenv.Create", json!({"name": "blue"}));
    assert_eq!(lab.names(), ["default", "blue"]);
    std::fs::copy(env!("CARGO_BIN_EXE_bootenv"), "/run/bootenv-tool").unwrap();
    let nobody = "setpriv --reuid 1000 --regid 1000 --clear-groups --";
    let ran: crate::lab::Ran =
        host.command_in("user.slice", nobody, &["/run/bootenv-tool", "list"]).output().unwrap().into();
    ran.fails(3, &["only root"]);
}
