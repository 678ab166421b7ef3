//! What a pool says of itself (zpoolprops(7)).

use super::command::printed;
use crate::error::{Error, Result};

/// A pool that is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its identity, which a rename at import does not change.
    pub guid: u64,
    /// `ONLINE`, `DEGRADED`, `SUSPENDED`, ... (zpoolconcepts(7)).
    pub health: String,
    /// Imported read-only.
    pub readonly: bool,
    /// The dataset that boots by default.
    pub bootfs: Option<String>,
    /// What its mountpoints are below of, until it is exported.
    pub altroot: Option<String>,
}

impl Pool {
    /// Reads a pool. It is an error of kind [`NotFound`](crate::error::Kind::NotFound) if it is missing or exported.
    pub fn read(name: &str) -> Result<Pool> {
        // The alternate root comes last: it alone may hold any character.
        let properties = "guid,health,readonly,bootfs,altroot";
        let text =
            printed("zpool", &["get", "-Hp", "-o", "property,value", properties, name]).map_err(|e| match e.kind {
                crate::error::Kind::NotFound => Error::not_found(format!("there is no pool {name}, or it is exported"))
                    .hint(format!("`zpool import` shows what can be imported, `zpool import {name}` does it")),
                _ => e,
            })?;
        parse(name, &text)
            .ok_or_else(|| Error::failed(format!("zpool says something else of {name} than expected: {text}")))
    }
}

impl Pool {
    /// Says which dataset boots by default (`bootfs`). Loaders that read pools look at it.
    pub fn set_bootfs(&self, dataset: &str) -> Result<()> {
        printed("zpool", &["set", &format!("bootfs={dataset}"), &self.name]).map(drop)
    }
}

fn parse(name: &str, text: &str) -> Option<Pool> {
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
    Some(Pool {
        name: name.into(),
        guid: next("guid")?.parse().ok()?,
        health: next("health")?.into(),
        readonly: next("readonly")? == "on",
        bootfs: set(next("bootfs")?),
        altroot: set(next("altroot")?),
    })
}

#[test]
fn what_zpool_get_prints() {
    let text = "guid\t17\nhealth\tONLINE\nreadonly\toff\nbootfs\ttank/ROOT/a\naltroot\t-\n";
    let pool = parse("tank", text).unwrap();
    assert_eq!((pool.guid, pool.bootfs.as_deref(), pool.altroot.clone()), (17, Some("tank/ROOT/a"), None));
    assert_eq!(parse("tank", &text.replace("\t-", "\t/a\tb")).unwrap().altroot.unwrap(), "/a\tb");
    assert_eq!(parse("tank", "guid\t17\n"), None);
}
