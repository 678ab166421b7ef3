//! Package managers: what a root has installed, and whether its package database is sound.

mod dpkg;

use crate::error::Result;
use crate::sys::tree::Tree;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Packages by name (with the architecture, where there are several of a name), with their versions.
pub type Packages = BTreeMap<String, String>;

/// A package manager, as it is found in a root.
pub trait PackageManager {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Whether the root has its database.
    fn is_in(&self, root: &Tree) -> bool;

    /// What is installed.
    fn packages(&self, root: &Tree) -> Result<Packages>;

    /// The files of a package, from the root; none if it is not installed.
    fn files(&self, root: &Tree, package: &str) -> Result<Vec<String>>;

    /// The command that, run inside the root, says what is wrong with the database, and nothing if it is sound.
    fn audit(&self) -> &'static [&'static str];
}

/// The package managers there are.
const ALL: [&dyn PackageManager; 1] = [&dpkg::Dpkg];

/// The one whose database a root has.
pub fn of(root: &Tree) -> Option<&'static dyn PackageManager> {
    ALL.into_iter().find(|manager| manager.is_in(root))
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
    let managed = [old, new].map(|root| (root, of(root)));
    let list = |(root, manager): (&Tree, Option<&dyn PackageManager>)| {
        manager.map_or(Ok(Packages::new()), |manager| manager.packages(root))
    };
    let (before, after) = (list(managed[0])?, list(managed[1])?);
    let mut changes = Changes::default();
    for (name, version) in &after {
        match before.get(name) {
            None => changes.added.push((name.clone(), version.clone())),
            Some(old) if old != version => changes.changed.push((name.clone(), old.clone(), version.clone())),
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
    changes.removed.extend(gone.map(|(name, version)| (name.clone(), version.clone())));

    let mut services = BTreeSet::new();
    let names = changes.added.iter().chain(&changes.removed).map(|(name, _)| name);
    for name in names.chain(changes.changed.iter().map(|(name, ..)| name)) {
        for (root, manager) in managed {
            let files = manager.map_or(Ok(Vec::new()), |manager| manager.files(root, name))?;
            services.extend(files.iter().filter_map(|file| service(file)).map(str::to_string));
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
