//! Alternate roots: mounting a BE that does not run, with the shared dataset below it read-only from the first instant,
//! and running commands in one.

mod examine;
mod furnish;
mod pending;
mod run;
mod zone;

pub use examine::{examine, look};
pub use run::{Prepared, check_run, prepare, run};
pub use zone::ZoneRoot;

use crate::domain::shared::MOUNTPOINT;
use crate::domain::{BeName, BootEnv, Inventory};
use crate::error::{Doing, Error, Result};
use crate::shared::{lacks_mountpoint, leads_astray};
use crate::store::{SHARED, Store};
use crate::sys::{mount, mountinfo, namespace};
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where BEs are mounted when nobody says where.
const OWN_DIR: &str = "/run/bootenv";

/// Refuses what cannot be mounted: a BE that is mounted, a directory that is no place for one.
pub fn check(be: &BootEnv, dir: Option<&Path>) -> Result<()> {
    if let Some(at) = be.mountpoints.first() {
        let hint = match be.running {
            true => format!("it is what runs; `bootenv create -e {} NAME` makes a copy to mount", be.name),
            false => format!("use it there, or `bootenv unmount {}` first", be.name),
        };
        return Err(Error::busy(format!("{} is mounted at {}", be.name, at.display())).hint(hint));
    }
    dir.map(usable).transpose().map(drop)
}

/// Mounts `be` on `dir`, or on a directory of our own, with what zones run with it, and returns where. The whole tree is put together
/// where nobody sees it and attached in one move. A zone that cannot be part of it is left out, for which `note` is told why.
pub fn mount(
    store: &dyn Store,
    be: &BootEnv,
    dir: Option<&Path>,
    readonly: bool,
    zones: &[ZoneRoot],
    note: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    check(be, dir)?;
    let (at, made) = match dir {
        Some(dir) => (usable(dir)?, false),
        None => (own_place(store, be)?, true),
    };
    let mounted = attach(store, be, &at, readonly, zones, note);
    if mounted.is_err() && made {
        let _ = std::fs::remove_dir(&at);
    }
    mounted.map(|()| at)
}

fn attach(
    store: &dyn Store,
    be: &BootEnv,
    at: &Path,
    readonly: bool,
    zones: &[ZoneRoot],
    note: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut roots = Vec::new();
    for zone in zones {
        match zone.prepared(store, be, at, readonly) {
            Ok(root) => roots.push((root, zone.place.clone())),
            Err(e) => {
                note(&format!("what the zone {} runs with {} is not mounted: {}", zone.zone, be.name, e.in_a_line()))
            }
        }
    }
    let attributes = if readonly { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let whole = assemble(store, be, at, attributes, roots)?;
    mount::attach_on(whole.as_fd(), at)
}

/// Puts a BE together, with other trees in their places in it. `scratch` is a directory.
fn assemble(
    store: &dyn Store,
    be: &BootEnv,
    scratch: &Path,
    attributes: MountAttrFlags,
    more: Vec<(OwnedFd, String)>,
) -> Result<OwnedFd> {
    if !attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        store.make_places(&be.path)?;
    }
    let mut below = store.mounts(&be.path)?;
    for (mount, _) in &below {
        mount::set_attributes(mount.as_fd(), attributes).doing(format_args!("cannot mount {}", be.name))?;
    }
    if let Some(shared) = shared(store, &be.name, &be.path)? {
        below.push((namespace::lock_flags(shared.as_fd(), scratch)?, MOUNTPOINT.to_string()));
    }
    below.extend(more);
    namespace::assemble(&below, scratch)
}

/// A read-only mount of the shared dataset, for a BE that has a place for it. A root of somebody else's may have none, and needs none.
fn shared(store: &dyn Store, be: &BeName, path: &str) -> Result<Option<OwnedFd>> {
    let tree = store.tree(path)?;
    if !tree.exists(MOUNTPOINT) {
        return match lacks_mountpoint(&tree)? {
            false => Ok(None),
            true => Err(Error::refused(format!("{be} has no /var/shared to mount the shared dataset on"))
                .hint("`bootenv check --repair` makes it")),
        };
    }
    // A link would have it mounted in another place of the BE, where nobody looks for it who unmounts that.
    if let Some(place) = leads_astray(&tree, &[])? {
        return Err(Error::refused(format!("/{place} of {be} is no directory, and the shared dataset belongs in it"))
            .hint("put a directory there where it runs, or `bootenv rollback` it"));
    }
    // What is shown elsewhere would be in use.
    drop(tree);
    if store.identity(SHARED)?.is_none() {
        return Err(Error::refused("the shared dataset SHARED is missing")
            .hint("`bootenv check --repair` makes it, filled from the pristine copies"));
    }
    let (shared, _) = store.mounts(SHARED)?.swap_remove(0);
    let attributes =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    mount::set_attributes(shared.as_fd(), attributes).doing("cannot make the shared dataset's mount read-only")?;
    Ok(Some(shared))
}

/// A directory that somebody named: it must be there, empty, and nothing else's mountpoint.
fn usable(dir: &Path) -> Result<PathBuf> {
    let hint = "name an empty directory, or none: then bootenv makes its own";
    let full = dir.canonicalize().map_err(|e| {
        Error::refused(format!("{} cannot be mounted on: {}", dir.display(), crate::error::plain(&e))).hint(hint)
    })?;
    if !full.is_dir() {
        return Err(Error::refused(format!("{} is not a directory", dir.display())).hint(hint));
    }
    if mountinfo::own()?.iter().any(|m| m.target == full) {
        return Err(Error::busy(format!("something is mounted at {}", dir.display())).hint(hint));
    }
    if std::fs::read_dir(&full).doing_to("read", &full)?.next().is_some() {
        return Err(Error::refused(format!("{} is not empty", dir.display())).hint(hint));
    }
    Ok(full)
}

/// The tool's own directory on the running system, which only root can look into.
pub fn own_dir() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let base = PathBuf::from(OWN_DIR);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&base).doing_to("make", &base)?;
    Ok(base)
}

fn own_place(store: &dyn Store, be: &BootEnv) -> Result<PathBuf> {
    let base = own_dir()?;
    let name = store.zone().map_or(be.name.to_string(), |zone| format!("{zone}:{}", be.name));
    for number in 1..1000 {
        let dir = match number {
            1 => base.join(&name),
            n => base.join(format!("{name}.{n}")),
        };
        match std::fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            // A directory left by a mount that is gone is as good as new; one that is used is not.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                if let Ok(dir) = usable(&dir) {
                    return Ok(dir);
                }
            }
            Err(e) => return Err(e).doing_to("make", &dir),
        }
    }
    Err(Error::failed(format!("{OWN_DIR} is full of mounts")).hint("unmount some of them"))
}

/// Finds the BE that is meant by a name or by the directory it is mounted on, and where it is mounted.
pub fn find<'i>(inventory: &'i Inventory, what: &str) -> Result<(&'i BootEnv, Option<PathBuf>)> {
    if what.contains('/') {
        let full = Path::new(what).canonicalize().unwrap_or_else(|_| PathBuf::from(what));
        let found = inventory.bes.iter().find(|b| b.mountpoints.contains(&full));
        let be = found.ok_or_else(|| {
            Error::not_found(format!("no boot environment of this store is mounted at {what}"))
                .hint("`bootenv list` shows what is mounted where")
        })?;
        return Ok((be, Some(full)));
    }
    let be = inventory.be(&BeName::parse(what)?)?;
    Ok((be, be.mountpoints.last().cloned()))
}

/// Refuses what cannot be unmounted: what runs, and, without `force`, what something else than `zones` is mounted below.
pub fn check_unmount(store: &dyn Store, be: &BootEnv, at: &Path, force: bool, zones: &[ZoneRoot]) -> Result<()> {
    if at == Path::new("/") || be.running {
        return Err(Error::refused(format!("{} is running", be.name))
            .hint("only a boot environment that does not run can be unmounted"));
    }
    let shared = at.join(MOUNTPOINT);
    let mounts = mountinfo::own()?;
    // What is nested in it has a mount of its own where the store's datasets do not show through each other.
    let nested = |m: &mountinfo::Mount| be.nested.iter().any(|n| store.is_mount_of(m, &format!("{}/{n}", be.path)));
    let of_zone = |m: &mountinfo::Mount| zones.iter().any(|zone| zone.is_shown_by(m, at));
    let own = |m: &mountinfo::Mount| m.target == at || m.target == shared || nested(m) || of_zone(m);
    let mut below = mounts.iter().filter(|m| m.target.starts_with(at) && !own(m));
    match below.next() {
        Some(other) if !force => {
            Err(Error::busy(format!("something else is mounted below {}: {}", be.name, other.target.display()))
                .hint("unmount it first, or use -f"))
        }
        _ => Ok(()),
    }
}

/// Unmounts the BE at `at`, with those of `zones` below it. Without `force` nothing may use it; with it, what uses it keeps what it has open.
pub fn unmount(store: &dyn Store, be: &BootEnv, at: &Path, force: bool, zones: &[ZoneRoot]) -> Result<()> {
    check_unmount(store, be, at, force, zones)?;
    match force {
        true => mount::detach(at, true).doing_to("unmount", at)?,
        false => take_down(&[(be, at)], ", or use -f")?,
    }
    tidy(at)
}

/// Unmounts BEs that are to be destroyed, and what is mounted below them. Nothing may use them if the store cannot destroy what
/// is in use; then all stay mounted.
pub fn vacate(store: &dyn Store, all: &[(&BootEnv, &Path)]) -> Result<()> {
    all.iter().try_for_each(|(be, at)| check_unmount(store, be, at, true, &[]))?;
    match store.destroys_what_is_in_use() {
        true => all.iter().try_for_each(|(_, at)| mount::detach(at, true).doing_to("unmount", at))?,
        false => take_down(all, "")?,
    }
    all.iter().try_for_each(|(_, at)| tidy(at))
}

/// Unmounts BEs, each after what is mounted in it. If something turns out to be in use on the way, it all comes back, the shared
/// dataset still locked. `instead` ends the hint: what else its user may do.
fn take_down(all: &[(&BootEnv, &Path)], instead: &str) -> Result<()> {
    let mounts = mountinfo::own()?;
    let mut kept = Vec::new();
    let mut down = |be: &BootEnv, at: &Path, target: &Path| -> Result<()> {
        let place = mount::place(target).doing_to("open", target)?;
        let copy = mount::clone_at(place.as_fd(), "", false).doing_to("look at", target)?;
        drop(place);
        mount::detach(target, false).map_err(|e| match e {
            rustix::io::Errno::BUSY => Error::busy(format!("{} is in use at {}", be.name, at.display()))
                .hint(format!("end what uses it (`fuser -vm {}` shows that){instead}", at.display())),
            e => Error::failed(format!("cannot unmount {}: {e}", target.display())),
        })?;
        kept.push((target.to_path_buf(), copy));
        Ok(())
    };
    let result = all.iter().try_for_each(|(be, at)| {
        let mut targets: Vec<&Path> = mounts.iter().rev().map(|m| &*m.target).filter(|t| t.starts_with(at)).collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.components().count()));
        targets.into_iter().try_for_each(|target| down(be, at, target))
    });
    if result.is_err() {
        for (target, copy) in kept.iter().rev() {
            let place = mount::place(target).doing_to("open", target)?;
            mount::attach(copy.as_fd(), place.as_fd()).doing_to("mount again", target)?;
        }
    }
    result
}

/// Removes the directory if it was our own.
fn tidy(at: &Path) -> Result<()> {
    if at.parent() == Some(Path::new(OWN_DIR)) {
        let _ = std::fs::remove_dir(at);
    }
    Ok(())
}

/// Where the dataset at `path` is mounted in other mount namespaces, in words.
pub fn mounted_elsewhere(store: &dyn Store, path: &str) -> Result<Option<String>> {
    let found = mountinfo::elsewhere()?.into_iter().find(|m| store.is_mount_of(m, path));
    Ok(found.map(|m| m.target.display().to_string()))
}
