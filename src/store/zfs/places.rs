//! Where what is nested in a BE is mounted.

use super::Zfs;
use crate::error::Result;
use crate::sys::tree::Tree;
use crate::sys::zfs::{self, Canmount, Kind};
use std::os::fd::OwnedFd;

impl Zfs {
    /// Where nested datasets belong, as their own properties say, relative to the root of the BE at `path`.
    fn places(&self, path: &str) -> Result<Vec<(String, String)>> {
        let full = self.full(path);
        let all = zfs::below(&full, None, &[])?;
        let mountpoint =
            |d: &zfs::Dataset| d.mountpoint.as_ref().map(|m| m.value.clone()).filter(|m| m.starts_with('/'));
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
        if self.subtree(dataset)?.len() == 1 {
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
