//! Destroying: what depends on a BE is promoted first, and all of it is one transaction.

use super::Zfs;
use crate::error::Result;
use crate::sys::zfs::Step;

/// Destroys a snapshot, with those of the same name below, or a dataset with all below it. What was cloned from a dataset
/// that goes takes over the snapshots it depends on. It is no error if nothing is there.
pub(super) fn destroy(store: &Zfs, full: &str) -> Result<()> {
    if let Some((dataset, name)) = full.split_once('@') {
        let snapshots: Vec<String> = store.subtree(dataset)?.iter().map(|d| format!("{d}@{name}")).collect();
        return store.lzc.destroy_snaps(&snapshots.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let datasets = store.subtree(full)?;
    let inside = |name: &str| name == full || name.strip_prefix(full).is_some_and(|rest| rest.starts_with('/'));
    let (mut promoted, mut snapshots) = (Vec::new(), Vec::new());
    for dataset in &datasets {
        let mut kept = store.snapshots(dataset)?;
        // A promotion takes along the snapshot a clone comes from and all before it, so the latest one that has a clone
        // outside decides.
        if let Some(at) = kept.iter().rposition(|s| s.clones.iter().any(|c| !inside(c))) {
            promoted.extend(kept[at].clones.iter().find(|c| !inside(c)).cloned());
            kept.drain(..=at);
        }
        snapshots.extend(kept.into_iter().map(|s| s.snapshot));
    }
    let promote = promoted.iter().map(|clone| Step::Promote(clone));
    let clear = snapshots.iter().map(|s| Step::Destroy(s)).chain(datasets.iter().rev().map(|d| Step::Destroy(d)));
    store.lzc.steps(&[], &promote.chain(clear).collect::<Vec<_>>())
}
