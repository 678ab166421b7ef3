//! What people expect of a pool, and pools that are in no good state. For the zfs lane.

use crate::lab::{Kind, Lab, only_on, sh};

/// Why these cases run on pools alone.
const POOLS: &str = "pools only";

/// A property of a dataset, and where it comes from.
fn get(lab: &Lab, path: &str, property: &str) -> String {
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
    lab.bootenv(&["rollback", "-F", "default@then"]).ok();
    assert_eq!(get(&lab, "ROOT/default", "compression"), "zstd local");
    assert_eq!(get(&lab, "ROOT/default", "org.zfsbootmenu:commandline"), "quiet local");
}
