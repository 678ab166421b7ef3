//! Pending content: what is written below `/var/shared` while a command runs in a BE that does not run itself.
//!
//! The shared dataset is the lower layer of an overlay and is never written to. The upper layer lies in the BE, so it goes
//! where the BE and its clones go, and is merged when one of them boots.

use crate::domain::shared::{MOUNTPOINT, PENDING, UPPER};
use crate::error::{Doing, Error, Result};
use crate::shared::give_way;
use crate::sys::mount;
use crate::sys::tree::Tree;
use rustix::fs::FileType;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Where the overlay puts files together (overlayfs(5), `workdir`); on the same filesystem as the upper layer.
const WORK: &str = "var/lib/bootenv/pending/work";

/// The tool's own directory in a BE.
const STATE_DIR: &str = "var/lib/bootenv";

/// Makes the upper layer where it is missing. Its top stands for that of the shared dataset and looks the same.
pub(super) fn make_room(be: &Tree, shared: &OwnedFd) -> Result<()> {
    // A command may have put a link there, by which the layer would come to lie somewhere else.
    if let Some(kind) = be.kind(STATE_DIR)?
        && kind != FileType::Directory
    {
        return Err(Error::refused(format!("/{STATE_DIR} of the boot environment is no directory"))
            .hint("`bootenv mount` it and remove that"));
    }
    if be.exists(UPPER) && be.exists(WORK) {
        return Ok(());
    }
    be.make_dir(PENDING, 0o700)?;
    be.make_dir(WORK, 0o700)?;
    be.make_dir(UPPER, 0o755)?;
    let like = rustix::fs::fstat(shared).doing("cannot look at the shared dataset")?;
    let upper = be.sub(UPPER)?;
    let owner = (rustix::fs::Uid::from_raw(like.st_uid), rustix::fs::Gid::from_raw(like.st_gid));
    rustix::fs::fchown(upper.fd(), Some(owner.0), Some(owner.1)).doing("cannot change an owner")?;
    rustix::fs::fchmod(upper.fd(), rustix::fs::Mode::from_raw_mode(like.st_mode)).doing("cannot change a mode")?;
    Ok(())
}

/// Takes away what holds nothing.
pub(super) fn clear_if_empty(be: &Tree) -> Result<()> {
    if be.exists(UPPER) && be.list(UPPER)?.is_empty() {
        be.remove_tree(PENDING)?;
    }
    Ok(())
}

/// The overlay over the shared dataset, which is mounted at `lower`. Called in the namespace it is for.
///
/// What a package does to directories has to be copied as plain files and directories, so that a merge can read it without
/// the overlay: no redirects, no metadata-only copies.
pub(super) fn overlay(be: &Tree, lower: &Path) -> Result<OwnedFd> {
    let (upper, work) = (be.sub(UPPER)?, be.sub(WORK)?);
    // Not the path by which other processes reach it: /proc still counts processes as they are counted outside.
    let path = |tree: &Tree| format!("/proc/self/fd/{}", tree.fd().as_raw_fd());
    let lower = lower.to_string_lossy();
    let options = [
        ("lowerdir", &*lower),
        ("upperdir", &path(&upper)),
        ("workdir", &path(&work)),
        ("redirect_dir", "nofollow"),
        ("metacopy", "off"),
        ("index", "off"),
        ("xino", "off"),
    ];
    let overlay = mount::detached("overlay", Path::new("bootenv"), &options, false)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    mount::set_attributes(overlay.as_fd(), attributes).doing("cannot mount the pending content")?;
    Ok(overlay)
}

/// Puts the directories of the overlay in the places of the links that lead to them. It is mounted already.
pub(super) fn stand_in(be: &Tree) -> Result<()> {
    for name in give_way(be)? {
        let doing = || format!("cannot mount on /var/{name} of the boot environment");
        let from = be.place(&format!("{MOUNTPOINT}/{name}"))?;
        let same = mount::clone_at(from.as_fd(), "", false).doing(doing())?;
        mount::attach(same.as_fd(), be.place(&format!("var/{name}"))?.as_fd()).doing(doing())?;
    }
    Ok(())
}
