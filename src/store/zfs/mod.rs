//! The ZFS store: BEs are datasets below `BASE/ROOT`, where `BASE` is a pool or a dataset of one.
//!
//! A change is a call of libzfs_core, and durable when it returns, with everything written before it (`crate::sys::zfs`).
//! A clone depends on a snapshot, so a BE made from another BE gets one of its own, whose name begins with a dot and which is
//! destroyed with the last clone of it. Reading starts no process, and looks at nothing outside `ROOT`.
//!
//! Two datasets cannot change places at once. `exchange` is three renames, and recovery brings what is half done to one of its
//! two ends. Hence a loader that names roots by their place never has one that is due exchanged under it (`ops::rollback`).

mod clone;
mod destroy;
mod facts;
mod hostid;
mod places;
mod query;
mod read;
mod space;
mod touched;
mod zone;

use super::{About, Contents, FactsFile, ROOT, SHARED, Space, Store, Touched};
use crate::domain::{Facts, Heir, Room, StoreInfo, ZoneName};
use crate::error::{Error, Kind, Result};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::namespace;
use crate::sys::tree::Tree;
use crate::sys::zfs::{self, Canmount, Libzfs, Lzc, Pool, Property, Settings};
use rustix::mount::MountAttrFlags;
use std::cell::{Cell, OnceCell};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use uuid::Uuid;

/// What the names of snapshots begin with that are there only because a BE was made from another BE.
const OWN_SNAPSHOT: &str = ".bootenv-";

/// The longest name of a dataset or snapshot, with the pool's (`ZFS_MAX_DATASET_NAME_LEN`).
const LONGEST: usize = 255;

/// A pool, or a dataset of one, with BEs in it.
pub struct Zfs {
    lzc: Lzc,
    libzfs: OnceCell<Libzfs>,
    pool: Pool,
    settings: OnceCell<Settings>,
    /// What paths are below of: `tank`, or `tank/zones/web`.
    base: String,
    /// The zone whose that is, with the base of the whole store.
    zone: Option<(ZoneName, String)>,
    name: String,
    home: OnceCell<Tree>,
    /// Whether that is known by now: asking is a call, and everybody asks.
    initialised: Cell<bool>,
    /// The hostid that is kept with `ROOT`, if any is, once it is known.
    hostid: Cell<Option<Option<u32>>>,
    /// What is mounted whatever boots, see `places::always_mounted`.
    always: OnceCell<Vec<(String, String)>>,
}

impl Zfs {
    /// Opens the pool or dataset `base`. `name` is what messages call it.
    pub fn open(base: &str, name: &str) -> Result<Self> {
        let lzc = Lzc::open()?;
        let pool = Pool::read(pool_of(base))?;
        if pool.health == "SUSPENDED" {
            return Err(Error::failed(format!("the pool {} is suspended", pool.name))
                .hint(format!("see `zpool status {0}`; `zpool clear {0}` when its devices are back", pool.name)));
        }
        let store = Zfs {
            lzc,
            libzfs: OnceCell::new(),
            pool,
            settings: OnceCell::new(),
            base: base.into(),
            zone: None,
            name: name.into(),
            home: OnceCell::new(),
            initialised: Cell::new(false),
            hostid: Cell::new(None),
            always: OnceCell::new(),
        };
        Ok(store)
    }

    /// Refuses the name of a dataset that is not there.
    pub fn must_hold(&self, dataset: &str) -> Result<()> {
        if dataset == self.pool.name {
            return Ok(());
        }
        match self.lzc.exists(dataset)? {
            true => Ok(()),
            false => Err(Error::not_found(format!("there is no dataset {dataset}"))
                .hint(format!("`zfs list -r {}` shows what there is", self.pool.name))),
        }
    }

    /// Whether the pool of `dataset` is imported. Without OpenZFS there is none.
    pub fn has_pool(dataset: &str) -> bool {
        Pool::is_imported(pool_of(dataset))
    }

    /// What a dataset in which BEs lie is below of, if `dataset` is one of them, or what holds them: `tank` for
    /// `tank/ROOT/blue/var`, `tank/ROOT` and `tank`.
    pub fn base_of(dataset: &str) -> &str {
        let parts = dataset.match_indices('/').map(|(at, _)| at).chain([dataset.len()]);
        let root = parts.zip(dataset.split('/')).find(|(_, part)| *part == ROOT);
        root.and_then(|(end, part)| dataset[..end].strip_suffix(part)).map_or(dataset, |b| b.trim_end_matches('/'))
    }

    /// Whether `dataset` lies where BEs do, or holds them.
    pub fn is_around(dataset: &str) -> Result<bool> {
        Ok(Self::base_of(dataset) != dataset || Lzc::open()?.exists(&format!("{dataset}/{ROOT}"))?)
    }

    /// What the BEs of a system lie below of that has `dataset` as its root, wherever that lies: the nearest dataset that holds
    /// BEs, or the one above where there are none yet.
    pub fn base_of_root(dataset: &str) -> Result<&str> {
        let mut above = dataset;
        while !Self::is_around(above)? {
            let Some((parent, _)) = above.rsplit_once('/') else {
                return Ok(dataset.rsplit_once('/').map_or(dataset, |(parent, _)| parent));
            };
            above = parent;
        }
        Ok(Self::base_of(above))
    }

    /// libzfs, opened if it is not yet: that takes longer than a few channel programs.
    fn libzfs(&self) -> Result<&Libzfs> {
        once(&self.libzfs, Libzfs::open)
    }

    /// What is set on the pool. Asked for once.
    fn settings(&self) -> Result<&Settings> {
        once(&self.settings, || self.libzfs()?.pool(&self.pool.name))
    }

    /// Makes a dataset that holds others and no files, if it is not there.
    fn make_holder(&self, path: &str, more: &[Property<'static>]) -> Result<()> {
        let full = self.full(path);
        if self.lzc.exists(&full)? {
            return Ok(());
        }
        let own = [Property::Canmount(Canmount::Off), Property::Mountpoint("none")];
        self.lzc.create(&full, &[&own, more].concat())
    }

    /// The full name of what lies at `path`.
    fn full(&self, path: &str) -> String {
        if path.is_empty() { self.base.clone() } else { format!("{}/{path}", self.base) }
    }

    fn uuid(&self, guid: u64) -> Uuid {
        Uuid::from_u64_pair(self.pool.guid, guid)
    }

    fn mount_one(&self, full: &str) -> Result<OwnedFd> {
        self.mount_with(full, MountAttrFlags::empty())
    }

    fn mount_with(&self, full: &str, attributes: MountAttrFlags) -> Result<OwnedFd> {
        match zfs::detached_with_attributes(full, attributes) {
            // What is mounted already is read-only in a pool that is.
            Err(e) if e.kind == Kind::Busy && self.settings()?.readonly => {
                zfs::detached_with_attributes(full, attributes | MountAttrFlags::MOUNT_ATTR_RDONLY)
            }
            result => result,
        }
    }

    /// What a new dataset at `path` has to have.
    fn born(&self, path: &str) -> [Property<'static>; 2] {
        let in_zone = path.strip_prefix(super::ZONES).and_then(|zone| zone.strip_prefix('/')?.split_once('/'));
        match in_zone.map_or(path, |(_, path)| path).strip_prefix(ROOT) {
            Some(_) => [Property::Canmount(Canmount::Noauto), Property::Mountpoint("/")],
            None => [Property::Canmount(Canmount::Noauto), Property::Mountpoint("legacy")],
        }
    }
}

impl Store for Zfs {
    fn info(&self) -> StoreInfo {
        // GRUB's own ZFS driver knows none of the features that pools have today.
        StoreInfo {
            kind: "zfs",
            name: self.name.clone(),
            uuid: self.uuid(0).to_string(),
            rollback_takes_later: true,
            properties: true,
            clones_stand_alone: false,
            grub_reads: false,
            room: Room {
                whole: LONGEST.saturating_sub(self.full(ROOT).len() + 1),
                own: format!("@{OWN_SNAPSHOT}0123456789abcdef-99").len(),
                aside: aside(Uuid::nil()).len() - ROOT.len() - 1,
                nested: true,
            },
        }
    }

    fn zone(&self) -> Option<&ZoneName> {
        self.zone.as_ref().map(|(zone, _)| zone)
    }

    fn enter(&self, zone: &ZoneName) -> Result<Rc<dyn Store>> {
        Ok(Rc::new(self.of_zone(zone)?))
    }

    fn make_zone(&self, zone: &ZoneName) -> Result<()> {
        self.make_place(zone)
    }

    fn drop_zone(&self, zone: &ZoneName) -> Result<()> {
        self.drop_place(zone)
    }

    fn initialised(&self) -> bool {
        // What is mounted is there; and whoever asks needs it next.
        let home = || self.home().is_ok() || self.has_home();
        let there = self.initialised.get() || (home() && self.taken(ROOT).unwrap_or(false));
        self.initialised.set(there);
        there
    }

    fn contents(&self, about: About<'_>) -> Result<Contents> {
        match about {
            About::There(wanted) => read::there(self, wanted),
            About::List { details } => read::contents(self, details),
            About::All | About::One(_) => read::contents(self, true),
        }
    }

    fn home(&self) -> Result<Tree> {
        self.own_home()
    }

    fn has_home(&self) -> bool {
        self.has_own_home()
    }

    fn make_home(&self) -> Result<()> {
        self.make_own_home()
    }

    fn keeps_what_is_allocated(&self) -> bool {
        false
    }

    fn taken(&self, path: &str) -> Result<bool> {
        self.lzc.exists(&self.full(path))
    }

    fn tree(&self, path: &str) -> Result<Tree> {
        let mounts = self.mounts(path)?;
        match &mounts[..] {
            [(root, _)] => Tree::below(root, path),
            _ => Tree::below(&namespace::assemble(&mounts, &crate::altroot::own_dir()?)?, path),
        }
    }

    fn root_arguments(&self, path: &str) -> String {
        let root = format!("root=ZFS={}", self.full(path));
        self.hostid().map_or(root.clone(), |hostid| format!("{root} spl.spl_hostid={hostid:#010x}"))
    }

    fn names_roots_by_identity(&self) -> bool {
        false
    }

    fn root_arguments_by_identity(&self, path: &str) -> Result<String> {
        Ok(self.root_arguments(path))
    }

    fn identity(&self, path: &str) -> Result<Option<Uuid>> {
        Ok(self.guid(&self.full(path))?.map(|guid| self.uuid(guid)))
    }

    fn parent(&self, path: &str) -> Result<Option<Uuid>> {
        let full = self.full(path);
        let origin = match full.split_once('@') {
            Some((dataset, _)) => Some(dataset.to_string()),
            None => self.origin(&full)?,
        };
        let Some(origin) = origin else { return Ok(None) };
        Ok(self.guid(read::true_origin(&origin))?.map(|guid| self.uuid(guid)))
    }

    fn is_readonly(&self, path: &str) -> Result<bool> {
        // Snapshots always are, from the first instant on.
        match path.contains('@') {
            true => self.taken(path),
            false => Ok(self.lzc.stats(&self.full(path))?.is_some_and(|stats| stats.is_readonly())),
        }
    }

    fn create(&self, path: &str) -> Result<()> {
        self.lzc.create(&self.full(path), &self.born(path))
    }

    fn clone_together(&self, clones: &[(&str, &str)], readonly: bool, facts: &Facts) -> Result<()> {
        let facts = facts::properties_of(facts);
        let born = facts::born_with(&facts);
        if readonly {
            return clone::snapshot(self, clones, &born);
        }
        let nested = clone::clone(self, clones, &born)?;
        // What was nested may never have been mounted where it belongs.
        nested.iter().try_for_each(|to| self.make_places(to))?;
        if nested.is_empty() { Ok(()) } else { self.sync() }
    }

    fn bears_facts(&self) -> bool {
        true
    }

    fn clones_at_one_instant(&self) -> bool {
        true
    }

    fn clear_clone(&self, from: &str, to: &str) -> Result<()> {
        clone::clear(self, from, to)
    }

    fn destroy(&self, path: &str) -> Result<()> {
        destroy::destroy(self, &self.full(path))
    }

    fn may_destroy(&self, paths: &[&str]) -> Result<()> {
        destroy::may_destroy(self, paths)
    }

    fn destroys_what_is_in_use(&self) -> bool {
        false
    }

    fn heirs(&self, path: &str, with: &[&str]) -> Result<Vec<Heir>> {
        destroy::heirs(self, path, with)
    }

    fn frees(&self, paths: &[&str]) -> Result<Option<u64>> {
        space::frees(self, paths).map(Some)
    }

    fn unclaimed(&self) -> Result<Vec<(String, Uuid)>> {
        space::unclaimed(self)
    }

    fn space(&self) -> Result<Space> {
        space::space(self)
    }

    fn takes(&self) -> Result<u64> {
        space::takes(self)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.lzc.rename(&self.full(from), &self.full(to))
    }

    fn exchange(&self, place: &str, with: &str) -> Result<()> {
        let was = self.identity(place)?.ok_or_else(|| Error::not_found(format!("{place} is gone")))?;
        let aside = self.full(&aside(was));
        self.lzc.rename(&self.full(place), &aside)?;
        self.lzc.rename(&self.full(with), &self.full(place))?;
        self.lzc.rename(&aside, &self.full(with))
    }

    fn settle_exchange(&self, place: &str, with: &str, was: Uuid) -> Result<()> {
        let aside = self.full(&aside(was));
        match self.lzc.exists(&aside)? {
            false => Ok(()),
            // What was in the place has left it, and nothing has come: back. Else the rest is done.
            true if !self.taken(place)? => self.lzc.rename(&aside, &self.full(place)),
            true => self.lzc.rename(&aside, &self.full(with)),
        }
    }

    fn sync(&self) -> Result<()> {
        self.lzc.sync(&self.pool.name)
    }

    fn keep_home(&self) -> Result<()> {
        self.sync()
    }

    fn facts(&self, path: &str) -> Result<Facts> {
        let stats = self.stats(&self.full(path))?;
        Ok(facts::read(|property| stats.user(property)))
    }

    fn set_facts(&self, path: &str, facts: &Facts) -> Result<()> {
        self.may_change_facts(&[facts])?;
        facts::set(self, &self.full(path), facts)
    }

    fn drop_facts(&self, _identity: Uuid) -> Result<()> {
        // They went with the dataset.
        Ok(())
    }

    fn set_property(&self, path: &str, name: &str, value: &str) -> Result<()> {
        let hint = "zfsprops(7) tells which there are and what they take";
        zfs::set_native(&self.full(path), &[(name, value)]).map_err(|e| if e.hint.is_some() { e } else { e.hint(hint) })
    }

    fn note_default(&self, path: &str) -> Result<()> {
        let full = self.full(path);
        if self.settings()?.bootfs.as_deref() == Some(full.as_str()) {
            Ok(())
        } else {
            self.libzfs()?.set_bootfs(&self.pool.name, &full)
        }
    }

    fn note_root(&self, tree: &Tree) -> Result<()> {
        self.choose_hostid(tree)
    }

    fn facts_files(&self) -> Result<Vec<FactsFile>> {
        Ok(Vec::new())
    }

    fn mounts(&self, path: &str) -> Result<Vec<(OwnedFd, String)>> {
        // In a snapshot, what has been nested later has no place.
        self.mounts_with(path, |_, _| Ok(false))
    }

    fn touched(&self, old: &str, new: &str) -> Result<Vec<Touched>> {
        touched::touched(self, old, new)
    }

    fn make_places(&self, path: &str) -> Result<()> {
        let make = |tree: &Tree, place: &str| match tree.make_dir(place, 0o755) {
            Err(e) if e.errno == Some(nix::libc::EROFS) => Ok(false),
            made => made.map(|()| true),
        };
        self.mounts_with(path, make).map(drop)
    }

    fn drop_nested(&self, path: &str, places: &[String]) -> Result<()> {
        self.drop_at(path, places)
    }

    fn always_mounts(&self, place: &str) -> Result<Option<String>> {
        self.mounted_at(place)
    }

    fn shared_line(&self) -> Option<String> {
        self.zone.is_none().then(|| format!("{} /var/shared zfs defaults 0 0", self.full(SHARED)))
    }

    fn is_mount_of(&self, mount: &Mount, path: &str) -> bool {
        shows(mount, &self.full(path))
    }

    fn candidates(&self) -> Result<Vec<String>> {
        let below = |dataset: &str| dataset.strip_prefix(&self.base)?.strip_prefix('/').map(str::to_string);
        let running = mountinfo::root()?.filter(|m| m.fstype == "zfs");
        let running = running.and_then(|m| below(&m.source.to_string_lossy()));
        let bootfs = self.settings()?.bootfs.as_deref().and_then(below);
        let mut found: Vec<String> = running.into_iter().collect();
        for path in bootfs.into_iter().chain(self.lzc.children(&self.full(ROOT))?.iter().filter_map(|d| below(d))) {
            if !found.contains(&path) && self.tree(&path).is_ok_and(|tree| tree.holds_root()) {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn make_layout(&self) -> Result<()> {
        // With their first instant, so that there is none at which one is there without.
        let with_acls = |own: [Property<'static>; 2]| [own, KEEPS_ACLS].concat();
        self.make_holder(ROOT, &KEEPS_ACLS)?;
        self.make_home()?;
        if self.taken(SHARED)? {
            return Ok(());
        }
        self.lzc.create(&self.full(SHARED), &with_acls(self.born(SHARED)))
    }
}

/// What is in `cell`, made if nothing is yet.
fn once<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    match cell.get() {
        Some(made) => Ok(made),
        None => make().map(|made| cell.get_or_init(|| made)),
    }
}

/// Whether a mount shows the dataset or snapshot `full`.
fn shows(mount: &Mount, full: &str) -> bool {
    mount.fstype == "zfs" && mount.source == Path::new(full)
}

fn pool_of(dataset: &str) -> &str {
    dataset.split('/').next().unwrap_or(dataset)
}

/// A Linux root has ACLs (the journal's, for one), which a dataset keeps only if it is told so.
const KEEPS_ACLS: [Property<'static>; 2] = [Property::PosixAcls, Property::XattrsInInodes];

/// Where the BE with this identity waits while it is exchanged.
fn aside(was: Uuid) -> String {
    format!("{ROOT}/.exchange-{was}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_of_a_dataset() {
        for (dataset, base) in [
            ("tank", "tank"),
            ("tank/ROOT", "tank"),
            ("tank/ROOT/blue", "tank"),
            ("tank/ROOT/blue/var", "tank"),
            ("tank/sys/ROOT/blue", "tank/sys"),
            ("tank/sys", "tank/sys"),
        ] {
            assert_eq!(Zfs::base_of(dataset), base, "{dataset}");
        }
    }
}
