//! apt and dpkg, with packages that really ship or make something below the shared directories.

use crate::lab::{Kind, Print, kind, sh};
use crate::{APT, debian, package, run};

#[test]
fn packages_with_shared_content_are_installed() {
    let Some(lab) = debian() else { return };
    let before = (Print::of(&lab.shared()), Print::of(&lab.files("default")));
    let wanted = [
        ("cron rsyslog", "spool/rsyslog"),
        ("exim4-daemon-light", "spool/exim4"),
        ("nginx-light", "log/nginx"),
        ("postgresql", "log/postgresql"),
    ];
    // The rest takes as long again in an emulated machine.
    let wanted = if kind() == Kind::Zfs { &wanted[..2] } else { &wanted[..] };
    for (packages, made) in wanted {
        let ran = run(&lab, "blue", &format!("{APT} install {packages}"));
        assert_eq!(ran.status, 0, "{packages}: {}{}", ran.stdout, ran.stderr);
        run(
            &lab,
            "blue",
            &format!("test -d /var/{made} && dpkg -s {packages} >/dev/null && test -z \"$(dpkg --audit)\""),
        )
        .ok();
    }
    before.0.assert_same(&Print::of(&lab.shared()), "shared data was changed");
    before.1.assert_same(&Print::of(&lab.files("default")), "the other BE was changed");
    let waits = lab.json(&["pending", "blue"]).ok().json()["waiting"].to_string();
    assert!(waits.contains("log/dpkg.log") && waits.contains("log/apt/history.log"), "{waits}");
    let upper = lab.files("blue").join("var/lib/bootenv/pending/upper");
    let made = || wanted.iter().map(|(_, made)| made).chain(["log/exim4", "spool/cron/crontabs"].iter());
    for dir in made() {
        assert!(upper.join(dir).is_dir(), "{dir}");
    }
    // Booted: what waits is merged, owned by the users that the packages made.
    let uid = |name: &str| {
        sh(&format!("grep ^{name}: '{}' | cut -d: -f3", lab.files("blue").join("etc/passwd").display()))
            .trim()
            .to_string()
    };
    let exim = uid("Debian-exim");
    let running = lab.running("blue");
    running.bootenv(&["pending", "--merge"]).ok();
    drop(running);
    let owner = sh(&format!("stat -c %u '{}'", lab.shared().join("spool/exim4").display()));
    assert_eq!(owner.trim(), exim);
    for dir in made() {
        assert!(lab.shared().join(dir).is_dir(), "{dir}");
    }
}

#[test]
fn dpkg_with_its_own_option_meets_a_read_only_dataset() {
    let Some(lab) = debian() else { return };
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout;
    let at = at.trim();
    // A dpkg before 1.22 looks for the users of these in the system that it runs on.
    sh(&format!(": > '{at}/var/lib/dpkg/statoverride'"));
    // A directory that is there passes, a new one does not, and says why.
    let there = package(&lab, "there", "mkdir -p var/log usr/share/there; touch usr/share/there/x");
    sh(&format!("dpkg --root='{at}' --force-script-chrootless --log=/dev/null -i '{}'", there.display()));
    let new = package(&lab, "new", "mkdir -p var/log/new");
    let refused = crate::lab::try_sh(&format!("dpkg --root='{at}' --log=/dev/null -i '{}' 2>&1", new.display()));
    assert!(refused.status != 0 && refused.stdout.contains("Read-only file system"), "{}", refused.stdout);
    lab.bootenv(&["unmount", "blue"]).ok();
    std::fs::copy(new, lab.files("blue").join("root/new.deb")).unwrap();
    run(&lab, "blue", "dpkg -i /root/new.deb && test -d /var/log/new").ok();
}

#[test]
fn nasty_packages_do_what_they_do_to_the_be_alone() {
    let Some(lab) = debian() else { return };
    let before = Print::of(&lab.shared());
    sh(&format!("echo live > '{}'", lab.shared().join("log/conf").display()));
    let live = Print::of(&lab.shared());
    let nasty = package(
        &lab,
        "nasty",
        "mkdir -p var/log var/spool/nasty; echo packaged > var/log/conf; echo x > var/spool/nasty/suid; chmod 4755 var/spool/nasty/suid
         printf '#!/bin/sh\nmknod /var/log/disk b 8 0; ln -s /etc/shadow /var/shared/log/shadow; echo evil >> /var/log/lastlog; (sleep 4246 &)\nmkdir -p /run/x; mount -t tmpfs x /run/x || true\n' > DEBIAN/postinst; chmod +x DEBIAN/postinst",
    );
    std::fs::copy(nasty, lab.files("blue").join("root/nasty.deb")).unwrap();
    run(&lab, "blue", "dpkg -i /root/nasty.deb").ok();
    live.assert_same(&Print::of(&lab.shared()), "shared data was changed");
    assert_ne!(before.len(), live.len());
    let running = lab.running("blue");
    let said = running.bootenv(&["pending", "--merge"]).ok().stdout;
    drop(running);
    for line in [
        "log/conf: was there and stays",
        "log/disk: left out, because it is a device",
        "spool/nasty/suid: left out, because of its mode",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let shared = lab.shared();
    assert_eq!(std::fs::read_to_string(shared.join("log/conf")).unwrap(), "live\n");
    assert_eq!(std::fs::read_to_string(shared.join("log/conf.bootenv-new")).unwrap(), "packaged\n");
    assert_eq!(std::fs::read_link(shared.join("log/shadow")).unwrap(), std::path::Path::new("/etc/shadow"));
}
