//! The main job on a machine: create, change, activate, and come up in the other boot environment. R1: however that is done, for nothing is
//! left to be done at the switch.

use crate::harness::{Machine, Options};
use crate::rig;
use crate::stores::{Btrfs, Store, Zfs};

/// What `list` says of the BEs: name and flags.
pub fn flags(machine: &mut Machine<'_>) -> String {
    machine.ok("set -o pipefail; bootenv list -H | cut -f1,2 | tr '\\t\\n' '= '").trim_end().to_string()
}

/// Everything of a root that nothing writes to by itself, below the directory `$1`.
const FINGERPRINT: &str = "fingerprint() { (cd \"$1\" && find etc usr boot -xdev -path boot/efi -prune -o \
     -printf '%P %y %m %U %G %T@ %s %l\\n' | LC_ALL=C sort | sha256sum); }";

#[test]
fn r1_no_init_6() {
    switches(&Btrfs, "grub", "EFI");
}

#[test]
fn r1_no_init_6_with_systemd_boot() {
    switches(&Btrfs, "systemd-boot", "EFI\nloader");
}

#[test]
fn r1_no_init_6_on_a_pool_with_systemd_boot() {
    switches(&Zfs, "systemd-boot", "EFI\nloader");
}

#[test]
fn r1_no_init_6_on_a_pool_with_grub() {
    switches(&Zfs, "grub", "EFI");
}

/// `on_esp` is what the loader has at the top of the ESP.
fn switches(store: &dyn Store, loader: &str, on_esp: &str) {
    let dir = rig::scratch();
    let Some(disk) = store.disk(dir.path(), loader) else { return };
    let mut machine = Machine::boot(&disk, Options::default());
    println!("first boot: {:?}", machine.boot_time);
    let mounted = |machine: &mut Machine<'_>, at: &str| machine.ok(&format!("findmnt -no {} {at}", store.column()));
    let runs = |machine: &mut Machine<'_>, be: &str| {
        assert_eq!(mounted(machine, "/"), store.named(&format!("ROOT/{be}")));
    };
    // What the store itself says is what the loader was told.
    let due = |machine: &mut Machine<'_>, be: &str| {
        assert!(store.noted(machine).is_none_or(|noted| noted == be), "{:?}", store.noted(machine));
    };
    runs(&mut machine, "default");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    assert_eq!(mounted(&mut machine, "/var/shared"), store.named("SHARED"));
    assert_eq!(machine.ok("findmnt -no OPTIONS /var/shared | grep -o '^rw'"), "rw");
    assert_eq!(flags(&mut machine), "default=NR");
    due(&mut machine, "default");

    machine.ok("bootenv create -d 'before the change' blue");
    let before = machine.ok(&format!("{FINGERPRINT}; fingerprint /"));
    let at = machine.ok("bootenv mount blue");
    machine.ok(&format!("echo changed > {at}/etc/motd && rm {at}/etc/debian_version && echo new > {at}/usr/new"));
    let refused = machine.run(&format!("echo x > {at}/var/log/x"));
    assert_ne!(refused.status, 0);
    let inside = machine
        .run(&format!("chroot {at} mount -o remount,rw,bind /var/shared; chroot {at} sh -c 'echo x > /var/spool/x'"));
    assert_ne!(inside.status, 0);
    machine.ok("bootenv unmount blue");
    // From what is going to run to what does.
    let told = machine.ok("bootenv diff blue | grep -E '^. /(etc/(motd|debian_version)|usr/)'");
    assert_eq!(told, "+ /etc/debian_version\nM /etc/motd\n- /usr/new");
    machine.ok("bootenv activate blue");
    assert_eq!(flags(&mut machine), "default=N blue=R");
    due(&mut machine, "blue");
    machine.ok("systemd-cat -t bootenv-test echo written before the reset; journalctl --sync");
    machine.ok("echo letter > /var/mail/root; sync /var/mail/root");
    let boot = machine.boot_id().to_string();

    // A soft-reboot starts the root that runs anew, and takes nothing of what is due away.
    machine.expect_new_agent_by("systemctl soft-reboot");
    println!("soft-reboot: {:?}", machine.boot_time);
    runs(&mut machine, "default");
    assert_eq!(flags(&mut machine), "default=N blue=R");

    // Nothing is shut down, nothing is written.
    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    println!("after the reset: {:?}", machine.boot_time);
    runs(&mut machine, "blue");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    // The reset left the ESP dirty; fsck must not have found anything of ours broken.
    assert_eq!(machine.ok("ls /boot/efi"), on_esp);
    assert_eq!(flags(&mut machine), "default=- blue=NR");
    assert_eq!(machine.ok("cat /etc/motd; ls /usr/new"), "changed\n/usr/new");
    assert_eq!(machine.ok("cat /var/mail/root"), "letter");
    let id = boot.replace('-', "");
    assert_eq!(machine.ok(&format!("journalctl -b {id} -t bootenv-test -o cat")), "written before the reset");
    assert_eq!(machine.ok("readlink /var/log"), "shared/log");
    assert_eq!(mounted(&mut machine, "-T /var/log/journal"), store.named("SHARED"));

    let at = machine.ok("bootenv mount --read-only default");
    assert_eq!(machine.ok(&format!("{FINGERPRINT}; fingerprint {at}")), before, "default changed");
    machine.ok("bootenv unmount default");

    machine.ok("bootenv activate -t default");
    assert_eq!(flags(&mut machine), "default=T blue=NR");
    machine.expect_reset_by("init 6");
    println!("once: {:?}", machine.boot_time);
    runs(&mut machine, "default");
    assert_eq!(flags(&mut machine), "default=N blue=R");
    // Without what a shutdown stops and runs.
    machine.expect_reset_by("reboot -f");
    println!("and back: {:?}", machine.boot_time);
    runs(&mut machine, "blue");
    assert_eq!(flags(&mut machine), "default=- blue=NR");

    // Below the mountpoint: the directory that the mount of the shared dataset hides.
    for be in ["default", "blue"] {
        let mount = store.mounting(&format!("ROOT/{be}"));
        let below =
            machine.ok(&format!("{mount}; ls -A /mnt/var/shared; touch /mnt/var/shared/x; echo $?; umount /mnt"));
        assert_eq!(below, "1", "below the mountpoint of {be}");
    }
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine.ok("bootenv destroy default");
    assert_eq!(flags(&mut machine), "blue=NR");
    due(&mut machine, "blue");
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine.power_off();
}
