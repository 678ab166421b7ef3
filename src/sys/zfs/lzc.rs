//! The calls of `libzfs_core` (libzfs_core.h; what they do is told in the comments of libzfs_core.c).
//!
//! Each is one transaction group, on disk when the call returns. None of them mounts, unmounts or remounts anything.

#![allow(unsafe_code)]

use super::errors::{Act, told};
use super::library::Core;
use super::nvlist::{List, Nvlist, Value, c_string};
use super::program::Limits;
use super::properties::Property;
use crate::error::{Error, Result};
use nix::libc;
use std::ffi::{CStr, c_char, c_int};
use std::fs::File;
use std::ptr::null_mut;

/// `/dev/zfs`, open. Datasets are named in full (`tank/ROOT/blue`), snapshots too (`tank/ROOT/blue@monday`).
///
/// Errors: [`Busy`](crate::error::Kind::Busy) if something has the dataset mounted or holds it,
/// [`NotFound`](crate::error::Kind::NotFound) if it or its pool is not there, [`Refused`](crate::error::Kind::Refused)
/// if it is there already or the name is wrong, [`Failed`](crate::error::Kind::Failed) otherwise; the errno is kept and
/// the hint names the repair.
#[derive(Debug)]
pub struct Lzc {
    pub(super) library: &'static Core,
    /// `/dev/zfs`, for what the library has no call for.
    pub(super) device: File,
}

impl Drop for Lzc {
    fn drop(&mut self) {
        // SAFETY: once for each libzfs_core_init that succeeded.
        unsafe { (self.library.libzfs_core_fini)() }
    }
}

impl Lzc {
    /// Opens the library and `/dev/zfs`. Fails, with what to install or load, if one of them is not there.
    pub fn open() -> Result<Lzc> {
        let library = Core::get()?;
        let device = File::options().read(true).write(true).open("/dev/zfs");
        let device = device.map_err(|e| unopened(e.raw_os_error().unwrap_or(libc::EIO)))?;
        // SAFETY: no arguments; it opens /dev/zfs or counts one more user.
        match unsafe { (library.libzfs_core_init)() } {
            0 => Ok(Lzc { library, device }),
            errno => Err(unopened(errno)),
        }
    }

    /// Whether the dataset or snapshot is there.
    pub fn exists(&self, name: &str) -> Result<bool> {
        let raw = c_string(name)?;
        if name.contains('@') {
            // SAFETY: a string that lives through the call.
            return Ok(unsafe { (self.library.lzc_exists)(raw.as_ptr()) } != 0);
        }
        // To be told of, a dataset is opened, which takes far longer than a look at its bookmarks. Snapshots have none.
        let (nothing, mut bookmarks) = (Nvlist::new(&List::new())?, Nvlist::none()?);
        // SAFETY: a string and a list that live through the call, and a place for a list.
        Ok(unsafe { (self.library.lzc_get_bookmarks)(raw.as_ptr(), nothing.raw(), bookmarks.place()) } == 0)
    }

    /// Makes an empty filesystem, encrypted if its parent is. Its parent must be there.
    pub fn create(&self, name: &str, properties: &[Property<'_>]) -> Result<()> {
        /// `LZC_DATSET_TYPE_ZFS`
        const FILESYSTEM: c_int = 2;
        let (raw, properties) = (c_string(name)?, Property::list(properties)?);
        // SAFETY: a string and a list that live through the call; no key is handed over.
        self.call(Act::Create, name, || unsafe {
            (self.library.lzc_create)(raw.as_ptr(), FILESYSTEM, properties.raw(), null_mut(), 0)
        })
    }

    /// Clones the snapshot `origin` to the new filesystem `name`. Properties are inherited from the parent of `name`, not
    /// from the origin, unless given.
    pub fn clone(&self, origin: &str, name: &str, properties: &[Property<'_>]) -> Result<()> {
        let (raw, from, properties) = (c_string(name)?, c_string(origin)?, Property::list(properties)?);
        // SAFETY: strings and a list that live through the call.
        self.call(Act::Clone, name, || unsafe {
            (self.library.lzc_clone)(raw.as_ptr(), from.as_ptr(), properties.raw())
        })
    }

    /// Makes these snapshots, all or none, with these user properties (snapshots have no others to set).
    /// They must be of one pool, and of different datasets.
    pub fn snapshot(&self, names: &[&str], properties: &[Property<'_>]) -> Result<()> {
        let Some(first) = names.first() else { return Ok(()) };
        let (list, properties) = (flags(names)?, Property::list(properties)?);
        let mut errors = Nvlist::none()?;
        // SAFETY: lists that live through the call, and a place for one.
        let errno = unsafe { (self.library.lzc_snapshot)(list.raw(), properties.raw(), errors.place()) };
        each(Act::Snapshot, first, errno, &errors)
    }

    /// Destroys a filesystem that has no children and no snapshots. Snapshots are for [`Lzc::destroy_snaps`].
    pub fn destroy(&self, name: &str) -> Result<()> {
        let raw = c_string(name)?;
        // SAFETY: a string that lives through the call.
        self.call(Act::Destroy, name, || unsafe { (self.library.lzc_destroy)(raw.as_ptr()) })
            .map_err(|e| self.explained(e, &[name]))
    }

    /// Destroys these snapshots of one pool, all or none. One that is not there is passed over.
    pub fn destroy_snaps(&self, names: &[&str]) -> Result<()> {
        let Some(first) = names.first() else { return Ok(()) };
        let list = flags(names)?;
        let mut errors = Nvlist::none()?;
        // SAFETY: a list that lives through the call, and a place for one.
        let errno = unsafe { (self.library.lzc_destroy_snaps)(list.raw(), 0, errors.place()) };
        each(Act::Destroy, first, errno, &errors).map_err(|e| self.explained(e, names))
    }

    /// Renames a dataset, with what is below it, inside its pool. Mounts of it stay as they are.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (c_string(from)?, c_string(to)?);
        // The errno does not say which of the two it is about.
        let about = if self.exists(from)? { to } else { from };
        // SAFETY: strings that live through the call.
        self.call(Act::Rename, about, || unsafe { (self.library.lzc_rename)(source.as_ptr(), target.as_ptr()) })
    }

    /// Makes a clone independent of its origin: the origin and the snapshots before it move to the clone. Refused,
    /// naming it, if one of them has the name of a snapshot of the clone.
    pub fn promote(&self, name: &str) -> Result<()> {
        let raw = c_string(name)?;
        let mut conflict = [0 as c_char; 256];
        // SAFETY: a string, and a buffer of the size told, which both live through the call.
        let errno = unsafe { (self.library.lzc_promote)(raw.as_ptr(), conflict.as_mut_ptr(), conflict.len() as c_int) };
        match errno {
            0 => Ok(()),
            libc::EEXIST => {
                conflict[conflict.len() - 1] = 0;
                // SAFETY: the buffer ends in NUL.
                let conflict = unsafe { CStr::from_ptr(conflict.as_ptr()) }.to_string_lossy();
                Err(clash(name, &conflict))
            }
            e => Err(told(Act::Promote, name, e)),
        }
    }

    /// Takes a dataset, which may be mounted, back to its latest snapshot, which has to be `snapshot`.
    pub fn rollback_to(&self, name: &str, snapshot: &str) -> Result<()> {
        let (raw, to) = (c_string(name)?, c_string(snapshot)?);
        // SAFETY: strings that live through the call.
        self.call(Act::Rollback, name, || unsafe { (self.library.lzc_rollback_to)(raw.as_ptr(), to.as_ptr()) })
    }

    /// Who holds a snapshot (zfs-hold(8)).
    pub fn holds(&self, snapshot: &str) -> Result<Vec<String>> {
        let raw = c_string(snapshot)?;
        let mut holds = Nvlist::none()?;
        // SAFETY: a string that lives through the call, and a place for a list.
        match unsafe { (self.library.lzc_get_holds)(raw.as_ptr(), holds.place()) } {
            0 => Ok(holds.read().into_keys().collect()),
            libc::ENOENT => Err(Error::not_found(format!("there is no snapshot {snapshot}"))),
            e => Err(told(Act::Run, snapshot, e)),
        }
    }

    /// Bytes that would be free without the snapshots from `first` to `last` of one dataset.
    pub fn range_space(&self, first: &str, last: &str) -> Result<u64> {
        let (raw, to) = (c_string(first)?, c_string(last)?);
        let mut space = 0;
        // SAFETY: strings that live through the call, and a place for a number.
        self.call(Act::Measure, first, || unsafe {
            (self.library.lzc_snaprange_space)(raw.as_ptr(), to.as_ptr(), &raw mut space)
        })?;
        Ok(space)
    }

    /// Waits until everything done in the pool so far is on disk, where a reader that replays no log finds it.
    pub fn sync(&self, pool: &str) -> Result<()> {
        let raw = c_string(pool)?;
        // Not forced: a pool with nothing to write has nothing to wait for.
        let list = Nvlist::new(&List::from([("force".into(), Value::Bool(false))]))?;
        // SAFETY: a string and a list that live through the call; no result is asked for.
        self.call(Act::Sync, pool, || unsafe { (self.library.lzc_sync)(raw.as_ptr(), list.raw(), null_mut()) })
    }

    fn call(&self, act: Act, name: &str, call: impl FnOnce() -> c_int) -> Result<()> {
        match call() {
            0 => Ok(()),
            errno => Err(told(act, name, errno)),
        }
    }

    /// What could not be destroyed because it is busy, with what makes it so where OpenZFS knows: holds on a snapshot,
    /// and the snapshots of a filesystem, which are "busy" too.
    pub(super) fn explained(&self, error: Error, names: &[&str]) -> Error {
        if error.errno != Some(libc::EBUSY) {
            return error;
        }
        for name in names {
            if !name.contains('@') {
                if let Some(snapshot) = self.a_snapshot_of(name) {
                    let mut refused = Error::refused(format!("cannot destroy {name}: it has snapshots: {snapshot}"))
                        .hint("destroy its snapshots first; if they have clones, promote those");
                    refused.errno = error.errno;
                    return refused;
                }
            } else if let Ok(holds) = self.holds(name)
                && let Some(tag) = holds.first()
            {
                return error.hint(format!("it is held: `zfs release {tag} {name}` lets go of it"));
            }
        }
        error
    }

    fn a_snapshot_of(&self, name: &str) -> Option<String> {
        const FIRST: &str = "args = ...; for s in zfs.list.snapshots(args['name']) do return s end";
        let args = List::from([("name".into(), Value::Text(name.into()))]);
        let result = self.program_nosync(name.split('/').next()?, FIRST, &args, Limits::default()).ok()?;
        Some(result.get("return")?.text()?.to_string())
    }
}

/// A clone cannot be promoted because of a snapshot of the same name.
pub(super) fn clash(name: &str, conflict: &str) -> Error {
    let snapshot = conflict.rsplit('@').next().unwrap_or(conflict);
    let mut error = Error::refused(format!("cannot promote {name}: it and its origin both have a snapshot {snapshot}"))
        .hint(format!("rename one: `zfs rename {name}@{snapshot} {name}@NEW`"));
    error.errno = Some(libc::EEXIST);
    error
}

/// A list of names that say nothing more.
fn flags(names: &[&str]) -> Result<Nvlist> {
    Nvlist::new(&names.iter().map(|name| (name.to_string(), Value::Flag)).collect())
}

/// The result of a call on several names: the first one it failed for is told, `first` if it does not say.
fn each(act: Act, first: &str, errno: c_int, errors: &Nvlist) -> Result<()> {
    if errno == 0 {
        return Ok(());
    }
    let errors = errors.read();
    let named = errors.iter().find_map(|(name, e)| Some((name.as_str(), i32::try_from(e.int()?).ok()?)));
    let (name, errno) = named.filter(|(name, _)| name.contains('/') || name.contains('@')).unwrap_or((first, errno));
    Err(told(act, name, errno))
}

/// Why `/dev/zfs` cannot be opened.
fn unopened(errno: c_int) -> Error {
    let mut error = match errno {
        libc::ENOENT | libc::ENXIO | libc::ENODEV => Error::failed("the OpenZFS module is not loaded").hint(
            "`modprobe zfs`; if there is none for this kernel, install it (Debian and Ubuntu: `apt install zfs-dkms`)",
        ),
        libc::EACCES | libc::EPERM => Error::refused("/dev/zfs may not be opened").hint("run bootenv as root"),
        e => Error::failed(format!("cannot open /dev/zfs: {}", nix::errno::Errno::from_raw(e).desc())),
    };
    error.errno = Some(errno);
    error
}

#[test]
fn without_the_module() {
    if !std::path::Path::new("/dev/zfs").exists() {
        let error = Lzc::open().unwrap_err();
        assert!(error.hint.is_some_and(|h| h.contains("install")), "{}", error.message);
    }
}
