//! What zones run with a BE of the host, below the alternate root that this is mounted as.

use crate::lab::{Lab, Print, mounts, sh, try_sh};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// The host has `blue`, with which the zone `web` runs `blue`.
fn blue() -> Lab {
    let lab = Lab::with_zone();
    std::fs::write(lab.zone_files("web", "ROOT/default/etc/which"), "web\n").unwrap();
    lab.nest_at(&lab.zone_files("web", "ROOT/default/srv"), "echo inner > file");
    std::fs::write(lab.zone_files("web", "SHARED/log/secret"), "of web\n").unwrap();
    lab.bootenv(&["create", "blue"]).ok();
    lab
}

fn mount(lab: &Lab, args: &[&str]) -> PathBuf {
    lab.bootenv(&[&["mount"], args].concat()).ok().stdout.trim().into()
}

#[test]
fn a_mounted_be_has_the_roots_of_its_zones_below_it() {
    let lab = blue();
    let before = mounts();
    let shown = lab.json(&["--dry-run", "mount", "blue"]).ok().json()["steps"].to_string();
    assert!(shown.contains("mount ROOT/blue of the zone web at /var/lib/machines/web in it"), "{shown}");
    let at = mount(&lab, &["blue"]);
    let web = at.join("var/lib/machines/web");
    let read = |path: &str| std::fs::read_to_string(web.join(path)).unwrap();
    assert_eq!((read("etc/which"), read("srv/file")), ("web\n".into(), "inner\n".into()));
    assert_eq!(read("var/log/secret"), "of web\n");
    std::fs::write(web.join("etc/which"), "changed\n").unwrap();
    assert_eq!(lab.zone_be("web", "blue")["mountpoint"], web.to_str().unwrap());
    lab.refuses(&["--zone", "web", "mount", "blue"], 5, &["blue is mounted at"]);
    lab.refuses(&["mount", "blue"], 5, &["blue is mounted at"]);
    lab.refuses(&["destroy", "blue"], 5, &["blue is mounted at"]);
    lab.bootenv(&["unmount", "blue"]).ok();
    assert_eq!(mounts(), before);
    let changed = |be: &str| std::fs::read_to_string(lab.zone_files("web", &format!("ROOT/{be}/etc/which"))).unwrap();
    assert_eq!((changed("blue"), changed("default")), ("changed\n".into(), "web\n".into()));
    // By its own directory, by force, and with everything that goes with it.
    let at = mount(&lab, &["blue"]);
    lab.bootenv(&["unmount", "-f", at.to_str().unwrap()]).ok();
    assert_eq!(mounts(), before);
    mount(&lab, &["blue"]);
    let told = lab.bootenv(&["destroy", "-f", "blue"]).ok().stdout;
    assert!(!told.contains("stays"), "{told}");
    assert_eq!(mounts(), before);
    assert_eq!(lab.zone_told("web")["boot_environments"], 1);
}

#[test]
fn nobody_writes_to_what_a_zone_shares_through_an_alternate_root() {
    let lab = blue();
    let print = |lab: &Lab| Print::of(&lab.zone_files("web", "SHARED"));
    let before = print(&lab);
    let at = mount(&lab, &["blue"]);
    let shared = at.join("var/lib/machines/web/var/shared");
    assert!(std::fs::write(shared.join("log/new"), "").is_err());
    assert!(std::fs::write(at.join("var/lib/machines/web/var/log/new"), "").is_err());
    for options in ["remount,rw,bind", "remount,rw"] {
        let remount = try_sh(&format!("mount -o {options} '{}'", shared.display()));
        assert_ne!(remount.status, 0, "{options}: the read-only flag can be taken off again");
    }
    // Nor through a copy of it.
    let copy = lab.path("copy");
    std::fs::create_dir(&copy).unwrap();
    let bind = format!("mount --bind '{}' '{1}' && mount -o remount,rw,bind '{1}'", shared.display(), copy.display());
    assert_ne!(try_sh(&bind).status, 0);
    sh(&format!("umount '{}'", copy.display()));
    lab.bootenv(&["unmount", "blue"]).ok();
    before.assert_same(&print(&lab), "what the zone shares has changed");
}

#[test]
fn what_is_mounted_read_only_is_so_in_its_zones() {
    let lab = blue();
    // The place is made by who may write.
    let ran = lab.bootenv(&["mount", "--read-only", "blue"]).ok();
    assert!(ran.stderr.contains("what the zone web runs with blue is not mounted: there is no"), "{}", ran.stderr);
    lab.bootenv(&["unmount", "blue"]).ok();
    mount(&lab, &["blue"]);
    lab.bootenv(&["unmount", "blue"]).ok();
    let at = mount(&lab, &["--read-only", "blue"]);
    let web = at.join("var/lib/machines/web");
    assert_eq!(std::fs::read_to_string(web.join("etc/which")).unwrap(), "web\n");
    for path in ["etc/new", "srv/new", "var/shared/new"] {
        assert!(std::fs::write(web.join(path), "").is_err(), "{path}");
    }
    lab.bootenv(&["unmount", "blue"]).ok();
}

#[test]
fn links_in_a_zones_root_lead_to_nothing_of_the_hosts() {
    let lab = blue();
    let var = lab.zone_files("web", "ROOT/blue/var");
    // Where its shared dataset would be mounted, seen from the host's root.
    std::fs::rename(&var, var.with_file_name("var.real")).unwrap();
    sh(&format!("mkdir -p '{}/etc/shared'", lab.files("blue").display()));
    for target in ["/etc", "../../../../etc", "../../../../../../etc"] {
        symlink(target, &var).unwrap();
        let before = mounts();
        let at: PathBuf = lab.bootenv(&["mount", "blue"]).ok().stdout.trim().into();
        let below: Vec<String> = mounts().into_iter().filter(|line| !before.contains(line)).collect();
        let in_etc = |line: &&String| line.contains(&format!("{}/etc", at.display()));
        assert_eq!(below.iter().filter(in_etc).count(), 0, "{below:?}");
        assert!(std::fs::read_dir(at.join("etc/shared")).unwrap().next().is_none());
        lab.bootenv(&["unmount", "blue"]).ok();
        assert_eq!(mounts(), before);
        std::fs::remove_file(&var).unwrap();
    }
}

#[test]
fn a_zone_that_cannot_be_mounted_is_left_out() {
    let lab = blue();
    let left_out = |args: &[&str], word: &str| {
        let ran = lab.bootenv(&[&["mount"], args].concat()).ok();
        assert!(ran.stderr.contains("web") && ran.stderr.contains(word), "{}", ran.stderr);
        let at = PathBuf::from(ran.stdout.trim());
        assert!(!at.join("var/lib/machines/web/etc").exists(), "{word}");
        lab.bootenv(&["unmount", "blue"]).ok();
    };
    lab.in_zone("web", &["mount", "blue"]).ok();
    left_out(&["blue"], "blue is mounted at /run/bootenv/web:blue");
    lab.in_zone("web", &["unmount", "blue"]).ok();
    let place = lab.files("blue").join("var/lib/machines/web");
    let _ = std::fs::remove_dir(&place);
    symlink("../../../etc", &place).unwrap();
    left_out(&["blue"], "/var/lib/machines/web is no directory");
    std::fs::remove_file(&place).unwrap();
    // It would be mounted in another place of the zone's root than it is looked for when that is unmounted.
    let var = lab.zone_files("web", "ROOT/blue/var");
    std::fs::rename(&var, var.with_file_name("elsewhere")).unwrap();
    symlink("elsewhere", &var).unwrap();
    left_out(&["blue"], "/var of blue is no directory");
    lab.in_zone("web", &["mount", "blue"]).fails(3, &["/var of blue is no directory"]);
    std::fs::remove_file(&var).unwrap();
    std::fs::rename(var.with_file_name("elsewhere"), &var).unwrap();
    let settings = lab.zone_home("web").join("zone.toml");
    let whole = std::fs::read(&settings).unwrap();
    std::fs::write(&settings, "brand").unwrap();
    left_out(&["blue"], "zone.toml is damaged");
    std::fs::write(&settings, whole).unwrap();
    lab.destroy_behind(&lab.zone_files("web", "SHARED"));
    left_out(&["blue"], "the shared dataset SHARED is missing");
}

#[test]
fn what_else_is_mounted_below_holds_an_unmount_up() {
    let lab = blue();
    let at = mount(&lab, &["blue"]);
    let inside = at.join("var/lib/machines/web/mnt");
    sh(&format!("mount -t tmpfs tmpfs '{}'", inside.display()));
    lab.bootenv(&["unmount", "blue"]).fails(5, &["something else is mounted below blue", "machines/web/mnt"]);
    sh(&format!("umount '{}'", inside.display()));
    // In use in the zone's root: all of it stays, and what is shared stays locked.
    let held = std::fs::File::open(at.join("var/lib/machines/web/etc")).unwrap();
    lab.bootenv(&["unmount", "blue"]).fails(5, &["in use"]);
    assert!(at.join("var/lib/machines/web/etc/which").exists());
    let shared = at.join("var/lib/machines/web/var/shared");
    assert_ne!(try_sh(&format!("mount -o remount,rw,bind '{}'", shared.display())).status, 0);
    drop(held);
    lab.bootenv(&["unmount", "blue"]).ok();
}
