//! The shared dataset: moving a BE's shared directories into it, and filling it, without ever overwriting.

mod access;
mod arrivals;
mod directories;
mod links;
mod pending;

pub use directories::{come_back, give_way};
pub use pending::{Merged, merge as merge_pending, note_owners, waiting};

use crate::domain::fstab;
use crate::domain::shared::{
    BOOTED_UNIT, BOOTED_UNIT_TEXT, DROP_IN, DROP_IN_NAME, EARLY_UNITS, MOUNTPOINT, PENDING_UNIT, PRISTINE, SHARED_LIST,
    Standing, classify_link, link_target, pending_unit,
};
use crate::error::{Doing, Error, Result};
use crate::plan::execute::Observer;
use crate::store::{self, Store};
use crate::sys::copy;
use crate::sys::tree::Tree;
use arrivals::{Arrivals, same, settle};
use rustix::fs::FileType;
use std::collections::HashSet;
use std::path::Path;

/// Where a BE's own units lie.
const UNITS: &str = "etc/systemd/system";

/// Moves the shared directories of the BE at `path`, which nothing runs from, into the shared dataset, and makes the
/// BE find them there. What is already so is left alone.
pub fn convert(store: &dyn Store, path: &str, be: &str, observer: &mut dyn Observer) -> Result<()> {
    let tree = store.tree(path)?;
    let shared = store.tree(store::SHARED)?;
    let fstab_text = tree.read_text("etc/fstab")?.unwrap_or_default();
    let entries = fstab::parse(&fstab_text)?;
    tree.make_dir("var", 0o755)?;
    let standing =
        SHARED_LIST.iter().map(|name| Ok((*name, look(store, &tree, &entries, name)?))).collect::<Result<Vec<_>>>()?;

    for (name, found) in &standing {
        let said = match found {
            Standing::ForeignLink(to) => format!("/var/{name} of {be} is a symlink to {to} and stays"),
            Standing::OwnMount(what) => format!("/var/{name} of {be} stays: {what}"),
            Standing::Other => format!("/var/{name} of {be} is no directory and stays"),
            _ => continue,
        };
        observer.note(&said);
    }
    let directories: Vec<&str> = standing.iter().filter(|(_, s)| *s == Standing::Directory).map(|(n, _)| *n).collect();
    keep_pristine(&tree, &directories, observer)?;
    move_data(&tree, &shared, &directories, be, observer)?;
    // What is nested there is empty space from now on, and in use while the tree shows it.
    drop(tree);
    store.drop_nested(path, &directories.iter().map(|name| format!("var/{name}")).collect::<Vec<_>>())?;
    let tree = store.tree(path)?;
    for (name, found) in &standing {
        let at = format!("var/{name}");
        match found {
            Standing::Directory => {
                let aside = format!("var/.{name}.bootenv-moved");
                tree.remove_tree(&aside)?;
                tree.rename(&at, &aside, rustix::fs::RenameFlags::NOREPLACE)?;
                tree.symlink(&link_target(name), &at)?;
                tree.remove_tree(&aside)?;
            }
            Standing::Missing => {
                if shared.kind(name)?.is_none() {
                    shared.make_dir(name, 0o755)?;
                }
                tree.symlink(&link_target(name), &at)?;
            }
            Standing::SiblingLink => {
                if shared.kind(name)?.is_none() {
                    shared.symlink(&tree.read_link(&at)?, name)?;
                }
                tree.symlink(&link_target(name), &at)?;
            }
            _ => {}
        }
    }
    make_mountpoint(&tree)?;
    let (text, notes) = fstab::adapt(&fstab_text, store.shared_line().as_deref())?;
    if text != fstab_text {
        tree.make_dir("etc", 0o755)?;
        tree.edit("etc/fstab", text.as_bytes())?;
    }
    notes.iter().for_each(|n| observer.note(&format!("{be}: {n}")));
    if tree.exists("usr/lib/systemd") || tree.exists("lib/systemd") || tree.exists("etc/systemd") {
        for unit in EARLY_UNITS {
            let dir = format!("{UNITS}/{unit}.d");
            tree.make_dir(&dir, 0o755)?;
            tree.write(&format!("{dir}/{DROP_IN_NAME}"), DROP_IN.as_bytes(), 0o644)?;
        }
        for (unit, text, wanted_by) in [
            (PENDING_UNIT, pending_unit(), "sysinit.target"),
            (BOOTED_UNIT, BOOTED_UNIT_TEXT.to_string(), "multi-user.target"),
        ] {
            tree.write(&format!("{UNITS}/{unit}"), text.as_bytes(), 0o644)?;
            tree.make_dir(&format!("{UNITS}/{wanted_by}.wants"), 0o755)?;
            tree.symlink(&format!("../{unit}"), &format!("{UNITS}/{wanted_by}.wants/{unit}"))?;
        }
    }
    access::teach(&tree)?;
    fill(store, path)
}

fn look(store: &dyn Store, tree: &Tree, entries: &[fstab::Entry], name: &str) -> Result<Standing> {
    if let Some(what) = own_mount(store, entries, name)? {
        return Ok(Standing::OwnMount(what));
    }
    let at = format!("var/{name}");
    Ok(match tree.kind(&at)? {
        None => Standing::Missing,
        Some(FileType::Directory) => Standing::Directory,
        Some(FileType::Symlink) => classify_link(name, &tree.read_link(&at)?),
        Some(_) => Standing::Other,
    })
}

/// What is mounted at or below `/var/NAME` in a BE whose fstab has these entries, in words.
pub fn own_mount(store: &dyn Store, entries: &[fstab::Entry], name: &str) -> Result<Option<String>> {
    if let Some(own) = fstab::mounts_at_or_below(entries, &format!("/var/{name}")) {
        return Ok(Some(format!("its fstab mounts {}", own.target)));
    }
    let always = store.always_mounts(&format!("var/{name}"))?;
    Ok(always.map(|dataset| format!("{dataset} is mounted there, whatever boots")))
}

/// Keeps, inside the BE, what its packages put below the shared directories: every directory, and the files that the
/// package manager owns. Logs and mail are nobody's pristine content. Without a package list everything counts.
fn keep_pristine(tree: &Tree, names: &[&str], observer: &mut dyn Observer) -> Result<()> {
    tree.make_dir(PRISTINE, 0o755)?;
    let into = tree.sub(PRISTINE)?;
    let missing: Vec<&str> = names.iter().copied().filter(|n| !into.exists(n)).collect();
    let var = tree.sub("var")?;
    let sources: Vec<_> = missing.iter().map(|n| var.proc_path().join(n)).collect();
    copy::into_dir(&sources, &into.proc_path(), "keep the pristine copy", observer)?;
    let Some(owned) = owned_by_packages(tree)? else { return Ok(()) };
    for name in &missing {
        prune(&into.proc_path().join(name), &format!("/var/{name}"), &owned)?;
    }
    Ok(())
}

/// Paths below the shared directories that dpkg says its packages own; `None` where there is no dpkg.
fn owned_by_packages(tree: &Tree) -> Result<Option<HashSet<String>>> {
    let lists = tree.list("var/lib/dpkg/info")?;
    if lists.is_empty() {
        return Ok(None);
    }
    let prefixes = SHARED_LIST.map(|n| format!("/var/{n}/"));
    let mut owned = HashSet::new();
    for list in lists.iter().filter_map(|l| l.to_str()).filter(|l| l.ends_with(".list")) {
        let bytes = tree.read(&format!("var/lib/dpkg/info/{list}"))?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        owned.extend(text.lines().filter(|l| prefixes.iter().any(|p| l.starts_with(p))).map(str::to_string));
    }
    Ok(Some(owned))
}

fn prune(dir: &Path, shown: &str, owned: &HashSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(dir).doing_to("read", dir)? {
        let entry = entry.doing_to("read", dir)?;
        let shown = format!("{shown}/{}", entry.file_name().to_string_lossy());
        match entry.file_type().doing_to("look at", &entry.path())?.is_dir() {
            true => prune(&entry.path(), &shown, owned)?,
            false if !owned.contains(&shown) => std::fs::remove_file(entry.path()).doing_to("remove", &entry.path())?,
            false => {}
        }
    }
    Ok(())
}

/// Copies (by reflink) what is in the BE's directories into the shared dataset. In one go where nothing is there
/// yet, so that hard links hold; else entry by entry, and what is there wins.
fn move_data(tree: &Tree, shared: &Tree, names: &[&str], be: &str, observer: &mut dyn Observer) -> Result<()> {
    let var = tree.sub("var")?;
    let (fresh, old): (Vec<&str>, Vec<&str>) = names.iter().copied().partition(|n| matches!(shared.kind(n), Ok(None)));
    let arrivals = Arrivals::open(shared)?;
    arrivals.bring_top(&var, &fresh, observer)?;
    for name in old {
        let (from, to) = (var.proc_path().join(name), shared.proc_path().join(name));
        let kept = merge(&arrivals, &from, &to, &["var", name], Some(be))?;
        kept.iter().for_each(|k| observer.note(&format!("/var/shared/{name}: what {be} had is kept beside as {k}")));
    }
    arrivals.close()
}

/// Takes away what a copy left that was cut off.
pub fn clear_arrivals(store: &dyn Store) -> Result<()> {
    match store.identity(store::SHARED)? {
        Some(_) => settle(&store.tree(store::SHARED)?),
        None => Ok(()),
    }
}

/// Puts into the shared dataset what the pristine copy of the BE at `path` has and it has not, and makes sure that the BE has a place
/// to mount it on.
pub fn fill(store: &dyn Store, path: &str) -> Result<()> {
    let tree = store.tree(path)?;
    if lacks_mountpoint(&tree)? {
        make_mountpoint(&tree)?;
    }
    let shared = store.tree(store::SHARED)?;
    let arrivals = Arrivals::open(&shared)?;
    for name in SHARED_LIST {
        let pristine = format!("{PRISTINE}/{name}");
        let at = format!("var/{name}");
        let linked = tree.kind(&at)? == Some(FileType::Symlink) && tree.read_link(&at)? == link_target(name);
        if linked && tree.kind(&pristine)?.is_none() && shared.kind(name)?.is_none() {
            shared.make_dir(name, 0o755)?;
        }
        if tree.kind(&pristine)? != Some(FileType::Directory) {
            continue;
        }
        let from = tree.sub(&pristine)?;
        let to = shared.proc_path().join(name);
        match shared.kind(name)? {
            None => {
                arrivals.top_changed.set(true);
                arrivals.bring(&from.proc_path(), &to, &["var", name])?;
            }
            Some(FileType::Directory) => {
                merge(&arrivals, &from.proc_path(), &to, &["var", name], None)?;
            }
            Some(_) => {}
        }
    }
    arrivals.close()
}

/// Copies what is in `from`, which is or was at `at` from the root, and not in `to`. What is in both and differs is kept
/// beside the one that is there, if `be` says what to call it. Returns the names of those.
fn merge(arrivals: &Arrivals<'_>, from: &Path, to: &Path, at: &[&str], be: Option<&str>) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(from).doing_to("read", from)? {
        let entry = entry.doing_to("read", from)?;
        let there = to.join(entry.file_name());
        let name = entry.file_name().to_string_lossy().into_owned();
        let inside: Vec<&str> = at.iter().copied().chain([name.as_str()]).collect();
        let kind = entry.file_type().doing_to("look at", &entry.path())?;
        match std::fs::symlink_metadata(&there) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => arrivals.bring(&entry.path(), &there, &inside)?,
            Err(e) => return Err(e).doing_to("look at", &there),
            Ok(meta) if meta.is_dir() && kind.is_dir() => {
                kept.extend(merge(arrivals, &entry.path(), &there, &inside, be)?)
            }
            Ok(_) => {
                let Some(be) = be else { continue };
                let beside = to.join(format!("{name}.from-{be}"));
                if !same(&entry.path(), &there, Some(&inside)) && std::fs::symlink_metadata(&beside).is_err() {
                    arrivals.bring(&entry.path(), &beside, &inside)?;
                    kept.push(format!("{name}.from-{be}"));
                }
            }
        }
    }
    Ok(kept)
}

/// Whether a root has links into the shared dataset, and nothing to mount it on.
pub fn lacks_mountpoint(tree: &Tree) -> Result<bool> {
    if tree.exists(MOUNTPOINT) {
        return Ok(false);
    }
    for name in SHARED_LIST {
        let at = format!("var/{name}");
        if tree.kind(&at)? == Some(FileType::Symlink) && classify_link(name, &tree.read_link(&at)?) == Standing::Done {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What of the way to where the shared dataset is mounted, and then of these paths, is there in a root and is no directory: a link may lead
/// anywhere.
pub fn leads_astray(tree: &Tree, more: &[&'static str]) -> Result<Option<&'static str>> {
    for path in ["var", MOUNTPOINT].into_iter().chain(more.iter().copied()) {
        if tree.kind(path)?.is_some_and(|kind| kind != FileType::Directory) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The empty directory the shared dataset is mounted on. Immutable, so that nothing can ever be written
/// below the mountpoint by something that comes too early (ioctl_iflags(2), `FS_IMMUTABLE_FL`).
fn make_mountpoint(tree: &Tree) -> Result<()> {
    if !tree.list(MOUNTPOINT)?.is_empty() {
        return Err(Error::refused("/var/shared of the boot environment is not empty")
            .hint("move what is in it away, then run this again"));
    }
    tree.make_dir(MOUNTPOINT, 0o755)?;
    let dir = tree.sub(MOUNTPOINT)?;
    let flags = rustix::fs::ioctl_getflags(dir.fd()).doing("cannot read the flags of /var/shared")?;
    rustix::fs::ioctl_setflags(dir.fd(), flags | rustix::fs::IFlags::IMMUTABLE)
        .doing("cannot set the flags of /var/shared")
}
