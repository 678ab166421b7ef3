//! The machine lane: whole machines that boot, in emulation. Needs root; says why when it cannot run.

mod adopting;
mod agent;
mod containers;
#[allow(dead_code)] // the tests of the command line will use the rest of it
mod disk;
mod esp;
#[allow(dead_code)]
mod harness;
mod qemu;
mod recipe;
mod rig;
mod stores;
mod switching;
mod systemd_boot;
#[allow(dead_code)] // the zfs lane's
mod table;
mod upgrading;

use std::time::Duration;

use harness::{Machine, Options};

#[test]
fn a_hand_made_disk_boots_and_takes_commands() {
    let Some(root) = rig::root_tar() else { return };
    let dir = rig::scratch();
    let disk = rig::hand_made(&root, dir.path());
    disk.esp_write("EFI/bootenv/grubenv", &rig::grubenv(dir.path(), &["bootenv_default=blue", "bootenv_timeout=0"]));

    let mut machine = Machine::boot(&disk, Options::default());
    println!("first boot: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/blue");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    println!("{}", machine.ok("systemd-analyze; systemd-analyze blame | head -n 15"));

    let out = machine.run("printf 'a\\0b\\377\\n'; echo oops >&2; exit 7");
    assert_eq!((out.status, &out.stdout[..], &out.stderr[..]), (7, &b"a\0b\xff\n"[..], &b"oops\n"[..]));
    assert_eq!(machine.run_for("sleep 100", Duration::from_secs(2)).status, 124);
    assert_eq!(machine.ok("head -c 300000 /dev/zero | base64 -w0 | wc -c"), "400000");
    assert_eq!(machine.run("head -c 300000 /dev/zero").stdout.len(), 300_000);

    machine.ok("mount /dev/vda1 /mnt && grub-editenv /mnt/EFI/bootenv/grubenv set bootenv_once=green && umount /mnt");
    machine.expect_reset_by("echo b >/proc/sysrq-trigger");
    println!("after a reset: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/green");

    machine.expect_new_agent_by("systemctl soft-reboot");
    println!("soft-reboot: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/green");

    machine.expect_reset_by("systemctl reboot");
    println!("after a reboot: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/blue");
    machine.power_off();

    let env = String::from_utf8(disk.esp_read("EFI/bootenv/grubenv").unwrap()).unwrap();
    assert!(env.contains("bootenv_once=\n"), "{env}");
}
