//! One case for every verb that changes something.

use super::{Case, check, with_root};
use crate::lab::strace::killed_at;
use crate::lab::{Kind, Lab, Loader, only_on, sh};

macro_rules! cases {
    ($loader:expr, $only:expr; $($test:ident: prepare $prepare:expr, script $script:literal, verb $verb:expr;)*) => {
        $(#[test]
        fn $test() {
            let (name, loader, only) = (stringify!($test), $loader, $only);
            check(&Case { name, loader, only, prepare: $prepare, script: $script, verb: with_root($verb) });
        })*
    };
}

cases! {
    Loader::Grub, Some((Kind::Btrfs, "GRUB reads no pool"));
    create: prepare &[], script "", verb &["create", "-d", "text", "blue"];
    create_and_activate: prepare &[], script "", verb &["create", "-a", "blue"];
    create_once_from_snapshot: prepare &[&["create", "default@one"]], script "echo two > ROOT/default/marker", verb &["create", "-t", "-e", "default@one", "blue"];
    create_snapshot: prepare &[], script "", verb &["create", "-d", "text", "default@one"];
    activate: prepare &[&["create", "blue"]], script "", verb &["activate", "blue"];
    activate_once: prepare &[&["create", "blue"]], script "", verb &["activate", "-t", "blue"];
    activate_clear: prepare &[&["create", "-t", "blue"]], script "", verb &["activate", "-T", "blue"];
    describe: prepare &[&["create", "-d", "old", "blue"]], script "", verb &["describe", "blue", "new"];
    describe_snapshot: prepare &[&["create", "default@one"]], script "", verb &["describe", "default@one", "new"];
    destroy: prepare &[&["create", "-d", "x", "blue"]], script "", verb &["destroy", "blue"];
    destroy_with_snapshots: prepare &[&["create", "blue"], &["create", "blue@one"], &["create", "-d", "x", "blue@two"]], script "", verb &["destroy", "-s", "blue"];
    destroy_snapshot: prepare &[&["create", "default@one"]], script "", verb &["destroy", "default@one"];
    rename_default: prepare &[&["create", "default@one"], &["create", "other"]], script "", verb &["rename", "default", "blue"];
    rename_once: prepare &[&["create", "-t", "-d", "x", "blue"]], script "", verb &["rename", "blue", "green"];
    rollback_default: prepare &[&["describe", "default", "x"], &["create", "default@one"]], script "echo two > ROOT/default/marker; echo two > ROOT/default/var/lib/machines/marker", verb &["rollback", "default@one"];
    rollback_to_another_kernel: prepare &[&["create", "default@one"], &["create", "other"]], script "cd ROOT/default/boot; mv vmlinuz-6.12.1-amd64 vmlinuz-6.13.0-amd64; mv initrd.img-6.12.1-amd64 initrd.img-6.13.0-amd64; sed -i \"/^be .default. /s/6.12.1/6.13.0/g\" ../../../BOOTENV/grub/menu.cfg", verb &["rollback", "default@one"];
    check_repair: prepare &[&["create", "blue"]], script "rm BOOTENV/grub/menu.cfg; (echo '# bootenv menu 1'; echo \"be 'default' 'ROOT/default' 'vmlinuz-6.12.1-amd64' 'initrd.img-6.12.1-amd64' 'x' 'default'\") > BOOTENV/grub/menu.cfg", verb &["check", "--repair"];
}

/// The same, booted by systemd-boot, whose entries and kernels are on the ESP. What boots only once is not among them: an image
/// has no EFI variables.
mod systemd_boot {
    use super::*;

    cases! {
        Loader::SystemdBoot, Some((Kind::Btrfs, "what is due is not moved on a pool, which has no name for it but its place"));
        rename_default: prepare &[&["create", "default@one"], &["create", "other"]], script "", verb &["rename", "default", "blue"];
        rollback_default: prepare &[&["describe", "default", "x"], &["create", "default@one"]], script "echo two > ROOT/default/marker; echo two > ROOT/default/var/lib/machines/marker", verb &["rollback", "default@one"];
    }

    cases! {
        Loader::SystemdBoot, None;
        create: prepare &[], script "", verb &["create", "-d", "text", "blue"];
        create_and_activate: prepare &[], script "", verb &["create", "-a", "blue"];
        activate: prepare &[&["create", "blue"]], script "", verb &["activate", "blue"];
        activate_what_was_activated_before: prepare &[&["create", "-a", "blue"], &["create", "-a", "green"]], script "", verb &["activate", "default"];
        activate_with_another_kernel: prepare &[&["create", "blue"]], script "cd ROOT/blue/boot; echo new > vmlinuz-6.13.0-amd64; echo new > initrd.img-6.13.0-amd64", verb &["activate", "blue"];
        describe: prepare &[&["create", "-d", "old", "blue"]], script "", verb &["describe", "blue", "new"];
        destroy: prepare &[&["create", "-d", "x", "blue"]], script "", verb &["destroy", "blue"];
        rename_another: prepare &[&["create", "-d", "x", "blue"]], script "", verb &["rename", "blue", "Blue"];
        rollback_another_to_another_kernel: prepare &[&["create", "blue"], &["create", "blue@one"]], script "echo new > ROOT/blue/boot/initrd.img-6.12.1-amd64; echo two > ROOT/blue/marker", verb &["rollback", "blue@one"];
        check_repair: prepare &[&["create", "blue"], &["activate", "blue"]], script "rm BOOTENV/esp/loader/entries/*-default.conf", verb &["check", "--repair"];
    }
}

/// What is there on a pool alone, and what the loader has no part in.
mod on_a_pool {
    use super::*;

    cases! {
        Loader::SystemdBoot, Some((Kind::Zfs, "a pool's own"));
        create_with_properties: prepare &[], script "", verb &["create", "-d", "text", "-o", "atime=off", "-o", "compression=lz4", "blue"];
        create_from_snapshot: prepare &[&["create", "default@one"]], script "echo two > ROOT/default/marker", verb &["create", "-e", "default@one", "blue"];
        create_snapshot: prepare &[], script "", verb &["create", "-d", "text", "default@one"];
        describe_snapshot: prepare &[&["create", "default@one"]], script "", verb &["describe", "default@one", "new"];
        destroy_promoting: prepare &[&["create", "-a", "blue"], &["create", "-e", "default", "green"], &["create", "-e", "blue", "red"]], script "", verb &["destroy", "default"];
        destroy_with_snapshots: prepare &[&["create", "blue"], &["create", "blue@one"], &["create", "-d", "x", "blue@two"]], script "", verb &["destroy", "-s", "blue"];
        destroy_with_origin: prepare &[&["create", "default@one"], &["create", "-e", "default@one", "blue"]], script "", verb &["destroy", "-o", "blue"];
        destroy_snapshot: prepare &[&["create", "default@one"]], script "", verb &["destroy", "default@one"];
        rename_with_snapshots: prepare &[&["create", "-d", "x", "blue"], &["create", "-d", "y", "blue@one"]], script "", verb &["rename", "blue", "green"];
        rollback_another: prepare &[&["create", "-d", "x", "blue"], &["create", "blue@one"]], script "echo two > ROOT/blue/marker; echo two > ROOT/blue/var/lib/machines/marker", verb &["rollback", "blue@one"];
    }
}

/// Zones, whose steps are the host's, and what is done in one, whose steps are its own.
mod zone {
    use super::*;

    const MADE: &[&str] = &["zone", "create", "--from", "ROOT", "web"];
    const ANOTHER: &[&str] = &["zone", "create", "--from", "ROOT", "db"];

    cases! {
        Loader::SystemdBoot, None;
        zone_create: prepare &[], script "", verb &["zone", "create", "-d", "text", "--from", "ROOT", "web"];
        zone_clone: prepare &[MADE], script "", verb &["zone", "create", "--clone", "web", "db"];
        zone_detach: prepare &[MADE], script "", verb &["zone", "detach", "web"];
        zone_destroy: prepare &[MADE, &["--zone", "web", "create", "-d", "x", "a"], &["--zone", "web", "create", "a@one"], &["--zone", "web", "create", "-e", "a@one", "b"]], script "", verb &["zone", "destroy", "web"];
        create_in_a_zone: prepare &[MADE], script "", verb &["--zone", "web", "create", "-a", "-d", "text", "blue"];
        rename_in_a_zone: prepare &[MADE, &["--zone", "web", "create", "a"], &["--zone", "web", "create", "a@one"]], script "", verb &["--zone", "web", "rename", "default", "blue"];
        rollback_of_what_zone_bes_belong_to: prepare &[MADE, &["create", "blue"], &["create", "blue@one"], &["activate", "blue"], &["--zone", "web", "create", "-e", "default", "x"], &["activate", "default"]], script "echo two > ROOT/blue/marker", verb &["rollback", "blue@one"];
        create_with_two_zones: prepare &[MADE, ANOTHER, &["--zone", "web", "create", "blue"]], script "echo web > zones/web/ROOT/default/marker", verb &["create", "-a", "-d", "text", "blue"];
        snapshot_with_two_zones: prepare &[MADE, ANOTHER, &["--zone", "web", "create", "default@one"]], script "", verb &["create", "-d", "text", "default@one"];
        create_from_a_snapshot_with_two_zones: prepare &[MADE, ANOTHER, &["create", "default@one"]], script "echo two > zones/web/ROOT/default/marker", verb &["create", "-e", "default@one", "blue"];
        destroy_with_two_zones: prepare &[MADE, ANOTHER, &["create", "blue"], &["create", "blue@one"], &["--zone", "web", "create", "-e", "blue", "kept"], &["--zone", "db", "pin", "blue"]], script "", verb &["destroy", "-s", "blue"];
        rollback_with_two_zones: prepare &[MADE, ANOTHER, &["create", "blue"], &["create", "blue@one"]], script "echo two > ROOT/blue/marker; for zone in db web; do echo two > zones/$zone/ROOT/blue/marker; done", verb &["rollback", "blue@one"];
        rollback_in_a_zone: prepare &[MADE, &["--zone", "web", "create", "default@one"]], script "echo two > zones/web/ROOT/default/marker", verb &["--zone", "web", "rollback", "default@one"];
    }
}

/// A new image is there whole or not at all, and the next try is not in the way of the last.
#[test]
fn init_of_an_image() {
    if !only_on(Kind::Btrfs, "a pool is there before") {
        return;
    }
    let lab = Lab::empty();
    let root = lab.path("root");
    crate::lab::root::small(&root);
    let verb = ["init", "--size", "256M", "--from", root.to_str().unwrap()];
    let mut instants = 0;
    for call in super::CALLS {
        for nth in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
            let _ = std::fs::remove_file(&lab.image);
            let ran = killed_at(&lab, &verb, call, nth);
            if ran.status == 0 {
                break;
            }
            instants += 1;
            match lab.image.exists() {
                true => drop(lab.bootenv(&["status"]).ok()),
                false => drop(lab.bootenv(&verb).ok()),
            }
            assert_eq!(lab.names(), ["default"], "{call} {nth}");
            lab.bootenv(&["check"]).ok();
        }
    }
    println!("init of an image: {instants} instants");
    assert!(instants > 20);
    let left = sh(&format!("ls -A '{}'", lab.path("").display()));
    assert!(!left.contains("partial"), "{left}");
}

/// Adopting a root that is there: it stays as it is at every instant.
#[test]
fn init_adopting() {
    if !only_on(Kind::Btrfs, "copies the image") {
        return;
    }
    let lab = Lab::empty();
    let image = lab.image.display().to_string();
    let top = lab.path("top");
    std::fs::create_dir(&top).unwrap();
    sh(&format!(
        "truncate -s 256M '{image}' && mkfs.btrfs -q '{image}' && mount -o loop '{image}' '{0}' && btrfs -q subvolume create '{0}/@rootfs'",
        top.display()
    ));
    crate::lab::root::small(&top.join("@rootfs"));
    let print = |lab: &Lab| {
        let text = crate::lab::fingerprint(&lab.path("top/@rootfs"));
        lab.leave_top();
        text
    };
    let before = print(&lab);
    let pristine = lab.path("pristine.img");
    sh(&format!("cp --sparse=always '{image}' '{}'", pristine.display()));
    let mut instants = 0;
    for call in super::CALLS {
        for nth in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89] {
            sh(&format!("cp --sparse=always '{}' '{image}'", pristine.display()));
            let ran = killed_at(&lab, &["init"], call, nth);
            if ran.status == 0 {
                break;
            }
            instants += 1;
            lab.bootenv(&["init"]).ok();
            assert_eq!(lab.names(), ["rootfs", "default"], "{call} {nth}");
            lab.bootenv(&["check"]).ok();
            lab.top();
            assert_eq!(print(&lab), before, "{call} {nth}: the adopted root changed");
        }
    }
    println!("init adopting: {instants} instants");
    assert!(instants > 20);
}
