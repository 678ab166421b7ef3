//! Where two BEs may differ: what zfs-diff(8) says has changed in each since the snapshot that both come from.

use super::Zfs;
use crate::error::{Doing, Result};
use crate::store::{self, Touched};
use crate::sys::compare::Found;
use crate::sys::tree::Tree;
use crate::sys::zfs;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::DirEntryExt;
use std::path::PathBuf;

/// A point in the life of a dataset: a snapshot of it, or what it is now.
#[derive(Debug, Clone)]
struct Point {
    dataset: String,
    snapshot: Option<String>,
}

impl Point {
    fn new(full: &str) -> Point {
        let (dataset, snapshot) = full.split_once('@').map_or((full, None), |(d, s)| (d, Some(s.to_string())));
        Point { dataset: dataset.into(), snapshot }
    }

    fn full(&self) -> String {
        self.snapshot.as_ref().map_or(self.dataset.clone(), |s| format!("{}@{s}", self.dataset))
    }
}

pub(super) fn touched(store: &Zfs, old: &str, new: &str) -> Result<Vec<Touched>> {
    let scratch = crate::altroot::own_dir()?;
    store::touched(&places(store, old)?, &places(store, new)?, |a, b| {
        let Some(common) = common(store, a, b)? else { return Ok(None) };
        let mut all = Vec::new();
        for side in [a, b].into_iter().filter(|side| side.full() != common.full()) {
            // It makes a snapshot for the moment, which a pool that is full or read-only does not take.
            let Ok(paths) = zfs::changed_paths(&common.full(), &side.full(), &scratch) else { return Ok(None) };
            all.extend(other_names(store, side, &paths)?);
            all.extend(paths);
        }
        Ok(Some(all))
    })
}

/// The other names of files that have several: of those ZFS tells one, and only a look at every name finds the rest.
fn other_names(store: &Zfs, side: &Point, paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mount = store.mount_one(&side.full())?;
    let tree = Tree::below(&mount, "")?;
    let mut wanted = BTreeSet::new();
    for path in paths {
        wanted.extend(Found::at(&tree, path)?.filter(Found::has_more_names).map(|found| found.inode()));
    }
    let mut names = Vec::new();
    let mut left = if wanted.is_empty() { Vec::new() } else { vec![PathBuf::new()] };
    while let Some(dir) = left.pop() {
        let full = tree.proc_path().join(&dir);
        for entry in std::fs::read_dir(&full).doing_to("list", &dir)? {
            let entry = entry.doing_to("list", &dir)?;
            let path = dir.join(entry.file_name());
            match entry.file_type().doing_to("look at", &path)?.is_dir() {
                true => left.push(path),
                false if wanted.contains(&entry.ino()) => names.push(path),
                false => {}
            }
        }
    }
    Ok(names)
}

/// What is at `path` and nested in it, by where it belongs there.
fn places(store: &Zfs, path: &str) -> Result<BTreeMap<String, Point>> {
    let Point { dataset, snapshot } = Point::new(path);
    let nested = store.places(&dataset)?.into_iter().map(|(full, place)| (place, full));
    let all = nested.chain([(String::new(), store.full(&dataset))]);
    Ok(all.map(|(place, dataset)| (place, Point { dataset, snapshot: snapshot.clone() })).collect())
}

/// The newest snapshot that both have everything of; nothing if there is none. Of one and the same it is that.
fn common(store: &Zfs, a: &Point, b: &Point) -> Result<Option<Point>> {
    let (a, b) = (line(store, a)?, line(store, b)?);
    let Some((of_a, of_b)) = a.iter().find_map(|p| Some((p, b.iter().find(|q| q.dataset == p.dataset)?))) else {
        return Ok(None);
    };
    let earlier = match (&of_a.snapshot, &of_b.snapshot) {
        (Some(_), Some(_)) if store.createtxg(&of_b.full())? < store.createtxg(&of_a.full())? => of_b,
        (None, Some(_)) => of_b,
        _ => of_a,
    };
    Ok(Some(earlier.clone()))
}

/// The point itself, and those that it was cloned from, one from the other.
fn line(store: &Zfs, point: &Point) -> Result<Vec<Point>> {
    let mut line = vec![point.clone()];
    let mut at = point.dataset.clone();
    while let Some(origin) = store.origin(&at)? {
        let origin = Point::new(&origin);
        at = origin.dataset.clone();
        line.push(origin);
    }
    Ok(line)
}
