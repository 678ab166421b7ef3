//! A BE is kept before a package manager changes what runs: real package managers, with the hooks that `make install` installs.

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
        // Another bootenv at work, or a store that cannot be written to, has the same effect as one that is broken.
        running.sh(
            "printf '#!/bin/sh\\nexec /usr/local/sbin/bootenv.real --store /nonexistent \"$@\"\\n' > /usr/local/sbin/b;
            cd /usr/local/sbin; chmod +x b; mv bootenv bootenv.real; mv b bootenv",
        );
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
