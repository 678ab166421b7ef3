//! Commands that do what they should not: each ends with a clear message or does it to the BE alone, and what runs and the shared
//! data stay byte for byte as they were.

use crate::guard::{others, unchanged};
use crate::lab::{Kind, kind, sh};
use crate::{debian, run, sleepers, write};
use std::time::{Duration, Instant};

#[test]
fn what_runs_stays_as_it_is() {
    let Some(lab) = debian() else { return };
    sh(&format!("cd '{}'; echo live > log/live; ln -s /etc log/etc", lab.shared().display()));
    let before = others(&lab);
    for (what, script, status) in [
        ("no such command", "exec nosuch", 127),
        ("daemons", "(trap '' TERM HUP; setsid sleep 4248 <&- >&- 2>&- &); exit 5", 5),
        ("mounting over things", "mount -t tmpfs x /etc || mount --bind /root /var/log || exit 6", 6),
        ("a fork bomb's beginning", "for i in $(seq 200); do sleep 4248 & done; exit 7", 7),
        ("fstab", "rm /etc/fstab && exit 8", 8),
        (
            "links that lead out",
            "ln -s /etc/passwd /var/shared/log/x; echo evil >> /var/shared/log/x; ln -s ../../../../etc/passwd /var/log/y; echo evil >> /var/log/y; echo evil >> /var/log/etc/passwd; exit 9",
            9,
        ),
        (
            "devices and setuid",
            "mknod /var/log/disk b 8 0; cp /bin/sh /var/spool/sh; chmod 4755 /var/spool/sh; exit 10",
            10,
        ),
        ("a directory for the link", "rm /var/log && mkdir /var/log && echo x > /var/log/live; exit 11", 11),
        (
            "the layer moved away",
            "mv /var/lib/bootenv /var/lib/elsewhere; ln -s /var/shared /var/lib/bootenv; echo x > /var/shared/log/z; exit 12",
            12,
        ),
    ] {
        let ran = run(&lab, "blue", script);
        assert_eq!(ran.status, status, "{what}: {}{}", ran.stdout, ran.stderr);
        // Said once: the next command has not done it.
        let told = ["/etc/fstab is gone", "/var/log is a directory"].map(|problem| ran.stderr.contains(problem));
        assert_eq!(told, [what == "fstab", what == "a directory for the link"], "{what}: {}", ran.stderr);
        assert_eq!(sleepers("4248"), 0, "{what}");
        unchanged(&lab, &before, what);
    }
    // Links that lead out lead there in the BE.
    let passwd = std::fs::read_to_string(lab.files("blue").join("etc/passwd")).unwrap();
    assert_eq!(passwd.matches("evil").count(), 3);
    // Where the layer would come to lie somewhere else, nothing is run any more.
    run(&lab, "blue", "true").fails(3, &["/var/lib/bootenv", "no directory", "bootenv mount"]);
    lab.bootenv(&["destroy", "-F", "blue"]).ok();
    unchanged(&lab, &before, "destroying it");
}

#[test]
fn a_be_of_another_architecture_is_told() {
    let Some(lab) = debian() else { return };
    // What the programs are for, as their headers say it: AArch64.
    sh(&format!(
        "cd '{}'; for p in usr/bin/dash usr/bin/bash usr/bin/true; do printf '\\267\\0' | dd of=$p bs=1 seek=18 conv=notrunc status=none; done",
        lab.files("blue").display()
    ));
    let before = (others(&lab), lab.print());
    for program in ["true", "sh", "bash"] {
        lab.bootenv(&["run", "blue", "--", program]).fails(126, &[program, "another architecture"]);
    }
    lab.bootenv(&["run", "blue"]).fails(126, &["another architecture"]);
    unchanged(&lab, &before.0, "run");
    lab.bootenv(&["activate", "blue"]).ok();
    let before = lab.print();
    lab.bootenv(&["upgrade", "--continue", "-n", "foreign", "--", "true"]).fails(1, &["another architecture"]);
    before.assert_same(&lab.print(), "upgrade");
}

#[test]
fn a_command_that_fills_the_store_leaves_nothing() {
    let Some(lab) = debian() else { return };
    let before = (others(&lab), lab.print());
    // Room that is taken at once where that can be; else bytes have to be written.
    let fill = match kind() {
        Kind::Btrfs => {
            "for n in 1 2 3 4 5 6; do fallocate -l 1G /root/$n || fallocate -l 64M /root/$n; done; for n in $(seq 99); do fallocate -l 16M /root/f$n || break; done; cat /dev/zero > /root/rest"
        }
        Kind::Zfs => "cat /dev/zero > /root/rest",
    };
    lab.bootenv(&["upgrade", "-n", "full", "-a", "--", "sh", "-c", fill]).fails(1, &["No space left", "exit status 1"]);
    before.1.assert_same(&lab.print(), "upgrade");
    let ran = run(&lab, "blue", fill);
    assert!(ran.status == 1 && ran.stderr.contains("No space left"), "{}", ran.stderr);
    unchanged(&lab, &before.0, "run");
    // The way out of it works on a full store.
    lab.bootenv(&["destroy", "-F", "blue"]).ok();
    // The room comes back a moment later.
    let until = Instant::now() + Duration::from_secs(60);
    while lab.bootenv(&["create", "again"]).status != 0 {
        assert!(Instant::now() < until, "there is no room");
        std::thread::sleep(Duration::from_millis(200));
    }
    unchanged(&lab, &before.0, "afterwards");
    write(&lab.files("again").join("root/rest"), "there is room");
}
