//! How much all that is in the store takes: the extents that its files refer to, each counted once, as they are on the disk.
//!
//! Btrfs itself counts that only with quotas, which stall machines. So the trees are read, which takes as long as there are files.

use super::{Btrfs, read, touched};
use crate::error::Result;
use crate::store::{ROOT, SHARED, Store, be_path};
use btrfs_disk::items::{FileExtentBody, FileExtentItem};
use std::collections::HashMap;

// linux/btrfs_tree.h
const EXTENT_DATA_KEY: u32 = 108;

pub(super) fn takes(store: &Btrfs) -> Result<u64> {
    let all = read::subvolumes(store)?;
    let mut paths: Vec<String> = store.top.list(ROOT)?.iter().map(|name| be_path(&name.to_string_lossy())).collect();
    paths.push(SHARED.to_string());
    let (mut extents, mut inline) = (HashMap::new(), 0);
    for path in paths {
        if store.identity(&path)?.is_none() {
            continue;
        }
        for subvolume in touched::places(store, &all, &path)?.values() {
            touched::search(store, subvolume.id, touched::FILES, [0, u32::MAX], 0, |header, data| {
                if header.item_type != EXTENT_DATA_KEY {
                    return;
                }
                match FileExtentItem::parse(data).map(|item| item.body) {
                    // Holes are at 0.
                    Some(FileExtentBody::Regular { disk_bytenr, disk_num_bytes, .. }) if disk_bytenr != 0 => {
                        extents.insert(disk_bytenr, disk_num_bytes);
                    }
                    // Copied with each snapshot that it is changed beside.
                    Some(FileExtentBody::Inline { inline_size }) => inline += inline_size as u64,
                    _ => {}
                }
            })?;
        }
    }
    Ok(extents.values().sum::<u64>() + inline)
}
