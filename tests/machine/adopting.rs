//! A machine that had no boot environments: its running root is adopted, and a copy of it boots from then on.

use std::path::Path;

use crate::disk::{Disk, Mounted};
use crate::harness::{Machine, Options};
use crate::qemu::ARGUMENTS;
use crate::{rig, run};

/// What some other installer left: a root in the subvolume `@rootfs`, and a GRUB of its own on the ESP that boots it.
fn installed_by_others(root_tar: &Path, dir: &Path) -> Disk {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let uuid = uuid.trim();
    let image = dir.join("store.img");
    std::fs::File::create(&image).unwrap().set_len(3 << 30).unwrap();
    run!("mkfs.btrfs", "-q", "-U", uuid, &image);
    let (kernel, initrd);
    {
        let top = dir.join("top");
        let _mounted = Mounted::new(&image, &top, "loop");
        let root = top.join("@rootfs");
        run!("btrfs", "-q", "subvolume", "create", &root);
        run!("tar", "-xpf", root_tar, "-C", &root, "--numeric-owner", "--xattrs", "--xattrs-include=*");
        (kernel, initrd) = (rig::boot_file(&root, "vmlinuz-"), rig::boot_file(&root, "initrd.img-"));
        std::fs::copy(env!("CARGO_BIN_EXE_bootenv"), root.join("usr/sbin/bootenv")).unwrap();
        let hook = concat!(env!("CARGO_MANIFEST_DIR"), "/src/loader/kernel-hook");
        run!("install", "-D", "-m755", hook, root.join("etc/kernel/postinst.d/zz-bootenv"));
        std::fs::create_dir_all(root.join("boot/efi")).unwrap();
        let grub = format!("GRUB_CMDLINE_LINUX=\"{ARGUMENTS}\"\n");
        std::fs::write(root.join("etc/default/grub"), grub).unwrap();
        let fstab = format!(
            "# made by an installer\nUUID={uuid} / btrfs subvol=@rootfs 0 0\nUUID=B007-E4F0 /boot/efi vfat umask=0077 0 2\n"
        );
        std::fs::write(root.join("etc/fstab"), fstab).unwrap();
        std::fs::write(root.join("var/mail/root"), "an old letter\n").unwrap();
    }
    let esp = dir.join("esp");
    std::fs::create_dir_all(esp.join("EFI/BOOT")).unwrap();
    let config = dir.join("grub.cfg");
    let boot = "(hd0,gpt2)/@rootfs/boot";
    std::fs::write(
        &config,
        format!("linux {boot}/{kernel} root=UUID={uuid} rootflags=subvol=@rootfs rw {ARGUMENTS}\ninitrd {boot}/{initrd}\nboot\n"),
    )
    .unwrap();
    let modules = ["part_gpt", "fat", "btrfs", "zstd", "gzio", "linux", "normal", "boot"];
    let mut mkimage = std::process::Command::new("grub-mkimage");
    mkimage.args(["-O", "x86_64-efi", "-p", "/EFI/other", "-c"]).arg(&config);
    mkimage.arg("-o").arg(esp.join("EFI/BOOT/BOOTX64.EFI"));
    crate::disk::sh(mkimage.args(modules));
    let disk = Disk::assemble(&esp, &image, &dir.join("disk.img"));
    std::fs::remove_file(&image).unwrap();
    disk
}

#[test]
fn a_running_root_is_adopted_and_stays_as_it_is() {
    let Some(root) = rig::root_tar() else { return };
    let dir = rig::scratch();
    let disk = installed_by_others(&root, dir.path());
    let mut machine = Machine::boot(&disk, Options::default());
    assert_eq!(machine.ok("findmnt -no FSROOT /"), "/@rootfs");
    let refused = machine.run("bootenv list");
    assert_eq!(refused.status, 3);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bootenv init"), "{refused:?}");

    let print = "(find / -xdev -path /boot/efi -prune -o -path /run -prune -o -path /var/log -prune -o -path /var/tmp -prune -o \
        -path /var/lib/systemd -prune -o -printf '%P %y %m %U %G %T@ %s %l\\n' | LC_ALL=C sort; \
        findmnt -rno TARGET,SOURCE,FSROOT,FSTYPE | sort)";
    machine.ok(&format!("{print} > /run/before"));
    let unchanged = format!("{print} | diff /run/before - || true");
    assert!(machine.ok("bootenv init --dry-run").contains("adopt @rootfs as rootfs, where it lies"));
    assert_eq!(machine.ok(&unchanged), "", "--dry-run has changed something");
    let said = machine.ok("bootenv init --name main 2>&1");
    assert!(said.contains("another loader's and stays"), "{said}");
    assert_eq!(machine.ok(&unchanged), "", "the running root was changed");
    assert_eq!(
        machine.ok("cat /etc/fstab | head -n 1; readlink /var/log || echo directory"),
        "# made by an installer\ndirectory"
    );
    assert_eq!(crate::switching::flags(&mut machine), "rootfs=N main=R");

    // What the note asks for, the short way: our image in the place of the other one.
    machine.ok("cp /boot/efi/EFI/bootenv/grubx64.efi /boot/efi/EFI/BOOT/BOOTX64.EFI; sync");
    machine.expect_reset_by("systemctl reboot");
    assert_eq!(machine.ok("findmnt -no FSROOT /; findmnt -no FSROOT /var/shared"), "/ROOT/main\n/SHARED");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    assert_eq!(crate::switching::flags(&mut machine), "rootfs=- main=NR");
    assert_eq!(machine.ok("cat /var/mail/root; readlink /var/log"), "an old letter\nshared/log");
    assert!(machine.ok("cat /proc/cmdline").ends_with(ARGUMENTS));
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");

    // A new kernel, as a package's maintainer script tells of it.
    machine.ok(
        "cd /boot && old=$(uname -r) && cp vmlinuz-$old vmlinuz-9.9-new && cp initrd.img-$old initrd.img-9.9-new && \
         run-parts --arg=9.9-new --arg=/boot/vmlinuz-9.9-new --regex=zz-bootenv /etc/kernel/postinst.d && sync",
    );
    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    assert!(machine.ok("cat /proc/cmdline").contains("/ROOT/main/boot/vmlinuz-9.9-new"));

    // And back to what was there before.
    machine.ok("bootenv activate -t rootfs");
    machine.expect_reset_by("systemctl reboot");
    assert_eq!(machine.ok("findmnt -no FSROOT /; cat /var/mail/root"), "/@rootfs\nan old letter");
    assert_eq!(crate::switching::flags(&mut machine), "rootfs=N main=R");
    machine.power_off();
}
