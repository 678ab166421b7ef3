//! Stores that are none, are damaged, cannot be written to or are full, and people who may not.

use crate::lab::{Kind, Lab, Print, Ran, on, only_on, sh, tool};
use std::path::Path;

/// Verbs that must refuse a store that is none.
const VERBS: &[&[&str]] = &[
    &[],
    &["list"],
    &["create", "new"],
    &["activate", "default"],
    &["mount", "default"],
    &["check"],
    &["check", "--repair"],
    &["init"],
];

/// What a file is, to the last byte.
fn sum(path: &Path) -> String {
    sh(&format!("sha256sum < '{0}'; stat -c '%s %Y %a' '{0}'", path.display()))
}

#[test]
fn a_file_that_is_no_btrfs_is_refused_and_left_as_it_is() {
    let lab = Lab::empty();
    let root = lab.root("");
    sh(&format!(
        r#"
cd '{}'
truncate -s 64M ext4.img; mkfs.ext4 -q ext4.img
truncate -s 64M zeros.img; truncate -s 0 nothing.img; echo 'just text' > text.img; yes text | head -c 1000000 > long-text.img
head -c 1000000 /dev/urandom > noise.img; printf x > byte.img; truncate -s 4097 odd.img
"#,
        lab.path("").display()
    ));
    for name in
        ["ext4.img", "zeros.img", "nothing.img", "text.img", "long-text.img", "noise.img", "byte.img", "odd.img"]
    {
        let image = lab.path(name);
        let before = sum(&image);
        for args in VERBS {
            on(&image, args).refused(1, &[name]);
        }
        on(&image, &["init", "--from", root.to_str().unwrap()]).refused(1, &[name]);
        on(&image, &["init", "--size", "256M", "--from", root.to_str().unwrap()]).refused(3, &["--size"]);
        assert_eq!(sum(&image), before, "{name} was written to");
    }
}

#[test]
fn what_is_neither_file_nor_device_nor_directory_is_refused() {
    let lab = Lab::empty();
    sh(&format!("cd '{}'; mkfifo fifo; ln -s nowhere dangling; ln -s loop loop", lab.path("").display()));
    for (store, status) in [
        ("/dev/null".into(), 3),
        ("/dev/tty".into(), 3),
        (lab.path("fifo"), 3),
        (lab.path("dangling"), 4),
        (lab.path("loop"), 4),
        ("/proc/self/mem/x".into(), 4),
    ] {
        for args in VERBS.iter().filter(|v| **v != ["init"]) {
            on(&store, args).refused(status, &[]);
        }
    }
    for args in VERBS {
        on(Path::new("/proc"), args).refused(3, &["not on a Btrfs"]);
        on(lab.path("").as_path(), args).refused(3, &["not on a Btrfs"]);
    }
}

#[test]
fn what_may_be_a_pool_that_is_not_there_is_told_how_to_get_it() {
    for name in ["nosuchpool", "nosuchpool/ROOT/blue"] {
        on(Path::new(name), &["list"]).refused(4, &[name, "zpool import nosuchpool", "makes an image"]);
    }
    let told = on(Path::new("./nosuchpool"), &["list"]).refused(4, &["makes an image"]);
    assert!(!told.stderr.contains("zpool"), "{}", told.stderr);
}

#[test]
fn a_store_that_nobody_has_initialised_says_what_to_do() {
    let lab = Lab::empty();
    lab.make();
    for args in VERBS {
        lab.json(args).refused(3, &[]);
    }
    assert!(lab.json(&["list"]).stderr.contains("init"));
    // And then it can be done.
    let root = lab.root("");
    lab.bootenv(&["init", "--from", root.to_str().unwrap()]).ok();
    assert_eq!(lab.names(), ["default"]);
}

#[test]
fn a_truncated_image_is_refused_and_left_as_it_is() {
    if !only_on(Kind::Btrfs, "an image file; a pool that is damaged is not imported") {
        return;
    }
    for size in ["255M", "128M", "64M", "70K", "65536", "4096", "100"] {
        let lab = Lab::new();
        sh(&format!("truncate -s {size} '{}'", lab.image.display()));
        let before = sum(&lab.image);
        for args in [&["list"][..], &["create", "new"], &["check", "--repair"]] {
            lab.json(args).refused(1, &["lab.img"]);
        }
        assert_eq!(sum(&lab.image), before, "{size}: the image was written to");
    }
}

#[test]
fn an_image_with_damage_in_its_middle_gives_an_error_and_no_crash() {
    if !only_on(Kind::Btrfs, "an image file; a pool that is damaged is not imported") {
        return;
    }
    for offset in [65536u64 + 300, 22 << 20, 30 << 20, 31 << 20, 38 << 20] {
        let lab = Lab::new();
        sh(&format!(
            "dd if=/dev/urandom of='{}' bs=4096 seek={} count=64 conv=notrunc status=none",
            lab.image.display(),
            offset / 4096
        ));
        for args in [&["list"][..], &["create", "new"], &["check"]] {
            let ran = lab.json(args);
            assert!((0..=5).contains(&ran.status), "{args:?} with damage at {offset}: {} {}", ran.status, ran.stderr);
            if ran.status != 0 && ran.stdout.is_empty() {
                ran.refused(1, &[]);
            }
        }
    }
}

#[test]
fn nobody_but_root_is_let_in() {
    let lab = Lab::new();
    sh(&format!("cd '{}'; chmod 755 .; [ ! -e lab.img ] || chmod 644 lab.img", lab.path("").display()));
    let before = lab.print();
    lab.leave_top();
    // As another user, and as root without its capabilities, as in a container.
    for become_other in [
        &["--reuid", "65534", "--regid", "65534", "--clear-groups"][..],
        &["--bounding-set", "-all", "--inh-caps", "-all", "--securebits", "+noroot,+noroot_locked"],
    ] {
        for args in VERBS.iter().chain(&[&["destroy", "default"][..], &["unmount", "default"]]) {
            let mut command = std::process::Command::new("setpriv");
            command
                .args(become_other)
                .arg("--")
                .arg(tool().get_program())
                .arg("--json")
                .arg("--store")
                .arg(lab.store())
                .args(*args);
            let ran: Ran = command.output().unwrap().into();
            assert!([1, 3].contains(&ran.status), "{args:?} {}", ran.stderr);
            let status = ran.status;
            ran.refused(status, &["root"]);
        }
    }
    before.assert_same(&lab.print(), "somebody who is not root changed something");
    let ran: Ran = std::process::Command::new("setpriv")
        .args(["--reuid", "65534", "--"])
        .arg(tool().get_program())
        .arg("--version")
        .output()
        .unwrap()
        .into();
    assert!(ran.ok().stdout.contains("bootenv"));
}

#[test]
fn without_a_store_the_one_below_the_root_is_meant() {
    let ran: Ran = tool().args(["--json", "list"]).output().unwrap().into();
    crate::lab::isolate();
    // The machines that run this lane have no Btrfs at `/`.
    ran.refused(3, &["/ is on "]);
}

/// Everything that only looks works, everything that changes something says why it cannot, and nothing changes.
fn read_only(store: &Path, names: &[&str]) {
    let list = on(store, &["list"]).ok().json();
    let listed: Vec<&str> =
        list["boot_environments"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
    assert_eq!(on(store, &[]).ok().json()["on_reboot"], "default");
    assert_eq!(on(store, &["check"]).ok().json()["healthy"], true);
    for args in [
        &["create", "new"][..],
        &["create", "default@new"],
        &["activate", "blue"],
        &["destroy", "blue"],
        &["rename", "blue", "new"],
        &["describe", "blue", "x"],
        &["check", "--repair"],
    ] {
        on(store, args).refused(1, &["ead-only"]);
    }
    let listed = on(store, &["list"]).ok().json();
    assert_eq!(listed["boot_environments"].as_array().unwrap().len(), names.len());
}

#[test]
fn a_filesystem_mounted_read_only_can_be_looked_at() {
    if !only_on(Kind::Btrfs, "the whole filesystem has one flag; a pool is imported read-only") {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let top = lab.top();
    let before = Print::of(&top);
    sh(&format!("mount -o remount,ro '{}'", top.display()));
    read_only(&top, &["default", "blue"]);
    read_only(&lab.image, &["default", "blue"]);
    sh(&format!("mount -o remount,rw '{}'", top.display()));
    before.assert_same(&Print::of(&top), "something was written");
}

#[test]
fn an_image_that_cannot_be_written_to_can_be_looked_at() {
    if !only_on(Kind::Btrfs, "an image file; a pool that is damaged is not imported") {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let at = lab.path("frozen");
    std::fs::create_dir(&at).unwrap();
    sh(&format!("mount --bind '{0}' '{1}' && mount -o remount,bind,ro '{1}'", lab.path("").display(), at.display()));
    let before = sum(&lab.image);
    read_only(&at.join("lab.img"), &["default", "blue"]);
    assert_eq!(sum(&lab.image), before);
}

/// That there is no room, in words: in the store, or where kernels are copied to, which is in the store while no ESP is there.
#[track_caller]
fn is_full(ran: Ran) {
    match ran.status {
        3 => drop(ran.refused(3, &["free", "needs"])),
        _ => drop(ran.refused(1, &["full"])),
    }
}

/// Fills the filesystem: with data, and then with names until there is no room for those either.
fn fill(lab: &Lab, names_too: bool) {
    let dir = lab.shared();
    sh(&format!(
        "mkdir -p '{0}/filler'; head -c 400M /dev/zero > '{0}/filler/data' 2>/dev/null; sync -f '{0}'; head -c 9M /dev/zero > '{0}/filler/more' 2>/dev/null; sync -f '{0}' || true",
        dir.display()
    ));
    if names_too {
        let script = format!(
            "import os\nn = 0\nfor size in (2000, 500, 1):\n  while True:\n    try:\n      f = os.open('{0}/filler/%d' % n, os.O_CREAT | os.O_WRONLY); n += 1\n      os.write(f, b'x' * size); os.close(f)\n    except OSError: break\nos.sync()\nprint(n)",
            dir.display()
        );
        sh(&format!("python3 -c \"{script}\""));
    }
}

#[test]
fn a_filesystem_full_of_data_refuses_cleanly_and_lets_room_be_made() {
    let lab = Lab::of_size("128M");
    let root = lab.root("");
    lab.bootenv(&lab.init_args_sized("128M", &root, &[])).ok();
    lab.bootenv(&["create", "blue"]).ok();
    fill(&lab, false);
    let before = lab.print();
    lab.bootenv(&["list"]).ok();
    // A clone needs no data blocks, so this may work or not; never half.
    for n in 0..10 {
        let name = format!("new{n}");
        let ran = lab.json(&["create", &name]);
        match ran.status {
            0 => drop(lab.bootenv(&["destroy", &name]).ok()),
            _ => is_full(ran),
        }
    }
    let own = |p: &Path| p.starts_with("BOOTENV") || p == Path::new("ROOT");
    before.without(own).assert_same(&lab.print().without(own), "something was left, or lost");
    assert_eq!(lab.names(), ["default", "blue"]);
    lab.bootenv(&["destroy", "blue"]).ok();
    assert_eq!(lab.names(), ["default"]);
}

#[test]
fn a_filesystem_full_of_names_refuses_cleanly_and_lets_room_be_made() {
    let lab = Lab::of_size("128M");
    let root = lab.root("");
    lab.bootenv(&lab.init_args_sized("128M", &root, &[])).ok();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@then"]).ok();
    fill(&lab, true);
    let before = lab.print();
    let mut refused = 0;
    for args in [
        &["create", "new"][..],
        &["create", "-d", "text", "blue@new"],
        &["describe", "blue", &"long ".repeat(200)],
        &["activate", "blue"],
        &["rollback", "blue@then"],
        // Last: where there is still room for it, blue is gone.
        &["rename", "blue", "azure"],
    ] {
        let was = lab.print();
        let ran = lab.json(args);
        if ran.status != 0 {
            refused += 1;
            is_full(ran);
            let own = |p: &Path| p == Path::new("BOOTENV");
            was.without(own)
                .assert_same(&lab.print().without(own), &format!("{args:?} failed and has changed something"));
        }
    }
    assert!(refused > 0, "the filesystem was not full");
    if before.changes(&lab.print()).is_empty() {
        // The repair that the hint names has to work just then.
        lab.bootenv(&["destroy", "-s", "blue"]).ok();
        assert_eq!(lab.names(), ["default"]);
    }
    sh(&format!("rm -r '{0}/filler'; sync -f '{0}'", lab.shared().display()));
    lab.bootenv(&["create", "afterwards"]).ok();
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_second_bootenv_at_the_same_time_is_told_to_wait() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@then"]).ok();
    let lock = lab.home_beside().join("lock");
    let file = std::fs::File::options().write(true).open(&lock).unwrap();
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    let before = (lab.print(), crate::lab::mounts());
    let mut outcomes = Vec::new();
    for args in [
        &["create", "new"][..],
        &["activate", "blue"],
        &["destroy", "blue"],
        &["rename", "blue", "new"],
        &["describe", "blue", "x"],
        &["rollback", "blue@then"],
        &["mount", "blue"],
        &["init"],
        &["check", "--repair"],
    ] {
        outcomes.push((args, lab.json(args)));
    }
    let looked = [&["list"][..], &[]].map(|args| lab.json(args));
    let after = (lab.print(), crate::lab::mounts());
    drop(held);
    for (args, ran) in outcomes {
        assert_eq!(ran.status, 5, "{args:?} {}", ran.stderr);
        ran.refused(5, &["another bootenv"]);
    }
    looked.into_iter().for_each(|ran| drop(ran.ok()));
    before.0.assert_same(&after.0, "something was changed under another's lock");
    assert_eq!(before.1, after.1);
    lab.bootenv(&["create", "new"]).ok();
}
