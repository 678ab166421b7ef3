//! The Btrfs store, through its ioctls (btrfs-uapi; btrfs(5), linux/btrfs.h).
//!
//! The top-level subvolume (id 5) is reached through a detached mount: nobody's mount table changes, and the mount is
//! gone with the process. Listing is one tree search over the root tree, however many BEs there are.

mod bulk;
mod read;
mod takes;
mod touched;

use super::{About, Contents, FactsFile, HOME, LAYOUT, ROOT, SHARED, Space, Store, Touched, facts};
use crate::domain::{Facts, NAME_MAX, Room, StoreInfo, ZoneName};
use crate::error::{Doing, Error, Result};
use crate::sys::loopdev::LoopDevice;
use crate::sys::mountinfo::{self, Mount};
use crate::sys::tree::Tree;
use btrfs_uapi::subvolume::{self, SubvolumeFlags};
use rustix::fs::RenameFlags;
use std::cell::Cell;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use uuid::Uuid;

/// The inode number of every subvolume's top directory (linux/btrfs_tree.h, `BTRFS_FIRST_FREE_OBJECTID`).
const FIRST_FREE: u64 = 256;

/// A Btrfs filesystem.
struct Filesystem {
    top: Tree,
    uuid: Uuid,
    device: PathBuf,
    devices: Vec<PathBuf>,
    /// Closing this descriptor takes the mount away.
    _mount: OwnedFd,
    _loop: Option<LoopDevice>,
}

/// What of a filesystem is a store: all of it, or what a zone has of it.
pub struct Btrfs {
    filesystem: Rc<Filesystem>,
    /// What paths are from. Whatever symlinks are in there, none leads out of it.
    top: Tree,
    /// Where that is, from the top of the filesystem.
    base: String,
    zone: Option<ZoneName>,
    name: String,
    /// The mount table as it was when the store was found, for whoever reads the store first.
    mounts: Cell<Option<Vec<Mount>>>,
}

impl Btrfs {
    /// Opens the filesystem on `device`. `name` is what messages call it.
    pub fn open(device: &Path, name: &str, loop_device: Option<LoopDevice>, readonly: bool) -> Result<Self> {
        let mount = crate::sys::mount::detached("btrfs", device, &[("subvolid", "5")], readonly)?;
        let top = Tree::below(&mount, "")?;
        let info = btrfs_uapi::filesystem::filesystem_info(top.fd()).doing_to("ask about the Btrfs on", device)?;
        let devices =
            btrfs_uapi::device::device_info_all(top.fd(), &info).doing_to("ask about the Btrfs on", device)?;
        let whole = top.sub("")?;
        let filesystem = Filesystem {
            top,
            uuid: info.uuid,
            device: device.to_path_buf(),
            devices: devices.into_iter().map(|d| PathBuf::from(d.path)).collect(),
            _mount: mount,
            _loop: loop_device,
        };
        Ok(Btrfs {
            filesystem: Rc::new(filesystem),
            top: whole,
            base: String::new(),
            zone: None,
            name: name.to_string(),
            mounts: Cell::default(),
        })
    }

    /// A device of the filesystem that is mounted at `at`, by the kernel's own name for it: `/sys/fs/btrfs/UUID/devices` (btrfs(5)).
    pub fn device_of(at: &Path) -> Result<PathBuf> {
        let dir = std::fs::File::open(at).doing_to("open", at)?;
        let info = btrfs_uapi::filesystem::filesystem_info(dir.as_fd()).doing_to("ask about the Btrfs at", at)?;
        let known = PathBuf::from(format!("/sys/fs/btrfs/{}/devices", info.uuid));
        let names = std::fs::read_dir(&known).doing_to("read", &known)?;
        let device = names.flatten().map(|entry| Path::new("/dev").join(entry.file_name())).find(|at| at.exists());
        device.ok_or_else(|| Error::failed(format!("no device of the Btrfs at {} is in /dev", at.display())))
    }

    /// The path of what lies at `path`, from the top of the filesystem.
    fn full(&self, path: &str) -> String {
        match path {
            "" => self.base.clone(),
            path => join(&self.base, path),
        }
    }

    /// With the mount table as it is now, which the first reading of the store need not read again.
    pub fn with_mounts(self, mounts: Vec<Mount>) -> Self {
        self.mounts.set(Some(mounts));
        self
    }

    /// Whether a mount shows something of this filesystem.
    fn holds(&self, mount: &Mount) -> bool {
        mount.fstype == "btrfs" && self.filesystem.devices.iter().any(|d| same_device(d, &mount.source))
    }

    /// The tool's own directory, from the top of the filesystem.
    fn own_home(&self) -> String {
        self.zone.as_ref().map_or(HOME.to_string(), |zone| join(HOME, &super::zone_home(zone)))
    }

    fn subvolume_id(&self, path: &str) -> Result<u64> {
        let tree = self.top.sub(path)?;
        btrfs_uapi::inode::lookup_path_rootid(tree.fd()).doing(format_args!("cannot ask about the subvolume {path}"))
    }

    fn must_identify(&self, path: &str) -> Result<Uuid> {
        self.identity(path)?.ok_or_else(|| Error::not_found(format!("{path} is gone")))
    }

    /// The subvolumes nested in that at `path`, by their paths in it.
    fn nested_in(&self, path: &str) -> Result<Vec<String>> {
        let below = subvolume::subvol_rootrefs(self.top.sub(path)?.fd()).doing("cannot list nested subvolumes")?;
        match below.is_empty() {
            true => Ok(Vec::new()),
            false => read::nested(self, &read::subvolumes(self)?, self.subvolume_id(path)?, path),
        }
    }

    /// Puts into a snapshot what was nested in the subvolume, and takes out what is not of it.
    fn fill(&self, Copy { from, to, nested }: &Copy<'_>, readonly: bool) -> Result<()> {
        let copy = self.top.sub(to)?;
        if from.is_empty() {
            // A root at the very top has the layout inside itself; its copy must not.
            for own in LAYOUT {
                copy.remove_tree(own)?;
            }
        }
        for path in nested {
            // Where a subvolume was nested, a snapshot has an empty directory (inode 2), which must make way.
            let dir = copy.sub(path.rsplit_once('/').map_or("", |(dir, _)| dir))?;
            let was = rustix::fs::fstat(dir.fd()).doing(format_args!("cannot look at {to}"))?;
            copy.remove_dir(path)?;
            snapshot(&self.top, &join(from, path), &join(to, path), false)?;
            dir.set_times_of(&was)?;
        }
        if readonly {
            for path in nested.iter().rev() {
                self.set_readonly(&join(to, path), true)?;
            }
            self.set_readonly(to, true)?;
        }
        Ok(())
    }

    fn set_readonly(&self, path: &str, readonly: bool) -> Result<()> {
        let flags = if readonly { SubvolumeFlags::RDONLY } else { SubvolumeFlags::empty() };
        subvolume::subvolume_flags_set(self.top.sub(path)?.fd(), flags)
            .doing(format_args!("cannot set the flags of {path}"))
    }

    fn delete_one(&self, path: &str) -> Result<()> {
        let (dir, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        subvolume::subvolume_delete(self.top.sub(dir)?.fd(), &c_name(leaf)?)
            .doing(format_args!("cannot delete the subvolume {path}"))
    }
}

/// A subvolume that is to be cloned, and what is nested in it.
struct Copy<'a> {
    from: &'a str,
    to: &'a str,
    nested: Vec<String>,
}

impl Copy<'_> {
    /// Whether one snapshot is all of it.
    fn is_whole(&self) -> bool {
        self.nested.is_empty() && !self.from.is_empty()
    }
}

/// The outer subvolumes of copies; read-only, if that is wanted and they are whole.
fn snapshots(top: &Tree, copies: &[Copy<'_>], readonly: bool) -> Result<()> {
    super::together(copies, |copy| snapshot(top, copy.from, copy.to, readonly && copy.is_whole()))
}

fn snapshot(top: &Tree, from: &str, to: &str, readonly: bool) -> Result<()> {
    let source = top.sub(from)?;
    let (dir, leaf) = to.rsplit_once('/').unwrap_or(("", to));
    let parent = top.sub(dir)?;
    subvolume::snapshot_create(parent.fd(), source.fd(), &c_name(leaf)?, readonly, &[])
        .doing(format_args!("cannot snapshot {from} as {to}"))
}

/// Whether a path from the top belongs to the layout, and so is no part of a root that lies at the top itself.
fn is_own(path: &str) -> bool {
    LAYOUT.iter().any(|own| path == *own || path.strip_prefix(own).is_some_and(|r| r.starts_with('/')))
}

fn c_name(leaf: &str) -> Result<CString> {
    CString::new(leaf).map_err(|_| Error::usage(format!("{leaf:?} has a NUL byte in it")))
}

impl Store for Btrfs {
    fn info(&self) -> StoreInfo {
        StoreInfo {
            kind: "btrfs",
            name: self.name.clone(),
            uuid: self.filesystem.uuid.to_string(),
            rollback_takes_later: false,
            properties: false,
            clones_stand_alone: true,
            grub_reads: true,
            room: Room { whole: NAME_MAX, own: 0, aside: 0, nested: false },
        }
    }

    fn zone(&self) -> Option<&ZoneName> {
        self.zone.as_ref()
    }

    fn enter(&self, zone: &ZoneName) -> Result<Rc<dyn Store>> {
        let base = super::zone_path(zone);
        super::must_be_directories(&self.top, &base)?;
        Ok(Rc::new(Btrfs {
            filesystem: Rc::clone(&self.filesystem),
            top: self.top.sub(&base)?,
            base,
            zone: Some(zone.clone()),
            name: self.name.clone(),
            mounts: Cell::default(),
        }))
    }

    fn make_zone(&self, zone: &ZoneName) -> Result<()> {
        self.top.make_dir(&super::zone_path(zone), 0o755)?;
        self.enter(zone)?.make_layout()
    }

    fn drop_zone(&self, zone: &ZoneName) -> Result<()> {
        let base = super::zone_path(zone);
        if self.top.kind(&base)?.is_some() {
            super::must_be_directories(&self.top, &base)?;
            for name in self.top.list(&join(&base, ROOT))? {
                self.destroy(&join(&base, &join(ROOT, &name.to_string_lossy())))?;
            }
            self.destroy(&join(&base, SHARED))?;
            self.top.remove_dir(&join(&base, ROOT))?;
            self.top.remove_dir(&base)?;
        }
        self.home()?.remove_tree(&super::zone_home(zone))
    }

    fn initialised(&self) -> bool {
        self.has_home() && self.top.exists(ROOT)
    }

    fn contents(&self, about: About<'_>) -> Result<Contents> {
        read::Reader::new(self, about)?.contents()
    }

    fn home(&self) -> Result<Tree> {
        self.filesystem.top.sub(&self.own_home())
    }

    fn has_home(&self) -> bool {
        self.filesystem.top.exists(&self.own_home())
    }

    fn make_home(&self) -> Result<()> {
        self.filesystem.top.make_dir(&self.own_home(), 0o755)
    }

    fn taken(&self, path: &str) -> Result<bool> {
        Ok(path.is_empty() || self.top.kind(path)?.is_some())
    }

    fn tree(&self, path: &str) -> Result<Tree> {
        self.top.sub(path)
    }

    fn root_arguments(&self, path: &str) -> String {
        // subvol=/ is the top-level subvolume whatever the default subvolume is.
        let full = self.full(path);
        format!("root=UUID={} rootflags=subvol={}", self.filesystem.uuid, if full.is_empty() { "/" } else { &full })
    }

    fn names_roots_by_identity(&self) -> bool {
        true
    }

    fn destroys_what_is_in_use(&self) -> bool {
        true
    }

    fn root_arguments_by_identity(&self, path: &str) -> Result<String> {
        Ok(format!("root=UUID={} rootflags=subvolid={}", self.filesystem.uuid, self.subvolume_id(path)?))
    }

    fn identity(&self, path: &str) -> Result<Option<Uuid>> {
        if !self.top.exists(path) {
            return Ok(None);
        }
        let tree = self.top.sub(path)?;
        // A directory that is no subvolume has no identity of its own; inode 256 is a subvolume's root.
        let stat = rustix::fs::fstat(tree.fd()).doing(format_args!("cannot look at {path}"))?;
        if stat.st_ino != FIRST_FREE {
            return Ok(None);
        }
        let info = subvolume::subvolume_info(tree.fd()).doing(format_args!("cannot ask about the subvolume {path}"))?;
        Ok(Some(info.uuid))
    }

    fn parent(&self, path: &str) -> Result<Option<Uuid>> {
        let tree = self.top.sub(path)?;
        let info = subvolume::subvolume_info(tree.fd()).doing(format_args!("cannot ask about the subvolume {path}"))?;
        Ok((!info.parent_uuid.is_nil()).then_some(info.parent_uuid))
    }

    fn is_readonly(&self, path: &str) -> Result<bool> {
        if self.identity(path)?.is_none() {
            return Ok(false);
        }
        let flags = subvolume::subvolume_flags_get(self.top.sub(path)?.fd())
            .doing(format_args!("cannot ask about the subvolume {path}"))?;
        Ok(flags.contains(SubvolumeFlags::RDONLY))
    }

    fn create(&self, path: &str) -> Result<()> {
        let (dir, leaf) = path.rsplit_once('/').unwrap_or(("", path));
        subvolume::subvolume_create(self.top.sub(dir)?.fd(), &c_name(leaf)?, &[])
            .doing(format_args!("cannot create the subvolume {path}"))
    }

    fn clone_together(&self, clones: &[(&str, &str)], readonly: bool, _facts: &Facts) -> Result<()> {
        let copies = clones.iter().map(|(from, to)| Ok(Copy { from, to, nested: self.nested_in(from)? }));
        let copies = copies.collect::<Result<Vec<_>>>()?;
        snapshots(&self.top, &copies, readonly)?;
        copies.iter().filter(|copy| !copy.is_whole()).try_for_each(|copy| self.fill(copy, readonly))
    }

    fn destroy(&self, path: &str) -> Result<()> {
        let Some(_) = self.identity(path)? else { return Ok(()) };
        if !subvolume::subvol_rootrefs(self.top.sub(path)?.fd()).doing("cannot list nested subvolumes")?.is_empty() {
            // Deleting what is nested writes to the directories it lies in.
            let nested = read::nested(self, &read::subvolumes(self)?, self.subvolume_id(path)?, path)?;
            self.set_readonly(path, false)?;
            for inner in nested.iter() {
                self.set_readonly(&join(path, inner), false)?;
            }
            for inner in nested.iter().rev() {
                self.delete_one(&join(path, inner))?;
            }
        }
        self.delete_one(path)
    }

    fn space(&self) -> Result<Space> {
        read::wait_for_cleaner(self)?;
        super::space(&self.top)
    }

    fn takes(&self) -> Result<u64> {
        takes::takes(self)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.top.rename(from, to, RenameFlags::NOREPLACE)
    }

    fn exchange(&self, place: &str, with: &str) -> Result<()> {
        self.top.rename(place, with, RenameFlags::EXCHANGE)
    }

    fn sync(&self) -> Result<()> {
        // A commit, not only an fsync: GRUB reads the committed trees and never replays the log.
        rustix::fs::syncfs(self.top.fd()).doing("cannot sync the store")
    }

    fn facts(&self, path: &str) -> Result<Facts> {
        facts::read(&self.home()?, self.must_identify(path)?)
    }

    fn set_facts(&self, path: &str, facts: &Facts) -> Result<()> {
        facts::write(&self.home()?, self.must_identify(path)?, facts)
    }

    fn drop_facts(&self, identity: Uuid) -> Result<()> {
        facts::remove(&self.home()?, identity)
    }

    fn set_property(&self, _path: &str, name: &str, _value: &str) -> Result<()> {
        Err(Error::usage(format!("-o {name}: Btrfs has no dataset properties")).hint("leave -o out"))
    }

    fn facts_files(&self) -> Result<Vec<FactsFile>> {
        facts::files(&self.home()?)
    }

    fn mounts(&self, path: &str) -> Result<Vec<(OwnedFd, String)>> {
        // By number: fsconfig(2) takes no string longer than 255 bytes, and the path may be.
        let id = self.subvolume_id(path)?.to_string();
        let mount = crate::sys::mount::detached("btrfs", &self.filesystem.device, &[("subvolid", &id)], false)?;
        Ok(vec![(mount, String::new())])
    }

    fn touched(&self, old: &str, new: &str) -> Result<Vec<Touched>> {
        touched::touched(self, old, new)
    }

    fn shared_line(&self) -> Option<String> {
        let uuid = self.filesystem.uuid;
        self.zone.is_none().then(|| format!("UUID={uuid} /var/shared btrfs subvol={SHARED} 0 0"))
    }

    fn is_mount_of(&self, mount: &Mount, path: &str) -> bool {
        is_root_of(mount, &self.full(path)) && self.holds(mount)
    }

    fn candidates(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for mount in mountinfo::own()? {
            let path = mount.root.strip_prefix("/").unwrap_or(&mount.root).to_string_lossy().into_owned();
            if mount.target == Path::new("/") && self.is_mount_of(&mount, &path) {
                found.push(path);
            }
        }
        for path in ["@", "@rootfs", "root", ""] {
            if !found.iter().any(|f| f == path)
                && (path.is_empty() || self.identity(path)?.is_some())
                && self.top.sub(path).is_ok_and(|tree| tree.holds_root())
            {
                found.push(path.to_string());
            }
        }
        Ok(found)
    }

    fn make_layout(&self) -> Result<()> {
        self.top.make_dir(ROOT, 0o755)?;
        self.make_home()?;
        if self.identity(SHARED)?.is_none() {
            if self.top.exists(SHARED) {
                return Err(Error::refused(format!("{} is there and is no subvolume", self.full(SHARED)))
                    .hint("move it away, then run this again"));
            }
            self.create(SHARED)?;
        }
        Ok(())
    }
}

fn join(base: &str, path: &str) -> String {
    if base.is_empty() { path.to_string() } else { format!("{base}/{path}") }
}

/// Whether a mount of this filesystem shows the subvolume at `path` as a whole.
fn is_root_of(mount: &Mount, path: &str) -> bool {
    mount.root.as_os_str().as_encoded_bytes().strip_prefix(b"/").is_some_and(|r| r == path.as_bytes())
}

fn same_device(a: &Path, b: &Path) -> bool {
    let number = |p: &Path| rustix::fs::stat(p).ok().map(|s| s.st_rdev);
    a == b || matches!((number(a), number(b)), (Some(x), Some(y)) if x == y && x != 0)
}
