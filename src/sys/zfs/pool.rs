//! What a pool says of itself (zpoolprops(7)). What every command has to know is read from the module's statistics, which costs
//! nothing.

use super::libzfs::Libzfs;
use crate::error::{Doing, Error, Result};
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
}

/// What is set on a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its identity.
    pub guid: u64,
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
        // The identity is there since OpenZFS 2.2.
        let guid = match told("guid").ok().and_then(|text| text.parse().ok()) {
            Some(guid) => guid,
            None => Libzfs::open()?.pool(name)?.guid,
        };
        Ok(Pool { name: name.into(), guid, health: told("state")? })
    }

    /// Whether a filesystem of this pool, named by its `objsetid`, is in use: mounted somewhere, be it where nobody sees it. The
    /// module keeps statistics of each that is.
    pub fn uses(&self, objset: u64) -> bool {
        kstats(&self.name).join(format!("objset-{objset:#x}")).exists()
    }
}
