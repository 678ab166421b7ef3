//! apk: `lib/apk/db/installed` (apk-v2(5), which version 3 still writes): a stanza for each package, whose lines begin with a letter and a
//! colon.

use super::{PackageManager, Packages, damaged};
use crate::error::{Doing, Result};
use crate::sys::tree::Tree;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

/// Where it is, from the root: `/lib` and `/usr/lib` are one in newer roots.
const INSTALLED: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

/// Alpine's.
pub(super) struct Apk;

/// A stanza.
#[derive(Default)]
struct Stanza {
    name: String,
    version: String,
    files: Vec<String>,
}

impl PackageManager for Apk {
    fn name(&self) -> &'static str {
        "apk"
    }

    fn packages(&self, root: &Tree) -> Result<Packages> {
        let mut packages = Packages::new();
        stanzas(root, &mut |stanza| drop(packages.insert(stanza.name, stanza.version)))?;
        Ok(packages)
    }

    fn files(&self, root: &Tree, packages: &BTreeSet<&str>) -> Result<Vec<String>> {
        let mut files = Vec::new();
        stanzas(root, &mut |stanza| {
            if packages.contains(stanza.name.as_str()) {
                files.extend(stanza.files);
            }
        })?;
        Ok(files)
    }

    /// What is to be installed by `/etc/apk/world` is, and what that needs. Where packages come from is not asked.
    fn audit(&self) -> &'static [&'static str] {
        &["apk", "--quiet", "--no-network", "--repositories-file", "/dev/null", "--simulate", "add"]
    }
}

/// Reads it from one end to the other, for the files of all packages are in it.
fn stanzas(root: &Tree, each: &mut dyn FnMut(Stanza)) -> Result<()> {
    let found = INSTALLED.iter().find_map(|path| root.file(path).transpose().map(|file| (path, file)));
    let Some((path, file)) = found else { return Ok(()) };
    let (mut stanza, mut dir) = (Stanza::default(), String::new());
    let mut begun = false;
    let mut lines = BufReader::new(file?).split(b'\n');
    for number in 1.. {
        let line = lines.next().transpose().doing(format_args!("cannot read /{path}"))?;
        let text = String::from_utf8_lossy(line.as_deref().unwrap_or_default());
        if text.is_empty() {
            if begun && (stanza.name.is_empty() || stanza.version.is_empty()) {
                let what = format!("in /{path} a package before line {number} has no name or no version");
                return Err(damaged(&Apk, what));
            }
            if begun {
                each(std::mem::take(&mut stanza));
            }
            begun = false;
        } else {
            let Some((key, value)) = text.split_once(':').filter(|(key, _)| key.len() == 1) else {
                return Err(damaged(&Apk, format!("line {number} of /{path} is none of its own")));
            };
            begun = true;
            match key {
                "P" => stanza.name = value.to_string(),
                "V" => stanza.version = value.to_string(),
                "F" => dir = value.to_string(),
                "R" => stanza.files.push(format!("/{dir}/{value}")),
                _ => {}
            }
        }
        if line.is_none() {
            break;
        }
    }
    Ok(())
}
