//! A disk that records what is written to it, in order: the kernel's dm-log-writes above a file.
//!
//! Of its log the kernel says (Documentation/admin-guide/device-mapper/log-writes.rst): what is written appears only when
//! it has been flushed. So whatever lies before a flush in the log is what a power cut right after that flush leaves, with
//! everything that was still in the disk's cache lost.

use crate::lab::writes::{Log, SECTOR};
use crate::lab::{attach, sh, try_sh};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub const SIZE: u64 = 256 << 20;

/// A disk, and the file its log is in. It goes away with this value.
pub struct Recorded {
    name: String,
    loops: [String; 2],
    log: PathBuf,
}

impl Recorded {
    /// Makes an empty one of `SIZE`, with its files in `dir`.
    pub fn new(dir: &Path) -> Recorded {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (disk, log) = (dir.join("recorded.img"), dir.join("recorded.log"));
        File::create(&disk).unwrap().set_len(SIZE).unwrap();
        File::create(&log).unwrap().set_len(4 * SIZE).unwrap();
        let loops = [attach(&disk), attach(&log)];
        let name = format!("recorded{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let table = format!("0 {} log-writes {} {}", SIZE / SECTOR, loops[0], loops[1]);
        sh(&format!("modprobe dm-log-writes && dmsetup create {name} --table '{table}'"));
        Recorded { name, loops, log }
    }

    pub fn device(&self) -> PathBuf {
        Path::new("/dev/mapper").join(&self.name)
    }

    /// Puts a mark into the log.
    pub fn mark(&self, name: &str) {
        sh(&format!("dmsetup message {} 0 mark {name}", self.name));
    }

    /// The end of the disk; its log stays. Nobody may have it open any more.
    pub fn end(self) -> Log {
        Log::read(&self.log)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        try_sh(&format!("dmsetup remove --retry {}; losetup -d {} {}", self.name, self.loops[0], self.loops[1]));
    }
}
