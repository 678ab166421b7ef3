//! What the machines run from: a disk with two boot environments, made by hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::{Disk, Mounted};
use crate::qemu::ARGUMENTS;
use crate::{harness, recipe, run};

/// Built into BOOTX64.EFI, because nothing can be loaded from a disk that has only the image.
const MODULES: &str = "part_gpt part_msdos fat btrfs normal configfile loadenv search search_fs_uuid search_fs_file \
    regexp test echo linux gzio all_video gfxterm serial terminal sleep reboot halt efifwsetup minicmd true boot ls cat \
    help";

const EARLY: &str = include_str!("../../src/loader/grub/early.cfg");
const STUB: &str =
    concat!(include_str!("../../src/loader/grub/in-store.cfg"), include_str!("../../src/loader/grub/stub.cfg"));
const LOGIC: &str = include_str!("../../src/loader/grub/logic.cfg");

/// The Debian root, built if need be. `None`, with a word on why, where machines cannot run.
pub fn root_tar() -> Option<PathBuf> {
    made_by("build-root.sh", "btrfs")
}

/// What a recipe makes; the same where machines cannot run.
pub fn made_by(script: &str, kind: &str) -> Option<PathBuf> {
    match harness::missing() {
        Some(why) => recipe::skip(&why),
        None => recipe::made_by(script, kind),
    }
}

/// A directory for images. They are sparse, but some 600 MB of them is real: not always for /tmp's tmpfs.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("bootenv-machine-").tempdir_in("/var/tmp").unwrap()
}

/// A GRUB environment block with these settings.
pub fn grubenv(dir: &Path, settings: &[&str]) -> Vec<u8> {
    let path = dir.join("grubenv");
    run!("grub-editenv", &path, "create");
    for setting in settings {
        run!("grub-editenv", &path, "set", setting);
    }
    std::fs::read(path).unwrap()
}

/// Two boot environments, `blue` and `green`, that differ in name only.
pub fn hand_made(root_tar: &Path, dir: &Path) -> Disk {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let uuid = uuid.trim();
    let image = dir.join("store.img");
    std::fs::File::create(&image).unwrap().set_len(2 << 30).unwrap();
    run!("mkfs.btrfs", "-q", "-U", uuid, &image);
    fill_store(root_tar, &image, &dir.join("store"), uuid);

    let esp = dir.join("esp");
    std::fs::create_dir_all(esp.join("EFI/BOOT")).unwrap();
    std::fs::create_dir_all(esp.join("EFI/bootenv")).unwrap();
    let early = dir.join("early.cfg");
    std::fs::write(&early, EARLY).unwrap();
    let mut mkimage = Command::new("grub-mkimage");
    mkimage.args(["-O", "x86_64-efi", "-p", "/EFI/bootenv", "-c"]).arg(&early);
    mkimage.arg("-o").arg(esp.join("EFI/BOOT/BOOTX64.EFI"));
    crate::disk::sh(mkimage.args(MODULES.split_whitespace()));
    std::fs::write(esp.join("EFI/bootenv/grub.cfg"), STUB.replace("@STORE_UUID@", uuid)).unwrap();
    std::fs::write(esp.join("EFI/bootenv/grubenv"), grubenv(dir, &[])).unwrap();

    let disk = Disk::assemble(&esp, &image, &dir.join("disk.img"));
    std::fs::remove_file(&image).unwrap();
    disk
}

fn fill_store(root_tar: &Path, image: &Path, at: &Path, uuid: &str) {
    let _store = Mounted::new(image, at, "loop");
    std::fs::create_dir(at.join("ROOT")).unwrap();
    let blue = at.join("ROOT/blue");
    run!("btrfs", "-q", "subvolume", "create", &blue);
    run!("tar", "-xpf", root_tar, "-C", &blue, "--numeric-owner", "--xattrs", "--xattrs-include=*");
    std::fs::create_dir(blue.join("var/shared")).unwrap();
    run!("btrfs", "-q", "subvolume", "snapshot", &blue, at.join("ROOT/green"));
    run!("btrfs", "-q", "subvolume", "create", at.join("SHARED"));

    let kernel = boot_file(&blue, "vmlinuz-");
    let initrd = boot_file(&blue, "initrd.img-");
    let menu: String = ["green", "blue"]
        .map(|be| {
            let args = format!("root=UUID={uuid} rootflags=subvol=ROOT/{be} rw {ARGUMENTS}");
            format!("be '{be}' 'ROOT/{be}' '{kernel}' '{initrd}' '{args}' '{be}: made by hand'\n")
        })
        .concat();
    std::fs::create_dir_all(at.join("BOOTENV/grub")).unwrap();
    std::fs::write(at.join("BOOTENV/grub/grub.cfg"), LOGIC).unwrap();
    std::fs::write(at.join("BOOTENV/grub/menu.cfg"), menu).unwrap();
}

pub fn boot_file(root: &Path, prefix: &str) -> String {
    std::fs::read_dir(root.join("boot"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with(prefix))
        .unwrap_or_else(|| panic!("no {prefix}* in /boot of the test root"))
}
