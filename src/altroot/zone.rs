//! What zones run with a BE of the host, below the place where that is mounted.

use super::assemble;
use crate::domain::shared::MOUNTPOINT;
use crate::domain::{BootEnv, ZoneName};
use crate::error::{Error, Result};
use crate::store::{SHARED, Store};
use crate::sys::mountinfo::Mount;
use rustix::fs::FileType;
use rustix::mount::MountAttrFlags;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

/// What a zone runs with a BE of the host.
pub struct ZoneRoot {
    /// The zone.
    pub zone: ZoneName,
    /// Its store.
    pub store: Rc<dyn Store>,
    /// Its zone BE.
    pub be: BootEnv,
    /// Where that is looked for, from the root of the host.
    pub place: String,
}

impl ZoneRoot {
    /// It, put together, and a directory for it in `host`, to be mounted at `scratch`. By itself, so that no symlink in it leads to
    /// anything of the host's. Who made it is not trusted with more there than here.
    pub(super) fn prepared(
        &self,
        store: &dyn Store,
        host: &BootEnv,
        scratch: &Path,
        readonly: bool,
    ) -> Result<OwnedFd> {
        if let Some(at) = self.be.mountpoints.first() {
            return Err(Error::busy(format!("{} is mounted at {}", self.be.name, at.display())));
        }
        let own = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let attributes = if readonly { own | MountAttrFlags::MOUNT_ATTR_RDONLY } else { own };
        let root = assemble(&*self.store, &self.be, scratch, attributes, Vec::new())?;
        let tree = store.tree(&host.path)?;
        match tree.kind(&self.place)? {
            Some(FileType::Directory) => Ok(root),
            None if !readonly => tree.make_dir(&self.place, 0o755).map(|()| root),
            None => Err(Error::refused(format!("there is no /{} to mount it on", self.place))),
            Some(_) => Err(Error::refused(format!("/{} is no directory", self.place))),
        }
    }

    /// Whether a mount shows this below `at`.
    pub(super) fn is_shown_by(&self, mount: &Mount, at: &Path) -> bool {
        let place = at.join(&self.place);
        let shows = |below: &str, path: &str| mount.target == place.join(below) && self.store.is_mount_of(mount, path);
        let nested = |n: &String| shows(n, &format!("{}/{n}", self.be.path));
        // What is joined with nothing ends in a slash, which is no part of a path.
        shows("", &self.be.path) || shows(MOUNTPOINT, SHARED) || self.be.nested.iter().any(nested)
    }
}
