//! Reading a directory of small files in a few calls: Btrfs keeps what fits into a leaf inline, beside the inode, so that
//! one sweep over the top-level tree gives names and contents (btrfs(5), "inline files"). Opening a thousand files
//! takes three thousand calls, and was more than half of `list`.

use super::read::{SEARCH_BUFFER, TOP_LEVEL};
use crate::error::{Doing, Result};
use crate::sys::tree::Tree;
use btrfs_uapi::tree_search::{Key, SearchFilter, tree_search_v2};

// linux/btrfs_tree.h
const INODE_REF_KEY: u32 = 12;
const EXTENT_DATA_KEY: u32 = 108;
/// `struct btrfs_inode_ref`: an index and the name's length come before the name.
const REF_HEADER: usize = 10;
/// `struct btrfs_file_extent_item`: inline data begins here.
const EXTENT_HEADER: usize = 21;

/// Tells of every file of the directory `dir`, which lies in the top-level subvolume: its name, and its content unless that
/// is not inline and plain, and has to be read the ordinary way.
pub(super) fn files(top: &Tree, dir: &Tree, mut each: impl FnMut(&str, Option<&[u8]>)) -> Result<()> {
    let parent = rustix::fs::fstat(dir.fd()).doing("cannot look at a directory of the store")?.st_ino;
    let filter = SearchFilter {
        tree_id: TOP_LEVEL,
        // Inode numbers only grow, so what lies in the directory comes after it; its own items would be most of the answer.
        start: Key { objectid: parent + 1, item_type: 0, offset: 0 },
        end: Key { objectid: u64::MAX - 255, item_type: EXTENT_DATA_KEY, offset: u64::MAX },
        min_transid: 0,
        max_transid: u64::MAX,
    };
    // A file's items come one after the other, its name before its content. Empty: nothing waits for its content.
    let (mut inode, mut name) = (0, String::new());
    tree_search_v2(top.fd(), filter, Some(SEARCH_BUFFER), |header, data| {
        match header.item_type {
            INODE_REF_KEY if header.offset == parent => {
                if !name.is_empty() {
                    each(&name, None);
                }
                inode = header.objectid;
                name.clear();
                name.push_str(data.get(REF_HEADER..).and_then(|n| std::str::from_utf8(n).ok()).unwrap_or_default());
            }
            EXTENT_DATA_KEY if header.offset == 0 && header.objectid == inode && !name.is_empty() => {
                each(&name, inline(data));
                name.clear();
            }
            _ => {}
        }
        Ok(())
    })
    .doing("cannot read the directory of facts")?;
    if !name.is_empty() {
        each(&name, None);
    }
    Ok(())
}

/// The content of an inline extent that is neither compressed nor encoded, cut to the length it really has.
fn inline(extent: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(u64::from_le_bytes(extent.get(8..16)?.try_into().ok()?)).ok()?;
    let plain = extent.get(16..EXTENT_HEADER)?.iter().all(|b| *b == 0);
    let data = extent.get(EXTENT_HEADER..)?;
    (plain && data.len() == length).then_some(data)
}
