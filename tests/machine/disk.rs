//! Disk images: GPT, an ESP made from a directory, a partition for the store that may be made from an image of a Btrfs.
//!
//! The kernel of the development machines knows neither GPT nor FAT, so nothing here asks it to:
//! partitions are byte offsets, and the ESP is read and written with mtools.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
const ESP_OFFSET: u64 = MIB;
/// Without `-s 1`, mkfs.fat takes clusters so big that FAT32 of this size would be out of spec.
const ESP_SIZE: u64 = 128 * MIB;
const STORE_OFFSET: u64 = ESP_OFFSET + ESP_SIZE;
/// The FAT volume id: `/dev/disk/by-uuid/B007-E4F0`.
const VOLUME: u32 = 0xB007_E4F0;

/// Runs a command and gives its standard output; panics, with everything it said, if it fails.
pub fn sh(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// `sh` for a program and its arguments.
#[macro_export]
macro_rules! run {
    ($program:expr $(, $arg:expr)* $(,)?) => {
        $crate::disk::sh(std::process::Command::new($program)$(.arg($arg))*)
    };
}

pub struct Disk {
    path: PathBuf,
    store_size: u64,
}

impl Disk {
    /// Makes `out`: partition 1 an ESP with the files below `esp_tree`, partition 2 a copy of `btrfs_image`.
    ///
    /// The copy has the same filesystem UUID as the image: never mount both at once.
    pub fn assemble(esp_tree: &Path, btrfs_image: &Path, out: &Path) -> Disk {
        let size = std::fs::metadata(btrfs_image).unwrap().len();
        let disk = Disk::blank(size, out);
        disk.format_esp(Some(esp_tree));
        disk.fill(btrfs_image, STORE_OFFSET);
        disk
    }

    /// Makes `out`: partition 1 an ESP without a file, partition 2 of this size and empty.
    pub fn empty(store_size: u64, out: &Path) -> Disk {
        let disk = Disk::blank(store_size, out);
        disk.format_esp(None);
        disk
    }

    fn blank(store_size: u64, out: &Path) -> Disk {
        assert_eq!(store_size % MIB, 0, "the store is whole MiBs");
        // One more MiB at the end for the second partition table.
        File::create(out).unwrap().set_len(STORE_OFFSET + store_size + MIB).unwrap();
        let disk = Disk { path: out.to_owned(), store_size };
        disk.partition();
        disk
    }

    fn format_esp(&self, tree: Option<&Path>) {
        let esp = self.path.with_extension("esp");
        let _ = std::fs::remove_file(&esp);
        let kib = (ESP_SIZE / 1024).to_string();
        run!("mkfs.fat", "-C", "-F32", "-s1", "-nBOOTENV", "-i", format!("{VOLUME:08x}"), &esp, kib);
        if let Some(tree) = tree {
            let mut copy = Command::new("mcopy");
            copy.arg("-sQi").arg(&esp);
            copy.args(std::fs::read_dir(tree).unwrap().map(|entry| entry.unwrap().path()));
            sh(copy.arg("::/"));
        }
        self.fill(&esp, ESP_OFFSET);
        std::fs::remove_file(&esp).unwrap();
    }

    fn partition(&self) {
        let sectors = |bytes: u64| bytes / 512;
        let script = self.path.with_extension("sfdisk");
        let table = format!(
            "label: gpt\nstart={}, size={}, type=U, name=esp\nstart={}, size={}, type=L, name=store\n",
            sectors(ESP_OFFSET),
            sectors(ESP_SIZE),
            sectors(STORE_OFFSET),
            sectors(self.store_size)
        );
        std::fs::write(&script, table).unwrap();
        sh(Command::new("sfdisk").arg("-q").arg(&self.path).stdin(File::open(&script).unwrap()));
        std::fs::remove_file(&script).unwrap();
    }

    fn fill(&self, from: &Path, offset: u64) {
        let mut dd = Command::new("dd");
        dd.args(["bs=1M", "conv=sparse,notrunc", "status=none"]);
        dd.arg(format!("if={}", from.display())).arg(format!("of={}", self.path.display()));
        sh(dd.arg(format!("seek={}", offset / MIB)));
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn esp(&self) -> String {
        format!("{}@@{ESP_OFFSET}", self.path.display())
    }

    /// A file on the ESP, `None` if it is not there. Only while no machine runs from this disk.
    pub fn esp_read(&self, path: &str) -> Option<Vec<u8>> {
        let out = Command::new("mtype").args(["-i", &self.esp(), &format!("::/{path}")]).output().unwrap();
        out.status.success().then_some(out.stdout)
    }

    /// Replaces a file on the ESP. Only while no machine runs from this disk.
    pub fn esp_write(&self, path: &str, content: &[u8]) {
        let tmp = self.path.with_extension("file");
        std::fs::write(&tmp, content).unwrap();
        run!("mcopy", "-o", "-i", self.esp(), &tmp, format!("::/{path}"));
        std::fs::remove_file(&tmp).unwrap();
    }

    /// The Btrfs partition, mounted with its top level at `dir`. Only while no machine runs from this disk.
    pub fn mount(&self, dir: &Path) -> Mounted {
        Mounted::new(&self.path, dir, &format!("loop,offset={STORE_OFFSET},sizelimit={},subvolid=5", self.store_size))
    }
}

/// A mount that ends with this value.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(source: &Path, dir: &Path, options: &str) -> Mounted {
        std::fs::create_dir_all(dir).unwrap();
        run!("mount", "-o", options, source, dir);
        Mounted(dir.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(&self.0).status();
        if !done.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("cannot unmount {}", self.0.display());
        }
    }
}
