//! The hostid that all BEs of a store boot with.
//!
//! A pool that was not exported, and that of a running root never is, is imported without force only by the hostid that had it
//! before. A BE with another one, or none where the others have one, would stop in its initrd. So a store keeps one hostid, and
//! its kernels are told it: that outranks the `/etc/hostid` of whatever root and initrd (spl(4), `spl_hostid`).

use super::Zfs;
use crate::error::Result;
use crate::store::ROOT;
use crate::sys::mountinfo;
use crate::sys::tree::Tree;
use crate::sys::zfs::Stats;
use std::path::Path;

/// Eight hexadecimal digits, on `ROOT`.
const HOSTID: &str = "org.bootenv:hostid";
const FILE: &str = "etc/hostid";
const RUNNING: &str = "/sys/module/spl/parameters/spl_hostid";

impl Zfs {
    /// The store's, if it has one.
    pub(super) fn hostid(&self) -> Option<u32> {
        if self.hostid.get().is_none()
            && let Ok(Some(root)) = self.lzc.stats(&self.full(ROOT))
        {
            self.learn_hostid(&root);
        }
        self.hostid.get().flatten()
    }

    /// Reads it off what is known of `ROOT`, or of a BE there, which inherits it: that one is open if it runs, and `ROOT` never is.
    pub(super) fn learn_hostid(&self, stats: &Stats) {
        let root = self.full(ROOT);
        let hostid = match stats.user_from(HOSTID, &root) {
            Some(text) => u32::from_str_radix(&text, 16).ok().filter(|id| *id != 0),
            None if stats.name == root => None,
            // There is none, or the BE has another of its own.
            None => return,
        };
        self.hostid.set(Some(hostid));
    }

    /// Chooses it after the first root, whose files are `tree`: what has the pool now, if that is the running system; else the
    /// root's own, and this system's if it has none.
    pub(super) fn choose_hostid(&self, tree: &Tree) -> Result<()> {
        if self.hostid().is_some() {
            return Ok(());
        }
        let here = || of_this_system().ok().flatten();
        let chosen = if self.is_running()? { here() } else { of(tree)?.or_else(here) };
        let Some(hostid) = chosen else { return Ok(()) };
        self.lzc.set_user(&[(&self.full(ROOT), HOSTID, Some(&format!("{hostid:08x}")))])?;
        self.hostid.set(Some(Some(hostid)));
        Ok(())
    }

    /// Whether `/` is in the pool.
    fn is_running(&self) -> Result<bool> {
        let pool = |m: mountinfo::Mount| m.source.to_string_lossy().split('/').next() == Some(self.pool.name.as_str());
        Ok(mountinfo::root()?.filter(|m| m.fstype == "zfs").is_some_and(pool))
    }
}

/// What this system imports pools with: as its kernel was told, else as its file says.
fn of_this_system() -> Result<Option<u32>> {
    let told = std::fs::read_to_string(RUNNING).ok().and_then(|text| text.trim().parse().ok());
    match told.filter(|id| *id != 0) {
        Some(id) => Ok(Some(id)),
        None => of(&Tree::at(Path::new("/"))?),
    }
}

/// What a root's file says: four bytes, in the order of the machine (zgenhostid(8)).
fn of(tree: &Tree) -> Result<Option<u32>> {
    let bytes = tree.read(FILE)?.unwrap_or_default();
    let id = bytes.get(..4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_ne_bytes);
    Ok(Some(id).filter(|id| *id != 0))
}
