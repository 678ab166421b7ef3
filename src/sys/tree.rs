//! A directory tree addressed by its descriptor, with every path resolved *inside* it.
//!
//! A BE may hold any symlink: `/boot/vmlinuz -> /etc/shadow` must not lead out of it. All lookups
//! go through openat2(2) with `RESOLVE_IN_ROOT`, which treats the tree as a chroot does, without one.

use crate::error::{Doing, Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use std::ffi::{CString, OsString};
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read as a whole, in bytes; the largest of ours is a menu of some thousand lines.
const LARGEST: u64 = 16 << 20;

/// A directory and everything below it.
#[derive(Debug, Clone)]
pub struct Tree {
    fd: Arc<OwnedFd>,
    shown: String,
    keeps: Keeps,
}

/// What makes a file durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// fsync(2) of it.
    EachFile,
    /// A FAT: syncfs(2).
    Everything,
    /// A commit of the whole pool, which takes along all that was written before it; fsync(2) may do nothing.
    InGroups,
}

/// A path through `/proc` to an open tree. It leads nowhere once the tree is closed, hence the lifetime.
#[derive(Debug)]
pub struct ProcPath<'tree> {
    path: PathBuf,
    _tree: PhantomData<&'tree Tree>,
}

impl<'tree> ProcPath<'tree> {
    /// The path of something inside.
    pub fn join(&self, name: impl AsRef<Path>) -> ProcPath<'tree> {
        ProcPath { path: self.path.join(name), _tree: PhantomData }
    }
}

impl std::ops::Deref for ProcPath<'_> {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for ProcPath<'_> {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Tree {
    /// Wraps a directory's descriptor. `shown` is what error messages call it.
    pub fn new(fd: OwnedFd, shown: impl Into<String>) -> Self {
        Tree { fd: Arc::new(fd), shown: shown.into(), keeps: Keeps::EachFile }
    }

    /// Opens a directory of the running system.
    pub fn at(path: &Path) -> Result<Self> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .doing_to("open the directory", path)?;
        Ok(Tree::new(fd, path.display().to_string()))
    }

    /// The same tree, known to be a FAT filesystem: there an fsync does not reach the allocation table (measured on Linux
    /// 6.12: after a reset the file had its size and no clusters), so whole filesystems are synced.
    pub fn on_fat(mut self) -> Self {
        self.keeps = Keeps::Everything;
        self
    }

    /// The same tree, known to be on ZFS: what is written belongs to a transaction group, and no later one is on disk before it.
    pub fn on_zfs(mut self) -> Self {
        self.keeps = Keeps::InGroups;
        self
    }

    /// The tree at the top of a detached mount, whose own descriptor is only a place (`O_PATH`).
    pub fn below(mount: &OwnedFd, shown: &str) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(mount, ".", flags, Mode::empty()).doing("cannot open the mount")?;
        Ok(Tree::new(fd, shown))
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// A path by which this process and its children reach the tree, even if it is mounted nowhere. The dot makes it the directory itself, not the symlink in /proc.
    pub fn proc_path(&self) -> ProcPath<'_> {
        self.proc_file().join(".")
    }

    /// The same without the dot, for a descriptor that is a file.
    pub fn proc_file(&self) -> ProcPath<'_> {
        use std::os::fd::AsRawFd;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()));
        ProcPath { path, _tree: PhantomData }
    }

    /// What messages call `path`.
    fn name(&self, path: &str) -> String {
        if self.shown.is_empty() { path.to_string() } else { format!("{}/{}", self.shown.trim_end_matches('/'), path) }
    }

    fn open(&self, path: &str, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(
            &*self.fd,
            path,
            flags | OFlags::CLOEXEC,
            mode,
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// The tree below `path`.
    pub fn sub(&self, path: &str) -> Result<Tree> {
        let fd = self
            .open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
            .doing(format_args!("cannot open {}", self.name(path)))?;
        Ok(Tree::new(fd, self.name(path)))
    }

    /// The parent of `path` and its last component, the parent resolved inside the tree.
    fn parent<'a>(&self, path: &'a str) -> rustix::io::Result<(OwnedFd, &'a str)> {
        let (dir, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.open(dir, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, leaf))
    }

    /// What is at `path`, file or directory, as a place to mount on.
    pub fn place(&self, path: &str) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, Mode::empty()).doing(format_args!("cannot open {}", self.name(path)))
    }

    /// A file, open for reading, or `None` if it is not there. What is no plain file is refused: a FIFO would keep us for
    /// ever.
    pub fn file(&self, path: &str) -> Result<Option<std::fs::File>> {
        let what = || format!("cannot read {}", self.name(path));
        let fd = match self.open(path, OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty()) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            other => other.doing(what())?,
        };
        let stat = rustix::fs::fstat(&fd).doing(what())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(
                Error::refused(format!("{}: it is no plain file", what())).hint("remove it, or put a file there")
            );
        }
        Ok(Some(fd.into()))
    }

    /// The whole of a file, or `None` if it is not there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let what = || format!("cannot read {}", self.name(path));
        let Some(file) = self.file(path)? else { return Ok(None) };
        // Most are no larger than this.
        let mut bytes = Vec::with_capacity(4 << 10);
        file.take(LARGEST + 1).read_to_end(&mut bytes).doing(what())?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::refused(format!("{}: it is larger than {} MiB", what(), LARGEST >> 20))
                .hint("put a smaller file there"));
        }
        Ok(Some(bytes))
    }

    /// A file's text; bytes that are not UTF-8 are an error that names the file.
    pub fn read_text(&self, path: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| {
            Error::failed(format!("{} is not text (UTF-8)", self.name(path))).hint("mend the file, or remove it")
        })
    }

    /// Whether something is at `path`, symlinks followed inside the tree.
    pub fn exists(&self, path: &str) -> bool {
        self.open(path, OFlags::PATH, Mode::empty()).is_ok()
    }

    /// Whether a Linux root seems to be here, and not just any files: what `init` copies in or adopts.
    pub fn holds_root(&self) -> bool {
        self.exists("etc") && self.exists("usr")
    }

    /// The type of what is at `path` itself, or `None` if nothing is there.
    pub fn kind(&self, path: &str) -> Result<Option<FileType>> {
        Ok(self.stat(path)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// What stat(2) says of what is at `path` itself, or `None` if nothing is there.
    pub fn stat(&self, path: &str) -> Result<Option<rustix::fs::Stat>> {
        let (dir, leaf) = match self.parent(path) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            other => other.doing(format_args!("cannot look at {}", self.name(path)))?,
        };
        match rustix::fs::statat(&dir, leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).doing(format_args!("cannot look at {}", self.name(path))),
        }
    }

    /// Where the symlink at `path` points.
    pub fn read_link(&self, path: &str) -> Result<String> {
        let (dir, leaf) = self.parent(path).doing(format_args!("cannot read {}", self.name(path)))?;
        let target: CString =
            rustix::fs::readlinkat(&dir, leaf, Vec::new()).doing(format_args!("cannot read {}", self.name(path)))?;
        Ok(target.to_string_lossy().into_owned())
    }

    /// The names in a directory, in no order; empty if the directory is not there.
    pub fn list(&self, path: &str) -> Result<Vec<OsString>> {
        let fd = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
            other => other.doing(format_args!("cannot list {}", self.name(path)))?,
        };
        let mut names = Vec::new();
        for entry in Dir::new(fd).doing(format_args!("cannot list {}", self.name(path)))? {
            let entry = entry.doing(format_args!("cannot list {}", self.name(path)))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    /// Makes an empty file where nothing is.
    pub fn make_file(&self, path: &str, mode: u32) -> Result<()> {
        let what = || format!("cannot make {}", self.name(path));
        let (dir, leaf) = self.parent(path).doing(what())?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&dir, leaf, flags, Mode::from_raw_mode(mode)).map(drop).doing(what())
    }

    /// Makes a directory and its missing parents.
    pub fn make_dir(&self, path: &str, mode: u32) -> Result<()> {
        let mut at = 0;
        loop {
            let end = path[at..].find('/').map_or(path.len(), |n| at + n);
            let (dir, leaf) = self.parent(&path[..end]).doing(format_args!("cannot make {}", self.name(path)))?;
            match rustix::fs::mkdirat(&dir, leaf, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e).doing(format_args!("cannot make {}", self.name(&path[..end]))),
            }
            if end == path.len() {
                return Ok(());
            }
            at = end + 1;
        }
    }

    /// Replaces a file as a whole: written beside, synced, renamed over, synced again. After a power cut
    /// either the old text is there or the new one.
    ///
    /// The second sync makes the rename durable.
    pub fn write(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.write_with(path, mode, |mut file| file.write_all(bytes))
    }

    /// The same without the second sync: the new text is there after the filesystem's next commit.
    pub fn write_for_next_commit(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.put(path, mode, self.keeps != Keeps::InGroups, |mut file| file.write_all(bytes)).map(drop)
    }

    /// The same, with a function that writes the file.
    pub fn write_with(
        &self,
        path: &str,
        mode: u32,
        fill: impl FnOnce(&std::fs::File) -> std::io::Result<()>,
    ) -> Result<()> {
        let dir = self.put(path, mode, true, fill)?;
        let open =
            || rustix::fs::openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        open()
            .map_err(std::io::Error::from)
            .and_then(|dir| self.settle(&dir.into()))
            .doing(format_args!("cannot write {}", self.name(path)))
    }

    /// Writes a file beside, syncs it if that is wanted, and renames it over. Returns the directory it is in.
    fn put(
        &self,
        path: &str,
        mode: u32,
        sync: bool,
        fill: impl FnOnce(&std::fs::File) -> std::io::Result<()>,
    ) -> Result<OwnedFd> {
        let what = || format!("cannot write {}", self.name(path));
        let (dir, leaf) = self.parent(path).doing(what())?;
        let beside = format!("{leaf}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &beside, flags, Mode::from_raw_mode(mode)).doing(what())?;
        let file = std::fs::File::from(fd);
        let written = fill(&file).and_then(|()| if sync { self.settle(&file) } else { Ok(()) });
        if let Err(e) = written {
            let _ = rustix::fs::unlinkat(&dir, &beside, AtFlags::empty());
            return Err(e).doing(what());
        }
        rustix::fs::renameat(&dir, &beside, &dir, leaf).doing(what())?;
        Ok(dir)
    }

    /// Makes a file or directory durable.
    fn settle(&self, file: &std::fs::File) -> std::io::Result<()> {
        match self.keeps {
            Keeps::Everything => Ok(rustix::fs::syncfs(file)?),
            Keeps::EachFile | Keeps::InGroups => file.sync_all(),
        }
    }

    /// Makes everything on the filesystem durable: what was removed stays removed after a power cut.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::syncfs(&*self.fd).doing(format_args!("cannot sync {}", self.shown))
    }

    /// Makes a symlink, replacing a symlink that stands there.
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let what = || format!("cannot make the symlink {}", self.name(path));
        let (dir, leaf) = self.parent(path).doing(what())?;
        let beside = format!("{leaf}.bootenv-new");
        let _ = rustix::fs::unlinkat(&dir, &beside, AtFlags::empty());
        rustix::fs::symlinkat(target, &dir, &beside).doing(what())?;
        rustix::fs::renameat(&dir, &beside, &dir, leaf).doing(what())
    }

    /// Removes a file or symlink; it is no error if it is not there.
    pub fn remove(&self, path: &str) -> Result<()> {
        let (dir, leaf) = match self.parent(path) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.doing(format_args!("cannot remove {}", self.name(path)))?,
        };
        match rustix::fs::unlinkat(&dir, leaf, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e).doing(format_args!("cannot remove {}", self.name(path))),
        }
    }

    /// Removes an empty directory; it is no error if it is not there.
    pub fn remove_dir(&self, path: &str) -> Result<()> {
        let (dir, leaf) = match self.parent(path) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.doing(format_args!("cannot remove {}", self.name(path)))?,
        };
        match rustix::fs::unlinkat(&dir, leaf, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e).doing(format_args!("cannot remove {}", self.name(path))),
        }
    }

    /// Removes a directory with everything below it; it is no error if it is not there.
    pub fn remove_tree(&self, path: &str) -> Result<()> {
        let (dir, leaf) = match self.parent(path) {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other.doing(format_args!("cannot remove {}", self.name(path)))?,
        };
        let dir = Tree::new(dir, "");
        let full = dir.proc_path().join(leaf);
        let gone = |e: &std::io::Error| e.kind() == std::io::ErrorKind::NotFound;
        match std::fs::remove_dir_all(&full) {
            Err(e) if gone(&e) => Ok(()),
            // Hardened servers make logs append-only.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                thaw(&full);
                std::fs::remove_dir_all(&full).doing(format_args!("cannot remove {}", self.name(path)))
            }
            other => other.doing(format_args!("cannot remove {}", self.name(path))),
        }
    }

    /// Replaces the text of a file that is not ours and keeps its owner, mode and extended attributes.
    pub fn edit(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let what = || format!("cannot write {}", self.name(path));
        let old = match self.open(path, OFlags::RDONLY, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return self.write(path, bytes, 0o644),
            other => other.doing(what())?,
        };
        let stat = rustix::fs::fstat(&old).doing(what())?;
        self.write_with(path, stat.st_mode & 0o7777, |mut new| {
            rustix::fs::fchown(
                new,
                Some(rustix::fs::Uid::from_raw(stat.st_uid)),
                Some(rustix::fs::Gid::from_raw(stat.st_gid)),
            )?;
            rustix::fs::fchmod(new, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            copy_attributes(&old, new)?;
            new.write_all(bytes)
        })
    }

    /// Gives the tree's top the times of `stat`.
    pub fn set_times_of(&self, stat: &rustix::fs::Stat) -> Result<()> {
        use rustix::fs::{Timespec, Timestamps};
        let times = Timestamps {
            last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
            last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
        };
        rustix::fs::futimens(&*self.fd, &times).doing(format_args!("cannot set the times of {}", self.shown))
    }

    /// Renames within the tree; what stands at `to` is replaced if the kernel allows it.
    pub fn rename(&self, from: &str, to: &str, flags: rustix::fs::RenameFlags) -> Result<()> {
        let what = || format!("cannot rename {} to {}", self.name(from), to);
        let (from_dir, from_leaf) = self.parent(from).doing(what())?;
        let (to_dir, to_leaf) = self.parent(to).doing(what())?;
        rustix::fs::renameat_with(&from_dir, from_leaf, &to_dir, to_leaf, flags).doing(what())
    }
}

/// Takes the immutable and append-only flags off everything below a directory (ioctl_iflags(2)). What cannot be
/// opened keeps them, and the removal that follows says so.
fn thaw(dir: &Path) {
    let keep = |flags: rustix::fs::IFlags| flags - rustix::fs::IFlags::IMMUTABLE - rustix::fs::IFlags::APPEND;
    let open = |path: &Path| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
    };
    let take_off = |path: &Path| {
        if let Ok(fd) = open(path)
            && let Ok(flags) = rustix::fs::ioctl_getflags(&fd)
            && keep(flags) != flags
        {
            let _ = rustix::fs::ioctl_setflags(&fd, keep(flags));
        }
    };
    take_off(dir);
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => thaw(&entry.path()),
            Ok(kind) if kind.is_file() => take_off(&entry.path()),
            _ => {}
        }
    }
}

/// Copies extended attributes, ACLs among them.
fn copy_attributes(from: &OwnedFd, to: &std::fs::File) -> rustix::io::Result<()> {
    let mut names = vec![0u8; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        rustix::fs::fsetxattr(to, name, &value[..size], rustix::fs::XattrFlags::empty())?;
    }
    Ok(())
}
