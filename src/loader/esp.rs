//! The EFI system partition: where the loader keeps what it writes itself.
//!
//! On a machine it is a mounted FAT filesystem that knows this store: how it says so is the loader's business. An image
//! that has no machine yet keeps the same files in `BOOTENV/esp`, to be copied to an ESP as they are.

use crate::error::{Doing, Error, Kind, Result};
use crate::store::Store;
use crate::sys::efivar;
use crate::sys::mountinfo;
use crate::sys::tree::Tree;
use rustix::fs::StatVfsMountFlags;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What firmware starts when no boot entry says otherwise (UEFI specification, 3.5.1.1).
pub const REMOVABLE: &str = "EFI/BOOT/BOOTX64.EFI";
/// The stand-in inside the store's own directory.
pub const STAGED: &str = "esp";

/// Says that a machine has taken over, so that no stand-in is made any more.
pub const MOVED: &str = "esp.moved";

/// Whose an ESP is, as far as a loader can tell from its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// This store's.
    Ours,
    /// Another store's, and there is room for only one.
    Taken,
    /// Nobody's, or there is room for another.
    Free,
}

/// Where the loader's state is.
#[derive(Debug)]
pub enum Esp {
    /// A mounted ESP that knows this store.
    Mounted(Tree, Place),
    /// The stand-in inside an image.
    Staged(Tree),
    /// The running system's ESP, which does not know this store yet.
    Unclaimed(Tree, Place),
    /// None can be seen.
    Missing,
}

/// Where an ESP is mounted, and from what.
#[derive(Debug)]
pub struct Place {
    /// The mountpoint.
    pub at: PathBuf,
    /// The device.
    pub device: PathBuf,
}

/// How a loader finds the ESP of a store.
pub struct Finder {
    /// The store.
    pub store: Rc<dyn Store>,
    /// Whether the running system is on it.
    pub is_root: bool,
    /// What the files of an ESP say of whose it is.
    mark: Box<dyn Fn(&Tree) -> Mark>,
    /// The device that is right if several ESPs know the store.
    preferred: Option<PathBuf>,
    found: RefCell<Option<Rc<Esp>>>,
}

impl Finder {
    /// A finder for a store; `is_root` says whether the running system is on it. `mark` and `preferred` are the loader's.
    pub fn new(
        store: Rc<dyn Store>,
        is_root: bool,
        mark: impl Fn(&Tree) -> Mark + 'static,
        preferred: Option<PathBuf>,
    ) -> Self {
        Finder { store, is_root, mark: Box::new(mark), preferred, found: RefCell::default() }
    }

    /// Finds it. It is looked for once; `for_install`, after which it knows the store, forgets it.
    pub fn find(&self) -> Result<Rc<Esp>> {
        if let Some(esp) = &*self.found.borrow() {
            return Ok(Rc::clone(esp));
        }
        let esp = Rc::new(self.look()?);
        *self.found.borrow_mut() = Some(Rc::clone(&esp));
        Ok(esp)
    }

    /// Looks for it, as it is now.
    fn look(&self) -> Result<Esp> {
        let (is_root, preferred) = (self.is_root, self.preferred.as_deref());
        let mut ours = None;
        let mut unclaimed = None;
        for mount in mounts()?.into_iter().filter(|m| m.fstype == "vfat" && m.root == Path::new("/")) {
            let Ok(tree) = Tree::at(&mount.target).map(Tree::on_fat) else { continue };
            let right = preferred == Some(&*mount.source);
            let place = Place { at: mount.target, device: mount.source };
            let kept =
                |found: &Option<(Tree, Place)>| found.as_ref().is_some_and(|(_, p)| preferred == Some(&*p.device));
            match (self.mark)(&tree) {
                Mark::Ours if ours.is_none() || right => ours = Some((tree, place)),
                Mark::Free if is_root && tree.exists("EFI") && !kept(&unclaimed) => unclaimed = Some((tree, place)),
                _ => {}
            }
        }
        if let Some((tree, place)) = ours {
            return Ok(Esp::Mounted(tree, place));
        }
        if is_root {
            return Ok(unclaimed.map_or(Esp::Missing, |(tree, place)| Esp::Unclaimed(tree, place)));
        }
        match self.store.initialised() {
            true if self.store.home()?.exists(STAGED) => Ok(Esp::Staged(self.store.home()?.sub(STAGED)?)),
            _ => Ok(Esp::Missing),
        }
    }

    /// The files, for `install` to put the loader's own among them: a stand-in is made where there is no machine yet.
    pub fn for_install(&self) -> Result<Tree> {
        *self.found.borrow_mut() = None;
        let (esp, home) = (self.look()?, self.store.home()?);
        esp.must_be_writable()?;
        match esp {
            Esp::Mounted(tree, _) | Esp::Staged(tree) | Esp::Unclaimed(tree, _) => Ok(tree),
            Esp::Missing if self.is_root || home.exists(MOVED) => Err(missing()),
            Esp::Missing => {
                home.make_dir(STAGED, 0o755)?;
                home.sub(STAGED)
            }
        }
    }
}

impl Esp {
    /// The files, if this store's state is there.
    pub fn tree(&self) -> Result<&Tree> {
        match self {
            Esp::Mounted(tree, _) | Esp::Staged(tree) => Ok(tree),
            Esp::Unclaimed(_, place) => {
                Err(Error::refused(format!("the ESP at {} does not know this store", place.at.display()))
                    .hint("`bootenv check --repair` installs the loader there"))
            }
            Esp::Missing => Err(missing()),
        }
    }

    /// An error of who looked here for what a loader has put: on an ESP that does not know the store it is damage, which a
    /// repair mends, and no refusal.
    pub fn not_found(&self, e: Error) -> Error {
        match self {
            Esp::Unclaimed(..) => Error { kind: Kind::Failed, ..e },
            _ => e,
        }
    }

    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Esp::Mounted(_, place) | Esp::Unclaimed(_, place) => format!("the ESP at {}", place.at.display()),
            Esp::Staged(_) => format!("the ESP's stand-in BOOTENV/{STAGED}"),
            Esp::Missing => "the ESP".into(),
        }
    }

    /// Refuses a mount that cannot be written to.
    pub fn must_be_writable(&self) -> Result<()> {
        let (Esp::Mounted(tree, place) | Esp::Unclaimed(tree, place)) = self else { return Ok(()) };
        let flags = rustix::fs::fstatvfs(tree.fd()).doing_to("ask about", &place.at)?.f_flag;
        match flags.contains(StatVfsMountFlags::RDONLY) {
            false => Ok(()),
            true => Err(Error::refused(format!("{} is mounted read-only", self.name()))
                .hint(format!("mount -o remount,rw {} (fsck it first, if the kernel did that)", place.at.display()))),
        }
    }

    /// Once a machine's ESP holds the state, the stand-in in the store would only tell old stories.
    pub fn retire_stand_in(&self, store: &dyn Store) -> Result<()> {
        match self {
            Esp::Mounted(..) if store.home()?.exists(STAGED) => {
                store.home()?.write(MOVED, b"The boot loader's state is on the ESP of the machine.\n", 0o644)?;
                store.home()?.remove_tree(STAGED)
            }
            _ => Ok(()),
        }
    }
}

fn missing() -> Error {
    let hint = match efivar::is_uefi() {
        true => "mount the ESP (usually at /boot/efi), then run this again",
        false => {
            "mount the ESP (usually at /boot/efi), then run this again; firmware has to boot by UEFI, not BIOS (CSM, legacy)"
        }
    };
    Error::refused("no ESP that names this store is mounted").hint(hint)
}

/// The mounts there are, those included that are made when somebody looks (systemd-gpt-auto-generator(8)).
fn mounts() -> Result<Vec<mountinfo::Mount>> {
    let usual = ["/efi", "/boot", "/boot/efi"].map(Path::new);
    let mounts = mountinfo::own()?;
    let waiting = |m: &&mountinfo::Mount| m.fstype == "autofs" && usual.contains(&&*m.target);
    let opened = mounts.iter().filter(waiting).filter(|m| Tree::at(&m.target).is_ok()).count();
    if opened == 0 { Ok(mounts) } else { mountinfo::own() }
}
