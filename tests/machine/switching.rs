//! The main job on a machine: create, change, activate, lose power, come up in the other boot environment.

use std::path::Path;
use std::process::Command;

use crate::disk::{Disk, Mounted};
use crate::harness::{Machine, Options};
use crate::rig;

/// Runs the built binary on an image.
fn bootenv(image: &Path, args: &[&str]) -> String {
    crate::disk::sh(Command::new(env!("CARGO_BIN_EXE_bootenv")).arg("--store").arg(image).args(args))
}

/// A disk whose store and ESP come from `bootenv init`, with the tool inside.
pub fn initialised(root_tar: &Path, dir: &Path, loader: &str) -> Disk {
    let image = dir.join("store.img");
    let tar = root_tar.to_str().unwrap();
    bootenv(&image, &["init", "--size", "3G", "--from", tar, "--name", "default", "--loader", loader]);
    // What a machine has and a root tree has not: the tool, its own kernel arguments, a line for the ESP.
    let root = dir.join("alternate");
    std::fs::create_dir(&root).unwrap();
    bootenv(&image, &["mount", "default", root.to_str().unwrap()]);
    std::fs::copy(env!("CARGO_BIN_EXE_bootenv"), root.join("usr/sbin/bootenv")).unwrap();
    std::fs::write(
        root.join("etc/bootenv.toml"),
        "[boot]\ncmdline = \"quiet console=ttyS0 mitigations=off audit=0\"\n",
    )
    .unwrap();
    std::fs::create_dir_all(root.join("boot/efi")).unwrap();
    let fstab = std::fs::read_to_string(root.join("etc/fstab")).unwrap();
    std::fs::write(root.join("etc/fstab"), format!("{fstab}UUID=B007-E4F0 /boot/efi vfat umask=0077 0 2\n")).unwrap();
    bootenv(&image, &["unmount", "default"]);
    let esp = dir.join("esp");
    {
        let at = dir.join("top");
        let _top = Mounted::new(&image, &at, "loop,subvolid=5");
        crate::disk::sh(Command::new("cp").arg("-rT").arg(at.join("BOOTENV/esp")).arg(&esp));
    }
    // systemd-boot waits only if its admin says so.
    if loader == "grub" {
        let env = rig::grubenv(dir, &["bootenv_default=default", "bootenv_timeout=0"]);
        std::fs::write(esp.join("EFI/bootenv/grubenv"), env).unwrap();
    }
    let disk = Disk::assemble(&esp, &image, &dir.join("disk.img"));
    std::fs::remove_file(&image).unwrap();
    disk
}

/// What `list` says of the BEs: name and flags.
pub fn flags(machine: &mut Machine<'_>) -> String {
    machine.ok("set -o pipefail; bootenv list -H | cut -f1,2 | tr '\\t\\n' '= '").trim_end().to_string()
}

/// Everything of a root that nothing writes to by itself, below the directory `$1`.
const FINGERPRINT: &str = "fingerprint() { (cd \"$1\" && find etc usr boot -xdev -path boot/efi -prune -o \
     -printf '%P %y %m %U %G %T@ %s %l\\n' | LC_ALL=C sort | sha256sum); }";

#[test]
fn a_machine_switches_boot_environments_and_loses_power() {
    switches("grub", "EFI");
}

#[test]
fn a_machine_with_systemd_boot_switches_boot_environments_and_loses_power() {
    switches("systemd-boot", "EFI\nloader");
}

/// `on_esp` is what the loader has at the top of the ESP.
fn switches(loader: &str, on_esp: &str) {
    let Some(root) = rig::root_tar() else { return };
    let dir = rig::scratch();
    let disk = initialised(&root, dir.path(), loader);
    let mut machine = Machine::boot(&disk, Options::default());
    println!("first boot: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/default");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    assert_eq!(
        machine.ok("findmnt -no FSROOT,OPTIONS /var/shared | grep -o '^/SHARED *rw'").replace(' ', ""),
        "/SHAREDrw"
    );
    assert_eq!(flags(&mut machine), "default=NR");

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
    machine.ok("bootenv activate blue");
    assert_eq!(flags(&mut machine), "default=N blue=R");
    machine.ok("systemd-cat -t bootenv-test echo written before the reset; journalctl --sync");
    machine.ok("echo letter > /var/mail/root; sync /var/mail/root");
    let boot = machine.boot_id().to_string();

    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    println!("after the reset: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/blue");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    // The reset left the ESP dirty; fsck must not have found anything of ours broken.
    assert_eq!(machine.ok("ls /boot/efi"), on_esp);
    assert_eq!(flags(&mut machine), "default=- blue=NR");
    assert_eq!(machine.ok("cat /etc/motd; ls /usr/new"), "changed\n/usr/new");
    assert_eq!(machine.ok("cat /var/mail/root"), "letter");
    let id = boot.replace('-', "");
    assert_eq!(machine.ok(&format!("journalctl -b {id} -t bootenv-test -o cat")), "written before the reset");
    assert_eq!(machine.ok("readlink /var/log; findmnt -no FSROOT -T /var/log/journal"), "shared/log\n/SHARED");

    let at = machine.ok("bootenv mount --read-only default");
    assert_eq!(machine.ok(&format!("{FINGERPRINT}; fingerprint {at}")), before, "default changed");
    machine.ok("bootenv unmount default");

    machine.ok("bootenv activate -t default");
    assert_eq!(flags(&mut machine), "default=T blue=NR");
    machine.expect_reset_by("systemctl reboot");
    println!("once: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/default");
    assert_eq!(flags(&mut machine), "default=N blue=R");
    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    println!("and back: {:?}", machine.boot_time);
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/ROOT/blue");
    assert_eq!(flags(&mut machine), "default=- blue=NR");

    // Below the mountpoint: the directory that the mount of the shared dataset hides.
    let below =
        "cd /mnt/ROOT && ls -A default/var/shared blue/var/shared; touch blue/var/shared/x; echo $?; cd /; umount /mnt";
    assert_eq!(
        machine.ok(&format!("mount -o subvolid=5 /dev/vda2 /mnt && {below}")),
        "blue/var/shared:\n\ndefault/var/shared:\n1"
    );
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine.ok("bootenv destroy default");
    assert_eq!(flags(&mut machine), "blue=NR");
    machine.power_off();
}
