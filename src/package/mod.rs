//! Package managers: what a root has installed, and whether its package database is sound.
//!
//! Databases are read as files, by the rules of whoever writes them, and no program of the root is asked: so a snapshot, a BE that
//! runs and one of another architecture are read alike, and nothing of a root that is only looked at is run. What the
//! program itself thinks of its database is asked in an alternate root alone ([`PackageManager::audit`]).

mod apk;
mod dpkg;
mod pacman;
mod rpm;

use crate::error::{Error, Result};
use crate::sys::tree::Tree;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Packages by name (with the architecture, where there are several of a name), with their versions.
pub type Packages = BTreeMap<String, String>;

/// A package manager, as it is found in a root.
pub trait PackageManager {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Whether its database in a root holds anything, or is there and cannot be read. A root may have the database of another
    /// one too, which somebody has installed as a tool, and which holds nothing.
    fn is_in(&self, root: &Tree) -> bool {
        !matches!(self.packages(root), Ok(packages) if packages.is_empty())
    }

    /// What is installed.
    fn packages(&self, root: &Tree) -> Result<Packages>;

    /// The files of some packages, from the root; none of those that are not installed.
    fn files(&self, root: &Tree, packages: &BTreeSet<&str>) -> Result<Vec<String>>;

    /// The command that, run inside the root, says what is wrong with the database, and nothing if it is sound.
    fn audit(&self) -> &'static [&'static str];

    /// Whether it can install nothing below a link where a package has a directory.
    fn wants_directories(&self) -> bool {
        false
    }
}

/// The package managers there are.
const ALL: [&dyn PackageManager; 4] = [&apk::Apk, &dpkg::Dpkg, &pacman::Pacman, &rpm::Rpm];

/// Those that have installed something in a root: one, as a rule.
pub fn of(root: &Tree) -> impl Iterator<Item = &'static dyn PackageManager> {
    ALL.into_iter().filter(|manager| manager.is_in(root))
}

/// Whether one of those in a root wants directories ([`PackageManager::wants_directories`]).
pub fn wants_directories(root: &Tree) -> bool {
    ALL.into_iter().any(|manager| manager.wants_directories() && manager.is_in(root))
}

/// A database that is not as its program writes it.
fn damaged(manager: &dyn PackageManager, what: impl std::fmt::Display) -> Error {
    Error::failed(format!("the package database of {} is damaged: {what}", manager.name()))
        .hint("mend it with its own program, or go back to a boot environment in which it is sound")
}

/// How two roots differ in what they have installed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Name and version.
    pub added: Vec<(String, String)>,
    /// Name and version.
    pub removed: Vec<(String, String)>,
    /// Name, old and new version.
    pub changed: Vec<(String, String, String)>,
    /// Services of the packages that differ.
    pub services: Vec<String>,
}

/// What `new` has installed that `old` has not, and the other way round.
pub fn changes(old: &Tree, new: &Tree) -> Result<Changes> {
    let mut changes = Changes::default();
    let mut services = BTreeSet::new();
    for manager in ALL {
        let (before, after) = (manager.packages(old)?, manager.packages(new)?);
        let mut differ = BTreeSet::new();
        for (name, version) in &after {
            match before.get(name) {
                Some(old) if old == version => continue,
                Some(old) => changes.changed.push((name.clone(), old.clone(), version.clone())),
                None => changes.added.push((name.clone(), version.clone())),
            }
            differ.insert(name.as_str());
        }
        for (name, version) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
            changes.removed.push((name.clone(), version.clone()));
            differ.insert(name.as_str());
        }
        if !differ.is_empty() {
            for root in [old, new] {
                let files = manager.files(root, &differ)?;
                services.extend(files.iter().filter_map(|file| service(file)).map(str::to_string));
            }
        }
    }
    changes.services = services.into_iter().collect();
    Ok(changes)
}

/// The service that a file is the unit of.
fn service(file: &str) -> Option<&str> {
    let (dir, name) = file.rsplit_once('/')?;
    let is_unit_dir = ["lib/systemd/system", "etc/systemd/system"].iter().any(|units| dir.ends_with(units));
    (is_unit_dir && name.ends_with(".service") && !name.ends_with("@.service")).then_some(name)
}
