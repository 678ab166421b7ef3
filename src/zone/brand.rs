//! Brands: what kinds of containers there are and how each is driven, as data. Those that come with bootenv are compiled in; a file
//! of the same name in one of `PLACES` is used instead, and others there are brands too.

use crate::domain::ZoneName;
use crate::error::{Error, Result};
use crate::sys::tree::Tree;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The brand of a zone if nobody says which.
pub const USUAL: &str = "nspawn";

/// Where an administrator, and packages, put brands; the first that has one of a name is asked.
const PLACES: [&str; 3] = ["/etc/bootenv/zones", "/usr/local/share/bootenv/zones", "/usr/share/bootenv/zones"];

const COMPILED_IN: [(&str, &str); 2] =
    [("nspawn", include_str!("../../zones/nspawn.toml")), ("lxc", include_str!("../../zones/lxc.toml"))];

/// The version of the format.
const FORMAT: u32 = 1;

/// The directory of the socket by which a zone administers its own BEs: as the unit has it that listens there.
const INSIDE: &str = "/run/bootenv-zones/{zone}";

fn shared_of(zone: &str) -> String {
    format!("/run/bootenv/zones/{zone}/shared")
}

/// A kind of container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// Version of the format.
    pub version: u32,
    /// What people call it.
    pub description: String,
    /// Where the root of a container is looked for.
    pub root: String,
    /// What starts in it, from its root: one of these.
    pub init: Vec<String>,
    /// What is there while a container runs.
    pub running: String,
    /// Where its control group may be (cgroup v2), whose processes stand still while it is cloned: the first of these that is there. Who
    /// asks from inside has to be in one of them, or below.
    #[serde(default)]
    pub cgroup: Vec<String>,
    /// The command that prints the process id of its first process. Words are arguments; no shell reads them.
    #[serde(default)]
    pub leader: Vec<String>,
    /// The command that starts it.
    pub start: Vec<String>,
    /// The command that stops it.
    pub stop: Vec<String>,
    /// The command that succeeds once it has booted.
    #[serde(default)]
    pub ready: Vec<String>,
    /// What is written for it before it starts.
    pub settings: Option<Settings>,
}

/// A file that a kind of container reads.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it is.
    pub file: String,
    /// What is in it.
    pub text: String,
    /// Files of others that would be read instead.
    #[serde(default)]
    pub instead: Vec<String>,
    /// What one of them may say instead of the line that has the shared dataset in it.
    #[serde(default)]
    pub or: Vec<String>,
}

impl Brand {
    /// The one with this name.
    pub fn named(name: &str) -> Result<Brand> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Error::usage(format!("{name:?} is not a name for a brand: letters, digits and `-` only"))
                .hint("leave --brand out for systemd-nspawn"));
        }
        for place in PLACES.map(Path::new) {
            let file = format!("{name}.toml");
            if let Ok(tree) = Tree::at(place)
                && let Some(text) = tree.read_text(&file)?
            {
                return Brand::parse(&text, &place.join(file));
            }
        }
        match COMPILED_IN.iter().find(|(brand, _)| *brand == name) {
            Some((_, text)) => Brand::parse(text, Path::new(name)),
            None => {
                let known: Vec<&str> = COMPILED_IN.iter().map(|(brand, _)| *brand).collect();
                Err(Error::not_found(format!("there is no brand {name}")).hint(format!(
                    "there is: {}; {}/{name}.toml would make it one",
                    known.join(", "),
                    PLACES[0]
                )))
            }
        }
    }

    fn parse(text: &str, from: &Path) -> Result<Brand> {
        let damaged = |why: &str| {
            Err(Error::failed(format!("the brand {} cannot be used: {why}", from.display()))
                .hint("mend the file, or remove it"))
        };
        match toml::from_str::<Brand>(text) {
            Ok(brand) if brand.version > FORMAT => damaged("it is of a newer format"),
            Ok(brand) if !brand.root.starts_with('/') || !brand.root.contains("{zone}") => {
                damaged("root has to be an absolute path with {zone} in it")
            }
            Ok(brand) if brand.start.is_empty() || brand.stop.is_empty() => {
                damaged("start and stop have to name commands")
            }
            Ok(brand) => Ok(brand),
            Err(e) => damaged(e.message().lines().next().unwrap_or_default()),
        }
    }

    /// A text of it, for this zone.
    pub(super) fn filled(&self, text: &str, zone: &ZoneName) -> String {
        let text = text.replace("{root}", &self.root).replace("{shared}", &shared_of("{zone}"));
        let text = text.replace("{inside}", INSIDE);
        // As systemd names units.
        text.replace("{escaped}", &zone.as_str().replace('-', "\\x2d")).replace("{zone}", zone.as_str())
    }

    /// Where the root of this zone is looked for.
    pub fn root_of(&self, zone: &ZoneName) -> PathBuf {
        self.filled("{root}", zone).into()
    }

    /// Where the shared dataset of this zone is mounted while it runs, for its settings to bind into it.
    pub(super) fn shared_of(&self, zone: &ZoneName) -> PathBuf {
        self.filled("{shared}", zone).into()
    }

    /// The directory of the socket that is bound into this zone, where that is done.
    pub(super) fn inside_of(&self, zone: &ZoneName) -> Option<PathBuf> {
        let bound = self.settings.as_ref().is_some_and(|settings| settings.text.contains("{inside}"));
        bound.then(|| self.filled(INSIDE, zone).into())
    }

    /// Whether this zone runs.
    pub fn runs(&self, zone: &ZoneName) -> bool {
        Path::new(&self.filled(&self.running, zone)).exists()
    }

    /// The control group of this zone, if it is there.
    pub fn group_of(&self, zone: &ZoneName) -> Option<PathBuf> {
        self.cgroup.iter().map(|place| PathBuf::from(self.filled(place, zone))).find(|place| place.is_dir())
    }

    /// Whether what is in this control group, the first on its way that is no slice, is in this zone.
    pub fn is_unit_of(&self, zone: &ZoneName, unit: &str) -> bool {
        let units = self.cgroup.iter().map(|place| self.filled(place, zone));
        units.into_iter().any(|place| first_unit(&place) == Some(unit))
    }

    /// Whether something is in a root that can be started.
    pub fn starts(&self, root: &Tree) -> bool {
        self.init.iter().any(|init| root.exists(init))
    }
}

/// The first control group on the way to one that is no slice.
fn first_unit(place: &str) -> Option<&str> {
    let path = place.strip_prefix("/sys/fs/cgroup/")?;
    path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compiled_in_can_be_used() {
        for (name, text) in COMPILED_IN {
            let brand = Brand::parse(text, Path::new(name)).unwrap();
            let web = ZoneName::parse("web").unwrap();
            assert!(brand.root_of(&web).iter().any(|part| part == "web"), "{name}");
            let settings = brand.filled(&brand.settings.as_ref().unwrap().text, &web);
            assert!(settings.contains("/run/bootenv/zones/web/shared") && !settings.contains('{'), "{settings}");
        }
    }

    #[test]
    fn whose_processes_they_are() {
        let brand = Brand::parse(COMPILED_IN[0].1, Path::new("nspawn")).unwrap();
        let zone = ZoneName::parse("web-1").unwrap();
        for unit in ["systemd-nspawn@web-1.service", "machine-web\\x2d1.scope"] {
            assert!(brand.is_unit_of(&zone, unit), "{unit}");
        }
        for other in ["systemd-nspawn@web.service", "machine-web-1.scope", "machine-web\\x2d1.scope.d", "web-1", ""] {
            assert!(!brand.is_unit_of(&zone, other), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_file() {
        let text = COMPILED_IN[0].1;
        for (bad, why) in [
            (text.replace("version = 1", "version = 2"), "newer"),
            (text.replace("/var/lib/machines/{zone}", "machines/{zone}"), "absolute"),
            (text.replace("/var/lib/machines/{zone}", "/var/lib/machines"), "{zone}"),
            (format!("{text}\nroof = 1\n"), "roof"),
            (text.replace("\nstop = [", "\nstop = [] #"), "start and stop"),
            ("=".to_string(), ""),
        ] {
            let error = Brand::parse(&bad, Path::new("/etc/x.toml")).unwrap_err();
            assert!(error.message.contains("/etc/x.toml") && error.message.contains(why), "{}", error.message);
        }
        for name in ["", "../nspawn", "a/b", "nspawn.toml"] {
            assert_eq!(Brand::named(name).unwrap_err().kind, crate::error::Kind::Usage, "{name}");
        }
    }
}
