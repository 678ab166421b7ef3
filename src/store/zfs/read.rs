//! Reading a pool: one process tells of everything below `ROOT`.

use super::{DESCRIPTION, OWN_SNAPSHOT, REST, USER, VERSION, Zfs};
use crate::domain::{BeName, BootEnv, FORMAT, Facts, SnapName, Snapshot};
use crate::error::Result;
use crate::store::{About, Contents, ROOT, SHARED, Store};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::zfs::{self, Canmount, Dataset, Kind};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What a clone comes from, as people see it: a snapshot that was made for it alone stands for its dataset.
pub(super) fn true_origin(origin: &str) -> &str {
    match origin.split_once('@') {
        Some((dataset, snapshot)) if snapshot.starts_with(OWN_SNAPSHOT) => dataset,
        _ => origin,
    }
}

/// The facts that are kept with a dataset.
pub(super) fn facts(dataset: &Dataset) -> Facts {
    let text = |property: &str| dataset.user.get(property);
    Facts {
        version: text(VERSION).and_then(|v| v.parse().ok()).unwrap_or(FORMAT),
        description: text(DESCRIPTION).cloned(),
        rest: text(REST).and_then(|rest| toml::from_str(rest).ok()).unwrap_or_default(),
    }
}

/// Whether a dataset holds files that a BE shows.
fn is_seen(dataset: &Dataset) -> bool {
    dataset.kind == Kind::Filesystem && dataset.canmount != Some(Canmount::Off)
}

/// Everything that goes into the list.
pub(super) fn contents(store: &Zfs, _about: About<'_>) -> Result<Contents> {
    let root = store.full(ROOT);
    let mut attention = Vec::new();
    let mut all = zfs::below(&root, None, &USER)?;
    let adopted = store.adopted().unwrap_or_else(|e| {
        attention.push(format!("{}: {}", e.message, e.hint.unwrap_or_default()));
        Default::default()
    });
    for path in adopted.values() {
        let full = store.full(path);
        if store.lzc.exists(&full)? {
            // Snapshots of an adopted root are none of ours.
            all.extend(zfs::below(&full, None, &USER)?.into_iter().filter(|d| d.kind == Kind::Filesystem));
        }
    }
    let guids: HashMap<&str, u64> = all.iter().map(|d| (d.name.as_str(), d.guid)).collect();
    let mounts: Vec<Mount> = mountinfo::own()?.into_iter().filter(|m| m.fstype == "zfs").collect();
    let boot_env = |name: BeName, path: String, dataset: &Dataset, adopted: bool| {
        let shown = mounts.iter().filter(|m| m.source == Path::new(&dataset.name));
        let mountpoints: Vec<PathBuf> = shown.map(|m| m.target.clone()).collect();
        let inner = |d: &Dataset| d.name.strip_prefix(&dataset.name)?.strip_prefix('/').map(str::to_string);
        let parent = dataset.origin.as_deref().and_then(|o| guids.get(true_origin(o)));
        BootEnv {
            name,
            uuid: store.uuid(dataset.guid),
            parent_uuid: parent.map(|guid| store.uuid(*guid)),
            path,
            adopted,
            created: dataset.created,
            readonly: dataset.readonly,
            // What holds nothing but the name of a dataset below it is not one to people.
            nested: all.iter().filter(|d| is_seen(d)).filter_map(inner).collect(),
            running: mountpoints.iter().any(|m| m == Path::new("/")),
            mountpoints,
            used: Some(dataset.used),
            facts: facts(dataset),
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
    let mut snapshots: Vec<&Dataset> = all.iter().filter(|d| d.kind == Kind::Snapshot).collect();
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
                facts: facts(snapshot),
            }),
            Err(_) => attention.push(format!("{} is left alone: that is no name for a snapshot", snapshot.name)),
        }
    }
    bes.sort_by_key(|(txg, _)| *txg);
    Ok(Contents { bes: bes.into_iter().map(|(_, be)| be).collect(), shared: store.taken(SHARED)?, attention })
}
