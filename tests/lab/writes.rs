//! What was written to a disk, in order: the log that the kernel's dm-log-writes and QEMU's blklogwrites keep.

#![allow(dead_code)] // every lane uses another part of it

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// An instant at which everything that came before it in the log was on the disk.
#[derive(Debug)]
pub struct Instant {
    /// How many entries come before it.
    after: usize,
    /// What it is called, if somebody has put a mark there.
    pub mark: Option<String>,
    /// Whether something was written close to the beginning of the disk since the instant before.
    pub beginning: bool,
}

#[derive(Debug)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where its data is in the log.
    data: u64,
}

/// What was written to a disk, in order.
pub struct Log {
    file: File,
    entries: Vec<Entry>,
    pub instants: Vec<Instant>,
}

impl Log {
    pub fn read(path: &Path) -> Log {
        let file = File::open(path).unwrap();
        let numbers = |at: u64| {
            let mut bytes = [0; 32];
            file.read_exact_at(&mut bytes, at).unwrap();
            [0, 8, 16, 24].map(|i| u64::from_le_bytes(bytes[i..i + 8].try_into().unwrap()))
        };
        let [magic, version, count, size] = numbers(0);
        assert_eq!((magic, version, size & 0xffff_ffff), (MAGIC, 1, SECTOR), "that is no log, or of another format");
        let (mut entries, mut instants) = (Vec::new(), Vec::new());
        let (mut at, mut beginning) = (SECTOR, false);
        for after in 1..=count as usize {
            let [sector, sectors, flags, length] = numbers(at);
            let data = at + SECTOR;
            beginning |= sectors > 0 && sector < 1024;
            if flags & (FLUSH | FUA | MARK) != 0 {
                let mark = (flags & MARK != 0).then(|| {
                    let mut name = vec![0; length as usize];
                    file.read_exact_at(&mut name, at + 32).unwrap();
                    String::from_utf8(name).unwrap()
                });
                instants.push(Instant { after, mark, beginning: std::mem::take(&mut beginning) });
            }
            at = data + if flags & (DISCARD | MARK) != 0 { 0 } else { sectors * SECTOR };
            entries.push(Entry { sector, sectors, flags, data });
        }
        Log { file, entries, instants }
    }

    /// The disk as it was at an instant, into a file that holds what it was after the first `from` entries. Returns
    /// how many it holds then.
    pub fn replay(&self, into: &File, from: usize, instant: &Instant) -> usize {
        for entry in &self.entries[from..instant.after] {
            if entry.flags & (DISCARD | MARK) == 0 {
                let mut data = vec![0; (entry.sectors * SECTOR) as usize];
                self.file.read_exact_at(&mut data, entry.data).unwrap();
                into.write_all_at(&data, entry.sector * SECTOR).unwrap();
            }
        }
        instant.after
    }
}
