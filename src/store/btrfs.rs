//! The Btrfs store, through its ioctls (btrfs-uapi; btrfs(5), linux/btrfs.h).
//!
//! The top-level subvolume (id 5) is reached through a detached mount: nobody's mount table changes, and the mount is
//! gone with the process. Listing is one tree search over the root tree, however many BEs there are.

use super::{Contents, HOME, ROOT, SHARED, Store, be_path, facts};
use crate::domain::{BeName, BootEnv, Facts, SnapName, Snapshot, StoreInfo};
use crate::error::{Doing, Error, Result};
use crate::sys::loopdev::LoopDevice;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::tree::Tree;
use btrfs_disk::items::{RootItem, RootRef};
use btrfs_uapi::subvolume::{self, SubvolumeFlags};
use btrfs_uapi::tree_search::{Key, SearchFilter, tree_search_v2};
use rustix::fs::RenameFlags;
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// linux/btrfs_tree.h
const ROOT_TREE: u64 = 1;
const TOP_LEVEL: u64 = 5;
const FIRST_FREE: u64 = 256;
const LAST_FREE: u64 = u64::MAX - 255;
const ROOT_ITEM_KEY: u32 = 132;
const ROOT_BACKREF_KEY: u32 = 144;

/// A Btrfs filesystem.
pub struct Btrfs {
    top: Tree,
    uuid: Uuid,
    device: PathBuf,
    devices: Vec<PathBuf>,
    name: String,
    /// Closing this descriptor takes the mount away.
    _mount: OwnedFd,
    _loop: Option<LoopDevice>,
}

/// A subvolume as the root tree tells of it.
struct Subvolume {
    id: u64,
    parent: u64,
    dir: u64,
    name: Vec<u8>,
    uuid: Uuid,
    parent_uuid: Option<Uuid>,
    readonly: bool,
    created: i64,
}

impl Btrfs {
    /// Opens the filesystem on `device`. `name` is what messages call it.
    pub fn open(device: &Path, name: &str, loop_device: Option<LoopDevice>, readonly: bool) -> Result<Self> {
        let mount = crate::sys::mount::detached("btrfs", device, &[("subvolid", "5")], readonly)?;
        let top = Tree::below(&mount, "")?;
        let info = btrfs_uapi::filesystem::filesystem_info(top.fd()).doing_to("ask about the Btrfs on", device)?;
        let devices =
            btrfs_uapi::device::device_info_all(top.fd(), &info).doing_to("ask about the Btrfs on", device)?;
        Ok(Btrfs {
            top,
            uuid: info.uuid,
            device: device.to_path_buf(),
            devices: devices.into_iter().map(|d| PathBuf::from(d.path)).collect(),
            name: name.to_string(),
            _mount: mount,
            _loop: loop_device,
        })
    }

    /// One sweep over the root tree.
    fn subvolumes(&self) -> Result<HashMap<u64, Subvolume>> {
        let mut all: HashMap<u64, Subvolume> = HashMap::new();
        let filter = SearchFilter {
            tree_id: ROOT_TREE,
            start: Key { objectid: FIRST_FREE, item_type: ROOT_ITEM_KEY, offset: 0 },
            end: Key { objectid: LAST_FREE, item_type: ROOT_BACKREF_KEY, offset: u64::MAX },
            min_transid: 0,
            max_transid: u64::MAX,
        };
        tree_search_v2(self.top.fd(), filter, Some(256 << 10), |header, data| {
            let id = header.objectid;
            if header.item_type == ROOT_ITEM_KEY
                && let Some(item) = RootItem::parse(data)
            {
                let nil = |uuid: Uuid| (!uuid.is_nil()).then_some(uuid);
                all.insert(
                    id,
                    Subvolume {
                        id,
                        parent: 0,
                        dir: 0,
                        name: Vec::new(),
                        uuid: item.uuid,
                        parent_uuid: nil(item.parent_uuid),
                        readonly: item.flags.contains(btrfs_disk::items::RootItemFlags::RDONLY),
                        created: i64::try_from(item.otime.sec).unwrap_or(0),
                    },
                );
            } else if header.item_type == ROOT_BACKREF_KEY
                && let (Some(found), Some(reference)) = (all.get_mut(&id), RootRef::parse(data))
            {
                found.parent = header.offset;
                found.dir = reference.dirid;
                found.name = reference.name;
            }
            Ok(())
        })
        .doing("cannot list the subvolumes")?;
        // Without a back reference a subvolume is deleted and waits for the cleaner.
        all.retain(|_, s| s.parent != 0);
        Ok(all)
    }

    fn inode(&self, path: &str) -> Option<u64> {
        let tree = self.top.sub(path).ok()?;
        rustix::fs::fstat(tree.fd()).ok().map(|s| s.st_ino)
    }

    /// Paths of what is nested below the subvolume `id`, relative to it, parents first.
    fn nested(&self, all: &HashMap<u64, Subvolume>, id: u64, base: &str) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for candidate in all.values() {
            let mut up = candidate;
            let inside = loop {
                if up.parent == id {
                    break true;
                }
                match all.get(&up.parent) {
                    Some(parent) => up = parent,
                    None => break false,
                }
            };
            if !inside {
                continue;
            }
            let full = btrfs_uapi::inode::subvolid_resolve(self.top.fd(), candidate.id).map_err(|e| match e {
                // The library gives paths as text only.
                nix::errno::Errno::EINVAL => {
                    Error::refused(format!("a subvolume nested in {base} has a name that is not UTF-8"))
                        .hint("rename it")
                }
                e => Error::failed(format!("cannot resolve a subvolume nested in {base}: {}", e.desc())),
            })?;
            // It joins with two slashes where a directory lies between.
            let full = full.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
            let relative = if base.is_empty() {
                Some(full.as_str())
            } else {
                full.strip_prefix(base).and_then(|r| r.strip_prefix('/'))
            };
            match relative {
                Some(r) if base.is_empty() && is_own(r) => {}
                Some(r) => paths.push(r.to_string()),
                None => {}
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn subvolume_id(&self, path: &str) -> Result<u64> {
        let tree = self.top.sub(path)?;
        btrfs_uapi::inode::lookup_path_rootid(tree.fd()).doing(format_args!("cannot ask about the subvolume {path}"))
    }

    fn snapshot_one(&self, from: &str, to: &str, readonly: bool) -> Result<()> {
        let source = self.top.sub(from)?;
        let (dir, leaf) = to.rsplit_once('/').unwrap_or(("", to));
        let parent = self.top.sub(dir)?;
        subvolume::snapshot_create(parent.fd(), source.fd(), &c_name(leaf)?, readonly, &[])
            .doing(format_args!("cannot snapshot {from} as {to}"))
    }

    fn set_readonly(&self, path: &str, readonly: bool) -> Result<()> {
        let flags = if readonly { SubvolumeFlags::RDONLY } else { SubvolumeFlags::empty() };
        subvolume::subvolume_flags_set(self.top.sub(path)?.fd(), flags)
            .doing(format_args!("cannot set the flags of {path}"))
    }

    fn delete_one(&self, path: &str) -> Result<()> {
        let (dir, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        subvolume::subvolume_delete(self.top.sub(dir)?.fd(), &c_name(leaf)?)
            .doing(format_args!("cannot delete the subvolume {path}"))
    }

    /// Bytes each subvolume alone holds, if quotas are on. They are never turned on for this.
    fn exclusive(&self) -> HashMap<u64, u64> {
        let list = btrfs_uapi::quota::qgroup_list(self.top.fd()).map(|l| l.qgroups).unwrap_or_default();
        list.into_iter().filter(|q| q.qgroupid >> 48 == 0).map(|q| (q.qgroupid, q.excl)).collect()
    }
}

/// Whether a path from the top belongs to the layout, and so is no part of a root that lies at the top itself.
fn is_own(path: &str) -> bool {
    [ROOT, SHARED, HOME, "zones", "STATE"]
        .iter()
        .any(|own| path == *own || path.strip_prefix(own).is_some_and(|r| r.starts_with('/')))
}

fn c_name(leaf: &str) -> Result<CString> {
    CString::new(leaf).map_err(|_| Error::usage(format!("{leaf:?} has a NUL byte in it")))
}

impl Store for Btrfs {
    fn info(&self) -> StoreInfo {
        StoreInfo { kind: "btrfs", name: self.name.clone(), uuid: self.uuid.to_string() }
    }

    fn initialised(&self) -> bool {
        self.top.exists(HOME) && self.top.exists(ROOT)
    }

    fn contents(&self) -> Result<Contents> {
        let mut attention = Vec::new();
        let all = self.subvolumes()?;
        let home = self.home()?;
        let mut facts = facts::read_all(&home, &mut attention)?;
        let exclusive = self.exclusive();
        let mounts: Vec<Mount> = mountinfo::own()?.into_iter().filter(|m| m.fstype == "btrfs").collect();
        let adopted = facts::adopted(&home).unwrap_or_else(|e| {
            attention.push(format!("{}; {}", e.message, e.hint.unwrap_or_default()));
            BTreeMap::new()
        });
        let root_dir = self.inode(ROOT);
        // Ids only grow: they order what was made within one second.
        let order: HashMap<Uuid, u64> = all.values().map(|s| (s.uuid, s.id)).collect();
        let mut bes: Vec<BootEnv> = Vec::new();
        let mut snapshots: HashMap<String, Vec<Snapshot>> = HashMap::new();
        let parents_of_nested: std::collections::HashSet<u64> = all.values().map(|s| s.parent).collect();

        let mut add =
            |name: BeName, path: String, subvolume: &Subvolume, adopted: bool, attention: &mut Vec<String>| {
                let nested = match parents_of_nested.contains(&subvolume.id) {
                    true => self.nested(&all, subvolume.id, &path).unwrap_or_else(|e| {
                        attention.push(format!("{}: it cannot be copied or destroyed with {name}", e.message));
                        Vec::new()
                    }),
                    false => Vec::new(),
                };
                let mountpoints: Vec<PathBuf> =
                    mounts.iter().filter(|m| self.is_mount_of(m, &path)).map(|m| m.target.clone()).collect();
                bes.push(BootEnv {
                    name,
                    uuid: subvolume.uuid,
                    parent_uuid: subvolume.parent_uuid,
                    adopted,
                    created: subvolume.created,
                    readonly: subvolume.readonly,
                    nested,
                    running: mountpoints.iter().any(|m| m == Path::new("/")),
                    mountpoints,
                    used: exclusive.get(&subvolume.id).copied(),
                    facts: facts.remove(&subvolume.uuid).unwrap_or_default(),
                    snapshots: Vec::new(),
                    path,
                });
            };

        let mut snapshot_items = Vec::new();
        for subvolume in all.values() {
            if subvolume.parent != TOP_LEVEL || Some(subvolume.dir) != root_dir {
                continue;
            }
            let shown = String::from_utf8_lossy(&subvolume.name).into_owned();
            match shown.split_once('@') {
                None => match BeName::parse(&shown) {
                    Ok(name) => add(name, be_path(&shown), subvolume, false, &mut attention),
                    Err(_) if shown.starts_with('.') => {}
                    Err(_) => attention.push(format!(
                        "{ROOT}/{shown:?} is left alone: that is no name for a boot environment; rename it to use it"
                    )),
                },
                Some((be, snap)) => match (BeName::parse(be), SnapName::parse(snap)) {
                    (Ok(be), Ok(snap)) => snapshot_items.push((be, snap, subvolume)),
                    _ => attention.push(format!(
                        "{ROOT}/{shown:?} is left alone: that is no name for a snapshot; rename it to use it"
                    )),
                },
            }
        }
        for (name, path) in &adopted {
            let top;
            let subvolume = if path.is_empty() {
                top = subvolume::subvolume_info_by_id(self.top.fd(), TOP_LEVEL)
                    .doing("cannot ask about the top-level subvolume")?;
                &Subvolume {
                    id: TOP_LEVEL,
                    parent: 0,
                    dir: 0,
                    name: Vec::new(),
                    uuid: top.uuid,
                    parent_uuid: None,
                    readonly: false,
                    created: chrono::DateTime::<chrono::Utc>::from(top.otime).timestamp(),
                }
            } else {
                match self.subvolume_id(path).ok().and_then(|id| all.get(&id)) {
                    Some(subvolume) => subvolume,
                    None => {
                        attention.push(format!("the adopted root {path} is gone: `bootenv check --repair` forgets it"));
                        continue;
                    }
                }
            };
            match BeName::parse(name) {
                Ok(name) => add(name, path.clone(), subvolume, true, &mut attention),
                Err(e) => attention.push(e.message),
            }
        }
        for (be, snap, subvolume) in snapshot_items {
            snapshots.entry(be.to_string()).or_default().push(Snapshot {
                name: snap,
                uuid: subvolume.uuid,
                created: subvolume.created,
                facts: facts.remove(&subvolume.uuid).unwrap_or_default(),
            });
        }
        for be in &mut bes {
            if let Some(mut list) = snapshots.remove(be.name.as_str()) {
                list.sort_by(|a, b| {
                    a.created.cmp(&b.created).then_with(|| order.get(&a.uuid).cmp(&order.get(&b.uuid)))
                });
                be.snapshots = list;
            }
        }
        for (be, list) in snapshots {
            for snapshot in list {
                attention.push(format!("{ROOT}/{be}@{} is a snapshot of no boot environment", snapshot.name));
            }
        }
        bes.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| order.get(&a.uuid).cmp(&order.get(&b.uuid))));
        Ok(Contents { bes, shared: self.top.exists(SHARED), attention })
    }

    fn top(&self) -> &Tree {
        &self.top
    }

    fn home(&self) -> Result<Tree> {
        self.top.sub(HOME)
    }

    fn tree(&self, path: &str) -> Result<Tree> {
        self.top.sub(path)
    }

    fn root_arguments(&self, path: &str) -> String {
        // subvol=/ is the top-level subvolume whatever the default subvolume is.
        format!("root=UUID={} rootflags=subvol={}", self.uuid, if path.is_empty() { "/" } else { path })
    }

    fn identity(&self, path: &str) -> Result<Option<Uuid>> {
        if !self.top.exists(path) {
            return Ok(None);
        }
        let tree = self.top.sub(path)?;
        // A directory that is no subvolume has no identity of its own; inode 256 is a subvolume's root.
        let stat = rustix::fs::fstat(tree.fd()).doing(format_args!("cannot look at {path}"))?;
        if stat.st_ino != FIRST_FREE {
            return Ok(None);
        }
        let info = subvolume::subvolume_info(tree.fd()).doing(format_args!("cannot ask about the subvolume {path}"))?;
        Ok(Some(info.uuid))
    }

    fn parent(&self, path: &str) -> Result<Option<Uuid>> {
        let tree = self.top.sub(path)?;
        let info = subvolume::subvolume_info(tree.fd()).doing(format_args!("cannot ask about the subvolume {path}"))?;
        Ok((!info.parent_uuid.is_nil()).then_some(info.parent_uuid))
    }

    fn is_readonly(&self, path: &str) -> Result<bool> {
        if self.identity(path)?.is_none() {
            return Ok(false);
        }
        let flags = subvolume::subvolume_flags_get(self.top.sub(path)?.fd())
            .doing(format_args!("cannot ask about the subvolume {path}"))?;
        Ok(flags.contains(SubvolumeFlags::RDONLY))
    }

    fn create(&self, path: &str) -> Result<()> {
        let (dir, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        subvolume::subvolume_create(self.top.sub(dir)?.fd(), &c_name(leaf)?, &[])
            .doing(format_args!("cannot create the subvolume {path}"))
    }

    fn clone_to(&self, from: &str, to: &str, readonly: bool) -> Result<()> {
        let id = self.subvolume_id(from)?;
        let nested = match subvolume::subvol_rootrefs(self.top.sub(from)?.fd())
            .doing("cannot list nested subvolumes")?
            .is_empty()
        {
            true => Vec::new(),
            false => self.nested(&self.subvolumes()?, id, from)?,
        };
        let whole = nested.is_empty() && !from.is_empty();
        self.snapshot_one(from, to, readonly && whole)?;
        if whole {
            return Ok(());
        }
        let copy = self.top.sub(to)?;
        if from.is_empty() {
            // A root at the very top has the layout inside itself; its copy must not.
            for own in [ROOT, SHARED, HOME, "zones", "STATE"] {
                copy.remove_tree(own)?;
            }
        }
        for path in &nested {
            // Where a subvolume was nested, a snapshot has an empty directory (inode 2), which must make way.
            let dir = copy.sub(path.rsplit_once('/').map_or("", |(dir, _)| dir))?;
            let was = rustix::fs::fstat(dir.fd()).doing(format_args!("cannot look at {to}"))?;
            copy.remove_dir(path)?;
            self.snapshot_one(&join(from, path), &join(to, path), false)?;
            dir.set_times_of(&was)?;
        }
        if readonly {
            for path in nested.iter().rev() {
                self.set_readonly(&join(to, path), true)?;
            }
            self.set_readonly(to, true)?;
        }
        Ok(())
    }

    fn destroy(&self, path: &str) -> Result<()> {
        let Some(_) = self.identity(path)? else { return Ok(()) };
        if !subvolume::subvol_rootrefs(self.top.sub(path)?.fd()).doing("cannot list nested subvolumes")?.is_empty() {
            // Deleting what is nested writes to the directories it lies in.
            let nested = self.nested(&self.subvolumes()?, self.subvolume_id(path)?, path)?;
            self.set_readonly(path, false)?;
            for inner in nested.iter() {
                self.set_readonly(&join(path, inner), false)?;
            }
            for inner in nested.iter().rev() {
                self.delete_one(&join(path, inner))?;
            }
        }
        self.delete_one(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.top.rename(from, to, RenameFlags::NOREPLACE)
    }

    fn exchange(&self, a: &str, b: &str) -> Result<()> {
        self.top.rename(a, b, RenameFlags::EXCHANGE)
    }

    fn sync(&self) -> Result<()> {
        // A commit, not only an fsync: GRUB reads the committed trees and never replays the log.
        rustix::fs::syncfs(self.top.fd()).doing("cannot sync the store")
    }

    fn facts(&self, identity: Uuid) -> Result<Facts> {
        facts::read(&self.home()?, identity)
    }

    fn set_facts(&self, identity: Uuid, facts: &Facts) -> Result<()> {
        facts::write(&self.home()?, identity, facts)
    }

    fn drop_facts(&self, identity: Uuid) -> Result<()> {
        facts::remove(&self.home()?, identity)
    }

    fn facts_kept(&self) -> Result<Vec<Uuid>> {
        facts::kept(&self.home()?)
    }

    fn adopted(&self) -> Result<BTreeMap<String, String>> {
        facts::adopted(&self.home()?)
    }

    fn set_adopted(&self, adopted: &BTreeMap<String, String>) -> Result<()> {
        facts::set_adopted(&self.home()?, adopted)
    }

    fn mount(&self, path: &str) -> Result<OwnedFd> {
        // By number: fsconfig(2) takes no string longer than 255 bytes, and the path may be.
        let id = self.subvolume_id(path)?.to_string();
        crate::sys::mount::detached("btrfs", &self.device, &[("subvolid", &id)], false)
    }

    fn is_mount_of(&self, mount: &Mount, path: &str) -> bool {
        mount.fstype == "btrfs"
            && mount.root.strip_prefix("/").is_ok_and(|r| r == Path::new(path))
            && self.devices.iter().any(|d| same_device(d, &mount.source))
    }

    fn candidates(&self) -> Result<Vec<String>> {
        let looks_like_root = |tree: &Tree| {
            tree.exists("etc")
                && tree.exists("usr")
                && (tree.exists("etc/os-release") || tree.exists("usr/lib/os-release") || tree.exists("bin/sh"))
        };
        let mut found = Vec::new();
        for mount in mountinfo::own()? {
            let path = mount.root.strip_prefix("/").unwrap_or(&mount.root).to_string_lossy().into_owned();
            if mount.target == Path::new("/") && self.is_mount_of(&mount, &path) {
                found.push(path);
            }
        }
        for path in ["@", "@rootfs", "root", ""] {
            if !found.iter().any(|f| f == path)
                && (path.is_empty() || self.identity(path)?.is_some())
                && self.top.sub(path).is_ok_and(|tree| looks_like_root(&tree))
            {
                found.push(path.to_string());
            }
        }
        Ok(found)
    }

    fn make_layout(&self) -> Result<()> {
        self.top.make_dir(ROOT, 0o755)?;
        self.top.make_dir(HOME, 0o755)?;
        if self.identity(SHARED)?.is_none() {
            if self.top.exists(SHARED) {
                return Err(Error::refused("SHARED stands at the top of the store and is no subvolume")
                    .hint("move it away, then run this again"));
            }
            self.create(SHARED)?;
        }
        Ok(())
    }
}

fn join(base: &str, path: &str) -> String {
    if base.is_empty() { path.to_string() } else { format!("{base}/{path}") }
}

fn same_device(a: &Path, b: &Path) -> bool {
    let number = |p: &Path| rustix::fs::stat(p).ok().map(|s| s.st_rdev);
    a == b || matches!((number(a), number(b)), (Some(x), Some(y)) if x == y && x != 0)
}
