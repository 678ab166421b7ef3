//! What lies at the same path of two trees, and whether it is alike. Paths are of any bytes, and no symlink is followed.

use super::tree::Tree;
use crate::error::{Doing, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Bytes of a file that are compared at a time.
const CHUNK: usize = 128 << 10;

/// What lies at a path.
pub struct Found {
    fd: OwnedFd,
    stat: Stat,
}

/// What is not alike in two files, or whatever they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// One is a file, say, and the other a directory.
    Type,
    /// What is in a file, where a symlink points, which device it is.
    Content,
    /// Who may do what: the permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes, ACLs and security labels among them.
    Attributes,
}

impl Aspect {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Aspect::Type => "type",
            Aspect::Content => "content",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Attributes => "attributes",
        }
    }
}

impl Found {
    /// What is at `path` of a tree, if something is.
    pub fn at(tree: &Tree, path: &Path) -> Result<Option<Found>> {
        let what = || format!("cannot look at {}", path.display());
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A symlink itself is opened by these flags; one on the way leads nowhere (openat2(2)).
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let fd = match rustix::fs::openat2(tree.fd(), name, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            opened => opened.doing(what())?,
        };
        let stat = rustix::fs::fstat(&fd).doing(what())?;
        Ok(Some(Found { fd, stat }))
    }

    /// Its inode number.
    pub fn inode(&self) -> u64 {
        self.stat.st_ino
    }

    /// Whether it has other names than the one it was found by.
    pub fn has_more_names(&self) -> bool {
        self.kind() != FileType::Directory && self.stat.st_nlink > 1
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The names in it, each with the inode number that the directory has for it; none if it is no directory.
    pub fn names(&self, path: &Path) -> Result<BTreeMap<OsString, u64>> {
        let what = || format!("cannot list {}", path.display());
        let mut names = BTreeMap::new();
        if self.kind() != FileType::Directory {
            return Ok(names);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).doing(what())?;
        for entry in Dir::new(fd).doing(what())? {
            let entry = entry.doing(what())?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.insert(OsString::from_vec(name.to_vec()), entry.ino());
            }
        }
        Ok(names)
    }

    /// A path to it, for calls that take no descriptor of what is only a place.
    fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

/// What is not alike in what was found at `path`. The times of a file are not looked at: they tell that it may have changed, not that
/// it has. But where nothing is `known` of a change, what has all its times and the same inode number is taken for the same.
pub fn differences(old: &Found, new: &Found, path: &Path, known: bool) -> Result<Vec<Aspect>> {
    let (a, b) = (&old.stat, &new.stat);
    let kind = old.kind();
    if kind != new.kind() {
        return Ok(vec![Aspect::Type]);
    }
    let mut found = Vec::new();
    let times = |s: &Stat| (s.st_ino, s.st_ctime, s.st_ctime_nsec, s.st_mtime, s.st_mtime_nsec, s.st_size);
    let untouched = !known && times(a) == times(b);
    let content = match kind {
        FileType::RegularFile => !untouched && (a.st_size != b.st_size || !same_bytes(old, new, path)?),
        FileType::Symlink => target(old, path)? != target(new, path)?,
        FileType::CharacterDevice | FileType::BlockDevice => a.st_rdev != b.st_rdev,
        _ => false,
    };
    found.extend(content.then_some(Aspect::Content));
    found.extend((a.st_mode != b.st_mode).then_some(Aspect::Mode));
    found.extend(((a.st_uid, a.st_gid) != (b.st_uid, b.st_gid)).then_some(Aspect::Owner));
    if !untouched && kind != FileType::Symlink && attributes(old, path)? != attributes(new, path)? {
        found.push(Aspect::Attributes);
    }
    Ok(found)
}

/// Whether two plain files have the same content.
fn same_bytes(old: &Found, new: &Found, path: &Path) -> Result<bool> {
    let what = || format!("cannot read {}", path.display());
    let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC;
    let open = |found: &Found| rustix::fs::open(found.proc_path(), flags, Mode::empty()).map(File::from).doing(what());
    let mut files = [open(old)?, open(new)?];
    let mut buffers = [vec![0; CHUNK], vec![0; CHUNK]];
    loop {
        let mut lengths = [0; 2];
        for ((file, buffer), length) in files.iter_mut().zip(&mut buffers).zip(&mut lengths) {
            while *length < CHUNK {
                match file.read(&mut buffer[*length..]).doing(what())? {
                    0 => break,
                    more => *length += more,
                }
            }
        }
        if buffers[0][..lengths[0]] != buffers[1][..lengths[1]] {
            return Ok(false);
        }
        if lengths[0] < CHUNK {
            return Ok(true);
        }
    }
}

fn target(link: &Found, path: &Path) -> Result<Vec<u8>> {
    let target =
        rustix::fs::readlinkat(&link.fd, "", Vec::new()).doing(format_args!("cannot read {}", path.display()))?;
    Ok(target.into_bytes())
}

fn attributes(of: &Found, path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let what = || format!("cannot read the attributes of {}", path.display());
    let at = of.proc_path();
    let mut names = vec![0u8; 64 << 10];
    let length = match rustix::fs::listxattr(&at, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        length => length.doing(what())?,
    };
    let mut value = vec![0u8; 64 << 10];
    let mut all = BTreeMap::new();
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        match rustix::fs::getxattr(&at, name, &mut value[..]) {
            Ok(size) => drop(all.insert(name.to_vec(), value[..size].to_vec())),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e).doing(what()),
        }
    }
    Ok(all)
}
