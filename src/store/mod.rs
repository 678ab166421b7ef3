//! The store: where BEs live. Nothing above this module knows which kind it is.

mod btrfs;
mod facts;
mod find;
#[cfg(feature = "zfs")]
mod zfs;

pub use find::{Lock, Opened, exists, open};

use crate::domain::{BeName, BootEnv, Facts, Heir, StoreInfo, Target, ZoneName};
use crate::error::{Doing, Error, Result};
use crate::sys::tree::Tree;
use rustix::fs::FileType;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use uuid::Uuid;

/// Where BEs lie, from the top of the store.
pub const ROOT: &str = "ROOT";
/// The shared dataset, from the top of the store.
pub const SHARED: &str = "SHARED";
/// The tool's own directory, from the top of the store.
pub const HOME: &str = "BOOTENV";

/// Where zones lie, from the top of the store, and what is kept of them in the tool's own directory.
pub const ZONES: &str = "zones";

/// All that a store has at its top beside what is nobody's.
pub const LAYOUT: [&str; 5] = [ROOT, SHARED, HOME, ZONES, "STATE"];

/// A place where two BEs or snapshots may differ.
#[derive(Debug, Clone)]
pub struct Touched {
    /// From their roots.
    pub path: PathBuf,
    /// Whether everything below may differ too.
    pub all: bool,
}

/// Where two BEs or snapshots may differ, of each of which is known what lies in which place: the root itself in the empty one, and
/// what is nested in it. `within` tells where two in the same place do, from their tops; nothing where that cannot be told.
fn touched<D>(
    old: &BTreeMap<String, D>,
    new: &BTreeMap<String, D>,
    within: impl Fn(&D, &D) -> Result<Option<Vec<PathBuf>>>,
) -> Result<Vec<Touched>> {
    let mut touched = Vec::new();
    for place in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let paths = match (old.get(place), new.get(place)) {
            (Some(a), Some(b)) => within(a, b)?,
            // It is in one only, which is seen by looking there.
            _ => Some(vec![PathBuf::new()]),
        };
        match paths {
            Some(paths) => {
                touched.extend(paths.iter().map(|path| Touched { path: Path::new(place).join(path), all: false }));
            }
            None => touched.push(Touched { path: place.into(), all: true }),
        }
    }
    Ok(touched)
}

/// What is read besides which BEs there are: facts and menu entries, which add up where there are a thousand.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// Everything.
    All,
    /// All facts, and of the menu only what decides on the next boot. Snapshots, what BEs come from, and what is nested in them and
    /// holds nothing, only if they are asked for.
    List {
        /// Whether they are.
        details: bool,
    },
    /// What concerns one BE and its snapshots, or none.
    One(Option<&'a BeName>),
    /// Which of these are there, and what runs: others may be missing, and of these everything but their places, identities
    /// and mounts.
    There(&'a [Target]),
}

impl About<'_> {
    /// Whether this BE's facts are wanted.
    pub fn wants(&self, be: &str) -> bool {
        match self {
            About::All | About::List { .. } => true,
            About::One(name) => name.is_some_and(|n| n.as_str() == be),
            About::There(_) => false,
        }
    }
}

/// What a store says of itself.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The BEs with their snapshots, oldest first, without what the boot loader knows.
    pub bes: Vec<BootEnv>,
    /// Whether the shared dataset is there; of a few by name ([`About::There`]), that is not asked.
    pub shared: bool,
    /// What needs attention, in words with the repair.
    pub attention: Vec<String>,
}

/// Room for data, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What is free.
    pub free: u64,
    /// What there is, used or free.
    pub size: u64,
}

/// How many clones are made at once: those that wait together are in one commit of the store, where each would have one of its own.
const TOGETHER: usize = 32;

/// Does something with each of several, many at once. All that was begun has ended when this returns; the error is the first one's.
fn together<T: Sync>(all: &[T], act: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let act = &act;
    all.chunks(TOGETHER).try_for_each(|some| match some {
        [one] => act(one),
        some => std::thread::scope(|scope| {
            let threads: Vec<_> = some.iter().map(|one| scope.spawn(move || act(one))).collect();
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            ended.into_iter().try_for_each(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        }),
    })
}

/// What the filesystem that a tree lies in says of itself (statvfs(3)).
fn space(tree: &Tree) -> Result<Space> {
    let told = rustix::fs::fstatvfs(tree.fd()).doing("cannot ask how much of the store is free")?;
    Ok(Space { free: told.f_bavail * told.f_frsize, size: told.f_blocks * told.f_frsize })
}

/// A file that facts are kept in.
#[derive(Debug, Clone)]
pub struct FactsFile {
    /// Identity of the dataset it tells of.
    pub identity: Uuid,
    /// Its path in the tool's own directory.
    pub file: String,
    /// Whether it cannot be read.
    pub damaged: bool,
}

/// A store. Paths are from its top: `ROOT/blue`, `ROOT/blue@monday`.
///
/// Every changing call is one primitive of the store; what order they go in, and what happens when one fails,
/// is the plan's business.
pub trait Store {
    /// What it is.
    fn info(&self) -> StoreInfo;

    /// The zone whose store it is, if it is not the whole.
    fn zone(&self) -> Option<&ZoneName> {
        None
    }

    /// What a zone has of the store, as a store of its own: paths are from the zone's place, and reach nothing outside. An error if
    /// nothing is in that place.
    fn enter(&self, zone: &ZoneName) -> Result<Rc<dyn Store>>;

    /// Makes the layout of a zone's store, where it is missing.
    fn make_zone(&self, zone: &ZoneName) -> Result<()>;

    /// Takes away everything in a zone's place, and what is kept of it. It is no error if nothing is there.
    fn drop_zone(&self, zone: &ZoneName) -> Result<()>;

    /// Whether `init` has been here.
    fn initialised(&self) -> bool;

    /// The BEs and snapshots, with the facts of those that are asked about.
    fn contents(&self, about: About<'_>) -> Result<Contents>;

    /// The tool's own directory.
    fn home(&self) -> Result<Tree>;

    /// Whether the tool's own directory is there: `init` came at least so far.
    fn has_home(&self) -> bool;

    /// Makes the tool's own directory, where it is not there.
    fn make_home(&self) -> Result<()>;

    /// Whether room that was allocated for a file (fallocate(2)) is kept for it.
    fn keeps_what_is_allocated(&self) -> bool {
        true
    }

    /// Whether anything, dataset or not, stands at `path`.
    fn taken(&self, path: &str) -> Result<bool>;

    /// The files of the dataset at `path`.
    fn tree(&self, path: &str) -> Result<Tree>;

    /// The kernel arguments that make the dataset at `path` the root: `root=... rootflags=...`.
    fn root_arguments(&self, path: &str) -> String;

    /// Whether kernel arguments can name a root so that they stay right when it is renamed.
    fn names_roots_by_identity(&self) -> bool;

    /// The kernel arguments that make the dataset at `path` the root, and go on doing so when it is renamed; those of
    /// `root_arguments` where there are none such.
    fn root_arguments_by_identity(&self, path: &str) -> Result<String>;

    /// Identity of the dataset at `path`, or `None` if there is none.
    fn identity(&self, path: &str) -> Result<Option<Uuid>>;

    /// What the dataset at `path` was cloned from.
    fn parent(&self, path: &str) -> Result<Option<Uuid>>;

    /// Whether the dataset at `path` is there and read-only. A clone made read-only becomes so last, when it is whole.
    fn is_readonly(&self, path: &str) -> Result<bool>;

    /// Makes an empty dataset.
    fn create(&self, path: &str) -> Result<()>;

    /// Clones the dataset at `from`, and what is nested in it, to `to`, as `clone_together` does.
    fn clone_to(&self, from: &str, to: &str, readonly: bool, facts: &Facts) -> Result<()> {
        self.clone_together(&[(from, to)], readonly, facts)
    }

    /// Clones datasets, each with what is nested in it, from where to where, or takes snapshots of them. Durable when it returns, with
    /// everything done in the store before. `facts` are what will be kept for the first: where it can be born with them, it is.
    fn clone_together(&self, clones: &[(&str, &str)], readonly: bool, facts: &Facts) -> Result<()>;

    /// Whether a new BE is born with the facts that will be kept for it, which then need not be kept later.
    fn bears_facts(&self) -> bool {
        false
    }

    /// Whether what is cloned together is so at one instant, whatever is written meanwhile.
    fn clones_at_one_instant(&self) -> bool {
        false
    }

    /// Takes away what a clone to `to` that was cut off or undone has left elsewhere.
    fn clear_clone(&self, _from: &str, _to: &str) -> Result<()> {
        Ok(())
    }

    /// Destroys the dataset at `path` and what is nested in it. It is no error if it is not there.
    fn destroy(&self, path: &str) -> Result<()>;

    /// Refuses what could not all be destroyed, before anything is: BEs and snapshots, in this order.
    fn may_destroy(&self, _paths: &[&str]) -> Result<()> {
        Ok(())
    }

    /// Whether a dataset can be destroyed while something uses it.
    fn destroys_what_is_in_use(&self) -> bool;

    /// Who keeps what of the BE at `path`, where BEs depend on what they came from, if it is destroyed after those at `with`.
    fn heirs(&self, _path: &str, _with: &[&str]) -> Result<Vec<Heir>> {
        Ok(Vec::new())
    }

    /// Bytes that destroying all these BEs and snapshots would free, where the store keeps count.
    fn frees(&self, _paths: &[&str]) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Snapshots that were made for a BE to be cloned from and are left of it, because it was not destroyed by us: their paths
    /// and identities.
    fn unclaimed(&self) -> Result<Vec<(String, Uuid)>> {
        Ok(Vec::new())
    }

    /// How much room there is for data, once all that was destroyed is really free.
    fn space(&self) -> Result<Space>;

    /// Bytes that all the data in the BEs, their snapshots and the shared dataset takes, each counted once.
    fn takes(&self) -> Result<u64>;

    /// Renames a dataset.
    fn rename(&self, from: &str, to: &str) -> Result<()>;

    /// Exchanges what is at `place` with what is at `with`: in one step where the store can, else in steps that
    /// `settle_exchange` can tell apart.
    fn exchange(&self, place: &str, with: &str) -> Result<()>;

    /// Brings an exchange that was cut off to one of its ends. `was` is what was at `place` before.
    fn settle_exchange(&self, _place: &str, _with: &str, _was: Uuid) -> Result<()> {
        Ok(())
    }

    /// Makes everything done so far durable, and visible to a boot loader that reads the disk itself.
    fn sync(&self) -> Result<()>;

    /// Makes what was written in the tool's own directory durable, where a file that is written there is not yet. In what order
    /// things were written, there and in the rest of the store, a power cut never shows otherwise.
    fn keep_home(&self) -> Result<()> {
        Ok(())
    }

    /// The facts kept for the dataset at `path`.
    fn facts(&self, path: &str) -> Result<Facts>;

    /// Keeps facts for the dataset at `path`, durably. Nothing to know is kept as nothing at all.
    fn set_facts(&self, path: &str, facts: &Facts) -> Result<()>;

    /// Forgets the facts of a dataset that is gone.
    fn drop_facts(&self, identity: Uuid) -> Result<()>;

    /// Sets a property of the dataset at `path`. Refused where datasets have none, and for those that bootenv itself needs.
    fn set_property(&self, path: &str, name: &str, value: &str) -> Result<()>;

    /// Lets the store itself know which BE is the default, where it keeps that for boot loaders that ask it.
    fn note_default(&self, _path: &str) -> Result<()> {
        Ok(())
    }

    /// Lets the store choose what all its roots have to have in common to find it when they boot, after the first of them, whose
    /// files are `tree`. What is chosen stays.
    fn note_root(&self, _tree: &Tree) -> Result<()> {
        Ok(())
    }

    /// The files that facts are kept in; none where they are kept with the datasets.
    fn facts_files(&self) -> Result<Vec<FactsFile>>;

    /// Roots that were adopted where they lie: name to path.
    fn adopted(&self) -> Result<BTreeMap<String, String>> {
        facts::adopted(&self.home()?)
    }

    /// Changes the adopted roots, durably.
    fn set_adopted(&self, adopted: &BTreeMap<String, String>) -> Result<()> {
        facts::set_adopted(&self.home()?, adopted)
    }

    /// The boot loader that was chosen for the store, by name; `None` stands for GRUB.
    fn loader(&self) -> Result<Option<String>> {
        if !self.has_home() {
            return Ok(None);
        }
        facts::loader(&self.home()?)
    }

    /// Chooses it, durably.
    fn set_loader(&self, name: &str) -> Result<()> {
        facts::set_loader(&self.home()?, name)
    }

    /// Detached mounts for an alternate root: the dataset at `path` first, then what is nested in it and cannot be seen
    /// through it, each with its place below the first.
    fn mounts(&self, path: &str) -> Result<Vec<(OwnedFd, String)>>;

    /// Where two BEs or snapshots may differ, with what is nested in them: nowhere else.
    fn touched(&self, old: &str, new: &str) -> Result<Vec<Touched>>;

    /// Makes the directories that what is nested in the dataset at `path` belongs on, where it can be nested without them.
    fn make_places(&self, _path: &str) -> Result<()> {
        Ok(())
    }

    /// Takes away for good what is nested in the BE at `path` and belongs at or below one of `places`, paths in it, where that does
    /// not go with its directory.
    fn drop_nested(&self, _path: &str, _places: &[String]) -> Result<()> {
        Ok(())
    }

    /// What the store itself has mounted at or below `place`, whatever BE boots, and lies in none of them: its name.
    fn always_mounts(&self, _place: &str) -> Result<Option<String>> {
        Ok(None)
    }

    /// The line of fstab(5) that mounts the shared dataset, without its end. A container cannot mount it: whoever starts it does.
    fn shared_line(&self) -> Option<String>;

    /// Whether a mount from mountinfo shows the dataset at `path` of this store.
    fn is_mount_of(&self, mount: &crate::sys::mountinfo::Mount, path: &str) -> bool;

    /// Roots that `init` can adopt: paths where a Linux root seems to be, the running one first.
    fn candidates(&self) -> Result<Vec<String>>;

    /// Refuses if the store's settings were written by a newer bootenv.
    fn may_change_settings(&self) -> Result<()> {
        facts::may_change_settings(&self.home()?)
    }

    /// Refuses if any of these facts were written by a newer bootenv.
    fn may_change_facts(&self, facts: &[&Facts]) -> Result<()> {
        facts.iter().try_for_each(|f| facts::may_change(f))
    }

    /// Makes the layout: the directory of BEs, the shared dataset, the tool's own directory.
    fn make_layout(&self) -> Result<()>;
}

/// Where a zone lies.
pub fn zone_path(zone: &ZoneName) -> String {
    format!("{ZONES}/{zone}")
}

/// Where what is kept of a zone lies, in the tool's own directory: its settings, what it runs, its journal and its lock. Outside its
/// place, so that nothing in there can lead anywhere else, and so that it can be destroyed while it is locked.
pub fn zone_home(zone: &ZoneName) -> String {
    format!("{ZONES}/{zone}")
}

/// The zones that there seem to be, whole or not.
pub fn zones(store: &dyn Store) -> Result<Vec<ZoneName>> {
    if !store.has_home() {
        return Ok(Vec::new());
    }
    let names = store.home()?.list(ZONES)?;
    let mut zones: Vec<ZoneName> = names.iter().filter_map(|name| ZoneName::parse(name.to_str()?).ok()).collect();
    zones.sort();
    Ok(zones)
}

/// Refuses a path in which something is no directory: a symlink would lead elsewhere.
fn must_be_directories(top: &Tree, path: &str) -> Result<()> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for part in ends.map(|end| &path[..end]) {
        match top.kind(part)? {
            Some(FileType::Directory) => {}
            None => return Err(Error::not_found(format!("{part} is gone from the store"))),
            Some(_) => {
                return Err(Error::refused(format!("{part} is no directory: something has been put in its place"))
                    .hint("put back what was there"));
            }
        }
    }
    Ok(())
}

/// The path of a BE.
pub fn be_path(name: &str) -> String {
    format!("{ROOT}/{name}")
}

/// The path of a snapshot of the BE at `be_path`.
pub fn snapshot_path(be: &str, snapshot: &str) -> String {
    format!("{ROOT}/{be}@{snapshot}")
}
