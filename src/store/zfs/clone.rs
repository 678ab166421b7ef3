//! Snapshots of a BE with what is nested in it, and new BEs made from them.

use super::{OWN_SNAPSHOT, Zfs};
use crate::error::{Error, Result};
use crate::sys::zfs::{Canmount, Kind, Property, Set, Value};
use sha2::{Digest, Sha256};

/// What a copy does not take over: where and whether it is mounted is decided for each BE, a copy is made to be changed, and a
/// clone has its origin's key.
const NOT_COPIED: [&str; 6] = ["canmount", "mountpoint", "readonly", "keylocation", "keyformat", "pbkdf2iters"];

/// What the names of properties begin with that are facts of one BE.
const OURS: &str = "org.bootenv:";

/// Makes the snapshot `to` of the BE at `from`, with what is nested in it. If nothing is, it is born with these properties, which
/// would be given to all of them.
pub(super) fn snapshot(store: &Zfs, from: &str, to: &str, born: &[Property<'_>]) -> Result<()> {
    let (_, name) = to.split_once('@').ok_or_else(|| Error::usage(format!("{to} is no snapshot")))?;
    let datasets = store.subtree(&store.full(from))?;
    let names: Vec<String> = datasets.iter().map(|d| format!("{d}@{name}")).collect();
    let born = if names.len() == 1 { born } else { &[] };
    store.lzc.snapshot(&names.iter().map(String::as_str).collect::<Vec<_>>(), born)
}

/// Clones the BE or snapshot at `from` to `to`, with what is nested in it and what is set on each dataset. It is born with these
/// properties besides. Tells whether anything is nested in it.
pub(super) fn clone(store: &Zfs, from: &str, to: &str, born: &[Property<'_>]) -> Result<bool> {
    let source = store.full(from.split('@').next().unwrap_or(from));
    let datasets = store.subtree(&source)?;
    let target = store.full(to);
    let origin = origin_for(store, from, to, &datasets)?;
    let born = [&store.born(to), born].concat();
    for dataset in &datasets {
        // What has been nested later has no such snapshot.
        let from = format!("{dataset}@{origin}");
        if *dataset == source || store.lzc.exists(&from)? {
            let born = if *dataset == source { &born[..] } else { &[] };
            copy(store, dataset, &from, &format!("{target}{}", &dataset[source.len()..]), born)?;
        }
    }
    Ok(datasets.len() > 1)
}

/// Clones `from`, a snapshot of `dataset`, to `to`, with what is set on `dataset`. What is nested gets the mountpoint that was
/// set on it, and is not mounted by whatever BE boots.
fn copy(store: &Zfs, dataset: &str, from: &str, to: &str, born: &[Property<'_>]) -> Result<()> {
    let Set { kind, properties: set } = store.libzfs()?.set_on(dataset)?;
    let mut properties = born.to_vec();
    if properties.is_empty() && kind == Kind::Filesystem {
        let off = set.get("canmount") == Some(&Value::Unsigned(Canmount::Off as u64));
        properties.push(Property::Canmount(if off { Canmount::Off } else { Canmount::Noauto }));
        properties.extend(set.get("mountpoint").and_then(Value::text).map(Property::Mountpoint));
    }
    let copied = set.iter().filter(|(name, _)| !name.starts_with(OURS) && !NOT_COPIED.contains(&name.as_str()));
    properties.extend(copied.map(|(name, value)| Property::AsItIs(name, value)));
    store.lzc.clone(from, to, &properties)
}

/// The snapshot that the new BE at `to` is to be cloned from: `from` itself, or one made for this of the BE `from`. One that
/// an earlier attempt left goes first; one that something else was cloned from, which was called `to` then, stays.
fn origin_for(store: &Zfs, from: &str, to: &str, datasets: &[String]) -> Result<String> {
    if let Some((_, snapshot)) = from.split_once('@') {
        return Ok(snapshot.to_string());
    }
    let mut number = 0;
    loop {
        let (name, snapshots) = own_snapshots(to, number, datasets);
        let names: Vec<&str> = snapshots.iter().map(String::as_str).collect();
        match store.lzc.snapshot(&names, &[]) {
            // Destroying nothing takes a transaction group too, so it is only tried if something is there.
            Err(e) if e.errno == Some(nix::libc::EEXIST) => match store.lzc.destroy_snaps(&names) {
                Err(e) if is_in_use(&e) => number += 1,
                destroyed => destroyed?,
            },
            made => return made.map(|()| name),
        }
    }
}

/// The snapshots of `datasets` that a BE at `to` is cloned from, after their own name, which does not hold that of the BE: it
/// could be longer than a name in a pool may be.
fn own_snapshots(to: &str, number: u32, datasets: &[String]) -> (String, Vec<String>) {
    let digest = Sha256::digest(to.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{OWN_SNAPSHOT}{digest}-{number}");
    let snapshots = datasets.iter().map(|d| format!("{d}@{name}")).collect();
    (name, snapshots)
}

/// Whether snapshots stay because something was cloned from them, or holds them.
fn is_in_use(error: &Error) -> bool {
    matches!(error.errno, Some(nix::libc::EEXIST | nix::libc::EBUSY))
}

/// Takes away the snapshots that a clone of `from` to `to` has left that was cut off or undone. Those that are in use are of
/// another BE, which was called `to` when it was made.
pub(super) fn clear(store: &Zfs, from: &str, to: &str) -> Result<()> {
    if from.contains('@') || to.contains('@') {
        return Ok(());
    }
    let datasets = store.subtree(&store.full(from))?;
    for number in 0.. {
        let (_, snapshots) = own_snapshots(to, number, &datasets);
        let names: Vec<&str> = snapshots.iter().map(String::as_str).collect();
        // Of those that something was cloned from already, some are gone with it.
        let mut there = false;
        for name in &names {
            there |= store.lzc.exists(name)?;
        }
        if !there {
            break;
        }
        match store.lzc.destroy_snaps(&names) {
            Err(e) if !is_in_use(&e) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
