//! Datasets and snapshots, as they are read.

use super::nvlist::List;
use super::properties::Canmount;
use std::collections::BTreeMap;

/// What a dataset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A filesystem.
    Filesystem,
    /// A snapshot, of a filesystem or a volume.
    Snapshot,
    /// A block device.
    Volume,
}

/// A dataset or a snapshot (zfsprops(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its full name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its identity in the pool: renames and promotions do not change it.
    pub guid: u64,
    /// The transaction group it was made in: the order in time, where a second is too coarse.
    pub createtxg: u64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The snapshot it is a clone of.
    pub origin: Option<String>,
    /// Bytes that would be free without it; of a dataset with all below it, snapshots included.
    pub used: u64,
    /// Bytes that would be free without all its snapshots; of a snapshot, nothing.
    pub used_by_snapshots: u64,
    /// Bytes that would be free without what is below it; of a snapshot, nothing.
    pub used_by_children: u64,
    /// Its newest snapshot, named in full; what it was cloned from, if it has none; of a snapshot, nothing.
    pub newest: Option<String>,
    /// Bytes that it refers to and the snapshot before it, or its origin, does not.
    pub written: u64,
    /// Filesystems only.
    pub canmount: Option<Canmount>,
    /// Filesystems only: a path, `none` or `legacy`, its own or inherited.
    pub mountpoint: Option<String>,
    /// Whether its property `readonly` is on.
    pub readonly: bool,
    /// Its own user properties of those asked for, decoded ([`decode`](super::decode)).
    pub user: BTreeMap<String, String>,
}

impl Dataset {
    /// Whether it has snapshots.
    pub fn has_snapshots(&self) -> bool {
        let newest = self.newest.as_deref().and_then(|newest| newest.strip_prefix(&self.name));
        newest.is_some_and(|rest| rest.starts_with('@'))
    }
}

/// `ZPROP_SOURCE_VAL_RECVD`: the source of a value that came with `zfs receive`.
const RECEIVED: &str = "$recvd";

/// Whether a property of the dataset `name` that comes from there is set on it itself, or came with it when it was received.
pub(super) fn is_own(name: &str, source: &str) -> bool {
    source == name || source == RECEIVED
}

/// What is set on a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// What it is.
    pub kind: Kind,
    /// Native and user properties, as the kernel keeps them: numbers, of a choice too, or text.
    pub properties: List,
}
