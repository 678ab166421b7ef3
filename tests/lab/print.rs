//! Fingerprints that can say what has changed: one line per file, compared line by line.

use rustix::fs::{AtFlags, StatxFlags};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How closely is looked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Everything that a write of any kind leaves behind: inode number and change time too.
    Same,
    /// Everything that a copy has to keep.
    Copy,
}

/// What every file below a directory is, by path. Mounts inside are not entered; nested datasets are,
/// also where the laboratory has to mount them to show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Print(BTreeMap<PathBuf, String>);

impl Print {
    /// For "nothing has been written here".
    pub fn of(dir: &Path) -> Print {
        Print::walk(dir, Look::Same)
    }

    /// For "this is a copy of that": owners, modes, flags, ACLs, extended attributes, holes, times, which names are one
    /// file, content.
    pub fn of_copy(dir: &Path) -> Print {
        Print::walk(dir, Look::Copy)
    }

    fn walk(dir: &Path, look: Look) -> Print {
        let mut lines = BTreeMap::new();
        let mut first_names = BTreeMap::new();
        let mount = mount_id(dir);
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            let full = dir.join(&path);
            if mount_id(&full) != mount && !super::shown(&full) {
                lines.insert(path, "a mount".into());
                continue;
            }
            let meta = std::fs::symlink_metadata(&full).unwrap();
            if meta.is_dir() {
                let entries = std::fs::read_dir(&full).unwrap();
                pending.extend(entries.map(|e| path.join(e.unwrap().file_name())));
            } else if meta.nlink() > 1 {
                let first: &mut PathBuf = first_names.entry((meta.dev(), meta.ino())).or_insert_with(|| path.clone());
                *first = (*first).clone().min(path.clone());
            }
            lines.insert(path, line(&full, &meta, look));
        }
        // Which names are one file: told by the least of them, whatever order the directory gave.
        for (path, text) in &mut lines {
            let Ok(meta) = std::fs::symlink_metadata(dir.join(path)) else { continue };
            if let (false, Some(first)) = (meta.is_dir(), first_names.get(&(meta.dev(), meta.ino()))) {
                write!(text, " is {first:?}").unwrap();
            }
        }
        Print(lines)
    }

    /// The same with lines that are about no file.
    pub fn with(mut self, lines: Vec<(PathBuf, String)>) -> Print {
        self.0.extend(lines);
        self
    }

    /// The same without the paths for which `out` says so.
    pub fn without(mut self, out: impl Fn(&Path) -> bool) -> Print {
        self.0.retain(|path, _| !out(path));
        self
    }

    /// Only the paths at or below one of `names`.
    pub fn only(self, names: &[&str]) -> Print {
        self.without(|path| !names.iter().any(|n| path.starts_with(n)))
    }

    /// How many files it holds.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is such a path.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(Path::new(path))
    }

    /// What is different in `after`, one line each.
    pub fn changes(&self, after: &Print) -> Vec<String> {
        let mut told = Vec::new();
        for (path, line) in &self.0 {
            match after.0.get(path) {
                None => told.push(format!("gone: {path:?} {line}")),
                Some(now) if now != line => told.push(format!("was: {path:?} {line}\n  now: {now}")),
                Some(_) => {}
            }
        }
        told.extend(after.0.iter().filter(|(p, _)| !self.0.contains_key(*p)).map(|(p, l)| format!("new: {p:?} {l}")));
        told
    }

    /// Fails the test if anything is different in `after`.
    #[track_caller]
    pub fn assert_same(&self, after: &Print, what: &str) {
        let changes = self.changes(after);
        assert!(changes.is_empty(), "{what}:\n{}", changes.join("\n"));
    }
}

fn mount_id(path: &Path) -> u64 {
    let statx = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).unwrap();
    statx.stx_mnt_id
}

fn line(full: &Path, meta: &std::fs::Metadata, look: Look) -> String {
    let kind = meta.file_type();
    let mut text =
        format!("{:o} {}:{} mtime {}.{:09}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
    if look == Look::Same {
        write!(text, " ctime {}.{:09} inode {}", meta.ctime(), meta.ctime_nsec(), meta.ino()).unwrap();
    }
    if !kind.is_dir() {
        write!(text, " size {} links {}", meta.size(), meta.nlink()).unwrap();
    }
    if kind.is_block_device() || kind.is_char_device() {
        write!(text, " device {}", meta.rdev()).unwrap();
    }
    if kind.is_symlink() {
        write!(text, " to {:?}", std::fs::read_link(full).unwrap()).unwrap();
    }
    if kind.is_file() {
        // Filesystems allocate differently, but half is half.
        if meta.blocks() * 512 < meta.size() / 2 && meta.size() > 65536 {
            text.push_str(" sparse");
        }
        write!(text, " content {:016x}", content(full)).unwrap();
    }
    if (kind.is_file() || kind.is_dir()) && look == Look::Same {
        text.push_str(&identity(full));
    }
    for (name, value) in attributes(full) {
        write!(text, " {name}={value:?}").unwrap();
    }
    text
}

/// What is in a file, wherever its holes are: every block that holds something, with its place.
fn content(path: &Path) -> u64 {
    use std::os::unix::fs::FileExt;
    let mut hasher = DefaultHasher::new();
    let file = std::fs::File::open(path).unwrap();
    let mut block = [0; 4096];
    let mut at = 0;
    // Over the holes, which would take longer than all the rest.
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = data / 4096 * 4096;
        let length = file.read_at(&mut block, at).unwrap();
        if block[..length].iter().any(|b| *b != 0) {
            hasher.write_u64(at);
            hasher.write(&block[..length]);
        }
        at += 4096;
    }
    hasher.finish()
}

/// Flags (`chattr`), and for a dataset which one it is and whether it is read-only.
fn identity(path: &Path) -> String {
    let Ok(file) = std::fs::File::open(path) else { return String::new() };
    let flags = rustix::fs::ioctl_getflags(&file).map(|f| f.bits()).unwrap_or(0);
    let mut text = format!(" flags {flags:x}");
    let meta = file.metadata().unwrap();
    if meta.is_dir() && meta.ino() == 256 {
        use std::os::fd::AsFd;
        if let Ok(info) = btrfs_uapi::subvolume::subvolume_info(file.as_fd()) {
            write!(text, " dataset {} from {} {:?}", info.uuid, info.parent_uuid, info.flags).unwrap();
        }
    }
    text
}

/// Extended attributes, ACLs among them, in order.
fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0u8; 4096];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names[..]) else { return Vec::new() };
    let mut all: Vec<(String, Vec<u8>)> = names[..length]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(|name| {
            let mut value = vec![0u8; 4096];
            let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap_or(0);
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    all.sort();
    all
}
