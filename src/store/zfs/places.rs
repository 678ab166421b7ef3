//! Where what is nested in a BE is mounted.

use super::destroy::{destroy, inside};
use super::{Zfs, once};
use crate::error::{Error, Result};
use crate::store::{ROOT, Store};
use crate::sys::tree::Tree;
use crate::sys::zfs::{Canmount, Dataset, Kind, Snapshots};
use std::os::fd::OwnedFd;

impl Zfs {
    /// Where nested datasets belong, as their own properties say, relative to the root of the BE at `path`.
    pub(super) fn places(&self, path: &str) -> Result<Vec<(String, String)>> {
        let full = self.full(path);
        let all = self.libzfs()?.below(&full, Snapshots::None, &[])?;
        let mountpoint = |d: &Dataset| d.mountpoint.clone().filter(|m| m.starts_with('/'));
        let root = all.first().and_then(mountpoint).unwrap_or_else(|| "/".into());
        let nested = all.iter().skip(1).filter(|d| d.kind == Kind::Filesystem && d.canmount != Some(Canmount::Off));
        let place = |at: String| {
            let rest = if root == "/" { at.strip_prefix('/') } else { at.strip_prefix(&root)?.strip_prefix('/') };
            rest.filter(|r| !r.is_empty()).map(str::to_string)
        };
        let mut places: Vec<_> = nested.filter_map(|d| Some((d.name.clone(), place(mountpoint(d)?)?))).collect();
        // What others are mounted in comes first.
        places.sort_by(|(_, a), (_, b)| a.cmp(b));
        Ok(places)
    }

    /// Destroys what is nested in the BE at `path` and belongs at or below one of `places`.
    pub(super) fn drop_at(&self, path: &str, places: &[String]) -> Result<()> {
        let nested = self.places(path)?;
        let (go, stay): (Vec<_>, Vec<_>) = nested.iter().partition(|(_, at)| places.iter().any(|p| is_below(p, at)));
        for (dataset, _) in &go {
            if let Some((other, at)) = stay.iter().find(|(other, _)| inside(dataset, other)) {
                return Err(Error::refused(format!("{other} belongs at /{at} and lies in {dataset}, which has to go"))
                    .hint("move it with `zfs rename -u`"));
            }
        }
        go.iter().rev().try_for_each(|(dataset, _)| destroy(self, dataset))
    }

    /// A dataset outside all BEs that `zfs mount -a` mounts at or below `place`.
    pub(super) fn mounted_at(&self, place: &str) -> Result<Option<String>> {
        let always = once(&self.always, || self.always_mounted())?;
        Ok(always.iter().find(|(_, at)| is_below(place, at)).map(|(dataset, _)| dataset.clone()))
    }

    /// The datasets outside all BEs that `zfs mount -a` mounts, each with its place. All of the pool is read for it.
    fn always_mounted(&self) -> Result<Vec<(String, String)>> {
        let altroot = self.settings()?.altroot.as_deref().unwrap_or_default().trim_end_matches('/');
        let adopted = self.adopted().unwrap_or_default();
        let in_a_be = |d: &str| inside(&self.full(ROOT), d) || adopted.values().any(|path| inside(&self.full(path), d));
        let place = |d: &Dataset| Some(d.mountpoint.as_ref()?.strip_prefix(altroot)?.strip_prefix('/')?.to_string());
        let all = self.libzfs()?.below(&self.pool.name, Snapshots::None, &[])?;
        let mounted = all.into_iter().filter(|d| d.canmount == Some(Canmount::On) && !in_a_be(&d.name));
        Ok(mounted.filter_map(|d| Some((d.name.clone(), place(&d)?))).collect())
    }

    /// The mounts of the dataset at `path` and of what is nested in it. Where the directory is not there that one belongs on,
    /// `absent` says whether it is now.
    pub(super) fn mounts_with(
        &self,
        path: &str,
        absent: impl Fn(&Tree, &str) -> Result<bool>,
    ) -> Result<Vec<(OwnedFd, String)>> {
        let full = self.full(path);
        let mut mounts = vec![(self.mount_one(&full)?, String::new())];
        let (dataset, snapshot) = full.split_once('@').map_or((full.as_str(), None), |(d, s)| (d, Some(s)));
        if self.lzc.children(dataset)?.is_empty() {
            return Ok(mounts);
        }
        for (nested, place) in self.places(path.split('@').next().unwrap_or(path))? {
            let nested = snapshot.map_or(nested.clone(), |s| format!("{nested}@{s}"));
            // It may lie in another that is nested.
            let inside = |(mount, at): &'_ (OwnedFd, String)| match at.is_empty() {
                true => Some(Tree::below(mount, path).map(|tree| (tree, place.clone()))),
                false => {
                    let rest = place.strip_prefix(at)?.strip_prefix('/')?;
                    Some(Tree::below(mount, at).map(|tree| (tree, rest.to_string())))
                }
            };
            let Some(holder) = mounts.iter().rev().find_map(inside) else { continue };
            let (tree, rest) = holder?;
            if self.lzc.exists(&nested)? && (tree.exists(&rest) || absent(&tree, &rest)?) {
                mounts.push((self.mount_one(&nested)?, place));
            }
        }
        Ok(mounts)
    }
}

/// Whether the path `at` is `place` or below it.
fn is_below(place: &str, at: &str) -> bool {
    at.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
