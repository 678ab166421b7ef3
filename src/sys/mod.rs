//! The only code that touches the kernel: mounts, namespaces, ioctls, loop devices, EFI variables, durable writes, locks.

pub mod child;
pub mod compare;
pub mod confine;
pub mod copy;
pub mod efivar;
pub mod freeze;
pub mod keeper;
pub mod listen;
pub mod loopdev;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod peer;
pub mod process;
pub mod tree;
#[cfg(feature = "zfs")]
pub mod zfs;
