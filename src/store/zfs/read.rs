//! Reading a pool: everything below `ROOT`, or a few BEs.

use super::destroy::inside;
use super::facts::{self, USER};
use super::space::{self, Space};
use super::{OWN_SNAPSHOT, Zfs};
use crate::domain::{BeName, BootEnv, Facts, SnapName, Snapshot, Target};
use crate::error::Result;
use crate::store::{Contents, ROOT, SHARED, Store, be_path};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::zfs::{Canmount, Dataset, Kind, Snapshots};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// What a clone comes from, as people see it: a snapshot that was made for it alone stands for its dataset.
pub(super) fn true_origin(origin: &str) -> &str {
    match origin.split_once('@') {
        Some((dataset, snapshot)) if snapshot.starts_with(OWN_SNAPSHOT) => dataset,
        _ => origin,
    }
}

/// Whether a dataset holds files that a BE shows.
fn is_seen(dataset: &Dataset) -> bool {
    dataset.kind == Kind::Filesystem && dataset.canmount != Some(Canmount::Off)
}

/// The adopted roots; none, and why, where that cannot be read.
fn adopted(store: &Zfs, attention: &mut Vec<String>) -> BTreeMap<String, String> {
    let adopted = if store.has_home() { store.adopted() } else { Ok(BTreeMap::new()) };
    adopted.unwrap_or_else(|e| {
        attention.push(e.in_a_line());
        BTreeMap::new()
    })
}

fn mounts() -> Result<Vec<Mount>> {
    Ok(mountinfo::own()?.into_iter().filter(|m| m.fstype == "zfs").collect())
}

fn mountpoints(mounts: &[Mount], dataset: &str) -> Vec<PathBuf> {
    mounts.iter().filter(|m| m.source == Path::new(dataset)).map(|m| m.target.clone()).collect()
}

fn runs(mountpoints: &[PathBuf]) -> bool {
    mountpoints.iter().any(|m| m == Path::new("/"))
}

/// Which of these BEs and snapshots are there, and what runs.
pub(super) fn there(store: &Zfs, wanted: &[Target]) -> Result<Contents> {
    let mut attention = Vec::new();
    let adopted = adopted(store, &mut attention);
    let mounts = mounts()?;
    let path = |name: &BeName| adopted.get(name.as_str()).cloned().unwrap_or_else(|| be_path(name.as_str()));
    let running = mounts.iter().filter(|m| m.target == Path::new("/")).filter_map(|m| {
        let path = m.source.to_str()?.strip_prefix(&store.base)?.strip_prefix('/')?;
        let adopted = adopted.iter().find(|(_, at)| *at == path).map(|(name, _)| name.as_str());
        BeName::parse(adopted.or_else(|| path.strip_prefix(ROOT)?.strip_prefix('/'))?).ok()
    });
    let named: BTreeSet<BeName> = wanted.iter().map(|t| t.be().clone()).chain(running).collect();
    let snapshots: BTreeSet<(&BeName, &SnapName)> = wanted.iter().filter_map(Target::snapshot).collect();
    let full = |(be, name): &(&BeName, &SnapName)| format!("{}@{name}", store.full(&path(be)));
    let mut guids = HashMap::new();
    for name in named.iter().map(|be| store.full(&path(be))).chain(snapshots.iter().map(full)) {
        if let Some(stats) = store.lzc.stats(&name)?.filter(|stats| stats.kind() != Kind::Volume) {
            store.learn_hostid(&stats);
            guids.insert(name, stats.guid);
        }
    }
    let boot_env = |name: &BeName| {
        let path = path(name);
        let guid = guids.get(&store.full(&path))?;
        let mountpoints = mountpoints(&mounts, &store.full(&path));
        let its = snapshots.iter().filter(|(be, _)| *be == name);
        let snapshots = its.filter_map(|both| {
            let uuid = store.uuid(*guids.get(&full(both))?);
            Some(Snapshot { name: both.1.clone(), uuid, created: 0, facts: Facts::default() })
        });
        Some(BootEnv {
            name: name.clone(),
            uuid: store.uuid(*guid),
            parent_uuid: None,
            adopted: adopted.contains_key(name.as_str()),
            path,
            created: 0,
            readonly: false,
            nested: Vec::new(),
            running: runs(&mountpoints),
            mountpoints,
            used: None,
            facts: Facts::default(),
            snapshots: snapshots.collect(),
        })
    };
    Ok(Contents { bes: named.iter().filter_map(boot_env).collect(), shared: true, attention })
}

/// What of a BE is mounted by `zfs mount -a`, also when another one runs: over what that has in the same place.
fn always_mounted(all: &[Dataset], be: &str) -> Vec<String> {
    let told = |d: &Dataset| {
        let at = d.mountpoint.as_ref().filter(|m| m.starts_with('/'))?;
        let name = &d.name;
        Some(format!("{name} is mounted at {at} whatever boots (canmount=on): `zfs set canmount=noauto {name}`"))
    };
    let on = |d: &&Dataset| d.canmount == Some(Canmount::On) && inside(be, &d.name);
    all.iter().filter(on).filter_map(told).collect()
}

/// Everything that goes into the list; snapshots and nested datasets that hold nothing only with `details`.
pub(super) fn contents(store: &Zfs, details: bool) -> Result<Contents> {
    let root = store.full(ROOT);
    let mut attention = Vec::new();
    let libzfs = store.libzfs()?;
    let (mut all, shown) = match details {
        true => libzfs.below(&root, Snapshots::Without(OWN_SNAPSHOT), &USER)?,
        false => libzfs.children(&root, &USER)?,
    }
    .into_iter()
    .partition::<Vec<_>, _>(|d| d.kind != Kind::Snapshot);
    // Some snapshots, people's and ours, decide on what destroying a BE would free.
    for dataset in space::wanting_snapshots(&all) {
        all.extend(libzfs.snapshots(&dataset)?);
    }
    let adopted = adopted(store, &mut attention);
    for path in adopted.values() {
        let full = store.full(path);
        if store.lzc.exists(&full)? {
            // Snapshots of an adopted root are none of ours.
            all.extend(libzfs.below(&full, Snapshots::None, &USER)?.into_iter().filter(|d| d.kind == Kind::Filesystem));
        }
    }
    if store.pool.health != "ONLINE" {
        let (pool, health) = (&store.pool.name, store.pool.health.to_lowercase());
        attention.push(format!("the pool {pool} is {health}: `zpool status {pool}` tells why, and what to do"));
    }
    let guids: HashMap<&str, u64> = all.iter().chain(&shown).map(|d| (d.name.as_str(), d.guid)).collect();
    // What holds nothing but the name of a dataset below it is not one to people.
    let mut nested: HashMap<&str, Vec<String>> = HashMap::new();
    for dataset in all.iter().filter(|d| is_seen(d)) {
        for (at, _) in dataset.name.match_indices('/').filter(|(at, _)| guids.contains_key(&dataset.name[..*at])) {
            nested.entry(&dataset.name[..at]).or_default().push(dataset.name[at + 1..].to_string());
        }
    }
    let space = Space::new(store, &all);
    let mounts = mounts()?;
    let boot_env = |name: BeName, path: String, dataset: &Dataset, adopted: bool| {
        let mountpoints = mountpoints(&mounts, &dataset.name);
        let parent = dataset.origin.as_deref().and_then(|o| guids.get(true_origin(o)));
        BootEnv {
            name,
            uuid: store.uuid(dataset.guid),
            parent_uuid: parent.map(|guid| store.uuid(*guid)),
            path,
            adopted,
            created: dataset.created,
            readonly: dataset.readonly,
            nested: nested.get(dataset.name.as_str()).cloned().unwrap_or_default(),
            running: runs(&mountpoints),
            mountpoints,
            used: space.of(&dataset.name).ok(),
            facts: facts::read(|property| dataset.user.get(property).cloned()),
            snapshots: Vec::new(),
        }
    };
    let mut bes: Vec<(u64, BootEnv)> = Vec::new();
    for dataset in all.iter().filter(|d| d.kind == Kind::Filesystem) {
        let Some(name) = dataset.name.strip_prefix(&root).and_then(|r| r.strip_prefix('/')) else { continue };
        if name.contains('/') || name.starts_with('.') {
            continue;
        }
        match BeName::parse(name) {
            Ok(be) => bes.push((dataset.createtxg, boot_env(be, format!("{ROOT}/{name}"), dataset, false))),
            Err(_) => attention.push(format!(
                "{ROOT}/{name:?} is left alone: that is no name for a boot environment; rename it to use it"
            )),
        }
    }
    for (name, path) in &adopted {
        let full = store.full(path);
        match (BeName::parse(name), all.iter().find(|d| d.name == full)) {
            (Ok(be), Some(dataset)) => bes.push((dataset.createtxg, boot_env(be, path.clone(), dataset, true))),
            (Ok(_), None) => {
                attention.push(format!("the adopted root {path} is gone: `bootenv check --repair` forgets it"))
            }
            (Err(e), _) => attention.push(e.message),
        }
    }
    let mut snapshots: Vec<&Dataset> = shown.iter().collect();
    snapshots.sort_by_key(|s| s.createtxg);
    let places: HashMap<String, usize> =
        bes.iter().enumerate().map(|(at, (_, be))| (store.full(&be.path), at)).collect();
    for snapshot in snapshots {
        let Some((dataset, name)) = snapshot.name.split_once('@') else { continue };
        let Some(at) = places.get(dataset).filter(|_| !name.starts_with('.')) else { continue };
        match SnapName::parse(name) {
            Ok(name) => bes[*at].1.snapshots.push(Snapshot {
                name,
                uuid: store.uuid(snapshot.guid),
                created: snapshot.created,
                facts: facts::read(|property| snapshot.user.get(property).cloned()),
            }),
            Err(_) => attention.push(format!("{} is left alone: that is no name for a snapshot", snapshot.name)),
        }
    }
    bes.sort_by_key(|(txg, _)| *txg);
    if bes.len() > 1 {
        attention.extend(bes.iter().flat_map(|(_, be)| always_mounted(&all, &store.full(&be.path))));
    }
    Ok(Contents { bes: bes.into_iter().map(|(_, be)| be).collect(), shared: store.taken(SHARED)?, attention })
}
