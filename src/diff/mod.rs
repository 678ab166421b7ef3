//! How two BEs or snapshots differ in their files.
//!
//! The store tells where they may differ, out of what it knows of their history; what is there is compared, and what is not the
//! same in name or inode number is gone into. So the cost grows with what differs, and an answer does not rest on history: where
//! there is none in common, everything is compared.

use crate::error::Result;
use crate::store::Touched;
use crate::sys::compare::{Aspect, Found, differences};
use crate::sys::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is in the new one only.
    Added,
    /// It is in the old one only.
    Removed,
    /// It is in both, and these things about it are not alike.
    Changed(Vec<Aspect>),
}

/// Tells `report` every difference, in the order of the paths, which are relative to the roots. What `is_own` holds for is the
/// store's own, and belongs to neither.
pub fn files(
    (old, new): (&Tree, &Tree),
    touched: Vec<Touched>,
    is_own: &dyn Fn(&Path) -> bool,
    report: &mut dyn FnMut(&Path, &Difference),
) -> Result<()> {
    // Whether to look at all that is below, or only at what is not the same there.
    let mut agenda: BTreeMap<PathBuf, bool> = BTreeMap::new();
    for Touched { path, all } in touched {
        *agenda.entry(path).or_default() |= all;
    }
    while let Some((path, all)) = agenda.pop_first() {
        let (was, is) = (Found::at(old, &path)?, Found::at(new, &path)?);
        let difference = match (&was, &is) {
            (None, None) => continue,
            (Some(_), None) => Some(Difference::Removed),
            (None, Some(_)) => Some(Difference::Added),
            (Some(was), Some(is)) => {
                let aspects = differences(was, is, &path, !all)?;
                (!aspects.is_empty()).then_some(Difference::Changed(aspects))
            }
        };
        if let Some(difference) = difference {
            report(&path, &difference);
        }
        let all = all || was.as_ref().map(Found::inode) != is.as_ref().map(Found::inode);
        let names = |found: Option<Found>| found.map_or(Ok(BTreeMap::new()), |found| found.names(&path));
        let (before, after) = (names(was)?, names(is)?);
        let union: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let other = union.into_iter().filter(|name| all || before.get(*name) != after.get(*name));
        for inside in other.map(|name| path.join(name)).filter(|inside| !is_own(inside)) {
            *agenda.entry(inside).or_default() |= all;
        }
    }
    Ok(())
}
