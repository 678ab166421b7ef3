//! A BE is kept before a package manager changes what runs: real package managers, with the hooks that `make install` installs.

use crate::foreign::{self, Manager};
use crate::lab::{Lab, sh};
use crate::{APT, debian};
use std::path::Path;

const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/package/hooks");

/// Installs bootenv and a hook in `default`, with automatic BEs enabled, and the settings of `more`.
fn install(lab: &Lab, hook: &str, to: &str, more: &str) {
    let root = lab.files("default");
    let settings = format!("[automatic]\nenabled = true\n{more}");
    std::fs::write(root.join("etc/bootenv.toml"), settings).unwrap();
    sh(&format!(
        "set -e; install -D '{HOOKS}/{hook}' '{0}/{to}'; install -D '{1}' '{0}/usr/local/sbin/bootenv'",
        root.display(),
        env!("CARGO_BIN_EXE_bootenv")
    ));
}

/// Has the same effect as another bootenv at work, or a store that cannot be written to.
const BROKEN: &str = "cd /usr/local/sbin; mv bootenv bootenv.real
    printf '#!/bin/sh\\nexec /usr/local/sbin/bootenv.real --store /nonexistent \"$@\"\\n' > bootenv; chmod +x bootenv";

fn kept(lab: &Lab, by: &str) -> Vec<String> {
    lab.names().into_iter().filter(|name| name.starts_with(by)).collect()
}

#[test]
fn apt_keeps_what_it_changes() {
    let Some(lab) = debian() else { return };
    install(&lab, "apt.conf", "etc/apt/apt.conf.d/80bootenv", "");
    let running = lab.running_by_itself("default");
    let apt = |arguments: &str| running.sh(&format!("PATH=/usr/local/sbin:$PATH {APT} {arguments} 2>&1"));
    let said = apt("install cron");
    assert!(said.contains("is made from default"), "{said}");
    // Nothing changes, so nothing is kept.
    apt("install cron");
    apt("-s install rsyslog");
    apt("--download-only install rsyslog");
    apt("remove cron");
    drop(running);
    let kept = kept(&lab, "apt-");
    assert_eq!(kept.len(), 2, "{kept:?}");
    let be = lab.be(&kept[0]);
    let description = be["description"].as_str().unwrap();
    assert!(description.starts_with("before apt-get ") && description.ends_with("install cron"), "{description}");
    assert_eq!(be["policy"], "automatic");
    // The first is from before, the second from when it was installed.
    let has_cron = |be: &str| lab.files(be).join("usr/sbin/cron").exists();
    assert_eq!([has_cron(&kept[0]), has_cron(&kept[1]), has_cron("default")], [false, true, false]);
}

#[test]
fn apt_goes_on_without_one_unless_told_otherwise() {
    for (more, installed) in [("", true), ("required = true\n", false)] {
        let Some(lab) = debian() else { return };
        install(&lab, "apt.conf", "etc/apt/apt.conf.d/80bootenv", more);
        let running = lab.running_by_itself("default");
        running.sh(BROKEN);
        let ran = running.sh(&format!("PATH=/usr/local/sbin:$PATH; {APT} install cron 2>&1 || true"));
        drop(running);
        assert!(ran.contains("/nonexistent"), "{ran}");
        assert_eq!(lab.files("default").join("usr/sbin/cron").exists(), installed, "{ran}");
        assert_eq!(kept(&lab, "apt-"), [""; 0]);
    }
}

#[test]
fn inside_a_be_that_does_not_run_nothing_is_kept() {
    let Some(lab) = debian() else { return };
    install(&lab, "apt.conf", "etc/apt/apt.conf.d/80bootenv", "required = true\n");
    lab.bootenv(&["destroy", "-F", "blue"]).ok();
    let said = lab.bootenv(&["upgrade", "-n", "blue", "--", "sh", "-c", &format!("{APT} install cron")]).ok();
    assert!(Path::new(&lab.files("blue")).join("usr/sbin/cron").exists(), "{said:?}");
    assert_eq!(lab.names(), ["default", "blue"]);
}

/// One BE a transaction, with the package manager's own way to call a hook; none where nothing changes. `told` says whether its user sees what
/// the hook says.
fn of(manager: &Manager, packages: &str, told: bool, (hook, to): (&str, &str)) {
    let Some(lab) = manager.lab() else { return };
    install(&lab, hook, to, "");
    let running = lab.running_by_itself("default");
    let sh = |script: &str| running.try_sh(&format!("PATH=/usr/local/sbin:$PATH; {script}"));
    let mark = if packages.contains("tool") { "usr/bin/tool" } else { "usr/share/plain/file" };
    let has = |be: &str| lab.files(be).join(mark).exists();
    let (add, remove) = (manager.install(packages, 1, ""), manager.remove(packages));

    // It cannot be kept: nobody is held up, or everybody is.
    sh(BROKEN).ok();
    let ran = sh(&add).ok();
    assert!(has("default") && format!("{ran:?}").contains("/nonexistent") == told, "{ran:?}");
    sh(&remove).ok();
    sh("echo 'required = true' >> /etc/bootenv.toml").ok();
    // What runs in the background of a script ignores interrupts.
    for before in ["", "trap '' INT; "] {
        let ran = sh(&format!("{before}{add}"));
        assert!(ran.status != 0 && !has("default"), "{before}{ran:?}");
    }
    sh("cd /usr/local/sbin; mv bootenv.real bootenv").ok();

    let count = || {
        let list = running.bootenv_on_image(&["list", "--json"]).ok().json();
        list["boot_environments"].as_array().unwrap().iter().filter(|be| be["policy"] == "automatic").count()
    };
    let ran = sh(&add).ok();
    assert!(has("default") && count() == 1, "{ran:?}");
    let ran = sh(&add).ok();
    assert_eq!(count(), 1, "nothing changes: {ran:?}");
    sh(&remove).ok();
    drop(running);
    let kept = kept(&lab, &format!("{}-", manager.name));
    assert_eq!(kept.len(), 2, "{kept:?}");
    let be = lab.be(&kept[0]);
    let description = be["description"].as_str().unwrap();
    assert!(description.starts_with("before ") && description.contains(manager.name), "{description}");
    // The first is from before, the second from when they were installed.
    assert_eq!([has(&kept[0]), has(&kept[1]), has("default")], [false, true, false]);
}

#[test]
fn dnf4_keeps_what_it_changes() {
    let hook = ("dnf4.action", "etc/dnf/plugins/pre-transaction-actions.d/bootenv.action");
    of(&foreign::DNF4, "tool logger", true, hook);
}

#[test]
fn dnf5_keeps_what_it_changes() {
    let hook = ("dnf5.actions", "etc/dnf/libdnf5-plugins/actions.d/bootenv.actions");
    of(&foreign::DNF5, "tool logger", true, hook);
}

#[test]
fn zypper_keeps_what_it_changes() {
    of(&foreign::ZYPPER, "tool logger", false, ("zypp", "usr/lib/zypp/plugins/commit/bootenv"));
}

#[test]
fn pacman_keeps_what_it_changes() {
    // What ships something below a shared directory is refused there before it comes to that.
    of(&foreign::PACMAN, "plain", true, ("pacman.hook", "etc/pacman.d/hooks/80-bootenv.hook"));
}

#[test]
fn apk_keeps_what_it_changes() {
    of(&foreign::APK, "tool logger", true, ("apk", "etc/apk/commit_hooks.d/bootenv"));
}
