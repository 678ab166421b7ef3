//! ndb, rpm's own backend (`Packages.db`): pages of slots, each of which says where a header lies; numbers with the lowest byte first.

use super::{broken, bytes_at};
use crate::error::{Doing, Result};
use crate::sys::tree::Tree;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The file begins with one of these and two slots' worth of numbers, of which the fourth is how many pages of slots there are.
const MAGIC: &[u8; 4] = b"RpmP";
const HEAD: usize = 32;
const PAGE: usize = 4096;
/// A slot: this, the package's number (0 if it is free), where its blob begins, in blocks, and how many there are.
const SLOT: &[u8; 4] = b"Slot";
const SLOT_SIZE: usize = 16;
const BLOCK: u64 = 16;
/// A blob begins with this, the package's number, a generation, and how long the header is that follows.
const BLOB: &[u8; 4] = b"BlbS";
const BLOB_HEAD: usize = 16;
/// More pages than any system has packages for.
const MOST_PAGES: usize = 4096;

/// Gives all headers; whether there is such a database.
pub(super) fn blobs(root: &Tree, path: &str, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
    let Some(file) = root.file(path)? else { return Ok(false) };
    let length = file.metadata().doing(format_args!("cannot read /{path}"))?.len();
    let short = || broken(format!("/{path} is shorter than it says"));
    let head = read(&file, 0, HEAD).ok_or_else(short)?;
    if bytes_at(&head, 0).as_ref() != Some(MAGIC) {
        return Err(broken(format!("/{path} is no database")));
    }
    let pages = number(&head, 12).filter(|pages| *pages <= MOST_PAGES).ok_or_else(short)?;
    let slots = read(&file, 0, pages * PAGE).ok_or_else(short)?;
    for slot in slots.get(HEAD..).unwrap_or_default().chunks_exact(SLOT_SIZE) {
        let fields = (bytes_at(slot, 0), number(slot, 4), number(slot, 8), number(slot, 12));
        let (Some(magic), Some(package), Some(block), Some(blocks)) = fields else { return Err(short()) };
        if &magic != SLOT {
            return Err(broken(format!("a slot in /{path} is none")));
        }
        if package == 0 {
            continue;
        }
        let (at, size) = (block as u64 * BLOCK, blocks as u64 * BLOCK);
        let blob = (size <= length).then(|| read(&file, at, size as usize)).flatten().ok_or_else(short)?;
        let header = number(&blob, 12).and_then(|length| blob.get(BLOB_HEAD..BLOB_HEAD.checked_add(length)?));
        match header {
            Some(header) if bytes_at(&blob, 0).as_ref() == Some(BLOB) && number(&blob, 4) == Some(package) => {
                each(header)?
            }
            _ => return Err(broken(format!("package {package} in /{path} is not where it should be"))),
        }
    }
    Ok(true)
}

fn number(data: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes_at(data, at)?) as usize)
}

fn read(file: &File, at: u64, length: usize) -> Option<Vec<u8>> {
    let mut data = vec![0; length];
    file.read_exact_at(&mut data, at).is_ok().then_some(data)
}
