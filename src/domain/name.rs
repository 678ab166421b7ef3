//! Names of boot environments and snapshots.
//!
//! One character set for both stores: what ZFS allows in a dataset component, less the space
//! (zfs(8), "zfs component naming"). It needs no quoting in a shell, in GRUB's language, in fstab
//! or on a kernel command line.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest a name may be, in bytes: a directory entry on Btrfs (`BTRFS_NAME_LEN`), which for a
/// snapshot holds `BE@SNAP` whole.
pub const NAME_MAX: usize = 255;

/// The longest the name of a BE may be, in bytes: mount(8) passes on `subvol=ROOT/NAME` with fsconfig(2), which takes 255.
const BE_MAX: usize = 250;

/// The name of a boot environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BeName(String);

/// The name of a snapshot, without its BE.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapName(String);

/// A BE, or a snapshot of one, as written on the command line: `NAME` or `BE@SNAP`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A boot environment.
    Be(BeName),
    /// A snapshot of a boot environment.
    Snapshot(BeName, SnapName),
}

/// The name of a zone: what systemd takes as the name of a machine, which is that of a host (systemd.unit(5), hostname(7)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);

/// The longest the name of a zone may be, in bytes (`HOST_NAME_MAX`).
const ZONE_MAX: usize = 64;

fn check(what: &str, name: &str, longest: usize) -> Result<()> {
    let bad = |why: String| {
        Err(Error::usage(format!("{:?} is not a name for a {what}: {why}", Shown(name))).hint(
            "a name has letters, digits and `_ . : -`, begins with a letter or a digit, and is at most 250 bytes long",
        ))
    };
    if name.is_empty() {
        return bad("it is empty".into());
    }
    if name.len() > longest {
        return bad(format!("it is {} bytes long", name.len()));
    }
    if name.contains('@') && what == "boot environment" {
        return Err(Error::usage(format!("{:?} is a snapshot, or no name at all", Shown(name)))
            .hint("name a boot environment; `bootenv create -e BE@SNAP NAME` makes one from a snapshot"));
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.:-".contains(*c))) {
        return bad(format!("it contains {c:?}"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return bad(format!("it begins with {:?}", &name[..1]));
    }
    Ok(())
}

fn check_zone(_: &str, name: &str, longest: usize) -> Result<()> {
    let bad = |why: String| {
        Err(Error::usage(format!("{:?} is not a name for a zone: {why}", Shown(name))).hint(
            "a name is that of a host: letters, digits and `-`, in parts with a `.` between them, at most 64 bytes long",
        ))
    };
    if name.is_empty() {
        return bad("it is empty".into());
    }
    if name.len() > longest {
        return bad(format!("it is {} bytes long", name.len()));
    }
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-.".contains(*c))) {
        return bad(format!("it contains {c:?}"));
    }
    match name.split('.').find(|part| part.is_empty() || part.starts_with('-') || part.ends_with('-')) {
        Some("") => bad("it has a dot at an end, or two in a row".into()),
        Some(part) => bad(format!("{part:?} begins or ends with '-'")),
        None => Ok(()),
    }
}

/// Shortens a name for an error message.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(40) {
            Some((at, _)) => write!(f, "{:?}...", &self.0[..at]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

macro_rules! name_type {
    ($type:ident, $what:literal, $longest:expr, $check:ident) => {
        impl $type {
            /// Checks and wraps a name. A bad one is a usage error that says which rule it breaks.
            pub fn parse(name: &str) -> Result<Self> {
                $check($what, name, $longest)?;
                Ok($type(name.to_string()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;
            fn try_from(name: String) -> Result<Self> {
                Self::parse(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name_type!(BeName, "boot environment", BE_MAX, check);
name_type!(SnapName, "snapshot", NAME_MAX, check);
name_type!(ZoneName, "zone", ZONE_MAX, check_zone);

impl Target {
    /// Parses `NAME` or `BE@SNAP`.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((be, snap)) = text.split_once('@') else {
            return Ok(Target::Be(BeName::parse(text)?));
        };
        if text.len() > NAME_MAX {
            return Err(Error::usage(format!("{:?} is {} bytes long", Shown(text), text.len()))
                .hint("`BE@SNAP` may be at most 255 bytes long as a whole"));
        }
        Ok(Target::Snapshot(BeName::parse(be)?, SnapName::parse(snap)?))
    }

    /// The BE named, or whose snapshot is named.
    pub fn be(&self) -> &BeName {
        match self {
            Target::Be(be) | Target::Snapshot(be, _) => be,
        }
    }

    /// The snapshot, if it is one, with its BE.
    pub fn snapshot(&self) -> Option<(&BeName, &SnapName)> {
        match self {
            Target::Be(_) => None,
            Target::Snapshot(be, snap) => Some((be, snap)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Be(be) => f.pad(be.as_str()),
            Target::Snapshot(be, snap) => f.pad(&format!("{be}@{snap}")),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn accepts_what_zfs_accepts() {
        for name in ["default", "a", "6.12.1-3", "before_upgrade", "x:y", &"n".repeat(250)] {
            assert_eq!(BeName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_what_would_need_quoting_or_escape_the_layout() {
        for name in
            ["", "/", "a/b", "a@b", "a b", "a\n", "\u{7f}", "-a", ".a", "..", ".", "ü", "a'b", "$x", &"n".repeat(251)]
        {
            let error = BeName::parse(name).unwrap_err();
            assert_eq!(error.kind, Kind::Usage, "{name:?}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn a_zone_is_called_as_a_machine_is() {
        for name in ["web", "Web-2", "db.example", "0", &"n".repeat(64)] {
            assert_eq!(ZoneName::parse(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "../web",
            "/web",
            "a/b",
            "web.",
            ".host",
            "a..b",
            "-a",
            "a-",
            "a.-b",
            "a_b",
            "a b",
            "a\n",
            "ü",
            "a@b",
            &"n".repeat(65),
        ] {
            let error = ZoneName::parse(name).unwrap_err();
            assert_eq!(error.kind, Kind::Usage, "{name:?}");
            assert!(error.hint.is_some());
        }
    }

    #[test]
    fn a_target_is_a_be_or_a_snapshot() {
        assert_eq!(Target::parse("a").unwrap(), Target::Be(BeName::parse("a").unwrap()));
        assert_eq!(Target::parse("a@b").unwrap().to_string(), "a@b");
        for text in ["a@", "@b", "a@b@c", &format!("{}@b", "n".repeat(254))] {
            assert_eq!(Target::parse(text).unwrap_err().kind, Kind::Usage, "{text:?}");
        }
    }
}
