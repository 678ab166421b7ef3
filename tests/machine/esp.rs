//! An ESP that cannot take what has to go there, in each of the ways in which that happens on a machine.

use crate::harness::{Machine, Options};
use crate::rig;
use crate::stores::{Store, Zfs};
use crate::switching::flags;

/// Runs a command that has to refuse: exit status 3, these words, and nothing changed on the ESP, in the EFI variables or
/// in the list.
pub fn refuses(machine: &mut Machine<'_>, command: &str, words: &[&str]) {
    const STATE: &str = "find /boot/efi /mnt -type f -exec sha256sum {} + 2>/dev/null | sort; \
        sha256sum /sys/firmware/efi/efivars/LoaderEntry* 2>/dev/null; ls /sys/firmware/efi/efivars; bootenv list -H | cut -f1-3";
    let before = machine.ok(STATE);
    let out = machine.run(command);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status, 3, "{command}: {}{said}", out.text());
    for word in words {
        assert!(said.contains(word), "{command}: {word:?} is not in {said}");
    }
    assert_eq!(machine.ok(STATE), before, "{command} was refused and has changed something");
}

/// On a machine with a loader that boots copies on its ESP. It runs `default`, and of `blue` and `green`, which are there too,
/// `green` is due; then `blue` is.
pub fn states(machine: &mut Machine<'_>) {
    assert_eq!(flags(machine), "default=N blue=- green=R");
    machine.ok("mount -o remount,ro /boot/efi");
    for verb in ["create x", "activate blue", "activate -t blue", "rename blue red", "destroy -F blue"] {
        refuses(machine, &format!("bootenv {verb}"), &["read-only", "remount,rw"]);
    }
    machine.ok("mount -o remount,rw /boot/efi");

    machine.ok("umount /boot/efi");
    refuses(machine, "bootenv activate blue", &["ESP"]);
    assert_eq!(flags(machine), "default=N blue=- green=-", "it cannot be seen what boots next");
    machine.ok("mount /dev/vda1 /mnt && bootenv activate blue");
    assert_eq!(flags(machine), "default=N blue=R green=-");
    machine.ok("umount /mnt && mount /boot/efi");

    // Another initrd, and no room for it.
    machine.ok("head -c $(($(stat -fc '%a*%S' /boot/efi) - (1<<20))) /dev/zero > /boot/efi/fill; sync");
    machine.ok("at=$(bootenv mount blue) && head -c 2M /dev/urandom >> $at/boot/initrd.img-$(uname -r)");
    let out = machine.run("bootenv unmount blue");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status == 3 && said.contains("/boot/efi has 10") && said.contains("KiB free"), "{said}");
    refuses(machine, "bootenv create -e blue x", &["MiB", "free"]);
    assert_eq!(machine.run("bootenv check").status, 1);
    machine.ok("rm /boot/efi/fill");
    machine.ok("bootenv check --repair && bootenv check");

    // An ESP that was made anew.
    machine.ok("rm -rf /boot/efi/EFI/bootenv /boot/efi/loader/entries/bootenv-*");
    assert_eq!(flags(machine), "default=N blue=- green=-");
    refuses(machine, "bootenv destroy -F green", &["does not know this store"]);
    machine.ok("bootenv check --repair && bootenv check");
}

#[test]
fn grub_on_a_pool_refuses_what_the_esp_cannot_take() {
    let dir = rig::scratch();
    let Some(disk) = Zfs.disk(dir.path(), "grub") else { return };
    let mut machine = Machine::boot(&disk, Options::default());
    machine.ok("bootenv create blue && bootenv create -a green");
    states(&mut machine);
    // With the ESP went what GRUB was asked for.
    machine.ok("bootenv activate blue");
    assert_eq!(flags(&mut machine), "default=N blue=R green=-");
    machine.expect_reset_by("systemctl reboot");
    assert_eq!(flags(&mut machine), "default=- blue=NR green=-");
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine.power_off();
}
