//! Reading a Btrfs: one sweep over the root tree tells of every subvolume.

use super::{Btrfs, FIRST_FREE, bulk, is_own, is_root_of};
use crate::domain::{BeName, BootEnv, Facts, SnapName, Snapshot};
use crate::error::{Doing, Error, Result};
use crate::store::{About, Contents, ROOT, SHARED, Store, be_path, facts};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::tree::Tree;
use btrfs_disk::items::{RootItem, RootItemFlags, RootRef};
use btrfs_uapi::subvolume;
use btrfs_uapi::tree_search::{Key, SearchFilter, tree_search_v2};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

// linux/btrfs_tree.h
const ROOT_TREE: u64 = 1;
pub(super) const TOP_LEVEL: u64 = 5;
/// Bytes asked for in one call of a tree search: more would cost more in page faults than fewer calls save.
pub(super) const SEARCH_BUFFER: usize = 64 << 10;
const LAST_FREE: u64 = u64::MAX - 255;
const ROOT_ITEM_KEY: u32 = 132;
const ROOT_BACKREF_KEY: u32 = 144;

/// A subvolume as the root tree tells of it.
#[derive(Clone)]
pub(super) struct Subvolume {
    pub(super) id: u64,
    parent: u64,
    dir: u64,
    name: Vec<u8>,
    pub(super) uuid: Uuid,
    pub(super) parent_uuid: Option<Uuid>,
    /// The transaction that made it.
    pub(super) born: u64,
    readonly: bool,
    created: i64,
}

/// Every subvolume, in the order of their ids, which is the order the kernel gives them in.
pub(super) struct Subvolumes(Vec<Subvolume>);

impl Subvolumes {
    pub(super) fn get(&self, id: u64) -> Option<&Subvolume> {
        self.0.binary_search_by_key(&id, |s| s.id).ok().map(|at| &self.0[at])
    }

    pub(super) fn by_uuid(&self, uuid: Uuid) -> Option<&Subvolume> {
        self.0.iter().find(|s| s.uuid == uuid)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Every subvolume.
pub(super) fn subvolumes(store: &Btrfs) -> Result<Subvolumes> {
    let mut all: Vec<Subvolume> = Vec::new();
    let filter = SearchFilter {
        tree_id: ROOT_TREE,
        start: Key { objectid: FIRST_FREE, item_type: ROOT_ITEM_KEY, offset: 0 },
        end: Key { objectid: LAST_FREE, item_type: ROOT_BACKREF_KEY, offset: u64::MAX },
        min_transid: 0,
        max_transid: u64::MAX,
    };
    tree_search_v2(store.top.fd(), filter, Some(SEARCH_BUFFER), |header, data| {
        let id = header.objectid;
        if header.item_type == ROOT_ITEM_KEY
            && let Some(item) = RootItem::parse(data)
        {
            let found = Subvolume {
                id,
                parent: 0,
                dir: 0,
                name: Vec::new(),
                uuid: item.uuid,
                born: item.otransid,
                parent_uuid: (!item.parent_uuid.is_nil()).then_some(item.parent_uuid),
                readonly: item.flags.contains(RootItemFlags::RDONLY),
                created: i64::try_from(item.otime.sec).unwrap_or(0),
            };
            all.push(found);
        } else if header.item_type == ROOT_BACKREF_KEY
            && let Some(found) = all.last_mut().filter(|last| last.id == id)
            && let Some(reference) = RootRef::parse(data)
        {
            found.parent = header.offset;
            found.dir = reference.dirid;
            found.name = reference.name;
        }
        Ok(())
    })
    .doing("cannot list the subvolumes")?;
    // Without a back reference a subvolume is deleted and waits for the cleaner.
    all.retain(|s| s.parent != 0);
    Ok(Subvolumes(all))
}

/// The subvolume at a path from the top.
pub(super) fn at(store: &Btrfs, all: &Subvolumes, path: &str) -> Result<Option<Subvolume>> {
    match store.subvolume_id(path)? {
        TOP_LEVEL => top_level(store).map(Some),
        id => Ok(all.get(id).cloned()),
    }
}

/// The top-level subvolume, which no item of the root tree refers to.
fn top_level(store: &Btrfs) -> Result<Subvolume> {
    let info =
        subvolume::subvolume_info_by_id(store.top.fd(), TOP_LEVEL).doing("cannot ask about the top-level subvolume")?;
    Ok(Subvolume {
        id: TOP_LEVEL,
        parent: 0,
        dir: 0,
        name: Vec::new(),
        uuid: info.uuid,
        parent_uuid: None,
        born: 0,
        readonly: false,
        created: chrono::DateTime::<chrono::Utc>::from(info.otime).timestamp(),
    })
}

/// Paths of what is nested below the subvolume `id`, which lies at `path`; relative to it, parents first.
pub(super) fn nested(store: &Btrfs, all: &Subvolumes, id: u64, path: &str) -> Result<Vec<String>> {
    let base = &*store.full(path);
    let inside = |candidate: &Subvolume| {
        let mut up = candidate;
        loop {
            if up.parent == id {
                return true;
            }
            match all.get(up.parent) {
                Some(parent) => up = parent,
                None => return false,
            }
        }
    };
    let mut paths = Vec::new();
    for candidate in all.0.iter().filter(|c| inside(c)) {
        let full = btrfs_uapi::inode::subvolid_resolve(store.top.fd(), candidate.id).map_err(|e| match e {
            // The library gives paths as text only.
            nix::errno::Errno::EINVAL => {
                Error::refused(format!("a subvolume nested in {base} has a name that is not UTF-8")).hint("rename it")
            }
            e => Error::failed(format!("cannot resolve a subvolume nested in {base}: {}", e.desc())),
        })?;
        // It joins with two slashes where a directory lies between.
        let full = full.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        match base.is_empty() {
            true if !is_own(&full) => paths.push(full),
            true => {}
            false => paths.extend(full.strip_prefix(base).and_then(|r| r.strip_prefix('/')).map(str::to_string)),
        }
    }
    paths.sort();
    Ok(paths)
}

/// Bytes each subvolume alone holds, if quotas are on. They are never turned on for this.
fn exclusive(store: &Btrfs) -> HashMap<u64, u64> {
    let list = btrfs_uapi::quota::qgroup_list(store.top.fd()).map(|l| l.qgroups).unwrap_or_default();
    list.into_iter().filter(|q| q.qgroupid >> 48 == 0).map(|q| (q.qgroupid, q.excl)).collect()
}

/// All facts there are, in the order of identities. A root that lies at the top shares its tree with it, and is far too large for a
/// sweep: there each file is read by itself.
fn all_facts(store: &Btrfs, home: &Tree, attention: &mut Vec<String>) -> Result<Vec<(Uuid, Facts)>> {
    let mut all = Vec::new();
    let Ok(dir) = home.sub(facts::DIR) else { return Ok(all) };
    let mut each = |name: &str, content: Option<&[u8]>| facts::collect(home, name, content, &mut all, attention);
    match store.filesystem.top.exists("etc") {
        false => bulk::files(&store.top, &dir, each)?,
        true => home.list(facts::DIR)?.iter().filter_map(|n| n.to_str()).for_each(|name| each(name, None)),
    }
    all.sort_unstable_by_key(|(identity, _)| *identity);
    Ok(all)
}

/// Everything that goes into the list, read once.
pub(super) struct Reader<'a> {
    store: &'a Btrfs,
    about: About<'a>,
    home: Tree,
    all: Subvolumes,
    with_nested: Vec<u64>,
    facts: Vec<(Uuid, Facts)>,
    mounts: Vec<Mount>,
    exclusive: HashMap<u64, u64>,
    attention: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(store: &'a Btrfs, about: About<'a>) -> Result<Self> {
        let home = store.home()?;
        let mut attention = Vec::new();
        let facts = match about {
            About::All | About::List { .. } => all_facts(store, &home, &mut attention)?,
            About::One(_) | About::There(_) => Vec::new(),
        };
        let all = subvolumes(store)?;
        let mut with_nested: Vec<u64> = all.0.iter().map(|s| s.parent).filter(|p| *p != TOP_LEVEL).collect();
        with_nested.sort_unstable();
        Ok(Reader {
            store,
            about,
            with_nested,
            facts,
            mounts: store
                .mounts
                .take()
                .map_or_else(mountinfo::own, Ok)?
                .into_iter()
                .filter(|m| store.holds(m))
                .collect(),
            exclusive: exclusive(store),
            all,
            home,
            attention,
        })
    }

    /// Puts it together.
    pub(super) fn contents(mut self) -> Result<Contents> {
        let root_dir = rustix::fs::fstat(self.store.top.sub(ROOT)?.fd()).map(|s| s.st_ino).ok();
        let all = std::mem::replace(&mut self.all, Subvolumes(Vec::new()));
        // Ids only grow: they order what was made within one second.
        let mut found: Vec<&Subvolume> =
            all.0.iter().filter(|s| s.parent == TOP_LEVEL && Some(s.dir) == root_dir).collect();
        found.sort_by_key(|s| (s.created, s.id));
        let mut bes: Vec<BootEnv> = Vec::with_capacity(found.len());
        let mut snapshots: BTreeMap<String, Vec<Snapshot>> = BTreeMap::new();
        for subvolume in found {
            let shown = String::from_utf8_lossy(&subvolume.name);
            let whole = shown.as_bytes() == subvolume.name;
            match shown.split_once('@') {
                None => match BeName::parse(&shown) {
                    Ok(name) if whole => {
                        bes.push(self.boot_env(&all, name, be_path(&shown), subvolume, false));
                    }
                    _ if shown.starts_with('.') => {}
                    _ => self.left_alone(&shown, "a boot environment"),
                },
                Some((be, snap)) => match (BeName::parse(be), SnapName::parse(snap)) {
                    (Ok(be), Ok(name)) if whole => {
                        let facts = self.facts_of(be.as_str(), subvolume.uuid);
                        let snapshot = Snapshot { name, uuid: subvolume.uuid, created: subvolume.created, facts };
                        snapshots.entry(be.to_string()).or_default().push(snapshot);
                    }
                    _ => self.left_alone(&shown, "a snapshot"),
                },
            }
        }
        self.adopted(&all, &mut bes)?;
        for be in &mut bes {
            be.snapshots = snapshots.remove(be.name.as_str()).unwrap_or_default();
        }
        for (be, list) in snapshots {
            for snapshot in list {
                let name = format!("{be}@{}", snapshot.name);
                self.attention.push(format!("{ROOT}/{name} is a snapshot of no boot environment: rename it to use it"));
            }
        }
        Ok(Contents { bes, shared: self.store.top.exists(SHARED), attention: self.attention })
    }

    fn left_alone(&mut self, shown: &str, what: &str) {
        let said = format!("{ROOT}/{shown:?} is left alone: that is no name for {what}; rename it to use it");
        self.attention.push(said);
    }

    /// Roots that lie where they were before bootenv.
    fn adopted(&mut self, all: &Subvolumes, bes: &mut Vec<BootEnv>) -> Result<()> {
        let adopted = facts::adopted(&self.home).unwrap_or_else(|e| {
            self.attention.push(e.in_a_line());
            BTreeMap::new()
        });
        for (name, path) in adopted {
            match (BeName::parse(&name), at(self.store, all, &path).ok().flatten()) {
                (Ok(name), Some(found)) => {
                    let at = bes.partition_point(|be| be.created < found.created);
                    bes.insert(at, self.boot_env(all, name, path, &found, true));
                }
                (Ok(_), None) => {
                    self.attention.push(format!("the adopted root {path} is gone: `bootenv check --repair` forgets it"))
                }
                (Err(e), _) => self.attention.push(e.message),
            }
        }
        Ok(())
    }

    fn boot_env(
        &mut self,
        all: &Subvolumes,
        name: BeName,
        path: String,
        subvolume: &Subvolume,
        adopted: bool,
    ) -> BootEnv {
        let nested = match subvolume.id == TOP_LEVEL || self.with_nested.binary_search(&subvolume.id).is_ok() {
            true => nested(self.store, all, subvolume.id, &path).unwrap_or_else(|e| {
                self.attention.push(format!("{}: it cannot be copied or destroyed with {name}", e.message));
                Vec::new()
            }),
            false => Vec::new(),
        };
        let shown = self.mounts.iter().filter(|m| is_root_of(m, &self.store.full(&path)));
        let mountpoints: Vec<PathBuf> = shown.map(|m| m.target.clone()).collect();
        BootEnv {
            uuid: subvolume.uuid,
            parent_uuid: subvolume.parent_uuid,
            adopted,
            created: subvolume.created,
            readonly: subvolume.readonly,
            nested,
            running: mountpoints.iter().any(|m| m == Path::new("/")),
            mountpoints,
            used: self.exclusive.get(&subvolume.id).copied(),
            facts: self.facts_of(name.as_str(), subvolume.uuid),
            snapshots: Vec::new(),
            name,
            path,
        }
    }

    /// The facts of a BE or of a snapshot of it, if they are wanted.
    fn facts_of(&mut self, be: &str, identity: Uuid) -> Facts {
        match self.about {
            About::All | About::List { .. } => {
                let at = self.facts.binary_search_by_key(&identity, |(i, _)| *i);
                at.map_or_else(|_| Facts::default(), |at| std::mem::take(&mut self.facts[at].1))
            }
            About::One(_) | About::There(_) if !self.about.wants(be) => Facts::default(),
            About::One(_) | About::There(_) => facts::read(&self.home, identity).unwrap_or_else(|e| {
                self.attention.push(e.message);
                Facts::default()
            }),
        }
    }
}

// linux/btrfs_tree.h
const ORPHAN_OBJECTID: u64 = -5i64 as u64;
const ORPHAN_ITEM_KEY: u32 = 48;
/// How long is waited for the cleaner, which may have other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the kernel has really deleted the subvolumes that are gone: till then each is an orphan of the root tree.
pub(super) fn wait_for_cleaner(store: &Btrfs) -> Result<()> {
    let key = |offset| Key { objectid: ORPHAN_OBJECTID, item_type: ORPHAN_ITEM_KEY, offset };
    let until = Instant::now() + PATIENCE;
    loop {
        // Not syncfs(2): this one wakes the cleaner too. What that has freed is free after another commit.
        btrfs_uapi::filesystem::sync(store.top.fd()).doing("cannot sync the store")?;
        let mut orphans = 0;
        let filter = SearchFilter {
            tree_id: ROOT_TREE,
            start: key(0),
            end: key(u64::MAX),
            min_transid: 0,
            max_transid: u64::MAX,
        };
        tree_search_v2(store.top.fd(), filter, Some(SEARCH_BUFFER), |_, _| {
            orphans += 1;
            Ok(())
        })
        .doing("cannot look for what is being deleted")?;
        if orphans == 0 || Instant::now() > until {
            return store.sync();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
