//! systemd-boot on a machine: what cannot be written to is refused, and what `list` says it falls back to is what it boots.

use crate::esp::{refuses, states};
use crate::harness::{Machine, Options};
use crate::stores::{Btrfs, Store};
use crate::switching::flags;
use crate::{rig, run};

#[test]
fn systemd_boot_does_what_list_says_and_refuses_what_it_cannot_write() {
    let dir = rig::scratch();
    let Some(disk) = Btrfs.disk(dir.path(), "systemd-boot") else { return };
    let mut machine = Machine::boot(&disk, Options::default());
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine
        .ok("printf 'timeout 0\\n' > /boot/efi/loader/loader.conf && bootenv create blue && bootenv create -a green");
    assert_eq!(flags(&mut machine), "default=N blue=- green=R");

    machine.ok("mount -o remount,ro /sys/firmware/efi/efivars");
    for verb in ["activate blue", "activate -t blue", "create -a x"] {
        refuses(&mut machine, &format!("bootenv {verb}"), &["EFI variables", "read-only"]);
    }
    assert_eq!(flags(&mut machine), "default=N blue=- green=R");
    machine.ok("umount /sys/firmware/efi/efivars");
    refuses(&mut machine, "bootenv activate blue", &["efivarfs"]);
    assert_eq!(flags(&mut machine), "default=N blue=- green=-", "it cannot be seen what boots next");
    machine.ok("mount -t efivarfs efivarfs /sys/firmware/efi/efivars");
    states(&mut machine);
    // What the variables ask for did not go with the ESP.
    assert_eq!(flags(&mut machine), "default=N blue=R green=-");

    machine.ok("bootenv activate default && bootenv rename default Main:2");
    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/Main:2");
    assert_eq!(flags(&mut machine), "Main:2=NR blue=- green=-");
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");

    // Without its entry the default before it is due: that is the order of the menu.
    machine.ok("rm /boot/efi/loader/entries/*-=main=_2.conf; sync");
    assert_eq!(flags(&mut machine), "Main:2=N blue=R green=-");
    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/blue");
    machine.ok("bootenv check --repair && bootenv check");
    assert_eq!(flags(&mut machine), "Main:2=R blue=N green=-");
    machine.power_off();
    // Another machine, or one that has lost its variables: the order of the menu again, and then loader.conf counts.
    let mut machine = Machine::boot(&disk, Options::default());
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/blue");
    assert_eq!(flags(&mut machine), "Main:2=- blue=NR green=-");
    machine.ok("printf 'default *-green.conf\\n' > /boot/efi/loader/loader.conf; sync");
    assert_eq!(flags(&mut machine), "Main:2=- blue=N green=R");
    machine.expect_reset_by("systemctl reboot");
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/green");
    // A default of the machine outranks it.
    machine.ok("bootenv activate Main:2");
    // As a rename that loses power leaves it: the entry names its root by number.
    let number = machine
        .ok("mount -o subvolid=5 /dev/vda2 /mnt && btrfs inspect-internal rootid /mnt/ROOT/Main:2 && umount /mnt");
    machine.ok(&format!(
        "sed -i 's,subvol=ROOT/Main:2,subvolid={number},' /boot/efi/loader/entries/*-=main=_2.conf; grep -q subvolid={number} /boot/efi/loader/entries/*; sync"
    ));
    machine.expect_reset_by("systemctl reboot");
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/Main:2");
    assert_eq!(machine.ok("cat /boot/efi/loader/loader.conf"), "default *-green.conf");
    assert_eq!(machine.ok("ls /boot/efi/EFI/bootenv/*/ | wc -l"), "3", "one kernel, two initrds");
    machine.power_off();
    run!("fsck.fat", "-n", esp_of(&disk, dir.path()));
}

/// A copy of a disk's ESP.
fn esp_of(disk: &crate::disk::Disk, dir: &std::path::Path) -> std::path::PathBuf {
    let copy = dir.join("esp.img");
    let of = format!("of={}", copy.display());
    run!("dd", format!("if={}", disk.path().display()), of, "bs=1M", "skip=1", "count=128", "status=none");
    copy
}
