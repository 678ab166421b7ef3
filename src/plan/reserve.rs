//! A little space kept back, so that a full filesystem can still be told to destroy something.
//!
//! Btrfs reserves space for every write, even for a journal of a few hundred bytes; without this the repair that every
//! "no space left" names could not be carried out.

use crate::error::Result;
use crate::store::Store;
use rustix::fs::{FallocateFlags, Mode, OFlags};

const FILE: &str = "reserve";
/// Enough for a journal, a menu of a thousand entries, and both again while they are replaced.
const SIZE: u64 = 4 << 20;

/// Makes the reserve if it is not there. Where there is no room for it there is nothing to keep.
pub fn keep(store: &dyn Store) {
    let Ok(home) = store.home() else { return };
    if store.home_has_own_room() || home.exists(FILE) {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(home.fd(), FILE, flags, Mode::from_raw_mode(0o600)) else { return };
    if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE).is_err() {
        let _ = home.remove(FILE);
    }
}

/// Gives the reserve up, durably: until the next commit its space is not free.
pub fn give_up(store: &dyn Store) -> Result<()> {
    store.home()?.remove(FILE)?;
    store.sync()
}
