//! Finding the store: what `/` is on, a mounted Btrfs, a block device, an image file, a pool or a dataset.

#[cfg(feature = "zfs")]
use super::SHARED;
use super::btrfs::Btrfs;
#[cfg(feature = "zfs")]
use super::zfs::Zfs;
use super::{HOME, Store};
use crate::error::{Doing, Error, Result};
use crate::sys::loopdev::LoopDevice;
use crate::sys::mountinfo::{self, Mount};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::rc::Rc;

/// What a store can be named by.
const NAMES: &str = if cfg!(feature = "zfs") {
    "an image file, a block device, a directory on a mounted Btrfs, a pool, or a dataset of one"
} else {
    "an image file, a block device, or a directory on a mounted Btrfs"
};

/// A store that was found, and whether `/` is on it.
pub struct Opened {
    /// The store.
    pub store: Rc<dyn Store>,
    /// Whether the running system's root is on it.
    pub is_root: bool,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({:?})", self.store.info())
    }
}

/// Whether there is something that `what` names, be it a store or not.
pub fn exists(what: &Path) -> bool {
    what.exists() || names_dataset(what)
}

/// Opens the store that `what` names, or the one that `/` is on.
pub fn open(what: Option<&Path>) -> Result<Opened> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::refused("bootenv needs root, to reach the store").hint("run it with sudo"));
    }
    let mounts = mountinfo::own()?;
    let Some(path) = what else {
        let mount = mount_of(&mounts, Path::new("/"))?;
        return match mount.fstype.as_str() {
            "btrfs" => {
                let (name, mount) = (mount.source.display().to_string(), mount.clone());
                open_device(mounts, &name, &mount)
            }
            "zfs" => open_root(&mounts, &mount.source.to_string_lossy()),
            other => Err(Error::refused(format!("/ is on {other}, which has no boot environments"))
                .hint(format!("name a store with --store: {NAMES}"))),
        };
    };
    let meta = match std::fs::metadata(path) {
        // A pool or a dataset looks like a path that is not there.
        Err(e) if is_missing(&e) && names_dataset(path) => {
            let name = path.to_string_lossy();
            return open_dataset(&mounts, &name, &name);
        }
        Ok(_) if names_dataset(path) => {
            let name = path.display();
            return Err(Error::refused(format!("{name} may be a file or directory here, and a pool"))
                .hint(format!("name the file ./{name}, or run this in another directory")));
        }
        other => other,
    };
    let meta = meta.map_err(|e| {
        let (name, pool) = (path.display(), pool_of(path));
        let error = Error::not_found(format!("there is no store {name}: {}", crate::error::plain(&e)));
        let image = format!("`bootenv init --store {name} --size 4G --from ROOT` makes an image");
        match pool {
            Some(pool) if is_missing(&e) => error.hint(format!(
                "if it is a pool, `zpool import {pool}` imports it, once OpenZFS is loaded (`modprobe zfs`); {image}"
            )),
            _ => error.hint(image),
        }
    })?;
    let kind = meta.file_type();
    if kind.is_file() {
        let readonly = meta.permissions().readonly() || rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_err();
        let device = LoopDevice::attach(path, readonly)?;
        let block = device.path().to_path_buf();
        let readonly = readonly || held_readonly(&mounts, &block);
        let store =
            Btrfs::open(&block, &path.display().to_string(), Some(device), readonly).map_err(|e| no_btrfs(e, path))?;
        return Ok(Opened { store: Rc::new(store), is_root: false });
    }
    if kind.is_block_device() {
        let store = Btrfs::open(path, &path.display().to_string(), None, held_readonly(&mounts, path))
            .map_err(|e| no_btrfs(e, path))?;
        let is_root = is_root(&store, &mounts);
        return Ok(Opened { store: Rc::new(store), is_root });
    }
    if kind.is_dir() {
        let full = path.canonicalize().doing_to("open", path)?;
        let mount = mount_of(&mounts, &full)?;
        if mount.fstype == "zfs" {
            return open_directory(&mounts, &mount.source.to_string_lossy(), path);
        }
        if mount.fstype != "btrfs" {
            return Err(Error::refused(format!("{} is on {}, not on a Btrfs", path.display(), mount.fstype))
                .hint(format!("name {NAMES}")));
        }
        let mount = mount.clone();
        return open_device(mounts, &path.display().to_string(), &mount);
    }
    Err(Error::refused(format!("{} is no image file, block device or directory", path.display()))
        .hint(format!("name {NAMES}")))
}

/// Whether somebody has mounted the filesystem on this device read-only. Another mount of ours would make it writable.
fn held_readonly(mounts: &[Mount], device: &Path) -> bool {
    mounts.iter().any(|m| m.source == device && m.super_options.split(',').any(|o| o == "ro"))
}

fn open_device(mut mounts: Vec<Mount>, name: &str, mount: &Mount) -> Result<Opened> {
    let readonly = mount.super_options.split(',').chain(mount.options.split(',')).any(|o| o == "ro");
    let store = match is_block_device(&mount.source) {
        true => Btrfs::open(&mount.source, name, None, readonly)?,
        false => {
            // Whoever mounts it last says by which path, be that in a container, and the path may be gone since.
            let store = Btrfs::open(&Btrfs::device_of(&mount.target)?, name, None, readonly)?;
            mounts = mountinfo::own()?;
            store
        }
    };
    let is_root = is_root(&store, &mounts);
    Ok(Opened { store: Rc::new(store.with_mounts(mounts)), is_root })
}

fn is_block_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

/// Whether `/` is on the store.
fn is_root(store: &Btrfs, mounts: &[Mount]) -> bool {
    let path = |m: &Mount| m.root.strip_prefix("/").ok().and_then(Path::to_str).map(str::to_string);
    mount_of(mounts, Path::new("/")).is_ok_and(|m| path(m).is_some_and(|path| store.is_mount_of(m, &path)))
}

/// Whether nothing is at a path, or its parent is a file.
fn is_missing(e: &std::io::Error) -> bool {
    matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// The pool that a path names if it is meant as a dataset, be there one or not.
fn pool_of(path: &Path) -> Option<&str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:/ ".contains(c);
    let name = path.to_str()?;
    let may_be = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(allowed);
    (may_be && !name.ends_with('/') && !name.contains("//")).then(|| name.split('/').next().unwrap_or(name))
}

/// Whether a path may be the name of a pool or a dataset, and there is such a pool.
#[cfg(feature = "zfs")]
fn names_dataset(path: &Path) -> bool {
    pool_of(path).is_some_and(Zfs::has_pool)
}

/// Opens the pool that a dataset is in, at the place where its BEs lie.
#[cfg(feature = "zfs")]
fn open_dataset(mounts: &[Mount], dataset: &str, name: &str) -> Result<Opened> {
    let base = Zfs::base_of(dataset);
    let store = Zfs::open(base, name)?;
    store.must_hold(dataset)?;
    if let Some((holder, part)) = base.rsplit_once('/')
        && [SHARED, HOME].contains(&part)
        && Zfs::is_around(holder)?
    {
        return Err(Error::refused(format!("{base} is a part of the store {holder}, and no store of its own"))
            .hint(format!("name the store: --store {holder}")));
    }
    if let Some((holder, zone)) =
        base.rsplit_once('/').and_then(|(above, zone)| Some((above.strip_suffix("/zones")?, zone)))
        && Zfs::is_around(holder)?
    {
        return Err(Error::refused(format!("{base} is a zone of the store {holder}, and no store of its own"))
            .hint(format!("name the store and the zone: --store {holder} --zone {zone}")));
    }
    let root = mount_of(mounts, Path::new("/"))?;
    let is_root = root.fstype == "zfs" && Zfs::base_of_root(&root.source.to_string_lossy())? == base;
    Ok(Opened { store: Rc::new(store), is_root })
}

/// Opens the pool that `/` is on.
#[cfg(feature = "zfs")]
fn open_root(mounts: &[Mount], dataset: &str) -> Result<Opened> {
    let base = Zfs::base_of_root(dataset)?;
    open_dataset(mounts, base, base)
}

/// Opens the pool that a directory is on, if BEs lie around it.
#[cfg(feature = "zfs")]
fn open_directory(mounts: &[Mount], dataset: &str, path: &Path) -> Result<Opened> {
    if !Zfs::is_around(dataset)? {
        let pool = dataset.split('/').next().unwrap_or(dataset);
        let told =
            format!("{} is on the dataset {dataset}, which is no boot environment and holds none", path.display());
        return Err(
            Error::refused(told).hint(format!("name the pool or the dataset that is to hold them: --store {pool}"))
        );
    }
    open_dataset(mounts, dataset, &path.display().to_string())
}

#[cfg(not(feature = "zfs"))]
fn names_dataset(path: &Path) -> bool {
    // Nothing can be asked about pools, but what looks like one is told what is missing.
    !path.exists() && !path.is_absolute() && path.components().count() == 1 && path.extension().is_none()
}

#[cfg(not(feature = "zfs"))]
fn open_root(mounts: &[Mount], dataset: &str) -> Result<Opened> {
    open_dataset(mounts, dataset, dataset)
}

#[cfg(not(feature = "zfs"))]
fn open_directory(mounts: &[Mount], dataset: &str, _path: &Path) -> Result<Opened> {
    open_dataset(mounts, dataset, dataset)
}

#[cfg(not(feature = "zfs"))]
fn open_dataset(_mounts: &[Mount], dataset: &str, _name: &str) -> Result<Opened> {
    Err(Error::refused(format!("{dataset}: this bootenv was built without ZFS")).hint(
        "build it with the feature zfs (it is on by default); or name an image file, a block device or a directory",
    ))
}

fn no_btrfs(e: Error, path: &Path) -> Error {
    let what = format!("{} cannot be opened as a Btrfs", path.display());
    match e.hint {
        Some(_) => e,
        None => e
            .context(what)
            .hint("is it a Btrfs, and whole? `btrfs check --readonly` on it tells; `bootenv init` makes a new store"),
    }
}

/// The mount that `path` (absolute, without symlinks) is on: the last one mounted of the longest that fit.
fn mount_of<'m>(mounts: &'m [Mount], path: &Path) -> Result<&'m Mount> {
    let best = mounts.iter().filter(|m| path.starts_with(&m.target)).max_by_key(|m| m.target.components().count());
    best.ok_or_else(|| Error::failed(format!("{} is on no mount that can be seen", path.display())))
}

/// The store's one exclusive lock. It is let go when the guard is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub fn take(store: &dyn Store) -> Result<Lock> {
        match Self::try_take(store)? {
            Ok(lock) => Ok(lock),
            Err(holder) => Err(Error::busy(format!("another bootenv{holder} works on this store"))
                .hint("wait until it is done, then run this again")),
        }
    }

    /// Takes the lock if it is free; else says who has it.
    pub fn try_take(store: &dyn Store) -> Result<Result<Lock, String>> {
        let home = store.home()?;
        let flags = rustix::fs::OFlags::RDWR
            | rustix::fs::OFlags::CREATE
            | rustix::fs::OFlags::NOFOLLOW
            | rustix::fs::OFlags::CLOEXEC;
        let fd = rustix::fs::openat(home.fd(), "lock", flags, rustix::fs::Mode::from_raw_mode(0o600))
            .doing(format_args!("cannot open {HOME}/lock"))
            .map_err(|e| match e.errno {
                Some(nix::libc::ELOOP) => {
                    e.hint(format!("it is a symlink, which bootenv never makes: remove {HOME}/lock"))
                }
                Some(nix::libc::EROFS) => e.hint(
                    "the store is read-only: mount it, or import the pool, read-write; `dmesg` may tell the reason",
                ),
                _ => e,
            })?;
        match Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                // As wide as the one before, so that one write takes its place.
                let _ = file.write_all_at(format!("{:<10}", std::process::id()).as_bytes(), 0);
                Ok(Ok(Lock { _file: file }))
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                let pid = pid.split_whitespace().next();
                Ok(Err(pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()))
            }
            Err((_, e)) => Err(e).doing(format_args!("cannot lock {HOME}/lock")),
        }
    }
}
