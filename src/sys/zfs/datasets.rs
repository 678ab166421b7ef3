//! Reading many datasets and snapshots with their properties by one `zfs get` (zfs-get(8), zfsprops(7)).
//!
//! `zfs get` and not `zfs list`, for it says where a value comes from: user properties are inherited, so a snapshot
//! seems to have the description of its dataset.

use super::command::printed;
use super::lzc::Lzc;
use super::properties::{Canmount, decode, set_readonly};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashSet};

/// What a dataset is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A filesystem.
    Filesystem,
    /// A snapshot, of a filesystem or a volume.
    Snapshot,
    /// A block device.
    Volume,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Set on the dataset itself, here or where it was received from.
    Own,
    /// Inherited from this dataset.
    Inherited(String),
    /// The default, a mount option, or nothing that can be set.
    Other,
}

/// A value, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// A dataset or a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its full name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its identity in the pool: renames and promotions do not change it.
    pub guid: u64,
    /// The transaction group it was made in: the order in time, where a second is too coarse.
    pub createtxg: u64,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The snapshot it is a clone of.
    pub origin: Option<String>,
    /// Bytes that would be free without it; of a dataset with all below it, snapshots included.
    pub used: u64,
    /// Bytes that it refers to and the snapshot before it, or its origin, does not.
    pub written: u64,
    /// Filesystems only.
    pub canmount: Option<Canmount>,
    /// Filesystems only: a path, `none` or `legacy`.
    pub mountpoint: Option<Setting>,
    /// Whether its property `readonly` is on.
    pub readonly: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Whether it is encrypted with a key that is not loaded.
    pub locked: bool,
    /// Its own user properties of those asked for, decoded ([`decode`]).
    pub user: BTreeMap<String, String>,
}

const NATIVE: [&str; 12] = [
    "type",
    "guid",
    "createtxg",
    "creation",
    "origin",
    "used",
    "written",
    "canmount",
    "mountpoint",
    "readonly",
    "encryption",
    "keystatus",
];

/// The dataset `root` and what is below it, snapshots included, with these user properties: parents before children,
/// snapshots oldest first. `depth` is how many levels of datasets below `root` are read (a snapshot is one level more).
/// Nothing else in the pool is looked at.
pub fn below(root: &str, depth: Option<u32>, user: &[&str]) -> Result<Vec<Dataset>> {
    let depth = depth.map(|d| d.to_string());
    let mut options = vec!["-r", "-t", "filesystem,volume,snapshot"];
    if let Some(depth) = &depth {
        options.extend(["-d", depth]);
    }
    get(&options, &[root], user)
}

/// Those of the datasets and snapshots `names` that are there, and nothing else.
pub fn some(lzc: &Lzc, names: &[&str], user: &[&str]) -> Result<Vec<Dataset>> {
    let mut there = Vec::new();
    for name in names {
        if lzc.exists(name)? {
            there.push(*name);
        }
    }
    if there.is_empty() { Ok(Vec::new()) } else { get(&[], &there, user) }
}

fn get(options: &[&str], names: &[&str], user: &[&str]) -> Result<Vec<Dataset>> {
    let properties = in_order(user);
    let list = properties.join(",");
    let text =
        printed("zfs", &[&["get", "-Hp", "-o", "name,property,value,source"], options, &[&list], names].concat())?;
    parse(&text, &properties)
}

/// The properties in the order they are asked for. User properties come first: what may hold anything is then never
/// the last of a dataset, where the next one is due.
fn in_order<'a>(user: &[&'a str]) -> Vec<&'a str> {
    [user, &NATIVE[..]].concat()
}

/// Reads what `zfs get` has printed: a line for each of `properties`, in this order, for each dataset.
///
/// Values of others may hold tabs and newlines. So a line begins a new value only if it is of the property that is due,
/// and of the dataset that is being read, or of one that has not been read yet where a new one is due.
fn parse(text: &str, properties: &[&str]) -> Result<Vec<Dataset>> {
    let mut datasets = Vec::new();
    let mut seen = HashSet::new();
    // The dataset that is being read: its name, and "value<TAB>source" for each of the first properties.
    let mut name = "";
    let mut values: Vec<String> = Vec::new();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let mut fields = line.splitn(3, '\t');
        let head = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default(), fields.next());
        let whole = values.is_empty() || values.len() == properties.len();
        let due = properties[if whole { 0 } else { values.len() }];
        let begins = head.1 == due && if whole { !seen.contains(head.0) } else { head.0 == name };
        match (head.2, values.last_mut()) {
            (Some(value), _) if begins => {
                if whole {
                    if !values.is_empty() {
                        datasets.push(dataset(name, properties, &values)?);
                    }
                    values.clear();
                    name = head.0;
                    seen.insert(name);
                }
                values.push(value.to_string());
            }
            (_, Some(last)) => {
                last.push('\n');
                last.push_str(line);
            }
            _ => {}
        }
    }
    if !values.is_empty() {
        datasets.push(dataset(name, properties, &values)?);
    }
    Ok(datasets)
}

fn dataset(name: &str, properties: &[&str], values: &[String]) -> Result<Dataset> {
    let fields = |property: &str| values.get(properties.iter().position(|p| *p == property)?)?.rsplit_once('\t');
    let setting = |property: &str| {
        let (value, source) = fields(property)?;
        let source = match source.strip_prefix("inherited from ") {
            Some(from) => Source::Inherited(from.into()),
            None if matches!(source, "local" | "received") => Source::Own,
            None => Source::Other,
        };
        Some(Setting { value: value.into(), source })
    };
    let odd =
        |property: &str| Error::failed(format!("zfs says something of {property} of {name} that is not understood"));
    let native = |property: &str| setting(property).map(|s| s.value).ok_or_else(|| odd(property));
    let number = |property: &str| native(property)?.parse().map_err(|_| odd(property));
    let set = |value: String| (value != "-").then_some(value);
    let own = |property: &&str| {
        let setting = setting(property).filter(|s| s.source == Source::Own)?;
        Some((property.to_string(), decode(&setting.value)))
    };
    Ok(Dataset {
        name: name.into(),
        kind: match native("type")?.as_str() {
            "filesystem" => Kind::Filesystem,
            "snapshot" => Kind::Snapshot,
            "volume" => Kind::Volume,
            _ => return Err(odd("type")),
        },
        guid: number("guid")?,
        createtxg: number("createtxg")?,
        created: i64::try_from(number("creation")?).map_err(|_| odd("creation"))?,
        origin: set(native("origin")?),
        used: number("used")?,
        written: number("written")?,
        canmount: Canmount::parse(&native("canmount")?),
        mountpoint: setting("mountpoint").filter(|s| s.value != "-"),
        readonly: fields("readonly").is_some_and(|(value, source)| set_readonly(value, source)),
        encrypted: !matches!(native("encryption")?.as_str(), "off" | "-"),
        locked: native("keystatus")? == "unavailable",
        user: properties.iter().filter(|p| p.contains(':')).filter_map(own).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str, kind: &str, guid: u64, note: &str) -> String {
        let values =
            [kind, &guid.to_string(), "5", "1700000000", "-", "24576", "24576", "noauto", "/", "off", "off", "-"];
        let native = NATIVE.iter().zip(values).map(|(p, v)| format!("{name}\t{p}\t{v}\t-\n"));
        format!("{name}\torg.bootenv:x\t-\t-\n{name}\torg.bootenv:note\t{note}\n") + &native.collect::<String>()
    }

    fn read(text: &str) -> Vec<Dataset> {
        parse(text, &in_order(&["org.bootenv:x", "org.bootenv:note"])).unwrap()
    }

    #[test]
    fn own_values_and_inherited_ones() {
        let text = lines("t/ROOT/a", "filesystem", 1, "one%0Atwo\tlocal")
            + &lines("t/ROOT/a@s", "snapshot", 2, "one%0Atwo\tinherited from t/ROOT/a");
        let read = read(&text);
        assert_eq!(
            read.iter().map(|d| (d.name.as_str(), d.guid)).collect::<Vec<_>>(),
            [("t/ROOT/a", 1), ("t/ROOT/a@s", 2)]
        );
        assert_eq!(read[0].user, BTreeMap::from([("org.bootenv:note".into(), "one\ntwo".into())]));
        assert!(read[1].user.is_empty());
        assert_eq!((read[0].canmount, read[0].created), (Some(Canmount::Noauto), 1_700_000_000));
    }

    #[test]
    fn values_that_look_like_lines() {
        let evil = "x\nt/ROOT/a\tguid\t9\tlocal\nt/ROOT/b\torg.bootenv:x\t-\t-\nt/ROOT/b\ttype\tfilesystem\t-\n\n\ttail\tlocal";
        let read = read(&(lines("t/ROOT/a", "filesystem", 1, evil) + &lines("t/ROOT/b", "filesystem", 2, "-\t-")));
        assert_eq!(read.iter().map(|d| d.guid).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(read[0].user["org.bootenv:note"], evil.strip_suffix("\tlocal").unwrap());
    }

    #[test]
    fn nothing_and_half_a_dataset() {
        assert!(read("").is_empty());
        assert!(parse("t/a\ttype\tfilesystem\t-\n", &NATIVE).is_err());
    }
}
