//! Where two subvolumes may differ: what each has changed since they were one.
//!
//! Every change to a file, a directory or what is known about one is a change to its inode, which then carries the number of the
//! transaction. A tree search passes over what is older in whole blocks, so the cost grows with what has changed, not with what is
//! there (`fs/btrfs/ctree.c`, `btrfs_search_forward`).

use super::read::{self, Subvolume, Subvolumes};
use super::{Btrfs, FIRST_FREE, join};
use crate::error::{Doing, Result};
use crate::store::{self, Store, Touched};
use btrfs_disk::items::{InodeExtref, InodeItem, InodeRef};
use btrfs_uapi::tree_search::{Key, SearchFilter, SearchHeader, tree_search_v2};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use uuid::Uuid;

// linux/btrfs_tree.h
const INODE_ITEM_KEY: u32 = 1;
const INODE_REF_KEY: u32 = 12;
const INODE_EXTREF_KEY: u32 = 13;
const LAST_FREE: u64 = u64::MAX - 255;
/// All inodes of a subvolume.
pub(super) const FILES: [u64; 2] = [FIRST_FREE, LAST_FREE];
/// Bytes asked for in one search for what there is of one inode, which is little.
const FEW: usize = 4 << 10;

pub(super) fn touched(store: &Btrfs, old: &str, new: &str) -> Result<Vec<Touched>> {
    // What is not in the trees yet cannot be found in them.
    store.sync()?;
    let all = read::subvolumes(store)?;
    store::touched(&places(store, &all, old)?, &places(store, &all, new)?, |a, b| {
        let Some(since) = all.parted(a, b) else { return Ok(None) };
        let mut paths = Vec::new();
        for (side, other) in [(a, b), (b, a)] {
            let mut names = Names { store, tree: side.id, dirs: HashMap::from([(FIRST_FREE, Some(PathBuf::new()))]) };
            for (inode, state) in changed(store, side.id, since)? {
                if state_in(store, other.id, inode)?.as_ref() != Some(&state) {
                    paths.extend(names.paths(inode)?);
                }
            }
        }
        Ok(Some(paths))
    })
}

/// The subvolume at `path` and what is nested in it, by their paths from its top.
pub(super) fn places(store: &Btrfs, all: &Subvolumes, path: &str) -> Result<BTreeMap<String, Subvolume>> {
    let mut nested = read::nested(store, all, store.subvolume_id(path)?, path)?;
    nested.push(String::new());
    let mut places = BTreeMap::new();
    for place in nested {
        places.extend(read::at(store, all, &join(path, &place))?.map(|found| (place, found)));
    }
    Ok(places)
}

impl Subvolumes {
    /// The last transaction of which two subvolumes both have everything, if they have a common past.
    fn parted(&self, a: &Subvolume, b: &Subvolume) -> Option<u64> {
        let (a, b) = (self.line(a), self.line(b));
        let common = a.iter().find_map(|(uuid, at)| Some((*at, b.iter().find(|(other, _)| other == uuid)?.1)));
        common.map(|(at, other)| at.min(other))
    }

    /// What a subvolume comes from, itself first, each with the last transaction up to which it has what is in that.
    fn line(&self, of: &Subvolume) -> Vec<(Uuid, u64)> {
        let mut line = vec![(of.uuid, u64::MAX)];
        let (mut at, mut until) = (Some(of), u64::MAX);
        while let Some((born, parent)) = at.and_then(|s| Some((s.born, s.parent_uuid?))) {
            until = until.min(born);
            line.push((parent, until));
            // What is no tree of ancestors is no reason to go round for ever.
            at = self.by_uuid(parent).filter(|_| line.len() <= self.len());
        }
        line
    }
}

/// What an inode says of itself but for when it was read, which changes it too. Any other change counts `sequence` up, or, if it
/// comes through a mapping, may only move the times.
#[derive(Debug, PartialEq, Eq)]
struct State {
    sequence: u64,
    size: u64,
    owner: (u32, u32),
    mode: u32,
    names: u32,
    changed: (u64, u32),
    written: (u64, u32),
}

impl State {
    fn of(item: &InodeItem) -> State {
        State {
            sequence: item.sequence,
            size: item.size,
            owner: (item.uid, item.gid),
            mode: item.mode,
            names: item.nlink,
            changed: (item.ctime.sec, item.ctime.nsec),
            written: (item.mtime.sec, item.mtime.nsec),
        }
    }
}

/// Searches a tree for items of some inodes and types, in blocks that are as new as a transaction.
pub(super) fn search(
    store: &Btrfs,
    tree_id: u64,
    inodes: [u64; 2],
    types: [u32; 2],
    min_transid: u64,
    mut found: impl FnMut(&SearchHeader, &[u8]),
) -> Result<()> {
    let start = Key { objectid: inodes[0], item_type: types[0], offset: 0 };
    let end = Key { objectid: inodes[1], item_type: types[1], offset: u64::MAX };
    let filter = SearchFilter { tree_id, start, end, min_transid, max_transid: u64::MAX };
    let buffer = if inodes[0] == inodes[1] { FEW } else { read::SEARCH_BUFFER };
    tree_search_v2(store.top.fd(), filter, Some(buffer), |header, data| {
        found(header, data);
        Ok(())
    })
    .doing("cannot search the trees of the Btrfs")
}

/// An inode of a tree, if it is there.
fn state_in(store: &Btrfs, tree: u64, inode: u64) -> Result<Option<State>> {
    let mut state = None;
    search(store, tree, [inode; 2], [INODE_ITEM_KEY; 2], 0, |_, data| {
        state = InodeItem::parse(data).as_ref().map(State::of);
    })?;
    Ok(state)
}

/// The inodes of a tree that were changed after a transaction.
fn changed(store: &Btrfs, tree: u64, since: u64) -> Result<Vec<(u64, State)>> {
    let Some(next) = since.checked_add(1) else { return Ok(Vec::new()) };
    let mut inodes = Vec::new();
    search(store, tree, FILES, [0, u32::MAX], next, |header, data| {
        // In a block that has changed there are items that have not.
        if header.item_type == INODE_ITEM_KEY
            && let Some(item) = InodeItem::parse(data).filter(|item| item.transid > since)
        {
            inodes.push((header.objectid, State::of(&item)));
        }
    })?;
    Ok(inodes)
}

/// The paths of inodes in a tree.
struct Names<'s> {
    store: &'s Btrfs,
    tree: u64,
    /// Directories found so far; nothing for one that is gone.
    dirs: HashMap<u64, Option<PathBuf>>,
}

impl Names<'_> {
    /// Every path that leads to an inode.
    fn paths(&mut self, inode: u64) -> Result<Vec<PathBuf>> {
        if inode == FIRST_FREE {
            return Ok(vec![PathBuf::new()]);
        }
        let mut paths = Vec::new();
        for (parent, name) in self.names(inode)? {
            paths.extend(self.dir(parent)?.map(|dir| dir.join(OsStr::from_bytes(&name))));
        }
        Ok(paths)
    }

    fn dir(&mut self, inode: u64) -> Result<Option<PathBuf>> {
        // Upwards to one that is known, then down again.
        let (mut way, mut at) = (Vec::new(), inode);
        while !self.dirs.contains_key(&at) {
            match self.names(at)?.pop() {
                Some((parent, name)) => {
                    way.push((at, name));
                    at = parent;
                }
                None => drop(self.dirs.insert(at, None)),
            }
        }
        let mut path = self.dirs[&at].clone();
        for (inode, name) in way.into_iter().rev() {
            path = path.map(|dir| dir.join(OsStr::from_bytes(&name)));
            self.dirs.insert(inode, path.clone());
        }
        Ok(path)
    }

    /// The names of an inode, each with the directory it is in.
    fn names(&self, inode: u64) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut names = Vec::new();
        search(self.store, self.tree, [inode; 2], [INODE_REF_KEY, INODE_EXTREF_KEY], 0, |header, data| {
            match header.item_type {
                INODE_REF_KEY => {
                    names.extend(InodeRef::parse_all(data).into_iter().map(|found| (header.offset, found.name)));
                }
                INODE_EXTREF_KEY => {
                    names.extend(InodeExtref::parse_all(data).into_iter().map(|found| (found.parent, found.name)));
                }
                _ => {}
            }
        })?;
        Ok(names)
    }
}
