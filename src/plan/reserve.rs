//! A little space kept back, so that a full filesystem can still be told to destroy something.
//!
//! Btrfs reserves space for every write, even for a journal of a few hundred bytes; without this the repair that every
//! "no space left" names could not be carried out. ZFS counts on writing everything many times over, and takes no room for what is
//! only allocated; so there the reserve is written, and is larger.

use crate::error::{Error, Result};
use crate::store::Store;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::fs::File;
use std::io::Read;

const FILE: &str = "reserve";
/// Enough for a journal, a menu of a thousand entries, and both again while they are replaced.
const SIZE: u64 = 4 << 20;

/// The same where it has to be written.
const WRITTEN: u64 = 8 << 20;
/// How often is looked whether what was given up has become free: ZFS takes some transaction groups for that.
const PATIENCE: usize = 6;

/// Makes the reserve if it is not there. Where there is no room for it there is nothing to keep.
pub fn keep(store: &dyn Store) {
    // One for all of the store is enough, however many zones there are.
    if store.zone().is_some() {
        return;
    }
    let Ok(home) = store.home() else { return };
    if home.exists(FILE) {
        return;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(home.fd(), FILE, flags, Mode::from_raw_mode(0o600)) else { return };
    let made = match store.keeps_what_is_allocated() {
        true => rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE).is_ok(),
        // What could be compressed would take no room.
        false => File::open("/dev/urandom")
            .and_then(|random| std::io::copy(&mut random.take(WRITTEN), &mut File::from(file)))
            .is_ok_and(|bytes| bytes == WRITTEN),
    };
    if !made {
        let _ = home.remove(FILE);
    }
}

/// Gives the reserve up, durably, and does what there was no room for: until some commit later its space is not free.
pub fn give_up(store: &dyn Store, mut act: impl FnMut() -> Result<()>) -> Result<()> {
    store.home()?.remove(FILE)?;
    let mut result = Ok(());
    for _ in 0..PATIENCE {
        store.sync()?;
        result = act();
        if !result.as_ref().is_err_and(Error::is_full) {
            break;
        }
    }
    result
}
