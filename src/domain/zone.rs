//! Zones: containers whose roots follow the BE of the host.

use super::{Asked, BeName, BootEnv, FORMAT, Inventory, Snapshot, ZoneName};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What is set for a zone, and that there is one: a tree in its place without this is a zone that was not finished. Fields and
/// versions this bootenv does not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Zone {
    /// Version of the format.
    #[serde(default)]
    pub version: u32,
    /// What kind of container it is.
    pub brand: String,
    /// Whether it follows the BEs of the host: a new one gets a root of this zone.
    pub attached: bool,
    /// Whether it starts when the host has booted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub autostart: bool,
    /// How many zone BEs and snapshots it may make itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_boot_environments: Option<u64>,
    /// How many bytes all it has may take, before it makes more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_space: Option<u64>,
    /// Everything else that stands in the file.
    #[serde(flatten)]
    pub rest: toml::Table,
}

impl Zone {
    /// One of this brand.
    pub fn new(brand: impl Into<String>, attached: bool) -> Zone {
        Zone {
            version: FORMAT,
            brand: brand.into(),
            attached,
            autostart: false,
            most_boot_environments: None,
            most_space: None,
            rest: toml::Table::new(),
        }
    }

    /// How many zone BEs and snapshots it may make itself, if nothing else is set: one that makes them without end would be felt by all
    /// that use the store.
    pub const USUAL_MOST: u64 = 100;

    /// How many zone BEs and snapshots it may make itself.
    pub fn most(&self) -> u64 {
        self.most_boot_environments.unwrap_or(Self::USUAL_MOST)
    }
}

/// A BE of the host, as its zones know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// What it is called today.
    pub name: BeName,
    /// Its identity, by which the zone BEs that belong to it name it.
    pub uuid: Uuid,
    /// Where it lies, from the top of the store.
    pub path: String,
}

/// A zone, as a verb that is told `--zone` sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneView {
    /// Its name.
    pub name: ZoneName,
    /// The BE of the host that it is looked at from: the one that runs, else the one that boots next. Nothing where that cannot be
    /// known.
    pub owner: Option<Owner>,
    /// The BEs of the host.
    pub hosts: Vec<(BeName, Uuid)>,
    /// What it runs with each of them, by identity.
    pub runs: BTreeMap<Uuid, Asked>,
    /// Zone BEs that cannot run, as far as that was looked at.
    pub cannot_run: BTreeSet<BeName>,
}

/// Whose a zone BE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belongs<'v> {
    /// Of the BE of the host that the zone is looked at from.
    Here,
    /// Of another one.
    Elsewhere(&'v BeName),
    /// Of none that is there: that is gone, or was never told.
    Nowhere,
}

impl Owner {
    /// It as the zone's own administrator knows it: he has to tell BEs of the host apart, and their names are none of his business.
    pub fn veiled(&self) -> Result<Owner> {
        Ok(Owner { name: veil(self.uuid)?, ..self.clone() })
    }
}

/// What a BE of the host is called inside zones: the end of its identity, for in a pool all of them begin alike.
pub fn veil(host: Uuid) -> Result<BeName> {
    BeName::parse(&format!("host-{:08x}", host.as_u128() as u32))
}

impl ZoneView {
    /// Of a zone of which nothing has been read yet.
    pub fn new(name: ZoneName, owner: Option<Owner>) -> ZoneView {
        ZoneView { name, owner, hosts: Vec::new(), runs: BTreeMap::new(), cannot_run: BTreeSet::new() }
    }

    /// Whose this zone BE is.
    pub fn belongs(&self, be: &BootEnv) -> Belongs<'_> {
        let Some((host, uuid)) = self.hosts.iter().find(|(_, uuid)| Some(*uuid) == be.facts.parent) else {
            return Belongs::Nowhere;
        };
        match self.owner.as_ref().is_some_and(|owner| owner.uuid == *uuid) {
            true => Belongs::Here,
            false => Belongs::Elsewhere(host),
        }
    }

    /// The BE of the host, other than the one that the zone is looked at from, with which it would run this zone BE.
    pub fn would_run(&self, be: &BootEnv) -> Option<&BeName> {
        let here = self.owner.as_ref().map(|owner| owner.uuid);
        let named =
            |asked: &Asked| [&asked.default, &asked.once].into_iter().flatten().any(|name| *name == *be.name.as_str());
        let other = self.hosts.iter().filter(|(_, uuid)| Some(*uuid) != here);
        other.filter(|(_, uuid)| self.runs.get(uuid).is_some_and(named)).map(|(host, _)| host).next()
    }
}

/// A zone that a verb of the host takes along.
#[derive(Debug, Clone)]
pub struct Along {
    /// Its name.
    pub name: ZoneName,
    /// Whether it follows the BEs of the host: a new one gets a root of this zone.
    pub attached: bool,
    /// What it runs with each BE of the host, by identity.
    pub runs: BTreeMap<Uuid, Asked>,
    /// What is in it.
    pub inside: Inventory,
}

impl Along {
    /// The zone BE that it runs with the BE of the host of this identity.
    pub fn due(&self, host: Uuid) -> Option<&BootEnv> {
        let asked = self.runs.get(&host)?;
        let named = [&asked.default, &asked.previous].into_iter().flatten();
        named.filter_map(|name| self.inside.bes.iter().find(|be| be.name.as_str() == name)).next()
    }

    /// The zone BEs that belong to the BE of the host of this identity.
    pub fn of(&self, host: Uuid) -> impl Iterator<Item = &BootEnv> {
        self.inside.bes.iter().filter(move |be| be.facts.parent == Some(host))
    }

    /// The snapshot of a zone BE that was taken with the snapshot of the host of this identity.
    pub fn snapshot_with(&self, host: Uuid) -> Option<(&BootEnv, &Snapshot)> {
        let mut all = self.inside.bes.iter().flat_map(|be| be.snapshots.iter().map(move |snapshot| (be, snapshot)));
        all.find(|(_, snapshot)| snapshot.facts.parent == Some(host))
    }
}

/// What is told of a host, in a zone's words: it has entries, but no menu, and is started.
pub fn in_zone_words(text: &str) -> String {
    let words = [
        ("a menu entry", "an entry"),
        ("menu entry", "entry"),
        ("cannot be booted; the loader", "cannot be started; the zone"),
    ];
    words.iter().fold(text.to_string(), |text, (host, zone)| text.replace(host, zone))
}

/// What is told of a zone BE, with the commands it names told the zone. `zone` itself is told it as an argument.
pub fn told_of(zone: &ZoneName, text: &str) -> String {
    let text = in_zone_words(text);
    let mut parts = text.split("`bootenv ");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |told, rest| {
        match rest.starts_with("zone ") || rest.starts_with("--zone ") || rest.starts_with("init") {
            true => format!("{told}`bootenv {rest}"),
            false => format!("{told}`bootenv --zone {zone} {rest}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_the_zone() {
        let told = |text| told_of(&ZoneName::parse("web").unwrap(), text);
        assert_eq!(
            told("`bootenv list` shows, `bootenv check` mends"),
            "`bootenv --zone web list` shows, `bootenv --zone web check` mends"
        );
        assert_eq!(told("`bootenv zone destroy web` goes"), "`bootenv zone destroy web` goes");
        assert_eq!(told("bootenv made it"), "bootenv made it");
        assert_eq!(told("the menu entry of blue is out of date"), "the entry of blue is out of date");
    }
}
