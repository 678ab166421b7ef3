//! The bare-ioctl program: the least a tool of this kind can do, as a measure for those that do more.
//!
//! It opens directories, makes one ioctl and prints. It has no store to find, no lock, no journal, no menu.

use btrfs_uapi::subvolume::{snapshot_create, subvolume_delete};
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
    search(File::open(dir)?.as_fd(), |id, reference| {
        if let Some((parent, name)) = reference {
            let _ = write!(text, "{id}\t{parent}\t");
            text.extend_from_slice(name);
            text.push(b'\n');
        }
    })?;
    std::io::stdout().write_all(&text)
}

/// How many subvolumes are deleted and wait for the kernel's cleaner: they have a root, and no name.
pub fn nameless(on: BorrowedFd<'_>) -> std::io::Result<usize> {
    let mut waiting = 0;
    search(on, |_, reference| waiting = if reference.is_some() { waiting - 1 } else { waiting + 1 })?;
    Ok(usize::try_from(waiting).unwrap_or(0))
}

/// One search over the root tree: every subvolume once as a root, and once with its parent and name if it has them.
fn search(on: BorrowedFd<'_>, mut each: impl FnMut(u64, Option<(u64, &[u8])>)) -> std::io::Result<()> {
    let filter = SearchFilter {
        tree_id: ROOT_TREE,
        start: Key { objectid: FIRST_FREE, item_type: ROOT_ITEM_KEY, offset: 0 },
        end: Key { objectid: LAST_FREE, item_type: ROOT_BACKREF_KEY, offset: u64::MAX },
        min_transid: 0,
        max_transid: u64::MAX,
    };
    tree_search_v2(on, filter, None, |header, data| {
        match header.item_type {
            ROOT_ITEM_KEY => each(header.objectid, None),
            ROOT_BACKREF_KEY => {
                let name = data.get(NAME_AT..).unwrap_or_default();
                each(header.objectid, Some((header.offset, name)));
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(())
}
