//! pacman: `var/lib/pacman/local`, a directory for each package, with `desc` and `files`, in which lines follow a `%FIELD%`.

use super::{PackageManager, Packages, damaged};
use crate::error::Result;
use crate::sys::tree::Tree;
use std::collections::BTreeSet;

const LOCAL: &str = "var/lib/pacman/local";
/// What is no package in there.
const FORMAT: &str = "ALPM_DB_VERSION";

/// Arch Linux's, and that of everything that comes from it.
pub(super) struct Pacman;

impl PackageManager for Pacman {
    fn name(&self) -> &'static str {
        "pacman"
    }

    fn is_in(&self, root: &Tree) -> bool {
        root.list(LOCAL).is_ok_and(|names| names.iter().any(|name| name != FORMAT))
    }

    fn packages(&self, root: &Tree) -> Result<Packages> {
        let mut packages = Packages::new();
        for dir in root.list(LOCAL)?.iter().filter(|name| *name != FORMAT) {
            let desc = format!("{LOCAL}/{}/desc", dir.to_string_lossy());
            let text = root.read(&desc)?.ok_or_else(|| damaged(&Pacman, format!("/{desc} is not there")))?;
            let text = String::from_utf8_lossy(&text);
            let one = |name: &str| field(&text, name).next().map(str::to_string);
            let (Some(name), Some(version)) = (one("NAME"), one("VERSION")) else {
                return Err(damaged(&Pacman, format!("/{desc} has no name or no version")));
            };
            packages.insert(name, version);
        }
        Ok(packages)
    }

    fn files(&self, root: &Tree, packages: &BTreeSet<&str>) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for (name, version) in self.packages(root)?.iter().filter(|(name, _)| packages.contains(name.as_str())) {
            let list = root.read(&format!("{LOCAL}/{name}-{version}/files"))?.unwrap_or_default();
            files.extend(field(&String::from_utf8_lossy(&list), "FILES").map(|file| format!("/{file}")));
        }
        Ok(files)
    }

    fn audit(&self) -> &'static [&'static str] {
        &["pacman", "-Dkq"]
    }

    /// It compares types before it installs anything. What it may overwrite and what it is not to extract can be set, but then it replaces
    /// the link by a directory.
    fn wants_directories(&self) -> bool {
        true
    }
}

/// The lines of a field.
fn field<'t>(text: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let heading = format!("%{name}%");
    text.lines().skip_while(move |line| *line != heading).skip(1).take_while(|line| !line.is_empty())
}

#[test]
fn a_field_ends_with_an_empty_line() {
    let text = "%NAME%\nx\n\n%FILES%\nusr/\nusr/bin/x\n\n%BACKUP%\netc/x\n";
    assert_eq!(field(text, "FILES").collect::<Vec<_>>(), ["usr/", "usr/bin/x"]);
    assert_eq!(field(text, "VERSION").next(), None);
}
