//! The store lane: the built binary at work on real filesystems (root, loop devices, a mount namespace per test).
//!
//! Cases name no store: what is Btrfs' own is in `tests/lab`.

#[path = "../lab/mod.rs"]
mod lab;

/// Cases that are the same whatever the loader is.
macro_rules! with_every_loader {
    ($($case:ident)*) => {
        mod grub {
            $(#[test]
            fn $case() {
                super::$case(crate::lab::Loader::Grub);
            })*
        }
        mod systemd_boot {
            $(#[test]
            fn $case() {
                super::$case(crate::lab::Loader::SystemdBoot);
            })*
        }
    };
}

mod activate;
mod adopt;
mod create;
mod damage;
mod diff;
mod forms;
mod init;
mod leftovers;
mod list;
mod model;
mod mount;
mod names;
mod odd;
mod on_esp;
mod pending;
#[cfg(feature = "zfs")]
mod pool_states;
mod pools;
mod promise_running;
mod promise_shared;
mod prune;
mod remove;
mod sequences;
mod shared;
mod stop;
mod stores;
mod systemd_boot;
#[cfg(feature = "zfs")]
mod zfs_low;
mod zone_along;
mod zone_frozen;
mod zone_fuzz;
mod zone_inside;
mod zone_make;
mod zone_mount;
mod zone_parents;
mod zone_protocol;
mod zone_run;
mod zone_verbs;
