//! rpm: a database of headers, one for each package, in one of the files that its backends keep.
//!
//! The two backends of today are read by this module: SQLite ([`sqlite`]) and ndb ([`ndb`]). To ask the root's own rpm would need a
//! root in which something can be run, which a snapshot is not; SQLite itself, linked in, would be half as large as all the rest of
//! this program, and would want to write beside a database that another program has not closed. Both files are a few structures, and a header
//! is one more ([`header`]). Berkeley DB, which rpm has given up, is told and not read.

mod header;
mod ndb;
mod sqlite;

use super::{PackageManager, Packages, damaged};
use crate::error::{Error, Result};
use crate::sys::tree::Tree;
use header::Header;
use std::collections::{BTreeMap, BTreeSet};

/// Where the database may be, from the root.
const DIRS: [&str; 3] = ["usr/lib/sysimage/rpm", "var/lib/rpm", "usr/share/rpm"];

/// Fedora's and SUSE's, and that of everything that comes from them.
pub(super) struct Rpm;

impl PackageManager for Rpm {
    fn name(&self) -> &'static str {
        "rpm"
    }

    fn packages(&self, root: &Tree) -> Result<Packages> {
        let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        headers(root, &mut |header| {
            all.entry(header.name()?).or_default().insert(header.version()?);
            Ok(())
        })?;
        // Of kernels there are several.
        Ok(all.into_iter().map(|(name, versions)| (name, Vec::from_iter(versions).join(", "))).collect())
    }

    fn files(&self, root: &Tree, packages: &BTreeSet<&str>) -> Result<Vec<String>> {
        let mut files = Vec::new();
        headers(root, &mut |header| {
            if packages.contains(header.name()?.as_str()) {
                files.extend(header.files()?);
            }
            Ok(())
        })?;
        Ok(files)
    }

    fn audit(&self) -> &'static [&'static str] {
        &["rpm", "--verifydb"]
    }
}

/// Goes through all headers.
fn headers(root: &Tree, each: &mut dyn FnMut(Header<'_>) -> Result<()>) -> Result<()> {
    let each = &mut |blob: &[u8]| each(Header::of(blob)?);
    for dir in DIRS {
        if sqlite::blobs(root, &format!("{dir}/rpmdb.sqlite"), "Packages", each)?
            || ndb::blobs(root, &format!("{dir}/Packages.db"), each)?
        {
            return Ok(());
        }
        if root.exists(&format!("{dir}/Packages")) {
            return Err(Error::refused(format!(
                "/{dir} is a database of rpm in Berkeley DB, which bootenv does not read"
            ))
            .hint("`rpmdb --rebuilddb` of a newer rpm makes it one in SQLite"));
        }
    }
    Ok(())
}

/// What is not as rpm writes it.
fn broken(what: impl std::fmt::Display) -> Error {
    damaged(&Rpm, what)
}

/// Four bytes of a file, in its order.
fn bytes_at(data: &[u8], at: usize) -> Option<[u8; 4]> {
    data.get(at..at.checked_add(4)?)?.try_into().ok()
}
