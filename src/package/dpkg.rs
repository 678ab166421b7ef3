//! dpkg: `/var/lib/dpkg/status` (deb-control(5) stanzas) and the lists of files beside it.

use super::{PackageManager, Packages};
use crate::error::Result;
use crate::sys::tree::Tree;
use std::collections::BTreeSet;

const STATUS: &str = "var/lib/dpkg/status";

/// Debian's, and that of everything that comes from Debian.
pub(super) struct Dpkg;

impl PackageManager for Dpkg {
    fn name(&self) -> &'static str {
        "dpkg"
    }

    fn packages(&self, root: &Tree) -> Result<Packages> {
        let text = root.read(STATUS)?.unwrap_or_default();
        Ok(parse(&String::from_utf8_lossy(&text)))
    }

    fn files(&self, root: &Tree, packages: &BTreeSet<&str>) -> Result<Vec<String>> {
        let mut files = Vec::new();
        for package in packages {
            // The name has the architecture only where a package may be there for several.
            let plain = package.split(':').next().unwrap_or(package);
            for name in [package, plain] {
                if let Some(list) = root.read(&format!("var/lib/dpkg/info/{name}.list"))? {
                    files.extend(String::from_utf8_lossy(&list).lines().map(str::to_string));
                    break;
                }
            }
        }
        Ok(files)
    }

    fn audit(&self) -> &'static [&'static str] {
        &["dpkg", "--audit"]
    }
}

/// The packages that are unpacked, whatever else is still to be done with them.
fn parse(status: &str) -> Packages {
    let mut packages = Packages::new();
    for stanza in status.split("\n\n") {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let state = field("Status").and_then(|status| status.rsplit(' ').next());
        let (Some(name), Some(version)) = (field("Package"), field("Version")) else { continue };
        if matches!(state, None | Some("not-installed" | "config-files")) {
            continue;
        }
        let name = match (field("Multi-Arch"), field("Architecture")) {
            (Some("same"), Some(architecture)) => format!("{name}:{architecture}"),
            _ => name.to_string(),
        };
        packages.insert(name, version.to_string());
    }
    packages
}

#[test]
fn what_counts_as_installed() {
    let stanza = |name: &str, status: &str, more: &str| {
        format!(
            "Package: {name}\nStatus: {status}\nArchitecture: amd64\n{more}Version: 1.0-1\nDescription: x\n Version: 9\n\n"
        )
    };
    let status = stanza("a", "install ok installed", "")
        + &stanza("b", "deinstall ok config-files", "")
        + &stanza("c", "install ok half-configured", "Multi-Arch: same\n");
    let packages = parse(&status);
    assert_eq!(packages.keys().collect::<Vec<_>>(), ["a", "c:amd64"]);
    assert_eq!(packages["a"], "1.0-1");
}
