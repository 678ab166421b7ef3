//! How things come into the shared dataset: copied beside, then put in their places with one rename each.

use super::links;
use crate::error::{Doing, Error, Result};
use crate::plan::execute::Observer;
use crate::sys::copy;
use crate::sys::tree::Tree;
use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};

/// Where things are copied to before they are put in their places with one rename: what is in its place is whole, whenever
/// the copy was cut off. The directory is made when the first thing comes, and leaves no trace in the times.
pub(super) struct Arrivals<'a> {
    shared: &'a Tree,
    before: rustix::fs::Stat,
    dir: OnceCell<Tree>,
    pub(super) top_changed: Cell<bool>,
}

/// Its name in the shared dataset.
const ARRIVALS: &str = ".bootenv-arrivals";
/// Where directories for the top wait that are whole, all of them: cut off then, they go to their places all the same, and what
/// is one file under two names stays one.
const ARRIVED: &str = ".bootenv-arrived";

/// Takes away what a copy left that was cut off, after what had arrived as a whole is in its place.
pub(super) fn settle(shared: &Tree) -> Result<()> {
    place_arrived(shared)?;
    shared.remove_tree(ARRIVALS)
}

fn place_arrived(shared: &Tree) -> Result<()> {
    for name in shared.list(ARRIVED)?.iter().filter_map(|name| name.to_str()) {
        if shared.kind(name)?.is_none() {
            shared.rename(&format!("{ARRIVED}/{name}"), name, rustix::fs::RenameFlags::NOREPLACE)?;
        }
    }
    shared.remove_tree(ARRIVED)
}

impl<'a> Arrivals<'a> {
    pub(super) fn open(shared: &'a Tree) -> Result<Self> {
        settle(shared)?;
        let before = rustix::fs::fstat(shared.fd()).doing("cannot look at the shared dataset")?;
        Ok(Arrivals { shared, before, dir: OnceCell::new(), top_changed: Cell::new(false) })
    }

    pub(super) fn dir(&self) -> Result<&Tree> {
        if self.dir.get().is_none() {
            self.shared.make_dir(ARRIVALS, 0o700)?;
            let _ = self.dir.set(self.shared.sub(ARRIVALS)?);
        }
        self.dir.get().ok_or_else(|| Error::failed("the directory for arrivals is gone"))
    }

    /// Copies one thing, which was at `at` from the root, to its place.
    pub(super) fn bring(&self, from: &Path, to: &Path, at: &[&str]) -> Result<()> {
        let name = to.file_name().unwrap_or_default();
        let here = self.dir()?.proc_path().join(name);
        copy::contents(from, &here, "fill the shared dataset", &mut copy::Unwatched)?;
        links::adjust(&here, at)?;
        std::fs::rename(&*here, to).doing_to("put in its place", to)
    }

    /// Copies whole directories to the top, in one go so that hard links between them hold.
    pub(super) fn bring_top(&self, var: &Tree, names: &[&str], observer: &mut dyn Observer) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let sources: Vec<_> = names.iter().map(|n| var.proc_path().join(n)).collect();
        self.dir()?.make_dir("top", 0o700)?;
        let top = self.dir()?.sub("top")?;
        copy::into_dir(&sources, &top.proc_path(), "move the shared directories", observer)?;
        for name in names {
            links::adjust(&top.proc_path().join(name), &["var", name])?;
        }
        self.top_changed.set(true);
        self.shared.rename(&format!("{ARRIVALS}/top"), ARRIVED, rustix::fs::RenameFlags::NOREPLACE)?;
        place_arrived(self.shared)
    }

    pub(super) fn close(self) -> Result<()> {
        if self.dir.get().is_none() {
            return Ok(());
        }
        self.shared.remove_tree(ARRIVALS)?;
        if self.top_changed.get() { Ok(()) } else { self.shared.set_times_of(&self.before) }
    }
}

/// Whether two things say the same: files by content, symlinks by target, everything else by kind. One that has arrived from
/// `at` (its path from the root) is seen as it will be in its place.
pub(super) fn same(arrived: &Path, there: &Path, at: Option<&[&str]>) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let (Ok(a), Ok(b)) = (std::fs::symlink_metadata(arrived), std::fs::symlink_metadata(there)) else { return false };
    if a.is_file() && b.is_file() {
        return a.len() == b.len()
            && matches!((std::fs::read(arrived), std::fs::read(there)), (Ok(x), Ok(y)) if x == y);
    }
    if a.is_symlink() && b.is_symlink() {
        let target = |p: &Path| std::fs::read_link(p).ok();
        let moved = |t: PathBuf| at.map_or(t.clone(), |at| links::adjusted(&t, at));
        return target(arrived).map(moved) == target(there);
    }
    let (x, y) = (a.file_type(), b.file_type());
    x == y && !x.is_dir() && (a.rdev() == b.rdev() || x.is_fifo() || x.is_socket())
}
