//! The EFI system partition: where the loader keeps what it writes itself.
//!
//! On a machine it is the mounted FAT filesystem whose `EFI/bootenv/grub.cfg` names this store. An image that has
//! no machine yet keeps the same files in `BOOTENV/esp`, to be copied to an ESP as they are.

use crate::error::{Error, Result};
use crate::store::Store;
use crate::sys::mountinfo;
use crate::sys::tree::Tree;
use std::path::{Path, PathBuf};

/// The stub that names the store, from the top of the ESP.
pub const STUB: &str = "EFI/bootenv/grub.cfg";
/// The loader's state.
pub const GRUBENV: &str = "EFI/bootenv/grubenv";
/// What firmware starts when no boot entry says otherwise (UEFI specification, 3.5.1.1).
pub const REMOVABLE: &str = "EFI/BOOT/BOOTX64.EFI";
/// Our own copy of it, for a boot entry.
pub const OWN: &str = "EFI/bootenv/grubx64.efi";
/// The stand-in inside the store's own directory.
pub const STAGED: &str = "esp";

/// Says that a machine has taken over, so that no stand-in is made any more.
pub const MOVED: &str = "esp.moved";

/// Where the loader's state is.
#[derive(Debug)]
pub enum Esp {
    /// A mounted ESP that names this store.
    Mounted(Tree),
    /// The stand-in inside an image.
    Staged(Tree),
    /// The running system's ESP, which does not name this store yet.
    Unclaimed(Tree, PathBuf),
    /// None can be seen.
    Missing,
}

impl Esp {
    /// Finds it.
    pub fn find(store: &dyn Store, is_root: bool) -> Result<Esp> {
        let uuid = store.info().uuid;
        let mut unclaimed = None;
        for mount in mountinfo::own()?.into_iter().filter(|m| m.fstype == "vfat" && m.root == Path::new("/")) {
            let Ok(tree) = Tree::at(&mount.target).map(Tree::on_fat) else { continue };
            match tree.read(STUB) {
                Ok(Some(stub)) if String::from_utf8_lossy(&stub).contains(&uuid) => return Ok(Esp::Mounted(tree)),
                Ok(Some(_)) => {}
                _ if is_root && tree.exists("EFI") => unclaimed = Some((tree, mount.target)),
                _ => {}
            }
        }
        if is_root {
            return Ok(unclaimed.map_or(Esp::Missing, |(tree, at)| Esp::Unclaimed(tree, at)));
        }
        match store.initialised() {
            true if store.home()?.exists(STAGED) => Ok(Esp::Staged(store.home()?.sub(STAGED)?)),
            _ => Ok(Esp::Missing),
        }
    }

    /// The files, if this store's state is there.
    pub fn tree(&self) -> Result<&Tree> {
        match self {
            Esp::Mounted(tree) | Esp::Staged(tree) => Ok(tree),
            Esp::Unclaimed(_, at) => {
                Err(Error::refused(format!("the ESP at {} does not know this store", at.display()))
                    .hint("`bootenv check --repair` installs the loader there"))
            }
            Esp::Missing => Err(Error::refused("no ESP that names this store is mounted")
                .hint("mount the ESP (usually at /boot/efi), then run this again")),
        }
    }
}
