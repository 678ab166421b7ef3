//! Names, boot environments, snapshots, the shared list, fstab and kernels: values and rules, no input or output.

mod be;
pub mod fstab;
pub mod kernel;
mod name;
pub mod policy;
pub mod shared;
mod zone;

pub use be::{
    Asked, BootEnv, FORMAT, Facts, Heir, Inventory, MenuState, NextBoot, Room, Sight, Snapshot, StoreInfo, title,
};
pub use name::{BeName, NAME_MAX, SnapName, Target, ZoneName};
pub use zone::{Along, Belongs, Owner, Zone, ZoneView, in_zone_words, told_of, veil};
