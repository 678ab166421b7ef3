//! Everything of OpenZFS that is the operating system's: its libraries, its commands, its mounts.
//!
//! Changes go through `libzfs_core` in this process: about ten times as fast as a `zfs` command each, and what
//! a channel program changes is one transaction group. Many datasets are read by `libzfs`: a channel program is slower, and a
//! synchronous one would hold up the pool. A few are read by the call that `libzfs` makes too ([`Stats`]), in less time than it takes
//! to open that. The libraries are opened at first use, so the same binary runs where there is no OpenZFS. Only `zfs set`, for a native
//! property that somebody names, and `zfs diff` are processes.
//!
//! Every call that changes something returns when its transaction group is on disk, and with it everything that
//! was written before in any dataset of the pool.
//!
//! Never `zfs rename` without `-u`: it mounts again what it found mounted, over `/` if that is where the dataset
//! belongs. [`Lzc::rename`] leaves mounts alone.

mod changes;
mod command;
mod datasets;
mod errors;
mod library;
mod libzfs;
mod lzc;
mod mount;
mod nvlist;
mod pool;
mod program;
mod properties;
mod stats;

pub use changes::changed_paths;
pub use command::wait_until_free;
pub use datasets::{Dataset, Kind, Set};
pub use libzfs::{Libzfs, Snapshots};
pub use lzc::Lzc;
pub use mount::{detached, detached_with_attributes};
pub use nvlist::{List, Value};
pub use pool::{Pool, Settings};
pub use program::{Limits, Step};
pub use properties::{Canmount, Property, decode, encode, set_native};
pub use stats::Stats;
