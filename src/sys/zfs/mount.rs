//! Detached mounts of datasets and snapshots, whatever their mountpoint and canmount are.
//!
//! While a dataset is mounted anywhere, the kernel gives EBUSY for a mount that wants the filesystem's `ro` flag to be
//! another than it is. So the flag is never asked for: a read-only mount has `MOUNT_ATTR_RDONLY` alone. With the
//! property `readonly=on` the flag is set without having been asked for, and then it does have to be.

use super::Lzc;
use super::errors::{Act, told};
use crate::error::{Error, Kind, Result};
use crate::sys::mount::detached_with;
use nix::libc;
use rustix::mount::MountAttrFlags;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Mounts a dataset or a snapshot detached: no mount table shows it, `zfs get mounted` says no, and it goes away
/// with the descriptor. Until then destroying the dataset and exporting the pool fail as busy; renaming and
/// promoting do not.
///
/// With `readonly`, this mount is read-only, and others are not touched. Without, it is read-only all the same if
/// it is a snapshot or the property `readonly` is on, and busy if somebody has it mounted with the option `ro`.
pub fn detached(name: &str, readonly: bool) -> Result<OwnedFd> {
    let attributes = if readonly { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    detached_with_attributes(name, attributes)
}

/// The same, with these attributes of the mount (`MOUNT_ATTR_*`). Without `MOUNT_ATTR_NOATIME`, reading may write when it was;
/// and whoever then unmounts the dataset waits for a transaction group.
pub fn detached_with_attributes(name: &str, attributes: MountAttrFlags) -> Result<OwnedFd> {
    let readonly = attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let mount = |flags| detached_with("zfs", Path::new(name), &[], flags, attributes);
    match mount(&[]) {
        Err(e) if e.errno == Some(libc::EBUSY) && (readonly || is_readonly(name)?) => mount(&["ro"]),
        result => result,
    }
    .map_err(|e| meaning(name, e))
}

/// Whether the property `readonly` of a dataset is on.
fn is_readonly(name: &str) -> Result<bool> {
    Ok(Lzc::open()?.stats(name)?.is_some_and(|stats| stats.is_readonly()))
}

fn meaning(name: &str, error: Error) -> Error {
    match error.errno {
        Some(libc::EBUSY) => {
            let mut busy = Error::new(Kind::Busy, format!("cannot mount {name}: it is mounted read-only already"))
                .hint("unmount it there: see `findmnt -t zfs`, also in containers");
            busy.errno = error.errno;
            busy
        }
        Some(errno) => told(Act::Mount, name, errno),
        None => error,
    }
}
