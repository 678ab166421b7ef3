//! bootenv keeps several bootable copies of one Linux installation, changes one, boots it, and goes back.
//!
//! This page is the architecture. Words are the field's: a *BE* is a boot environment, a *store* is the filesystem
//! that holds them, an *alternate root* is a BE mounted somewhere other than `/`.
//!
//! # One way for everything
//!
//! Reading comes back as a [`domain::Inventory`]; changing goes through a [`plan::Plan`]:
//!
//! ```text
//! cli ──► session ──► store + loader ──► Inventory ──► ops ──► Plan ──► execute ──► store, loader, shared
//!  ▲                                                            │          │
//!  └───────────── report, JSON, --dry-run ◄─────────────────────┘          └──► journal ──► recover
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`cli`] | one file per verb: arguments in, report out; `output.rs` is the only printer |
//! | [`ops`] | one file per intent: inventory and request become a plan, or a refusal. Pure |
//! | [`domain`] | names, BEs, the shared list, fstab, kernels. Pure |
//! | [`plan`] | plans and steps as data, the only runner, the journal, recovery |
//! | [`store`] | the trait a filesystem implements, and Btrfs |
//! | [`loader`] | the trait a boot loader implements, and GRUB on UEFI |
//! | [`shared`] | moving directories into the shared dataset, and filling it |
//! | [`altroot`] | mounting a BE that does not run |
//! | [`session`] | one run against one store: opened, locked, recovered, read |
//! | [`sys`] | the only code that touches the kernel, and the only `unsafe` |
//!
//! The library never prints and never exits. An [`error::Error`] carries its kind, the path and the repair.
//!
//! # Plans
//!
//! A plan adds (clones, menu entries), commits (one step), and removes. After a crash one question decides between undoing
//! and finishing: was the commit reached? The answer is never a flag in a file. The commit is a step whose effect can
//! be *seen* — a menu entry, a directory's name, the default on the ESP — so the answer cannot disagree with what is
//! there. Therefore the journal is written once, durably, before the first step, and nothing has to be written between
//! steps: one fsync instead of one per step, and the same certainty.
//!
//! - Every step can be done again, and every step of the add phase can be undone, in any state a crash can leave.
//! - A clone made read-only becomes read-only last, so a snapshot that is read-only is whole.
//! - `rollback` exchanges two subvolumes with one `renameat2(RENAME_EXCHANGE)`.
//! - `rename` puts the new path into the menu before the rename and takes the old one out after it; the loader passes over
//!   an entry whose kernel is not there, so at every instant the default can be booted. `rollback` does the same for a
//!   snapshot with another kernel.
//! - `init` of an image works in a file without a name and gives it one when it is whole.
//!
//! Layout and loader files are the same for every plan and harmless without BEs, so undoing leaves them.
//!
//! # The store
//!
//! The top-level subvolume is reached through a detached mount (`fsopen`, `fsmount`) that no mount table shows and that
//! goes away with the process. An image's loop device has autoclear from the first instant, so it goes away too, however
//! the process ends. `btrfs-uapi` wraps the ioctls; listing is one tree search over the root tree, because one ioctl
//! per subvolume would cost as many calls as there are BEs.
//!
//! Facts (descriptions) are TOML files named by the subvolume's UUID, outside every BE. A damaged one costs a
//! description, never a BE. The origin of a BE is what Btrfs says its parent is.
//!
//! What ZFS needs of the operating system is `sys::zfs` (feature `zfs`, on by default): its libraries are opened when a
//! pool is first used, so that the one binary starts everywhere.
//!
//! # What boots
//!
//! GRUB reads a Btrfs without replaying its log: what is only fsynced is invisible to it after a power cut. So the
//! store is *committed* (`syncfs`) before the default on the ESP changes to something new. GRUB cannot write to Btrfs either,
//! so default, one-shot and the previous default live in an environment block on the ESP (FAT).
//!
//! Three texts share the work: `early.cfg` in the EFI image finds the ESP, `stub.cfg` on the ESP finds the store,
//! `logic.cfg` in the store decides what boots. Only `menu.cfg` is generated, one line per BE, and it is read back: what
//! `list` shows as `R` and `T` follows the same rules to the end ([`loader::read_back`]), including what GRUB falls back
//! to when a kernel is gone. An image that has no machine yet keeps its ESP's files in `BOOTENV/esp`, to be copied as
//! they are; once a machine has changed the real ones, the stand-in is removed.
//!
//! # Alternate roots
//!
//! A root process can take the read-only flag off any mount it can name. Not off one whose flags are *locked*, and the
//! kernel locks the flags of every mount that is copied into another user namespace. So the shared dataset's mount makes
//! a trip through a user namespace of its own and comes back locked; a clone, a bind mount and a new mount namespace keep the
//! lock. The whole tree is put together in a namespace nobody sees, because nothing can be mounted on a detached mount
//! before Linux 6.15, and attached in one move. See [`sys::namespace`].
//!
//! The directory it is mounted on is empty and immutable in every BE, so nothing that comes before the mount can
//! write below it.
//!
//! # Differences from the design
//!
//! - Steps are not journalled one by one: see above.
//! - `src/shared/` and `src/session.rs` were added: filling the shared dataset is no business of a store, and opening,
//!   locking and recovering belong in one place.
//! - `rustix` stands beside `nix` for `openat2` and the mount API, which `nix` does not have.

#![warn(missing_docs)]

pub mod altroot;
pub mod cli;
pub mod domain;
pub mod error;
pub mod loader;
pub mod ops;
pub mod plan;
pub mod session;
pub mod shared;
pub mod store;
pub mod sys;
