//! Completing the shared dataset with what was written below `/var/shared` in a BE that did not run then, when it boots.
//!
//! What is missing is made; what is there stays, and the version that arrived is kept beside it; deletions are not repeated:
//! data that has evolved wins. All of it is copied beside first, and put in its places by renames, so it can be cut off
//! and done again at any point. The layer goes last.

use super::arrivals::{Arrivals, same};
use super::links;
use crate::domain::shared::{PENDING, UPPER};
use crate::error::{Doing, Error, Result};
use crate::sys::copy;
use crate::sys::tree::Tree;
use rustix::fs::RenameFlags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What files are called that are kept beside others.
const BESIDE: &str = "bootenv-new";
/// Who owned what, by name, when it was written: numbers may mean others by the time it is merged.
const OWNERS: &str = "var/lib/bootenv/pending/owners.toml";
/// What a layer is called that has been merged and is being removed.
const MERGED: &str = "var/lib/bootenv/pending.merged";
/// Where the copy of the layer waits, among the arrivals.
const STAGE: &str = "pending";
/// The number of the user and of the group that everybody's root is.
const ROOT: u32 = 0;
/// The overlay's own marks (overlayfs(5)).
const MARKS: &str = "trusted.overlay.";

/// What a merge came to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Merged {
    /// What was missing and is there now, from `/var/shared`; directories stand for what is in them.
    pub made: Vec<String>,
    /// What was there and stays, with the name of what is kept beside it.
    pub beside: Vec<(String, String)>,
    /// What was left out, with the reason.
    pub left_out: Vec<(String, &'static str)>,
    /// What has become root's, because its owner is not known here and the number is somebody else's.
    pub disowned: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Owners {
    users: BTreeMap<String, String>,
    groups: BTreeMap<String, String>,
}

/// What waits in a BE to be merged: paths from `/var/shared`.
pub fn waiting(be: &Tree) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    if be.exists(UPPER) {
        walk(&be.sub(UPPER)?.proc_path(), &mut |path, meta| {
            if !meta.is_dir() && !is_deletion(meta) {
                paths.push(path.to_string());
            }
            Ok(())
        })?;
    }
    paths.sort();
    Ok(paths)
}

/// Notes who the owners of what waits are, by the BE's own list of users.
pub fn note_owners(be: &Tree) -> Result<()> {
    if !be.exists(UPPER) {
        return Ok(());
    }
    let (users, groups) = (names(be, "etc/passwd")?, names(be, "etc/group")?);
    let mut owners = Owners::default();
    let mut note = |_: &str, meta: &Metadata| {
        let (uid, gid) = (meta.uid().to_string(), meta.gid().to_string());
        owners.users.extend(users.get(&uid).map(|name| (uid, name.clone())));
        owners.groups.extend(groups.get(&gid).map(|name| (gid, name.clone())));
        Ok(())
    };
    walk(&be.sub(UPPER)?.proc_path(), &mut note)?;
    let text = toml::to_string(&owners).map_err(|e| Error::failed(format!("cannot write {OWNERS}: {e}")))?;
    be.write(OWNERS, text.as_bytes(), 0o600)
}

/// Merges what waits in the BE whose root is `be` into the shared dataset. Nothing waits afterwards.
pub fn merge(be: &Tree, shared: &Tree) -> Result<Merged> {
    let mut merged = Merged::default();
    super::come_back(be)?;
    be.remove_tree(MERGED)?;
    if !be.exists(UPPER) {
        return Ok(merged);
    }
    let arrivals = Arrivals::open(shared)?;
    let dir = arrivals.dir()?;
    let stage = dir.proc_path().join(STAGE);
    copy::contents(&be.sub(UPPER)?.proc_path(), &stage, "bring what waits", &mut copy::Unwatched)?;
    let renumber = Renumber::read(be)?;
    clean(&stage, "", &renumber, &mut merged)?;
    place(&stage, &shared.proc_path(), "", &mut merged)?;
    arrivals.top_changed.set(merged.made.iter().any(|path| !path.contains('/')));
    arrivals.close()?;
    shared.sync()?;
    // A rename, because a layer that is half removed would look like one with less in it.
    be.rename(PENDING, MERGED, RenameFlags::NOREPLACE)?;
    be.remove_tree(MERGED)?;
    Ok(merged)
}

/// Makes the copy of a layer what it shows: no marks of the overlay, no devices, owners as they are numbered here.
fn clean(at: &Path, path: &str, renumber: &Renumber, merged: &mut Merged) -> Result<()> {
    let meta = std::fs::symlink_metadata(at).doing_to("look at", at)?;
    let kind = meta.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        if !is_deletion(&meta) {
            merged.left_out.push((path.to_string(), "it is a device"));
        }
        return std::fs::remove_file(at).doing_to("remove", at);
    }
    if renumber.apply(at, &meta)? {
        merged.disowned.push(path.to_string());
    }
    if kind.is_file() && meta.mode() & 0o6000 != 0 {
        merged.left_out.push((path.to_string(), "of its mode, setuid and setgid"));
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(meta.mode() & 0o1777)).doing_to("change", at)?;
    }
    if kind.is_symlink() {
        let parts: Vec<&str> = std::iter::once("var").chain(path.split('/')).collect();
        return links::adjust(at, &parts);
    }
    drop_marks(at)?;
    if kind.is_dir() {
        for inner in entries(at)? {
            clean(&inner, &joined(path, &inner), renumber, merged)?;
        }
    }
    Ok(())
}

fn drop_marks(at: &Path) -> Result<()> {
    let mut list = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(at, &mut list).doing_to("look at", at)?;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(MARKS.as_bytes())) {
        rustix::fs::lremovexattr(at, name).doing_to("clean", at)?;
    }
    Ok(())
}

/// Puts what is in `from` where it belongs in `to`, which is at `path` of the shared dataset.
fn place(from: &Path, to: &Path, path: &str, merged: &mut Merged) -> Result<()> {
    for source in entries(from)? {
        let name = source.file_name().unwrap_or_default();
        let target = to.join(name);
        let shown = joined(path, &source);
        let put = |at: &Path| std::fs::rename(&source, at).doing_to("put in its place", at);
        let Some(there) = look(&target)? else {
            put(&target)?;
            merged.made.push(shown);
            continue;
        };
        if there.is_dir() && is_dir(&source)? {
            place(&source, &target, &shown, merged)?;
            continue;
        }
        let mut number = 1;
        let mut at = target;
        // What is there already, beside or in the place itself, is not kept twice.
        while !same(&source, &at, None) {
            let suffix = if number == 1 { format!(".{BESIDE}") } else { format!(".{BESIDE}.{number}") };
            let mut beside = name.to_os_string();
            beside.push(suffix);
            at = to.join(beside);
            number += 1;
            match look(&at)? {
                // Put there before what did this was cut off.
                Some(meta) if meta.is_dir() && is_dir(&source)? => place(&source, &at, &shown, merged)?,
                Some(_) => continue,
                None => put(&at)?,
            }
            merged.beside.push((shown, at.file_name().unwrap_or_default().to_string_lossy().into_owned()));
            break;
        }
    }
    Ok(())
}

fn is_dir(at: &Path) -> Result<bool> {
    Ok(look(at)?.is_some_and(|meta| meta.is_dir()))
}

/// What is at a path, if anything is.
fn look(at: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(at) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some).doing_to("look at", at),
    }
}

/// Whether something in an upper layer says that what is below it was deleted.
fn is_deletion(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

/// The path of what is at `at`, in a directory that is shown as `dir`.
fn joined(dir: &str, at: &Path) -> String {
    let name = at.file_name().unwrap_or_default().to_string_lossy();
    if dir.is_empty() { name.into_owned() } else { format!("{dir}/{name}") }
}

/// What is in a directory, sorted by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(dir).doing_to("read", dir)?;
    let mut found = read.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().doing_to("read", dir)?;
    found.sort();
    Ok(found)
}

/// Looks at everything below a directory, with paths from there.
fn walk(dir: &Path, look: &mut dyn FnMut(&str, &Metadata) -> Result<()>) -> Result<()> {
    fn below(dir: &Path, path: &str, look: &mut dyn FnMut(&str, &Metadata) -> Result<()>) -> Result<()> {
        for inner in entries(dir)? {
            let shown = joined(path, &inner);
            let meta = std::fs::symlink_metadata(&inner).doing_to("look at", &inner)?;
            look(&shown, &meta)?;
            if meta.is_dir() {
                below(&inner, &shown, look)?;
            }
        }
        Ok(())
    }
    below(dir, "", look)
}

/// Names by number, from a file like passwd(5) or group(5).
fn names(be: &Tree, file: &str) -> Result<BTreeMap<String, String>> {
    let text = be.read(file)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let pair = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_string();
        Some((fields.nth(1)?.to_string(), name))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// Which number an owner has here who had another one when the layer was written. Who is not known any more has none, if the
/// number has become somebody else's.
struct Renumber {
    users: BTreeMap<u32, Option<u32>>,
    groups: BTreeMap<u32, Option<u32>>,
}

impl Renumber {
    fn read(be: &Tree) -> Result<Renumber> {
        let owners: Owners = be.read_text(OWNERS)?.and_then(|text| toml::from_str(&text).ok()).unwrap_or_default();
        let changed = |was: BTreeMap<String, String>, now: BTreeMap<String, String>| {
            let number = |name: &String| now.iter().find(|(_, n)| *n == name)?.0.parse::<u32>().ok();
            let pair = |(id, name): (&String, &String)| match number(name) {
                None if !now.contains_key(id) => None,
                number => Some((id.parse().ok()?, number)),
            };
            was.iter().filter_map(pair).collect()
        };
        Ok(Renumber {
            users: changed(owners.users, names(be, "etc/passwd")?),
            groups: changed(owners.groups, names(be, "etc/group")?),
        })
    }

    /// Gives a file to its owner, or to root if there is none; whether that is so.
    fn apply(&self, at: &Path, meta: &Metadata) -> Result<bool> {
        let uid = self.users.get(&meta.uid()).copied().unwrap_or(Some(meta.uid()));
        let gid = self.groups.get(&meta.gid()).copied().unwrap_or(Some(meta.gid()));
        let disowned = uid.is_none() || gid.is_none();
        let (uid, gid) = (uid.unwrap_or(ROOT), gid.unwrap_or(ROOT));
        if (uid, gid) == (meta.uid(), meta.gid()) {
            return Ok(disowned);
        }
        std::os::unix::fs::lchown(at, Some(uid), Some(gid)).doing_to("change the owner of", at)?;
        // A change of owner takes setuid and setgid away, which directories keep.
        if !meta.is_symlink() {
            std::fs::set_permissions(at, meta.permissions()).doing_to("change", at)?;
        }
        Ok(disowned)
    }
}
