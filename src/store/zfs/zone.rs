//! What a zone has of a pool: the datasets below `BASE/zones/ZONE`, as a store of their own. The tool's own directory is the whole
//! store's, in which each zone has one.

use super::{Zfs, destroy, once};
use crate::domain::ZoneName;
use crate::error::{Error, Result};
use crate::store::{HOME, Store, ZONES, zone_home, zone_path};
use crate::sys::tree::Tree;
use crate::sys::zfs::Property;
use rustix::mount::MountAttrFlags;

impl Zfs {
    /// The dataset that holds the tool's own directory.
    fn home_dataset(&self) -> String {
        let base = self.zone.as_ref().map_or(&self.base, |(_, whole)| whole);
        format!("{base}/{HOME}")
    }

    /// The tool's own directory of the whole store.
    fn whole_home(&self) -> Result<Tree> {
        let mount = || self.mount_with(&self.home_dataset(), MountAttrFlags::MOUNT_ATTR_NOATIME);
        once(&self.home, || Ok(Tree::below(&mount()?, HOME)?.on_zfs())).cloned()
    }

    /// The store of a zone.
    pub(super) fn of_zone(&self, zone: &ZoneName) -> Result<Zfs> {
        let base = self.full(&zone_path(zone));
        if !self.lzc.exists(&base)? {
            return Err(Error::not_found(format!("{base} is gone")));
        }
        Ok(Zfs { zone: Some((zone.clone(), self.base.clone())), ..Zfs::open(&base, &self.name)? })
    }

    pub(super) fn make_place(&self, zone: &ZoneName) -> Result<()> {
        self.make_holder(ZONES, &[])?;
        self.make_holder(&zone_path(zone), &[])?;
        self.of_zone(zone)?.make_layout()
    }

    pub(super) fn drop_place(&self, zone: &ZoneName) -> Result<()> {
        destroy::destroy(self, &self.full(&zone_path(zone)))?;
        self.whole_home()?.remove_tree(&zone_home(zone))
    }

    pub(super) fn own_home(&self) -> Result<Tree> {
        let home = self.whole_home()?;
        match self.zone() {
            None => Ok(home),
            Some(zone) => Ok(home.sub(&zone_home(zone))?.on_zfs()),
        }
    }

    pub(super) fn has_own_home(&self) -> bool {
        if let Some(zone) = self.zone() {
            return self.whole_home().is_ok_and(|home| home.exists(&zone_home(zone)));
        }
        // What is mounted cannot be destroyed.
        self.home.get().is_some() || self.taken(HOME).unwrap_or(false)
    }

    pub(super) fn make_own_home(&self) -> Result<()> {
        match self.zone() {
            Some(zone) => self.whole_home()?.make_dir(&zone_home(zone), 0o755),
            None if self.has_own_home() => Ok(()),
            None => {
                let full = self.full(HOME);
                self.lzc.create(&full, &[&self.born(HOME)[..], &[Property::Unsynced]].concat())
            }
        }
    }
}
