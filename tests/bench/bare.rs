//! The bare-ioctl program: the least a tool of this kind can do, as a measure for those that do more.
//!
//! It opens directories, makes one ioctl and prints. It has no store to find, no lock, no journal, no menu.

use btrfs_disk::items::RootItem;
use btrfs_uapi::subvolume::{snapshot_create, subvolume_delete, subvolume_info};
use btrfs_uapi::tree_search::{Key, SearchFilter, tree_search_v2};
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

/// linux/btrfs_tree.h
const ROOT_TREE: u64 = 1;
const FIRST_FREE: u64 = 256;
const LAST_FREE: u64 = u64::MAX - 255;
const ROOT_ITEM_KEY: u32 = 132;
const ROOT_BACKREF_KEY: u32 = 144;
/// `struct btrfs_root_ref`: dirid, sequence, name_len, then the name.
const NAME_AT: usize = 18;

/// `create SOURCE DIR NAME`, `list DIR`, `delete DIR NAME`.
pub fn main(arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["create", source, dir, name] => create(source, dir, name),
        ["list", dir] => list(dir),
        ["delete", dir, name] => delete(dir, name),
        _ => Err(std::io::Error::other("create SOURCE DIR NAME | list DIR | delete DIR NAME")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bare {}: {e}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn create(source: &str, dir: &str, name: &str) -> std::io::Result<()> {
    let (source, dir) = (File::open(source)?, File::open(dir)?);
    Ok(snapshot_create(dir.as_fd(), source.as_fd(), &CString::new(name)?, false, &[])?)
}

fn delete(dir: &str, name: &str) -> std::io::Result<()> {
    Ok(subvolume_delete(File::open(dir)?.as_fd(), &CString::new(name)?)?)
}

fn list(dir: &str) -> std::io::Result<()> {
    let mut text = Vec::new();
    search(File::open(dir)?.as_fd(), |id, found| {
        if let Found::Name { parent, name } = found {
            let _ = write!(text, "{id}\t{parent}\t");
            text.extend_from_slice(name);
            text.push(b'\n');
        }
    })?;
    std::io::stdout().write_all(&text)
}

/// How many subvolumes are deleted and wait for the kernel's cleaner: they have a root, and no name.
pub fn nameless(on: BorrowedFd<'_>) -> std::io::Result<usize> {
    let (mut roots, mut names) = (0usize, 0usize);
    search(on, |_, found| match found {
        Found::Root(_) => roots += 1,
        Found::Name { .. } => names += 1,
    })?;
    Ok(roots.saturating_sub(names))
}

/// How many levels of nodes the tree of the subvolume at `on` has above its leaves, as of the last commit.
pub fn levels(on: BorrowedFd<'_>) -> std::io::Result<u8> {
    let id = subvolume_info(on)?.id;
    let mut levels = 0;
    search(on, |found_id, found| {
        if let (true, Found::Root(data)) = (found_id == id, found) {
            levels = RootItem::parse(data).map_or(0, |root| root.level);
        }
    })?;
    Ok(levels)
}

/// What the root tree says of a subvolume.
enum Found<'a> {
    Root(&'a [u8]),
    Name { parent: u64, name: &'a [u8] },
}

/// One search over the root tree.
fn search(on: BorrowedFd<'_>, mut each: impl FnMut(u64, Found<'_>)) -> std::io::Result<()> {
    let filter = SearchFilter {
        tree_id: ROOT_TREE,
        start: Key { objectid: FIRST_FREE, item_type: ROOT_ITEM_KEY, offset: 0 },
        end: Key { objectid: LAST_FREE, item_type: ROOT_BACKREF_KEY, offset: u64::MAX },
        min_transid: 0,
        max_transid: u64::MAX,
    };
    tree_search_v2(on, filter, None, |header, data| {
        match header.item_type {
            ROOT_ITEM_KEY => each(header.objectid, Found::Root(data)),
            ROOT_BACKREF_KEY => {
                let name = data.get(NAME_AT..).unwrap_or_default();
                each(header.objectid, Found::Name { parent: header.offset, name });
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(())
}
