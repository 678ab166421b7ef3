//! What a pool says of itself (zpoolprops(7)).
//!
//! What every command has to know is read from the module's statistics, which costs nothing; a process is started only
//! for the rest, and when it is asked for.

use super::command::printed;
use crate::error::{Doing, Error, Result};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// A pool that is imported.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its identity, which a rename at import does not change.
    pub guid: u64,
    /// `ONLINE`, `DEGRADED`, `SUSPENDED`, ... (zpoolconcepts(7)).
    pub health: String,
    settings: OnceCell<Settings>,
}

/// What is set, as `zpool get` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    guid: u64,
    /// Imported read-only.
    pub readonly: bool,
    /// The dataset that boots by default.
    pub bootfs: Option<String>,
    /// What its mountpoints are below of, until it is exported.
    pub altroot: Option<String>,
}

/// Where the module tells of a pool.
fn kstats(name: &str) -> PathBuf {
    Path::new("/proc/spl/kstat/zfs").join(name)
}

impl Pool {
    /// Whether a pool is imported. Without OpenZFS there is none.
    pub fn is_imported(name: &str) -> bool {
        kstats(name).is_dir()
    }

    /// Reads a pool. It is an error of kind [`NotFound`](crate::error::Kind::NotFound) if it is missing or exported.
    pub fn read(name: &str) -> Result<Pool> {
        if !Pool::is_imported(name) {
            return Err(Error::not_found(format!("there is no pool {name}, or it is exported"))
                .hint(format!("`zpool import` shows what can be imported, `zpool import {name}` does it")));
        }
        let told = |what: &str| {
            let path = kstats(name).join(what);
            std::fs::read_to_string(&path).map(|text| text.trim().to_string()).doing_to("read", &path)
        };
        let pool = Pool { name: name.into(), guid: 0, health: told("state")?, settings: OnceCell::new() };
        // The identity is there since OpenZFS 2.2.
        let guid = match told("guid").ok().and_then(|text| text.parse().ok()) {
            Some(guid) => guid,
            None => pool.settings()?.guid,
        };
        Ok(Pool { guid, ..pool })
    }

    /// What is set. Asked for once.
    pub fn settings(&self) -> Result<&Settings> {
        if let Some(settings) = self.settings.get() {
            return Ok(settings);
        }
        // The alternate root comes last: it alone may hold any character.
        let text =
            printed("zpool", &["get", "-Hp", "-o", "property,value", "guid,readonly,bootfs,altroot", &self.name])?;
        let settings = parse(&text).ok_or_else(|| {
            Error::failed(format!("zpool says something else of {} than expected: {text}", self.name))
        })?;
        Ok(self.settings.get_or_init(|| settings))
    }

    /// Says which dataset boots by default (`bootfs`). Loaders that read pools look at it.
    pub fn set_bootfs(&self, dataset: &str) -> Result<()> {
        printed("zpool", &["set", &format!("bootfs={dataset}"), &self.name]).map(drop)
    }
}

fn parse(text: &str) -> Option<Settings> {
    let mut rest = text;
    let mut next = |property: &str| {
        let (line, after) = match property {
            "altroot" => (rest.trim_end_matches('\n'), ""),
            _ => rest.split_once('\n')?,
        };
        rest = after;
        line.strip_prefix(property)?.strip_prefix('\t')
    };
    let set = |value: &str| (value != "-").then(|| value.to_string());
    Some(Settings {
        guid: next("guid")?.parse().ok()?,
        readonly: next("readonly")? == "on",
        bootfs: set(next("bootfs")?),
        altroot: set(next("altroot")?),
    })
}

#[test]
fn what_zpool_get_prints() {
    let text = "guid\t17\nreadonly\toff\nbootfs\ttank/ROOT/a\naltroot\t-\n";
    let settings = parse(text).unwrap();
    assert_eq!((settings.guid, settings.bootfs.as_deref(), settings.altroot), (17, Some("tank/ROOT/a"), None));
    assert_eq!(parse(&text.replace("\t-", "\t/a\tb")).unwrap().altroot.unwrap(), "/a\tb");
    assert_eq!(parse("guid\t17\n"), None);
}
