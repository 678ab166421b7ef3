//! Promise 1: an operation on another BE never changes the running one: not its files, not its mounts, not its shared data.
//!
//! What runs is the root of a mount namespace: to a process inside, that BE is `/` and the shared dataset is on /var/shared.

use crate::lab::chroot::Inside;
use crate::lab::{Kind, Lab, Print, Ran, kind, mountpoint, only_on};
use serde_json::Value;

/// A store whose BE `default` runs, with others of every kind beside it.
fn machine() -> (Lab, Inside) {
    let lab = Lab::new();
    lab.nest("default", "var/lib/machines");
    for args in [
        &["create", "blue"][..],
        &["create", "-d", "text", "blue@then"],
        &["create", "green"],
        &["create", "default@then"],
        &["create", "-e", "default@then", "clone"],
    ] {
        lab.bootenv(args).ok();
    }
    lab.root("echo new > var/log/arrived");
    let running = lab.running("default");
    (lab, running)
}

/// Runs a verb inside. Told a pool, a system on it asks for its own ESP, which this lane has not: what needs that is done
/// from outside, where what runs is in another mount namespace.
fn work(lab: &Lab, running: &Inside, args: &[&str]) -> Ran {
    let ran = running.bootenv_on_image(args);
    match kind() {
        Kind::Zfs if ran.status != 0 && (ran.stdout.contains("ESP") || ran.stderr.contains("ESP")) => {
            let outside = lab.path("");
            let args: Vec<String> = args.iter().map(|a| a.replace("/run/lab/", outside.to_str().unwrap())).collect();
            lab.bootenv(&args.iter().map(String::as_str).collect::<Vec<_>>())
        }
        _ => ran,
    }
}

/// Everything that must not change.
struct Running {
    files: Print,
    shared: Print,
    mounts: Vec<String>,
}

impl Running {
    fn of(lab: &Lab, running: &Inside) -> Running {
        Running { files: Print::of(&lab.files("default")), shared: Print::of(&lab.shared()), mounts: running.mounts() }
    }

    #[track_caller]
    fn assert_same(&self, after: &Running, what: &str) {
        self.files.assert_same(&after.files, &format!("{what} changed the files of what runs"));
        self.shared.assert_same(&after.shared, &format!("{what} changed the shared data"));
        assert_eq!(self.mounts, after.mounts, "{what} changed the mount table");
    }
}

#[test]
fn what_runs_is_seen_to_run() {
    let (_lab, running) = machine();
    for json in
        [running.bootenv(&["list", "--json"]), running.bootenv_on_image(&["list", "--json"])].map(|r| r.ok().json())
    {
        let default = &json["boot_environments"][0];
        assert_eq!(
            (&default["name"], &default["active_now"], &default["mountpoint"]),
            (&"default".into(), &true.into(), &"/".into())
        );
        assert_eq!(json["boot_environments"][1]["active_now"], false);
    }
    let line = running.bootenv(&["list", "-H", "default"]).ok().stdout;
    assert!(line.starts_with("default\tN"), "{line}");
    assert!(running.bootenv(&[]).ok().stdout.contains("running    default"));
}

#[test]
fn no_verb_changes_what_runs() {
    let (lab, running) = machine();
    let before = Running::of(&lab, &running);
    // On a pool, a rollback is to the latest snapshot, and of what does not boot next.
    let (rollback, of_what_is_due) = match kind() {
        Kind::Btrfs => (&["rollback", "blue@then"], &["rollback", "blue@more"][..]),
        Kind::Zfs => (&["rollback", "blue@more"], &["list"][..]),
    };
    let all = [
        &["list", "-a"][..],
        &["check"],
        &["create"],
        &["create", "new"],
        &["create", "-a", "-d", "text", "second"],
        &["create", "-t", "-e", "blue", "third"],
        &["create", "blue@more"],
        rollback,
        &["activate", "blue"],
        &["activate", "-t", "green"],
        &["activate", "-T", "green"],
        &["describe", "blue", "text"],
        &["describe", "default", "the running one, described outside of it"],
        &["rename", "green", "olive"],
        of_what_is_due,
        &["destroy", "olive"],
        &["destroy", "-o", "clone"],
        &["activate", "default"],
        &["destroy", "-s", "blue"],
        &["create", "default@now"],
        &["destroy", "default@now"],
        &["check", "--repair"],
    ];
    for args in all {
        work(&lab, &running, args).ok();
        before.assert_same(&Running::of(&lab, &running), &format!("{args:?}"));
    }
}

/// The places in it where something is mounted when it is: on a pool, what is nested in it too.
fn mounts_of_blue() -> &'static [&'static str] {
    match kind() {
        Kind::Btrfs => &["", "/var/shared"],
        Kind::Zfs => &["", "/var/lib/machines", "/var/shared"],
    }
}

#[test]
fn a_mount_adds_to_the_mount_table_and_an_unmount_gives_it_back() {
    let (lab, running) = machine();
    for args in [&["mount", "blue"][..], &["mount", "--read-only", "blue"]] {
        let before = Running::of(&lab, &running);
        let at = running.bootenv_on_image(args).ok().stdout.trim().to_string();
        let during = Running::of(&lab, &running);
        let mut kept = during.mounts.clone();
        kept.retain(|line| !mountpoint(line).starts_with(&at));
        assert_eq!(kept, before.mounts, "{args:?}");
        assert_eq!(during.mounts.len(), before.mounts.len() + mounts_of_blue().len());
        before.files.assert_same(&during.files, "mount");
        before.shared.assert_same(&during.shared, "mount");
        // The shared data of what runs is as writable as before.
        std::fs::write(running.root.join("var/log/written"), "while it is mounted").unwrap();
        std::fs::remove_file(running.root.join("var/log/written")).unwrap();
        running.bootenv_on_image(&["unmount", "blue"]).ok();
        assert_eq!(running.mounts(), before.mounts);
    }
    if !lab.loader_sees() {
        // Without an ESP it cannot be seen whether that may go.
        return;
    }
    let before = Running::of(&lab, &running);
    let at = running.bootenv_on_image(&["mount", "blue"]).ok().stdout;
    assert_eq!(at.trim(), "/run/bootenv/blue");
    running.bootenv_on_image(&["destroy", "-f", "-s", "blue"]).ok();
    before.assert_same(&Running::of(&lab, &running), "mount, then destroy -f");
}

#[test]
fn where_mounts_spread_a_mount_spreads_whole_and_nothing_else_does() {
    let (lab, running) = machine();
    // As systemd sets it up: what is mounted appears in every namespace that has been made since.
    running.sh("mount --make-rshared /");
    let before = running.mounts();
    let at = running.bootenv_on_image(&["mount", "blue"]).ok().stdout.trim().to_string();
    let added: Vec<String> = running.mounts().into_iter().filter(|l| !before.contains(l)).collect();
    let mut places: Vec<_> = added.iter().map(|l| mountpoint(l).display().to_string()).collect();
    places.sort();
    let expected: Vec<String> = mounts_of_blue().iter().map(|place| format!("{at}{place}")).collect();
    assert_eq!(places, expected, "scaffolding has spread into the running system");
    let shared = added.iter().find(|l| mountpoint(l).ends_with("var/shared")).unwrap();
    assert!(shared.split(' ').nth(5).unwrap().starts_with("ro"), "{shared}");
    running.bootenv_on_image(&["unmount", "blue"]).ok();
    assert_eq!(running.mounts(), before);
    drop(lab);
}

#[test]
fn a_new_root_on_the_store_leaves_what_runs_alone() {
    let (lab, running) = machine();
    let before = Running::of(&lab, &running);
    work(&lab, &running, &["init", "--from", "/run/lab/root", "--name", "copied"]).ok();
    let after = Running::of(&lab, &running);
    before.files.assert_same(&after.files, "init");
    assert_eq!(before.mounts, after.mounts);
    // Shared data only grew by what was not there.
    let changes = before.shared.changes(&after.shared);
    assert!(
        // The top of the dataset shows in its change time that something was copied beside first.
        changes.iter().all(|c| ["new: \"log/arrived\"", "was: \"log\"", "was: \"\" "].iter().any(|p| c.starts_with(p))),
        "{changes:?}"
    );
    assert_eq!(std::fs::read_to_string(running.root.join("var/log/arrived")).unwrap(), "new\n");
}

#[test]
fn what_runs_is_not_destroyed_rolled_back_mounted_or_unmounted() {
    let (lab, running) = machine();
    work(&lab, &running, &["activate", "blue"]).ok();
    let before = (Running::of(&lab, &running), lab.print());
    for (args, status, word) in [
        (&["destroy", "default"][..], 3, "running"),
        (&["destroy", "-f", "-s", "-o", "default"], 3, "running"),
        (&["rollback", "default@then"], 3, "running"),
        (&["mount", "default"], 5, "mounted at /"),
        (&["unmount", "default"], 3, "running"),
        (&["unmount", "/"], 3, "running"),
        (&["unmount", "-f", "/"], 3, "running"),
        (&["mount", "blue", "/"], 5, "mounted"),
        (&["mount", "blue", "/var/shared"], 5, "mounted"),
    ] {
        let with_json = [&["--json"], args].concat();
        for ran in [running.bootenv_on_image(&with_json), running.bootenv(&with_json)] {
            ran.refused(status, &[word]);
        }
        before.0.assert_same(&Running::of(&lab, &running), &format!("{args:?}"));
        before.1.assert_same(&lab.print(), &format!("{args:?}"));
    }
}

#[test]
fn what_runs_can_have_another_name_and_stays_the_same() {
    let (lab, running) = machine();
    // What boots next is renamed only where a loader can follow.
    let due = lab.loader_sees();
    if !due {
        work(&lab, &running, &["activate", "blue"]).ok();
    }
    let before = Running::of(&lab, &running);
    work(&lab, &running, &["rename", "default", "first"]).ok();
    let itself = |p: &std::path::Path| p.as_os_str().is_empty();
    before.files.without(itself).assert_same(&Print::of(&lab.files("first")).without(itself), "rename");
    // The mount table names the subvolume, and so shows its new name; all else is as it was.
    let renamed: Vec<String> = before.mounts.iter().map(|l| l.replace("/ROOT/default", "/ROOT/first")).collect();
    assert_eq!(running.mounts(), renamed);
    let list = running.bootenv_on_image(&["list", "--json", "first"]).ok().json();
    assert_eq!(
        (&list["boot_environments"][0]["active_now"], &list["boot_environments"][0]["active_on_reboot"]),
        (&true.into(), &due.into())
    );
    running.bootenv_on_image(&["--json", "destroy", "first"]).refused(3, &["running"]);
}

#[test]
fn without_its_esp_a_machine_says_so_and_changes_nothing() {
    let (lab, running) = machine();
    let before = (Running::of(&lab, &running), lab.print());
    let status = running.bootenv(&["--json"]).ok().json();
    assert_eq!((&status["running"], &status["on_reboot"]), (&"default".into(), &Value::Null));
    assert!(status["attention"].to_string().contains("ESP"), "{status}");
    for args in [
        &["activate", "blue"][..],
        &["activate", "-t", "blue"],
        &["create", "-a", "new"],
        &["init", "--from", "/run/lab/root", "--name", "copied"],
    ] {
        running.bootenv(&[&["--json"], args].concat()).refused(3, &["ESP"]);
        before.0.assert_same(&Running::of(&lab, &running), &format!("{args:?}"));
        before.1.assert_same(&lab.print(), &format!("{args:?}"));
    }
    // What needs no ESP works: a new BE too, if its kernel is loaded from where it lies.
    let create = running.bootenv(&["--json", "create", "new"]);
    let be = match lab.loader_sees() {
        true => {
            create.ok();
            "new"
        }
        false => {
            create.refused(3, &["ESP"]);
            "blue"
        }
    };
    running.bootenv(&["create", "default@more"]).ok();
    let at = running.bootenv(&["mount", be]).ok().stdout;
    running.bootenv(&["unmount", at.trim()]).ok();
    running.bootenv(&["destroy", "default@more"]).ok();
    before.0.assert_same(&Running::of(&lab, &running), "verbs that need no ESP");
}

#[test]
fn the_default_source_is_what_runs_and_not_what_boots_next() {
    if !only_on(Kind::Btrfs, "where kernels are copied to the ESP, this machine, which has none, makes no BE") {
        return;
    }
    let (lab, running) = machine();
    work(&lab, &running, &["activate", "blue"]).ok();
    std::fs::write(running.root.join("etc/only-here"), "").unwrap();
    running.bootenv_on_image(&["create", "copy"]).ok();
    assert!(lab.files("copy").join("etc/only-here").exists());
    assert_eq!(lab.be("copy")["origin"], "default");
}
