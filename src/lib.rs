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
//! | [`loader`] | the trait a boot loader implements; GRUB and systemd-boot on UEFI; kernels on the ESP |
//! | [`shared`] | moving directories into the shared dataset, and filling it |
//! | [`altroot`] | mounting a BE that does not run |
//! | [`diff`] | how two BEs differ |
//! | [`package`] | what a root has installed |
//! | [`settings`] | what can be set in a BE |
//! | [`zone`] | containers: brands, what each zone runs, what is put in place for it |
//! | [`session`] | one run against one store: opened, locked, recovered, read |
//! | [`varlink`] | `io.bootenv`: what zones and programs ask for over a socket |
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
//! A pool is no directory: paths are datasets below a base, and the store mounts what it is asked for. BEs made from BEs get an
//! origin snapshot of their own, which goes with the last clone. A call of libzfs_core is one transaction group, on disk
//! when it returns with everything before it; what has to happen together is one channel program. Datasets cannot change
//! places at once, so `exchange` is three renames that recovery can tell apart. Reading is libzfs, and starts no process: the
//! filesystems below `ROOT` for `list`, with the snapshots that decide on what a BE holds; all that people see there where it is asked
//! for. Most of that time goes to opening datasets: the kernel opens the one above anew for each that it lists. So `ROOT` is mounted,
//! where nobody sees it, while many are. A channel program was measured to be slower, for it looks a dataset up anew for every
//! property. Where a few datasets count, as for `create NAME`, libzfs is not opened, which takes longer than all the questions: the
//! module tells all that it knows of one dataset in one call, and what lies right below it, as it tells libzfs. So a clone is born
//! with what is set on its source, and a BE with its facts, however many BEs there are.
//!
//! Whoever unmounts a dataset waits for two transaction groups, though nothing was written, because an intent log is made for it and closed.
//! So the tool's own dataset has none (`sync=disabled`): whoever only reads waits for nothing, and a plan waits once, at its end
//! ([`store::Store::keep_home`]). What follows what on the disk is as certain as before, for nothing is in a later transaction group than what was
//! done after it.
//!
//! A root's pool is never exported, and one that was not is imported only with the hostid it had before. So a store keeps one
//! hostid, which the entries tell the kernel: BEs may come from anywhere, and initrds may be old.
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
//! Three texts share the work: `early.cfg` in the EFI image finds the ESP, `stub.cfg` there finds the menu's directory, and
//! `logic.cfg` in that decides what boots. Only `menu.cfg` is generated, one line per BE, and it is read back: what
//! `list` shows as `R` and `T` follows the same rules to the end ([`loader::read_back`]), including what GRUB falls back
//! to when a kernel is gone. An image that has no machine yet keeps its ESP's files in `BOOTENV/esp`, to be copied as
//! they are; once a machine has changed the real ones, the stand-in is removed.
//!
//! # A loader that cannot see the store
//!
//! systemd-boot reads the ESP and nothing else; GRUB cannot read pools as they are made today. For
//! both, [`loader::kernels`] keeps copies of kernels on the ESP, named by content, written beside and renamed,
//! checked for space before the first byte, and collected last. By its directory, named by the store's UUID, systemd-boot's ESP is
//! recognised; in the same directory GRUB has its menu, where it cannot have it in the store.
//!
//! Whatever makes room must need none. An entry of systemd-boot is a file, to be removed; GRUB's menu is one file for all, and
//! another one is written beside it: a reserve is kept for that.
//!
//! Such a loader boots what an entry says whether or not it is there, so [`domain::Sight`] decides how what is due can be moved:
//!
//! - `rename`: the entry names its root by identity (`subvolid=`) until it is over, then by path again. By identity for good
//!   would make `rollback` boot what it has just put aside. Where a store has no such identity (ZFS), what is due is not renamed.
//! - `rollback` exchanges roots in the store and kernels on the ESP, and no instant does both. If the kernel is the same, only the
//!   store changes; if it is not, what is due is refused.
//! - The store is committed before every step that says on the ESP what is in the store.
//!
//! Default and one-shot are EFI variables, written one after the other: the default first, because a one-shot that is being
//! taken back may still be due, but what was the default before may not become due in between. The previous default
//! has no variable. It is in the entries' sort keys, which count activations: so it is not only known but done, by the
//! loader's own rule that without a default the first entry boots. The same rule boots an image for which there are no
//! variables yet, with a single atomic file replacement as the commit. Keys begin with `0`, so that other systems' entries
//! come after.
//!
//! Variables belong to a machine. They count only where the running system is on the store, or where the default in them
//! names one of the store's entries; elsewhere what boots next is *unknown*, which is also said if the machine was booted by another
//! loader or from another ESP.
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
//! # Commands in a BE
//!
//! `run` needs what `mount` cannot give: processes that end, and a root that cannot undo anything. [`sys::keeper`] puts two
//! processes between us and the command, so that all of it is gone however any of them ends; [`sys::confine`] gives up for good
//! what could take protection off, reach files other than by path, or change the running system. Device nodes are harmless by
//! `nodev`, so that packages may make them.
//!
//! Below `/var/shared` the command sees an overlay, whose upper layer is the BE's own and so goes where its clones go. At the
//! first boot a unit merges it with plain renames ([`shared`]); the kernel's overlay is not needed for that. Where pacman is at home the
//! links to that give way to directories for as long as a command runs: it takes a link for a conflict, and nothing can be mounted on one.
//!
//! `upgrade` is a creation with two more steps, *run* and *examine*, before the menu entry. So the journal undoes it like any
//! other plan. The lock is held meanwhile, by the keeper too: nobody recovers a plan while its command still runs.
//!
//! # What differs
//!
//! `diff` asks the store where two BEs *may* differ, and compares what is there. On Btrfs a tree search passes over every block that is
//! older than the moment at which the two parted, and tells the inodes that were changed since; a directory is one of them if a name in
//! it came or went. An inode that was only read since has changed too, but its count of changes has not. So what has to be looked at is
//! known without a walk, and no clock or checksum is trusted for it. On ZFS zfs-diff(8) tells
//! that; its ioctl has no call in a library, and a layout that changes from release to release.
//!
//! # Zones
//!
//! What a zone has of a store is a store ([`store::Store::enter`]): paths are from the zone's place, which no path and no symlink
//! leads out of, and what it runs is its boot loader ([`zone::Record`]). So every verb works on a zone without knowing, and nothing has to
//! be looked at to keep one zone out of another. A view that puts a prefix before each path was the alternative; it would be one more
//! thing to be right about every path, for Btrfs and ZFS know what they are from anyway.
//!
//! What is kept of a zone lies in the store's own directory, not in the zone's place: facts, what it runs, its journal, its lock. So a
//! zone can be destroyed while it is locked, a symlink in its place is never followed to them, and on ZFS there is one dataset to
//! mount for all of them. Each has a journal and a lock of its own, so that one cannot hold up another. A plan of the
//! host's that changes zones ([`plan::Step::In`]) takes their locks, and its journal is the host's: before a verb works on a zone, what was
//! begun on the host is finished or undone.
//!
//! What a verb of the host does in attached zones is in its one plan ([`domain::Along`]): the zones are locked after the host, in the
//! order of their names, and what cannot be looked into is left out, because a zone may not stop the host. The clones of the host's BE and of the
//! zones' are one step ([`plan::Step::CloneTogether`]), so that a web server and its database are of the same moment. On ZFS the
//! snapshots are one transaction. On Btrfs each is its own, so the processes of running zones are frozen around all of them; a process that waits
//! for our end thaws them ([`sys::freeze`]), so there is nothing to recover.
//!
//! A root is cloned for each BE of the host, whether or not it has changed. To share one between two BEs of the host until the first
//! write would need somebody who sees that write; the filesystem is just that. On Btrfs a clone costs three small files that
//! are made durable, and a commit of the filesystem that those which are made together share: `make bench` measured 16 ms for `create` with
//! one zone, 57 with 10 and 508 with 100, and they stand still for the commits alone. On ZFS they share transaction groups.
//!
//! A snapshot of a zone BE that was taken with one of the host names that as its parent, as zone BEs name theirs. So `rollback`,
//! `create -e BE@SNAP` and `destroy BE@SNAP` find what goes with it, whatever it is called.
//!
//! A root of a zone is put together by itself before it is mounted in that of the host: no symlink in it can lead a mount elsewhere.
//!
//! A zone BE names the BE of the host that it belongs to by identity, which a rollback changes: so that has a step for each zone
//! ([`plan::Step::Inherit`]), after its commit, and recovery does the rest of them.
//!
//! Nobody reads what a zone runs but bootenv itself, and that after recovery. So unlike a menu it need not be right at every instant, and
//! a zone's plan names the BE of the host that it was made under, whoever finishes it.
//!
//! A zone's root is mounted where its brand looks for it only while it runs, and that is done on the container's own way up: by a drop-in of
//! systemd-nspawn's unit, or a hook of LXC, which call `zone start --place`. So it makes no difference who starts it, and a container
//! that reboots comes up in what is due. The unit that does it is another one, for systemd-nspawn's may open no disk. The alternative,
//! roots that are mounted from boot on, would have had to be mounted anew for every `activate`, and would have kept what does not run
//! from being destroyed or rolled back.
//!
//! The shared dataset is not mounted in the root but beside it, and the brand's settings bind it: systemd-nspawn lets no mounts below a
//! root whose owners it maps, and maps those of what it binds itself. Settings of others take the place of ours as a whole, so they have to have the
//! line that does it, and are refused without it.
//!
//! What runs in a zone is what the first process of its container has as its root, as the kernel tells it; no file is asked for that.
//!
//! # From inside a zone
//!
//! A zone is given a socket and nothing else ([`varlink`]). The zone is known by the socket, and who connects by what the kernel tells of
//! the process; nothing that is said counts for either. On the host a service for each zone reads calls, within limits, and starts this
//! same program for each of them, told the zone as an administrator would tell it: so there is one way to change a zone, a call that goes
//! wrong takes nobody along, and one that takes too long can be ended, for the journal makes good what is cut off. In threads of one process
//! neither would hold, and libzfs is not made for them.
//!
//! Inside, the same program finds the socket and sends what the verbs would do. What comes back are the documents of `--json`, and a list is made
//! an inventory again, so that tables are drawn by one piece of code. Names of the host's BEs do not come along: they are veiled in
//! [`session`], where all that a verb may tell is read.
//!
//! The protocol is a few dozen lines here. `varlink`, the crate that has no runtime, reads a message of any length, for as long as it
//! takes, and knows nothing of who has sent it; `zlink` is asynchronous. A socket that root of a container writes to needs the contrary.
//!
//! # Differences from the design
//!
//! - Steps are not journalled one by one: see above.
//! - `src/shared/` and `src/session.rs` were added: filling the shared dataset is no business of a store, and opening,
//!   locking and recovering belong in one place.
//! - The trait `Loader` has `due`: what a loader falls back to is its own, and [`loader::read_back`] only compares.
//! - libzetta is not used. It links libzfs_core, so the binary would not start where there is no OpenZFS, and takes twice as
//!   long to start where there is (1.3 ms against 0.6, as long as half of `list` at 1000 BEs); its development files are in Debian's
//!   contrib; and it has no clone, promote, rename, rollback or properties. The library is opened with `libloading` instead, and libzfs,
//!   whose number changes from release to release, the same way.
//! - `rustix` stands beside `nix` for `openat2` and the mount API, which `nix` does not have.

#![warn(missing_docs)]

pub mod altroot;
pub mod cli;
pub mod diff;
pub mod domain;
pub mod error;
pub mod loader;
pub mod ops;
pub mod package;
pub mod plan;
pub mod session;
pub mod settings;
pub mod shared;
pub mod store;
pub mod sys;
pub mod varlink;
pub mod zone;
