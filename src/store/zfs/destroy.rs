//! Destroying: what was made from a BE becomes independent of it first, and all of it is one transaction.
//!
//! Each snapshot that a dataset outside was cloned from goes to that dataset, with those before it that nobody came from.
//! Promoting in the order of time does just that: a promotion takes along the origin and what is older.
//!
//! A snapshot that a BE was cloned from, and that was made for that alone, goes with the last clone of it.

use super::{OWN_SNAPSHOT, Zfs, shows};
use crate::domain::Heir;
use crate::error::{Error, Result};
use crate::store::{ROOT, Store};
use crate::sys::mountinfo;
use crate::sys::zfs::Step;
use uuid::Uuid;

/// A dataset that takes over snapshots, named in full, oldest first; it was cloned from the last of them.
struct Taker {
    clone: String,
    snapshots: Vec<String>,
}

/// What becomes of the snapshots of a dataset that goes.
struct Estate {
    takers: Vec<Taker>,
    /// They go with it.
    lost: Vec<String>,
}

/// Whether `name` is the dataset `full` or below it.
pub(super) fn inside(full: &str, name: &str) -> bool {
    !name.contains('@') && name.strip_prefix(full).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a snapshot is there only because a BE was cloned from it.
pub(super) fn is_own(snapshot: &str) -> bool {
    snapshot.split_once('@').is_some_and(|(_, name)| name.starts_with(OWN_SNAPSHOT))
}

/// `goes` says which datasets, and which snapshots by themselves, are gone before.
fn estate(store: &Zfs, dataset: &str, goes: &dyn Fn(&str) -> bool) -> Result<Estate> {
    let adopted = store.adopted().unwrap_or_default();
    let of_a_be =
        |name: &str| inside(&store.full(ROOT), name) || adopted.values().any(|path| inside(&store.full(path), name));
    let (mut takers, mut lost) = (Vec::new(), Vec::new());
    for found in store.snapshots(dataset)? {
        let mut clones = Vec::new();
        for clone in found.clones.into_iter().filter(|c| !goes(c)) {
            clones.push((of_a_be(&clone), store.createtxg(&clone)?, clone));
        }
        // The newest: after a rollback that is what the BE is now, and keeps its snapshots.
        let clone = clones.into_iter().max().map(|(_, _, clone)| clone);
        if goes(&found.snapshot) {
            continue;
        }
        lost.push(found.snapshot);
        if let Some(clone) = clone {
            if !of_a_be(&clone) {
                return Err(made_from(&clone, lost.last().map_or("", String::as_str)));
            }
            takers.push(Taker { clone, snapshots: std::mem::take(&mut lost) });
        }
    }
    Ok(Estate { takers, lost })
}

/// The refusal to change what is no BE.
fn made_from(clone: &str, snapshot: &str) -> Error {
    Error::refused(format!("{clone}, which is no boot environment, was cloned from {snapshot}"))
        .hint(format!("`zfs promote {clone}` makes it independent; or destroy it"))
}

/// Destroys a snapshot, with those of the same name below, or a dataset with all below it. It is no error if nothing is
/// there.
pub(super) fn destroy(store: &Zfs, full: &str) -> Result<()> {
    if let Some((dataset, name)) = full.split_once('@') {
        let snapshots: Vec<String> = store.subtree(dataset)?.iter().map(|d| format!("{d}@{name}")).collect();
        return store.lzc.destroy_snaps(&snapshots.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let datasets = store.subtree(full)?;
    let estates: Vec<Estate> =
        datasets.iter().map(|d| estate(store, d, &|name| inside(full, name))).collect::<Result<_>>()?;
    let takers = || estates.iter().flat_map(|e| &e.takers);
    // Names that are ours may be taken: they are made from the names that BEs had once.
    let mut renamed = Vec::new();
    for taker in takers() {
        for snapshot in taker.snapshots.iter().filter(|s| is_own(s)) {
            let (dataset, name) = snapshot.split_once('@').unwrap_or_default();
            if store.lzc.exists(&format!("{}@{name}", taker.clone))? {
                renamed.push((dataset, name, format!("{OWN_SNAPSHOT}{}", Uuid::new_v4().simple())));
            }
        }
    }
    let origins: Vec<Option<String>> = datasets.iter().map(|d| store.origin(d)).collect::<Result<_>>()?;
    let origins =
        origins.into_iter().flatten().filter(|o| is_own(o) && !inside(full, o.split('@').next().unwrap_or(o)));
    // What was the origin of a taker is, once that is promoted, what this was cloned from.
    let handed_over = takers().filter_map(|taker| {
        let (dataset, name) = taker.snapshots.last().filter(|s| is_own(s))?.split_once('@')?;
        let anew = renamed.iter().find(|(d, from, _)| (*d, *from) == (dataset, name));
        Some(format!("{}@{}", taker.clone, anew.map_or(name, |(_, _, to)| to)))
    });
    let unclaimed: Vec<String> = origins.chain(handed_over).collect();
    let rename = renamed.iter().map(|(dataset, from, to)| Step::RenameSnapshot(dataset, from, to));
    let promote = takers().map(|taker| Step::Promote(&taker.clone));
    let lost = estates.iter().flat_map(|e| &e.lost).map(|s| Step::Destroy(s));
    let clear = lost.chain(datasets.iter().rev().map(|d| Step::Destroy(d)));
    let forget = unclaimed.iter().map(|s| Step::DestroyLater(s));
    store.lzc.steps(&[], &rename.chain(promote).chain(clear).chain(forget).collect::<Vec<_>>())
}

/// Who keeps what of a BE that goes after others.
pub(super) fn heirs(store: &Zfs, path: &str, with: &[&str]) -> Result<Vec<Heir>> {
    let goes = |name: &str| with.iter().chain([&path]).any(|path| inside(&store.full(path), name));
    let heir = |taker: Taker| {
        let snapshot = taker.snapshots.last().filter(|s| !is_own(s)).and_then(|s| s.split_once('@'));
        let to = taker.clone.strip_prefix(&store.base)?.strip_prefix('/')?.to_string();
        Some(Heir { to, snapshot: snapshot.map(|(_, name)| name.to_string()) })
    };
    Ok(estate(store, &store.full(path), &goes)?.takers.into_iter().filter_map(heir).collect())
}

/// Refuses what a step of a plan would stop at: snapshots that are held, or that something comes from that is no BE; names that are
/// taken where a snapshot has to go; snapshots that nobody has been told of; and what is in use unseen.
pub(super) fn may_destroy(store: &Zfs, paths: &[&str]) -> Result<()> {
    let full: Vec<String> = paths.iter().map(|path| store.full(path)).collect();
    let goes = |name: &str| {
        full.iter().any(|gone| match (gone.split_once('@'), name.split_once('@')) {
            (Some((be, gone)), Some((dataset, name))) => gone == name && inside(be, dataset),
            (None, None) => inside(gone, name),
            _ => false,
        })
    };
    for path in &full {
        if let Some((be, name)) = path.split_once('@') {
            for dataset in store.subtree(be)? {
                let snapshots = store.snapshots(&dataset)?;
                let Some(found) = snapshots.iter().find(|s| s.snapshot == format!("{dataset}@{name}")) else {
                    continue;
                };
                let_go(store, &found.snapshot)?;
                match found.clones.iter().find(|c| !goes(c)) {
                    Some(clone) => return Err(made_from(clone, &found.snapshot)),
                    None => continue,
                }
            }
            continue;
        }
        for dataset in store.subtree(path)? {
            nobody_uses(store, &dataset)?;
            let estate = estate(store, &dataset, &goes)?;
            for taker in &estate.takers {
                for snapshot in taker.snapshots.iter().filter(|s| !is_own(s)) {
                    free_at(store, snapshot, &taker.clone)?;
                }
            }
            for snapshot in &estate.lost {
                let_go(store, snapshot)?;
                // What `list` does not show is no less somebody's.
                if snapshot.split_once('@').is_some_and(|(_, name)| !name.starts_with('.')) {
                    return Err(Error::refused(format!("there is a snapshot {snapshot}, which would go too")).hint(
                        format!("`zfs destroy {snapshot}` first; `zfs destroy {dataset}@%` destroys all that it has"),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Refuses a dataset that is in use where nobody sees it. One that is mounted in sight is its caller's business.
fn nobody_uses(store: &Zfs, dataset: &str) -> Result<()> {
    if !store.in_use(dataset)? || mountinfo::own()?.iter().any(|m| shows(m, dataset)) {
        return Ok(());
    }
    Err(Error::busy(format!("{dataset} is in use, though it is mounted nowhere"))
        .hint("something still has files of it open since it was unmounted: end that, or reboot"))
}

/// Refuses a snapshot that somebody holds.
fn let_go(store: &Zfs, snapshot: &str) -> Result<()> {
    match store.lzc.holds(snapshot)?.first() {
        Some(tag) => Err(Error::busy(format!("the snapshot {snapshot} is held"))
            .hint(format!("`zfs release {tag} {snapshot}` lets go of it"))),
        None => Ok(()),
    }
}

/// Refuses to let a snapshot go to a dataset that has one of its name.
fn free_at(store: &Zfs, snapshot: &str, clone: &str) -> Result<()> {
    let (_, name) = snapshot.split_once('@').unwrap_or_default();
    let taken = format!("{clone}@{name}");
    if !store.lzc.exists(&taken)? {
        return Ok(());
    }
    Err(Error::refused(format!("{clone} would take over {snapshot}, and has a snapshot {name} already"))
        .hint(format!("rename one, with what is nested: `zfs rename -r {taken} NEW`")))
}
