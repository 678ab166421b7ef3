//! Snapshots of a BE with what is nested in it, and new BEs made from them.

use super::super::together;
use super::{OWN_SNAPSHOT, Zfs};
use crate::error::{Error, Result};
use crate::sys::zfs::{Canmount, Kind, Lzc, Property, Set, Value};
use sha2::{Digest, Sha256};

/// What a copy does not take over: where and whether it is mounted is decided for each BE, a copy is made to be changed, and a
/// clone has its origin's key.
const NOT_COPIED: [&str; 6] = ["canmount", "mountpoint", "readonly", "keylocation", "keyformat", "pbkdf2iters"];

/// What the names of properties begin with that are facts of one BE.
const OURS: &str = "org.bootenv:";

/// Makes snapshots of BEs, each with what is nested in it, in one transaction group: from where to where. If it is one and nothing is
/// nested, it is born with these properties, which would be given to all of them.
pub(super) fn snapshot(store: &Zfs, all: &[(&str, &str)], born: &[Property<'_>]) -> Result<()> {
    let mut names = Vec::new();
    for (from, to) in all {
        let (_, name) = to.split_once('@').ok_or_else(|| Error::usage(format!("{to} is no snapshot")))?;
        let datasets = store.whole(&store.full(from))?;
        names.extend(datasets.iter().map(|d| format!("{d}@{name}")));
    }
    let born = if names.len() == 1 { born } else { &[] };
    store.lzc.snapshot(&names.iter().map(String::as_str).collect::<Vec<_>>(), born)
}

/// A BE or snapshot that is to be cloned.
struct Source<'a> {
    from: &'a str,
    to: &'a str,
    /// The datasets of the BE.
    datasets: Vec<String>,
    /// Which of the snapshots of our own for `to` it is cloned from, if `from` is none.
    number: u32,
}

/// Clones BEs or snapshots, from where to where, as all of them are in one transaction group: each with what is nested in it and what
/// is set on each dataset. The first is born with these properties besides. Gives those in which something is nested.
pub(super) fn clone<'a>(store: &Zfs, all: &[(&'a str, &'a str)], born: &[Property<'_>]) -> Result<Vec<&'a str>> {
    let source = |(from, to): &(&'a str, &'a str)| {
        let datasets = store.whole(&store.full(from.split('@').next().unwrap_or(from)))?;
        Ok(Source { from, to, datasets, number: 0 })
    };
    let mut sources = all.iter().map(source).collect::<Result<Vec<_>>>()?;
    make_origins(store, &mut sources)?;
    let born_with = |at| if at == 0 { born } else { &[] };
    let copies = sources.iter().enumerate().map(|(at, source)| copies(store, source, born_with(at)));
    let (copies, lzc) = (copies.collect::<Result<Vec<_>>>()?, &store.lzc);
    together(&copies, |copies| copies.iter().try_for_each(|copy| copy.make(lzc)))?;
    Ok(sources.iter().filter(|source| source.datasets.len() > 1).map(|source| source.to).collect())
}

/// A dataset that is to be cloned from a snapshot, and what it is born with.
struct Copy<'a> {
    from: String,
    to: String,
    born: Vec<Property<'a>>,
    /// What is set on the dataset that it is a copy of.
    set: Set,
}

/// What copies a BE, parents before children.
fn copies<'b>(store: &Zfs, source: &Source<'_>, born: &[Property<'b>]) -> Result<Vec<Copy<'b>>> {
    let Source { from, to, datasets, number } = source;
    let top = store.full(from.split('@').next().unwrap_or(from));
    let target = store.full(to);
    let origin = match from.split_once('@') {
        Some((_, snapshot)) => snapshot.to_string(),
        None => own_snapshots(to, *number, &[]).0,
    };
    let mut copies = Vec::new();
    for dataset in datasets {
        // What has been nested later has no such snapshot.
        let from = format!("{dataset}@{origin}");
        let to = format!("{target}{}", &dataset[top.len()..]);
        let set = store.stats(dataset)?.set();
        if *dataset == top {
            copies.push(Copy { from, to, born: [&store.born(source.to), born].concat(), set });
        } else if store.lzc.exists(&from)? {
            copies.push(Copy { from, to, born: Vec::new(), set });
        }
    }
    Ok(copies)
}

fn is_taken_over(property: &str) -> bool {
    !property.starts_with(OURS) && !NOT_COPIED.contains(&property)
}

impl Copy<'_> {
    /// Makes it. What is nested gets the mountpoint that was set on what it is a copy of, and is not mounted by whatever BE boots.
    fn make(&self, lzc: &Lzc) -> Result<()> {
        let (mut properties, Set { kind, properties: set }) = (self.born.clone(), &self.set);
        if properties.is_empty() && *kind == Kind::Filesystem {
            let off = set.get("canmount") == Some(&Value::Unsigned(Canmount::Off as u64));
            properties.push(Property::Canmount(if off { Canmount::Off } else { Canmount::Noauto }));
            properties.extend(set.get("mountpoint").and_then(Value::text).map(Property::Mountpoint));
        }
        let taken_over = set.iter().filter(|(name, _)| is_taken_over(name));
        properties.extend(taken_over.map(|(name, value)| Property::AsItIs(name, value)));
        lzc.clone(&self.from, &self.to, &properties)
    }
}

/// Makes the snapshots that BEs are cloned from, all in one transaction group. One that an earlier attempt left goes first; one that
/// something else was cloned from, which was called `to` then, stays.
fn make_origins(store: &Zfs, sources: &mut [Source<'_>]) -> Result<()> {
    let own = |source: &Source<'_>| match source.from.contains('@') {
        true => Vec::new(),
        false => own_snapshots(source.to, source.number, &source.datasets).1,
    };
    loop {
        let names: Vec<String> = sources.iter().flat_map(own).collect();
        match store.lzc.snapshot(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[]) {
            // Destroying nothing takes a transaction group too, so it is only tried if something is there.
            Err(e) if e.errno == Some(nix::libc::EEXIST) => {
                for source in &mut *sources {
                    let names = own(source);
                    match store.lzc.destroy_snaps(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
                        Err(e) if is_in_use(&e) => source.number += 1,
                        destroyed => destroyed?,
                    }
                }
            }
            made => return made,
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
        // Of those that something was cloned from already, some are gone with it.
        if !snapshots.iter().map(|s| store.lzc.exists(s)).collect::<Result<Vec<_>>>()?.contains(&true) {
            break;
        }
        let names: Vec<&str> = snapshots.iter().map(String::as_str).collect();
        match store.lzc.destroy_snaps(&names) {
            Err(e) if !is_in_use(&e) => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
