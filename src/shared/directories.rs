//! Directories in the places of the links into the shared dataset, while a command runs in a BE that does not run itself: for
//! a package manager that calls a link a conflict where a package has a directory.
//!
//! No directory can be mounted on a link. So each link gives way to an empty directory to mount on, and comes back when
//! the command has ended. If that is cut off, a note in the BE says which, for the next command and for the boot.

use crate::domain::shared::{MOUNTPOINT, SHARED_LIST, Standing, classify_link, link_target};
use crate::error::Result;
use crate::sys::tree::Tree;
use rustix::fs::FileType;

/// The names of those that have given way, a line each; beside the layer that is there whenever that is so.
const NOTE: &str = "var/lib/bootenv/pending/links";

/// Lets the links give way whose directories are there, as the BE sees them, and tells which. There has to be room for
/// pending content.
pub fn give_way(be: &Tree) -> Result<Vec<&'static str>> {
    let mut names = Vec::new();
    for name in SHARED_LIST {
        let at = format!("var/{name}");
        if be.kind(&at)? == Some(FileType::Symlink)
            && classify_link(name, &be.read_link(&at)?) == Standing::Done
            && be.kind(&format!("{MOUNTPOINT}/{name}"))? == Some(FileType::Directory)
        {
            names.push(name);
        }
    }
    let note: String = names.iter().map(|name| format!("{name}\n")).collect();
    be.write(NOTE, note.as_bytes(), 0o600)?;
    for name in &names {
        let at = format!("var/{name}");
        be.remove(&at)?;
        be.make_dir(&at, 0o755)?;
    }
    Ok(names)
}

/// Brings back those that have given way. What stands in a place and is no empty directory stays.
pub fn come_back(be: &Tree) -> Result<()> {
    let Some(note) = be.read_text(NOTE)? else { return Ok(()) };
    for name in SHARED_LIST.into_iter().filter(|name| note.lines().any(|line| line == *name)) {
        let at = format!("var/{name}");
        match be.kind(&at)? {
            Some(FileType::Directory) if be.list(&at)?.is_empty() => be.remove_dir(&at)?,
            None => {}
            Some(_) => continue,
        }
        be.symlink(&link_target(name), &at)?;
    }
    // Not durable before the links are: it comes after them, in the same or in a later commit of the filesystem.
    be.remove(NOTE)
}
