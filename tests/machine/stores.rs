//! What differs from store to store in what the machines do: how a disk is made, and how mount(8) and findmnt(8) name things.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk::Disk;
use crate::harness::{Machine, Options};
use crate::qemu::{ARGUMENTS, Boot, Drive};
use crate::{rig, run};

/// A kind of store.
pub trait Store {
    /// A disk that firmware boots, whose store and ESP come from `bootenv init`, with the BE `default` and the tool in it.
    /// `None`, with a word on why, where it cannot be made.
    fn disk(&self, dir: &Path, loader: &str) -> Option<Disk>;

    /// The same with another root, from a tar of it.
    fn disk_of(&self, root: &Path, dir: &Path, loader: &str) -> Option<Disk>;

    /// Which kind of test root boots from it.
    fn kind(&self) -> &'static str;

    /// The column in which findmnt(8) says what is mounted.
    fn column(&self) -> &'static str;

    /// What stands in it for a path of the store.
    fn named(&self, path: &str) -> String;

    /// The shell command that mounts what is at a path of the store on `/mnt`, with nothing mounted in it.
    fn mounting(&self, path: &str) -> String;

    /// The BE that the store itself says is the default, where it says so.
    fn noted(&self, machine: &mut Machine<'_>) -> Option<String>;
}

/// Makes a store with the root at `$from` in it, and gives the BE `default` what a machine has and a root tree has not: the
/// tool, its own kernel arguments, a line for the ESP. What goes onto the ESP is copied to `$esp`.
const MAKE: &str = r#"
set -eu
be() { "$tool" --store "$store" "$@"; }
be init $size --from "$from" --name default --loader "$loader"
mkdir "$at"
be mount default "$at"
cp "$tool" "$at/usr/sbin/bootenv"
printf '[boot]\ncmdline = "%s"\n' "$arguments" > "$at/etc/bootenv.toml"
mkdir -p "$at/boot/efi"
echo 'UUID=B007-E4F0 /boot/efi vfat umask=0077 0 2' >> "$at/etc/fstab"
be unmount default
lies_in "$at"
cp -rT "$at/$home/esp" "$esp"
umount "$at"
# systemd-boot waits only if its admin says so.
[ "$loader" != grub ] || grub-editenv "$esp/EFI/bootenv/grubenv" set bootenv_timeout=0
"#;

/// The script, told where things are; `lies_in` mounts, on `$1`, what the tool's own directory is in.
fn make(settings: &[(&str, &str)], lies_in: &str) -> String {
    let set: String = settings.iter().map(|(name, value)| format!("{name}='{value}'\n")).collect();
    format!("{set}lies_in() {{ {lies_in}; }}\n{MAKE}")
}

pub struct Btrfs;

impl Store for Btrfs {
    fn disk(&self, dir: &Path, loader: &str) -> Option<Disk> {
        self.disk_of(&rig::root_tar()?, dir, loader)
    }

    fn kind(&self) -> &'static str {
        "btrfs"
    }

    fn disk_of(&self, root: &Path, dir: &Path, loader: &str) -> Option<Disk> {
        let (image, esp) = (dir.join("store.img"), dir.join("esp"));
        let path = |path: &Path| path.to_str().unwrap().to_string();
        let settings = [
            ("tool", env!("CARGO_BIN_EXE_bootenv")),
            ("store", &path(&image)),
            ("size", "--size 6G"),
            ("from", &path(root)),
            ("loader", loader),
            ("arguments", ARGUMENTS),
            ("home", "BOOTENV"),
            ("at", &path(&dir.join("at"))),
            ("esp", &path(&esp)),
        ];
        run!("sh", "-c", make(&settings, r#"mount -o loop,subvolid=5 "$store" "$1""#));
        let disk = Disk::assemble(&esp, &image, &dir.join("disk.img"));
        std::fs::remove_file(&image).unwrap();
        Some(disk)
    }

    fn column(&self) -> &'static str {
        "FSROOT"
    }

    fn named(&self, path: &str) -> String {
        format!("/{path}")
    }

    fn mounting(&self, path: &str) -> String {
        format!("mount -o subvol={path} /dev/vda2 /mnt")
    }

    fn noted(&self, _machine: &mut Machine<'_>) -> Option<String> {
        None
    }
}

pub struct Zfs;

const POOL: &str = "tank";

impl Zfs {
    /// The host has no ZFS, so a machine that boots without firmware makes it, of the root that `bring` brings from `tree` to `/tree`.
    /// It has another hostid than the root's initrd, and loses power before it exports the pool: what boots has to be told which
    /// hostid to import it with.
    fn made(&self, vm: &Path, tree: &Path, bring: &str, dir: &Path, loader: &str) -> Option<Disk> {
        let disk = Disk::empty(6 << 30, &dir.join("disk.img"));
        let (tool, parcel, root) = (env!("CARGO_BIN_EXE_bootenv"), dir.join("parcel.tar"), vm.join("root.img"));
        run!("tar", "-cPf", &parcel, tool);
        let drive = |name: &str, path, throw_away| Drive { name: name.into(), path, throw_away };
        let drives = vec![
            drive("root", root.as_path(), true),
            drive("parcel", &parcel, true),
            drive("tree", tree, true),
            drive("disk", disk.path(), false),
        ];
        let mut maker = Machine::power_on(Boot::vm(vm), drives, Options::default());
        println!("the machine that makes the disk: {:.0?}", maker.boot_time);
        let settings = [
            ("tool", tool),
            ("store", POOL),
            ("size", ""),
            ("from", "/tree"),
            ("loader", loader),
            ("arguments", ARGUMENTS),
            ("home", "."),
            ("at", "/at"),
            ("esp", "/esp"),
        ];
        let made = Instant::now();
        let ran = maker.run_for(
            &format!(
                "set -e; cd /; by=/dev/disk/by-id/virtio; mkdir /tree /esp; tar -xPf $by-parcel
                {bring}; rm /tree/etc/hostid; zgenhostid -f aaaa0001
                mount $by-disk-part1 /esp; modprobe zfs; zpool create -O mountpoint=none {POOL} $by-disk-part2
                (set -e; {}); umount /esp; zpool sync {POOL}; sync",
                make(&settings, &format!("mount -t zfs {POOL}/BOOTENV \"$1\""))
            ),
            Duration::from_secs(900),
        );
        assert_eq!(ran.status, 0, "{}{}", ran.text(), String::from_utf8_lossy(&ran.stderr));
        println!("the disk was made in {:.0?}", made.elapsed());
        maker.power_off_hard();
        Some(disk)
    }
}

impl Store for Zfs {
    fn disk(&self, dir: &Path, loader: &str) -> Option<Disk> {
        let vm = rig::made_by("build-vm.sh", "zfs")?;
        self.made(&vm, &vm.join("root.img"), "mount $by-tree /tree", dir, loader)
    }

    fn disk_of(&self, root: &Path, dir: &Path, loader: &str) -> Option<Disk> {
        let vm = rig::made_by("build-vm.sh", "zfs")?;
        self.made(&vm, root, "tar -xpf $by-tree -C /tree --numeric-owner --xattrs --xattrs-include='*'", dir, loader)
    }

    fn kind(&self) -> &'static str {
        "zfs"
    }

    fn column(&self) -> &'static str {
        "SOURCE"
    }

    fn named(&self, path: &str) -> String {
        format!("{POOL}/{path}")
    }

    fn mounting(&self, path: &str) -> String {
        // mount(8) without its helper, which refuses what has a mountpoint.
        format!("mount -i -t zfs {POOL}/{path} /mnt")
    }

    fn noted(&self, machine: &mut Machine<'_>) -> Option<String> {
        let bootfs = machine.ok(&format!("zpool get -H -o value bootfs {POOL}"));
        Some(bootfs.strip_prefix(&format!("{POOL}/ROOT/")).unwrap_or(&bootfs).to_string())
    }
}
