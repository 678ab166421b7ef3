//! `/proc/PID/mountinfo`: what is mounted where (proc_pid_mountinfo(5)).

use crate::error::{Doing, Result};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Identity of the mount.
    pub id: u64,
    /// The path inside the filesystem that is mounted: on Btrfs the subvolume, as `/ROOT/blue`.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Options of this mount: `rw,relatime`.
    pub options: String,
    /// Filesystem type.
    pub fstype: String,
    /// The device or name it was mounted from.
    pub source: PathBuf,
    /// Options of the whole filesystem.
    pub super_options: String,
}

/// The mounts of this process's namespace, in mount order.
pub fn own() -> Result<Vec<Mount>> {
    read(Path::new("/proc/self/mountinfo"))
}

/// What is mounted on a directory, topmost.
pub fn on(dir: &Path) -> Result<Option<Mount>> {
    Ok(topmost(own()?, dir))
}

/// What is mounted on `/`.
pub fn root() -> Result<Option<Mount>> {
    on(Path::new("/"))
}

/// What a process has as its root; nothing if it is gone.
pub fn root_of(pid: u32) -> Option<Mount> {
    let mounts = read(Path::new(&format!("/proc/{pid}/mountinfo"))).ok()?;
    topmost(mounts, Path::new("/"))
}

fn topmost(mounts: Vec<Mount>, dir: &Path) -> Option<Mount> {
    mounts.into_iter().rev().find(|m| m.target == dir)
}

/// The mounts of every other mount namespace that a process lives in: containers and private services.
/// A process that ends while we look is passed over.
pub fn elsewhere() -> Result<Vec<Mount>> {
    let mut seen: HashSet<PathBuf> = std::fs::read_link("/proc/self/ns/mnt").into_iter().collect();
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").doing("cannot read /proc")?.flatten() {
        let path = entry.path();
        if !entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        if let Ok(namespace) = std::fs::read_link(path.join("ns/mnt"))
            && seen.insert(namespace)
            && let Ok(mounts) = read(&path.join("mountinfo"))
        {
            all.extend(mounts);
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<Mount>> {
    // The kernel fills a large buffer in one go, and puts the table together anew for every small one.
    let mut bytes = Vec::with_capacity(64 << 10);
    std::fs::File::open(path).and_then(|mut f| f.read_to_end(&mut bytes)).doing_to("read", path)?;
    Ok(bytes.split(|b| *b == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let text = |f: &[u8]| String::from_utf8_lossy(f).into_owned();
    Some(Mount {
        id: text(fields.first()?).parse().ok()?,
        root: unescape(fields.get(3)?),
        target: unescape(fields.get(4)?),
        options: text(fields.get(5)?),
        fstype: text(fields.get(dash + 1)?),
        source: unescape(fields.get(dash + 2)?),
        super_options: text(fields.get(dash + 3)?),
    })
}

/// Blanks, newlines and backslashes are written as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = (*first == b'\\' && tail.len() >= 3)
            .then(|| std::str::from_utf8(&tail[..3]).ok().and_then(|t| u8::from_str_radix(t, 8).ok()))
            .flatten();
        match code {
            Some(byte) => {
                out.push(byte);
                rest = &tail[3..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes() {
        let mount = parse(
            b"98 29 0:44 /ROOT/blue /mnt/a\\040b rw,relatime shared:1 master:2 - btrfs /dev/loop0 rw,subvol=/ROOT/blue",
        )
        .unwrap();
        assert_eq!(mount.target, Path::new("/mnt/a b"));
        assert_eq!(mount.root, Path::new("/ROOT/blue"));
        assert_eq!((mount.fstype.as_str(), mount.source.as_path()), ("btrfs", Path::new("/dev/loop0")));
        assert_eq!(parse(b"garbage"), None);
    }
}
