//! libzfs (libzfs.h), the library below zfs(8): what it reads of datasets and pools, without a process.
//!
//! It takes a moment to open, for all the libraries that it needs; a few questions about one dataset are answered sooner by a
//! call ([`super::Stats`]).

#![allow(unsafe_code)]

use super::command::meaning;
use super::datasets::{Dataset, Kind, is_own};
use super::library::{Full, Handle};
use super::mount::detached;
use super::nvlist::{Inside, c_string, text};
use super::pool::Settings;
use super::properties::{Canmount, decode};
use crate::error::{Error, Kind as Bad, Result};
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::OwnedFd;
use std::ptr::null_mut;

/// `ZFS_TYPE_FILESYSTEM`, `ZFS_TYPE_SNAPSHOT` and `ZFS_TYPE_VOLUME`
const FILESYSTEM: c_int = 1;
const SNAPSHOT: c_int = 2;
const VOLUME: c_int = 4;
/// The longest value of a property, and then some (`ZFS_MAXPROPLEN`, `MAXPATHLEN`).
const LONGEST: usize = 16 << 10;

/// Which snapshots are read with the datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Snapshots<'a> {
    /// None.
    None,
    /// Those whose own names do not begin with this.
    Without(&'a str),
    /// All.
    All,
}

/// From how many datasets on the one that they are below of is held open. With fewer, mounting it takes longer.
const MANY: usize = 12;

/// The library, open.
#[derive(Debug)]
pub struct Libzfs {
    library: &'static Full,
    raw: Handle,
    of: Properties,
}

/// The library's numbers of properties.
#[derive(Debug)]
struct Properties {
    guid: c_int,
    createtxg: c_int,
    creation: c_int,
    used: c_int,
    written: c_int,
    used_by_snapshots: c_int,
    used_by_children: c_int,
    origin: c_int,
    canmount: c_int,
    mountpoint: c_int,
}

impl Drop for Libzfs {
    fn drop(&mut self) {
        // SAFETY: what libzfs_init gave, once.
        unsafe { (self.library.libzfs_fini)(self.raw) }
    }
}

impl Libzfs {
    /// Opens it. Fails, with what to install or load, if it is not there or cannot talk to the module.
    pub fn open() -> Result<Libzfs> {
        let library = Full::get()?;
        // SAFETY: no arguments.
        let raw = unsafe { (library.libzfs_init)() };
        if raw.is_null() {
            let why = crate::error::plain(&std::io::Error::last_os_error());
            return Err(Error::failed(format!("libzfs cannot be used: {why}"))
                .hint("the OpenZFS module and its tools must be of one version: `zfs version` shows both"));
        }
        // SAFETY (here): a string that lives through the call.
        let of = |name: &CStr| unsafe { (library.zfs_name_to_prop)(name.as_ptr()) };
        let of = Properties {
            guid: of(c"guid"),
            createtxg: of(c"createtxg"),
            creation: of(c"creation"),
            used: of(c"used"),
            written: of(c"written"),
            used_by_snapshots: of(c"usedbysnapshots"),
            used_by_children: of(c"usedbychildren"),
            origin: of(c"origin"),
            canmount: of(c"canmount"),
            mountpoint: of(c"mountpoint"),
        };
        Ok(Libzfs { library, raw, of })
    }

    /// The dataset `root` and what is below it, with these snapshots and these user properties: parents before children,
    /// snapshots after their dataset, oldest first. Nothing else in the pool is looked at.
    pub fn below(&self, root: &str, snapshots: Snapshots<'_>, user: &[&str]) -> Result<Vec<Dataset>> {
        let mut walk = Walk::new(self, root, user, snapshots)?;
        self.with(root, |handle| walk.visit(handle))??;
        Ok(in_order(walk.found))
    }

    /// As `below`, without snapshots, and without what is below a child of `root` if that uses nothing: to ask whether something is
    /// there takes a third as long as to read a dataset.
    pub fn children(&self, root: &str, user: &[&str]) -> Result<Vec<Dataset>> {
        let mut walk = Walk { passes_empty: true, ..Walk::new(self, root, user, Snapshots::None)? };
        self.with(root, |handle| walk.visit(handle))??;
        Ok(in_order(walk.found))
    }

    /// The snapshots of one dataset, oldest first.
    pub fn snapshots(&self, name: &str) -> Result<Vec<Dataset>> {
        let mut walk = Walk::new(self, name, &[], Snapshots::All)?;
        self.with(name, |handle| walk.iterate(handle, Snapshots::All, false))??;
        walk.found.sort_by_key(|d| d.createtxg);
        Ok(walk.found)
    }

    /// What is set on a pool.
    pub fn pool(&self, name: &str) -> Result<Settings> {
        let pool = self.open_pool(name)?;
        let mut buffer = vec![0 as c_char; LONGEST];
        let mut get = |property: &CStr| {
            // SAFETY: an open pool, a property by its number, and a buffer of the size told; what comes ends in NUL.
            unsafe {
                let number = (self.library.zpool_name_to_prop)(property.as_ptr());
                let status =
                    (self.library.zpool_get_prop)(pool.raw, number, buffer.as_mut_ptr(), LONGEST, null_mut(), 1);
                (status == 0).then(|| text(buffer.as_ptr()))
            }
        };
        let set = |value: Option<String>| value.filter(|v| v != "-");
        let settings = (|| {
            Some(Settings {
                guid: get(c"guid")?.parse().ok()?,
                readonly: get(c"readonly")? == "on",
                bootfs: set(get(c"bootfs")),
                altroot: set(get(c"altroot")),
            })
        })();
        settings.ok_or_else(|| self.error())
    }

    /// Says which dataset of a pool boots by default (`bootfs`). Loaders that read pools look at it.
    pub fn set_bootfs(&self, pool: &str, dataset: &str) -> Result<()> {
        let (pool, dataset) = (self.open_pool(pool)?, c_string(dataset)?);
        // SAFETY: an open pool, and strings that live through the call.
        match unsafe { (self.library.zpool_set_prop)(pool.raw, c"bootfs".as_ptr(), dataset.as_ptr()) } {
            0 => Ok(()),
            _ => Err(self.error()),
        }
    }

    fn open_pool(&self, name: &str) -> Result<OpenPool> {
        let name = c_string(name)?;
        // SAFETY: a string that lives through the call.
        let raw = unsafe { (self.library.zpool_open)(self.raw, name.as_ptr()) };
        if raw.is_null() { Err(self.error()) } else { Ok(OpenPool { library: self.library, raw }) }
    }

    /// Does something with an open dataset or snapshot.
    fn with<T>(&self, name: &str, act: impl FnOnce(Handle) -> T) -> Result<T> {
        let name = c_string(name)?;
        // SAFETY: a string that lives through the call; what is open is closed once.
        unsafe {
            let handle = (self.library.zfs_open)(self.raw, name.as_ptr(), FILESYSTEM | SNAPSHOT | VOLUME);
            if handle.is_null() {
                return Err(self.error());
            }
            let result = act(handle);
            (self.library.zfs_close)(handle);
            Ok(result)
        }
    }

    /// What went wrong last, as zfs(8) would say it.
    fn error(&self) -> Error {
        // SAFETY: the library is open; both strings are its own.
        let [action, description] = unsafe {
            [(self.library.libzfs_error_action)(self.raw), (self.library.libzfs_error_description)(self.raw)].map(text)
        };
        meaning("zfs", &format!("{action}: {description}"))
    }
}

/// A pool, open.
struct OpenPool {
    library: &'static Full,
    raw: Handle,
}

impl Drop for OpenPool {
    fn drop(&mut self) {
        // SAFETY: what zpool_open gave, once.
        unsafe { (self.library.zpool_close)(self.raw) }
    }
}

/// # Safety
///
/// `handle` is an open dataset or snapshot.
unsafe fn kind(library: &Full, handle: Handle) -> Kind {
    // SAFETY: the caller's.
    match unsafe { (library.zfs_get_type)(handle) } {
        FILESYSTEM => Kind::Filesystem,
        SNAPSHOT => Kind::Snapshot,
        _ => Kind::Volume,
    }
}

/// Parents before children, snapshots after their dataset, oldest first.
fn in_order(mut found: Vec<Dataset>) -> Vec<Dataset> {
    found.sort_by_cached_key(|d| {
        let dataset = d.name.split('@').next().unwrap_or_default().to_string();
        (dataset, d.kind == Kind::Snapshot, d.createtxg)
    });
    found
}

/// What is collected on the way through a pool.
struct Walk<'a> {
    libzfs: &'a Libzfs,
    /// Where it begins.
    root: &'a str,
    /// The kernel opens a dataset anew for each of its children that it lists, which takes a third of the time: it looks up a dozen
    /// properties in all that is above. One that is mounted is open already. Where it cannot be mounted, it only takes longer.
    held: OnceCell<Option<OwnedFd>>,
    /// Names of user properties, and the same for the library.
    user: Vec<(String, CString)>,
    snapshots: Snapshots<'a>,
    /// Whether what is below a child of the first one is left out if it uses nothing.
    passes_empty: bool,
    found: Vec<Dataset>,
    /// What ended it.
    error: Option<Error>,
}

impl<'a> Walk<'a> {
    fn new(libzfs: &'a Libzfs, root: &'a str, user: &[&str], snapshots: Snapshots<'a>) -> Result<Walk<'a>> {
        let user = user.iter().map(|name| Ok((name.to_string(), c_string(name)?))).collect::<Result<_>>()?;
        let (held, found) = Default::default();
        Ok(Walk { libzfs, root, held, user, snapshots, passes_empty: false, found, error: None })
    }

    /// Reads an open dataset and all below it.
    fn visit(&mut self, handle: Handle) -> Result<()> {
        let dataset = self.read(handle)?;
        let empty = self.passes_empty && !self.found.is_empty() && dataset.used_by_children == 0;
        let goes_on = dataset.kind != Kind::Snapshot && !empty;
        let snapshots = if dataset.has_snapshots() { self.snapshots } else { Snapshots::None };
        self.found.push(dataset);
        if self.found.len() >= MANY {
            self.held.get_or_init(|| detached(self.root, true).ok());
        }
        if goes_on { self.iterate(handle, snapshots, true) } else { Ok(()) }
    }

    /// Reads a snapshot that was listed by name, if it is one that is wanted.
    fn visit_named(&mut self, name: &str, without: &str) -> Result<()> {
        if name.split_once('@').is_some_and(|(_, own)| own.starts_with(without)) {
            return Ok(());
        }
        match self.libzfs.with(name, |handle| self.read(handle)) {
            // It has just been destroyed.
            Err(e) if e.kind == Bad::NotFound => Ok(()),
            read => read?.map(|snapshot| self.found.push(snapshot)),
        }
    }

    /// Reads these snapshots of an open dataset, and what is below it, if that is wanted.
    fn iterate(&mut self, handle: Handle, snapshots: Snapshots<'_>, below: bool) -> Result<()> {
        let library = self.libzfs.library;
        let data = std::ptr::from_mut(self).cast::<c_void>();
        // SAFETY: an open dataset; `one_more` is handed `data`, which is this walk, and nobody else uses it meanwhile.
        let status = unsafe {
            match snapshots {
                Snapshots::None => 0,
                Snapshots::Without(_) => (library.zfs_iter_snapshots)(handle, 1, one_more, data, 0, 0),
                Snapshots::All => (library.zfs_iter_snapshots)(handle, 0, one_more, data, 0, 0),
            }
        };
        // SAFETY: the same.
        let status = match status {
            0 if below => unsafe { (library.zfs_iter_filesystems)(handle, one_more, data) },
            status => status,
        };
        match (self.error.take(), status) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, _) => Err(self.libzfs.error()),
        }
    }

    /// Reads an open dataset or snapshot.
    fn read(&self, handle: Handle) -> Result<Dataset> {
        let (library, of) = (self.libzfs.library, &self.libzfs.of);
        // SAFETY: an open dataset, properties that its type has, and a buffer of the size told. The lists are the dataset's,
        // which stays open.
        unsafe {
            let number = |property| (library.zfs_prop_get_int)(handle, property);
            let words = |property| {
                let mut buffer = vec![0 as c_char; LONGEST];
                let (no_source, at) = (null_mut(), buffer.as_mut_ptr());
                let status = (library.zfs_prop_get)(handle, property, at, LONGEST, no_source, null_mut(), 0, 1);
                (status == 0).then(|| text(at))
            };
            let name = text((library.zfs_get_name)(handle));
            let kind = kind(library, handle);
            let (filesystem, snapshot) = (kind == Kind::Filesystem, kind == Kind::Snapshot);
            let all = Inside::at((library.zfs_get_all_props)(handle))?;
            let users = Inside::at((library.zfs_get_user_props)(handle))?;
            let own = |property: &CStr| {
                let set = users.list(property)?;
                let source = set.text(c"source")?;
                is_own(&name, &source).then(|| set.text(c"value"))?
            };
            let user: BTreeMap<String, String> =
                self.user.iter().filter_map(|(name, raw)| Some((name.clone(), decode(&own(raw)?)))).collect();
            Ok(Dataset {
                kind,
                guid: number(of.guid),
                createtxg: number(of.createtxg),
                created: number(of.creation).cast_signed(),
                origin: if snapshot { None } else { words(of.origin) },
                used: number(of.used),
                written: number(of.written),
                used_by_snapshots: if snapshot { 0 } else { number(of.used_by_snapshots) },
                used_by_children: if snapshot { 0 } else { number(of.used_by_children) },
                newest: all.list(c"prevsnap").and_then(|set| set.text(c"value")),
                canmount: if filesystem { Canmount::from_number(number(of.canmount)) } else { None },
                mountpoint: if filesystem { words(of.mountpoint) } else { None },
                // Not by `zfs_prop_get_int`, which would tell how it is mounted.
                readonly: all.list(c"readonly").and_then(|set| set.number(c"value")) == Some(1),
                user,
                name,
            })
        }
    }
}

/// Reads a dataset that the library has come to. Anything but 0 ends its iteration.
unsafe extern "C" fn one_more(handle: Handle, data: *mut c_void) -> c_int {
    // SAFETY: `iterate` has handed over a `Walk` that nobody else uses meanwhile; the handle is ours to close.
    unsafe {
        let walk = &mut *data.cast::<Walk<'_>>();
        let visited = match (walk.snapshots, kind(walk.libzfs.library, handle)) {
            (Snapshots::Without(without), Kind::Snapshot) => {
                walk.visit_named(&text((walk.libzfs.library.zfs_get_name)(handle)), without)
            }
            _ => walk.visit(handle),
        };
        walk.error = visited.err();
        (walk.libzfs.library.zfs_close)(handle);
        c_int::from(walk.error.is_some())
    }
}
