//! `run`, `upgrade` and `pending`, told `--zone`.

use crate::debian;
use crate::lab::{Lab, Print};
use crate::recipe;

/// The same with the zone `web` of the same Debian.
fn with_zone() -> Option<Lab> {
    let lab = debian()?;
    let tar = recipe::made_by("build-root.sh", "packages")?;
    lab.zone("web", &tar).ok();
    Some(lab)
}

fn run(lab: &Lab, be: &str, script: &str) {
    lab.in_zone("web", &["run", be, "--", "sh", "-c", script]).ok();
}

#[test]
fn a_command_in_a_zone_be_has_the_zones_shared_dataset() {
    let Some(lab) = with_zone() else { return };
    std::fs::write(lab.shared().join("log/host"), "").unwrap();
    std::fs::write(lab.zone_files("web", "SHARED/log/zone"), "").unwrap();
    let before = Print::of(&lab.zone_files("web", "SHARED"));
    run(
        &lab,
        "default",
        "test -e /var/log/zone && ! test -e /var/log/host && echo x > /etc/mark && echo y > /var/log/new",
    );
    assert!(lab.zone_files("web", "ROOT/default/etc/mark").exists());
    assert!(!lab.files("default").join("etc/mark").exists());
    before.assert_same(&Print::of(&lab.zone_files("web", "SHARED")), "the shared dataset was written to");
    assert_eq!(lab.in_zone("web", &["pending", "default"]).ok().stdout, "/var/shared/log/new\n");
}

#[test]
fn a_zone_is_upgraded_whole_or_not_at_all() {
    let Some(lab) = with_zone() else { return };
    let upgrade =
        |name: &str, script: &str| lab.in_zone("web", &["upgrade", "-a", "-n", name, "--", "sh", "-c", script]);
    // A container needs no kernel, and its fstab mounts nothing of the store.
    let told = upgrade("two", "touch /root/trace; rm -rf /boot/* /lib/modules/*; echo > /etc/fstab").ok().stdout;
    assert!(told.contains("two boots next") && told.contains("bootenv --zone web activate"), "{told}");
    assert_eq!(lab.zone_told("web")["active"], "two");
    assert_eq!(lab.zone_be("web", "two")["belongs_to"], "default");
    assert!(lab.zone_files("web", "ROOT/two/root/trace").exists());
    for (script, words) in [
        ("exit 3", "exit status 3"),
        ("rm -r /usr/lib/systemd/systemd /sbin/init", "no init"),
        ("rm /var/log && mkdir /var/log", "/var/log is a directory"),
    ] {
        upgrade("bad", script).fails(1, &[words]);
        assert!(!lab.zone_files("web", "ROOT/bad").exists(), "{script}");
    }
    assert_eq!(lab.zone_told("web")["boot_environments"], 2);
    assert_eq!(lab.names(), ["default", "blue"]);
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn the_host_is_upgraded_with_its_zones_or_not_at_all() {
    let Some(lab) = with_zone() else { return };
    let tar = recipe::made_by("build-root.sh", "packages").unwrap();
    lab.zone("db", &tar).ok();
    let upgrade = |name: &str, more: &[&str], script: &str| {
        lab.bootenv(&[&["upgrade", "-n", name], more, &["--", "sh", "-c", script]].concat())
    };
    upgrade("two", &["-a", "--zones"], "echo $PWD > /root/trace; echo x > /var/log/new").ok();
    for root in ["ROOT/two", "zones/db/ROOT/two", "zones/web/ROOT/two"] {
        assert!(lab.top().join(root).join("root/trace").exists(), "{root}");
    }
    for zone in ["db", "web"] {
        assert_eq!(lab.zone_told(zone)["active"], "two");
        assert_eq!(lab.in_zone(zone, &["pending", "two"]).ok().stdout, "/var/shared/log/new\n");
        assert!(!lab.zone_files(zone, "SHARED/log/new").exists());
    }
    upgrade("three", &[], "touch /root/of-the-host").ok();
    assert!(lab.files("three").join("root/of-the-host").exists());
    assert!(!lab.zone_files("web", "ROOT/three/root/of-the-host").exists());
    assert!(lab.zone_files("web", "ROOT/three/root/trace").exists(), "made from what was due");
    // It fails in the last of them.
    std::fs::write(lab.zone_files("web", "ROOT/two/root/poisoned"), "").unwrap();
    upgrade("bad", &["--zones"], "test ! -e /root/poisoned").fails(1, &["ended with exit status 1"]);
    for root in ["ROOT/bad", "zones/db/ROOT/bad", "zones/web/ROOT/bad"] {
        assert!(!lab.top().join(root).exists(), "{root}");
    }
    for zone in ["db", "web"] {
        assert_eq!(lab.zone_told(zone)["boot_environments"], 3);
        assert_eq!(lab.in_zone(zone, &["check"]).ok().stdout, "nothing is wrong\n");
    }
    assert_eq!(lab.names(), ["default", "blue", "two", "three"]);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}
