//! What destroying would free.
//!
//! A dataset holds what it alone refers to, and what its snapshots do. Of one that others were cloned from, what was born before
//! the last snapshot that has a clone outside stays, with the snapshots up to it. A snapshot that was made for a clone goes with it.

use super::Zfs;
use super::destroy::{inside, is_own};
use crate::error::Result;
use crate::store::{self, ROOT, Store};
use crate::sys::zfs::{self, Dataset, Snapshots};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use uuid::Uuid;

/// Those of `all`, filesystems without snapshots, whose snapshots have to be read to say what BEs hold: others came from them, and
/// either they hold something of their own or the newest is not one that was cloned.
pub(super) fn wanting_snapshots(all: &[Dataset]) -> Vec<String> {
    let origins: BTreeSet<&str> = all.iter().filter_map(|d| d.origin.as_deref()).collect();
    let sources: BTreeSet<&str> = origins.iter().filter_map(|o| o.split('@').next()).collect();
    let told = |d: &Dataset| d.used_by_snapshots == 0 && d.newest.as_deref().is_some_and(|n| origins.contains(n));
    let wanting = all.iter().filter(|d| sources.contains(d.name.as_str()) && !told(d));
    wanting.map(|d| d.name.clone()).collect()
}

/// What is free for datasets, and what they could take if there were none.
pub(super) fn space(store: &Zfs) -> Result<store::Space> {
    zfs::wait_until_free(&store.pool.name)?;
    let free = store::space(&store.home()?)?.free;
    Ok(store::Space { free, size: takes(store)? + free })
}

/// What is used by everything in the store, snapshots too.
pub(super) fn takes(store: &Zfs) -> Result<u64> {
    Ok(store.stats(&store.base)?.number(c"used").unwrap_or_default())
}

/// What of a dataset stays, because something was cloned from it.
enum Stays {
    Nothing,
    /// Everything up to its newest snapshot.
    UpToTheNewest,
    /// Everything up to one of its snapshots.
    UpTo(usize),
}

/// Datasets and snapshots as they depend on each other.
pub(super) struct Space<'a> {
    store: &'a Zfs,
    datasets: BTreeMap<&'a str, &'a Dataset>,
    /// Of each dataset, oldest first. Those that hold nothing of their own may be missing, see `wanting_snapshots`.
    snapshots: HashMap<&'a str, Vec<&'a Dataset>>,
    clones: HashMap<&'a str, Vec<&'a str>>,
    /// What the datasets right below one use.
    below: HashMap<&'a str, u64>,
}

impl<'a> Space<'a> {
    pub(super) fn new(store: &'a Zfs, all: &'a [Dataset]) -> Self {
        let (mut datasets, mut snapshots) = (BTreeMap::new(), HashMap::<_, Vec<&Dataset>>::new());
        let (mut clones, mut below) = (HashMap::<_, Vec<&str>>::new(), HashMap::new());
        for dataset in all {
            if let Some((of, _)) = dataset.name.split_once('@') {
                snapshots.entry(of).or_default().push(dataset);
                continue;
            }
            datasets.insert(dataset.name.as_str(), dataset);
            if let Some(origin) = &dataset.origin {
                clones.entry(origin.as_str()).or_default().push(dataset.name.as_str());
            }
            if let Some((parent, _)) = dataset.name.rsplit_once('/') {
                *below.entry(parent).or_default() += dataset.used;
            }
        }
        snapshots.values_mut().for_each(|of| of.sort_by_key(|s| s.createtxg));
        Space { store, datasets, snapshots, clones, below }
    }

    /// The dataset and what is below it.
    fn subtree(&self, full: &str) -> impl Iterator<Item = &'a Dataset> {
        // The character after the slash is the zero.
        let (first, behind) = (format!("{full}/"), format!("{full}0"));
        let below = self.datasets.range::<str, _>((Bound::Included(&*first), Bound::Excluded(&*behind)));
        self.datasets.get(full).into_iter().chain(below.map(|(_, d)| d)).copied().collect::<Vec<_>>().into_iter()
    }

    /// Bytes that would be free without a BE and those of its snapshots that nobody came from.
    pub(super) fn of(&self, be: &str) -> Result<u64> {
        let named = |s: &&&Dataset| s.name.split_once('@').is_some_and(|(_, name)| !name.starts_with('.'));
        let alone = |s: &&&Dataset| !self.clones.contains_key(s.name.as_str());
        let snapshots = self.snapshots.get(be).into_iter().flatten().filter(named).filter(alone);
        self.freed(&[be], &snapshots.map(|s| s.name.as_str()).collect::<Vec<_>>())
    }

    /// Bytes that would be free without these datasets and all below them, and without these snapshots and those of their names
    /// below.
    pub(super) fn freed(&self, datasets: &[&str], snapshots: &[&str]) -> Result<u64> {
        let goes = |name: &str| datasets.iter().any(|full| inside(full, name));
        let none = Vec::new();
        let of = |name: &str| self.snapshots.get(name).unwrap_or(&none);
        let is_cloned =
            |snapshot: &str| self.clones.get(snapshot).is_some_and(|clones| clones.iter().any(|c| !goes(c)));
        let newest_cloned = |of: &[&Dataset]| of.iter().rposition(|s| is_cloned(&s.name));
        let stays = |dataset: &Dataset| {
            let of = of(&dataset.name);
            match (newest_cloned(of), &dataset.newest) {
                (Some(at), _) if at + 1 == of.len() => Stays::UpToTheNewest,
                (Some(at), _) => Stays::UpTo(at),
                (None, Some(newest)) if of.is_empty() && is_cloned(newest) => Stays::UpToTheNewest,
                (None, _) => Stays::Nothing,
            }
        };
        let mut total = 0;
        let mut gone: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        let mut forget = |snapshot: &str| {
            let Some((dataset, _)) = snapshot.split_once('@') else { return };
            let Some((dataset, of)) = self.snapshots.get_key_value(dataset) else { return };
            let kept = newest_cloned(of);
            if let Some(at) =
                of.iter().position(|s| s.name == snapshot).filter(|at| !goes(dataset) || kept >= Some(*at))
            {
                gone.entry(dataset).or_default().insert(at);
            }
        };
        for dataset in datasets.iter().flat_map(|full| self.subtree(full)) {
            let name = dataset.name.as_str();
            total += match stays(dataset) {
                Stays::Nothing => dataset.used - self.below.get(name).copied().unwrap_or(0).min(dataset.used),
                Stays::UpToTheNewest => dataset.written,
                Stays::UpTo(at) => {
                    let of = of(name);
                    self.store.written(name, &of[at].name)? + self.range(&of[at + 1..])?
                }
            };
            if let Some(origin) = &dataset.origin
                && is_own(origin)
                && self.clones.get(origin.as_str()).is_some_and(|clones| clones.iter().all(|c| goes(c)))
            {
                forget(origin);
            }
        }
        for (full, name) in snapshots.iter().filter_map(|s| s.split_once('@')) {
            self.subtree(full).for_each(|dataset| forget(&format!("{}@{name}", dataset.name)));
        }
        for (dataset, places) in gone {
            let of = of(dataset);
            let places: Vec<usize> = places.into_iter().collect();
            for run in places.chunk_by(|a, b| a + 1 == *b) {
                total += self.range(&of[run[0]..=run[run.len() - 1]])?;
            }
        }
        Ok(total)
    }

    /// Of snapshots that follow each other.
    fn range(&self, snapshots: &[&Dataset]) -> Result<u64> {
        match snapshots {
            [] => Ok(0),
            [one] => Ok(one.used),
            [first, .., last] => self.store.lzc.range_space(&first.name, &last.name),
        }
    }
}

/// All datasets of BEs, with all snapshots.
fn everything(store: &Zfs) -> Result<Vec<Dataset>> {
    let mut all = store.libzfs()?.below(&store.full(ROOT), Snapshots::All, &[])?;
    for path in store.adopted().unwrap_or_default().values() {
        if store.taken(path)? {
            all.extend(store.libzfs()?.below(&store.full(path), Snapshots::All, &[])?);
        }
    }
    Ok(all)
}

/// Snapshots that were made for a clone, and that nothing comes from any more.
pub(super) fn unclaimed(store: &Zfs) -> Result<Vec<(String, Uuid)>> {
    let all = everything(store)?;
    let origins: BTreeSet<&str> = all.iter().filter_map(|d| d.origin.as_deref()).collect();
    let left = all.iter().filter(|d| is_own(&d.name) && !origins.contains(d.name.as_str()));
    let path = |d: &Dataset| d.name.strip_prefix(&store.base)?.strip_prefix('/').map(str::to_string);
    Ok(left.filter_map(|d| Some((path(d)?, store.uuid(d.guid)))).collect())
}

/// Bytes that destroying all of this would free.
pub(super) fn frees(store: &Zfs, paths: &[&str]) -> Result<u64> {
    // What is not on disk yet is not counted.
    store.sync()?;
    let all = everything(store)?;
    let full: Vec<String> = paths.iter().map(|path| store.full(path)).collect();
    let (snapshots, datasets): (Vec<&str>, Vec<&str>) = full.iter().map(String::as_str).partition(|f| f.contains('@'));
    Space::new(store, &all).freed(&datasets, &snapshots)
}
