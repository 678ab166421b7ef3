//! `upgrade`: whole or not at all.

use crate::lab::{Kind, Lab, Print, kind};
use std::time::{Duration, Instant};

use crate::{APT, debian, package, run, sleepers};

fn upgrade(lab: &Lab, options: &[&str], script: &str) -> crate::lab::Ran {
    lab.bootenv(&[&["upgrade"], options, &["--", "sh", "-c", script]].concat())
}

/// A kernel that is newer than any.
const NEWER: &str = "cd /boot && old=$(ls vmlinuz-*-cloud-amd64 | sed s/vmlinuz-//) && cp vmlinuz-$old vmlinuz-9.9 && \
    cp initrd.img-$old initrd.img-9.9 && cp -a /lib/modules/$old /lib/modules/9.9";

#[test]
fn a_new_be_with_the_packages_boots_next() {
    let Some(lab) = debian() else { return };
    lab.bootenv(&["destroy", "-F", "blue"]).ok();
    let before = Print::of(&lab.files("default"));
    let ran = upgrade(&lab, &["-a", "-d", "with cron"], &format!("{APT} install cron >/dev/null")).ok();
    for words in ["added (", "  cron ", "services that differ", "  cron.service", "default-1 boots next"] {
        assert!(ran.stdout.contains(words), "{words:?}: {}", ran.stdout);
    }
    before.assert_same(&Print::of(&lab.files("default")), "the BE it was made from");
    let be = lab.be("default-1");
    assert_eq!((&be["active_on_reboot"], &be["description"]), (&true.into(), &"with cron".into()));
    // Once more, on top of it, with the second kernel. Its 4000 modules take minutes in an emulated machine.
    let more = if kind() == Kind::Zfs { "rsyslog" } else { "linux-image-amd64" };
    let ran = lab
        .json(&[
            "upgrade",
            "--continue",
            "-n",
            "two",
            "-a",
            "--",
            "sh",
            "-c",
            &format!("{APT} install {more} && {NEWER}"),
        ])
        .ok()
        .json();
    assert!(ran["packages"]["added"].to_string().contains(more), "{ran}");
    assert!(ran["packages"]["added"].as_array().unwrap().iter().all(|p| p[0] != "cron"), "{ran}");
    run(&lab, "two", "dpkg -s cron >/dev/null").ok();
    let kernel = lab.be("two")["boot"]["kernel"].to_string();
    assert!(kernel.contains("vmlinuz-9.9"), "the entry boots the new kernel: {kernel}");
}

#[test]
fn what_fails_leaves_nothing() {
    let Some(lab) = debian() else { return };
    let before = lab.print();
    for (script, words) in [
        ("exit 3", "exit status 3"),
        ("rm /etc/fstab", "/etc/fstab is gone"),
        ("sed -i /shared/d /etc/fstab", "does not mount /var/shared"),
        ("rm /var/log && mkdir /var/log", "/var/log is a directory"),
        ("rm -r /lib/modules/*/; mkdir -p /lib/modules/0", "has no modules"),
        ("rm /boot/initrd.img-*; touch /boot/initrd.img-0", "has no initrd"),
        ("rm /boot/vmlinuz-*", "no kernel"),
        ("rm -r /usr/lib/systemd/systemd /sbin/init", "no init"),
        ("sed -i '0,/install ok installed/s//install ok half-configured/' /var/lib/dpkg/status", "unsound"),
        ("kill -KILL $$", "SIGKILL"),
    ] {
        upgrade(&lab, &["-n", "bad", "-a"], script).fails(1, &[words, "--keep-failed"]);
        before.assert_same(&lab.print(), script);
    }
    lab.bootenv(&["upgrade", "-n", "bad", "--", "nosuch"]).fails(4, &["nosuch"]);
    lab.bootenv(&["upgrade", "-n", "blue", "--", "true"]).fails(3, &["blue exists"]);
    let running = lab.running("default");
    running.bootenv_on_image(&["upgrade", "--continue", "--", "true"]).fails(3, &["--continue"]);
    drop(running);
    before.assert_same(&lab.print(), "refused");
    upgrade(&lab, &["-n", "kept", "-a", "--keep-failed"], "touch /root/trace; exit 3").fails(1, &["exit status 3"]);
    assert!(lab.files("kept").join("root/trace").exists());
    assert_eq!(lab.be("kept")["active_on_reboot"], false);
    upgrade(&lab, &["-n", "fine", "-t", "--keep-failed"], "touch /root/trace").ok();
    assert_eq!(lab.be("fine")["active_once"], true);
}

#[test]
fn interrupted_or_killed_it_is_gone() {
    let Some(lab) = debian() else { return };
    let before = lab.print();
    for signal in ["INT", "TERM", "KILL"] {
        let mut child = lab
            .command(&["upgrade", "-n", "half", "-a", "--", "sh", "-c", "touch /root/begun; exec sleep 4247"])
            .spawn()
            .unwrap();
        while sleepers("4247") == 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        crate::lab::sh(&format!("kill -{signal} {}", child.id()));
        assert!(!child.wait().unwrap().success());
        // What keeps the BE from being looked at is gone a moment after bootenv is.
        let until = Instant::now() + Duration::from_secs(20);
        let ran = loop {
            let ran = lab.bootenv(&["list"]).ok();
            if !ran.stdout.contains("half") {
                break ran;
            }
            assert!(Instant::now() < until, "{signal}: {}{}", ran.stdout, ran.stderr);
        };
        assert_eq!(signal == "KILL", ran.stderr.contains("undid what was begun"), "{signal}: {}", ran.stderr);
        before.assert_same(&lab.print(), signal);
    }
}

#[test]
fn a_package_that_fails_half_way_is_no_upgrade() {
    let Some(lab) = debian() else { return };
    let before = lab.print();
    let failing = package(
        &lab,
        "failing",
        "mkdir -p var/log/failing; printf '#!/bin/sh\nexit 1\n' > DEBIAN/postinst; chmod +x DEBIAN/postinst",
    );
    lab.bootenv(&["create", "carrier"]).ok();
    std::fs::copy(failing, lab.files("carrier").join("root/failing.deb")).unwrap();
    lab.bootenv(&["activate", "carrier"]).ok();
    let with = lab.print();
    upgrade(&lab, &["-n", "bad", "-a", "--continue"], "dpkg -i /root/failing.deb").fails(1, &["exit status 1"]);
    upgrade(&lab, &["-n", "bad", "-a", "--continue"], "dpkg -i /root/failing.deb || true").fails(1, &["unsound"]);
    with.assert_same(&lab.print(), "the failed upgrades");
    assert_ne!(before.len(), with.len());
}
