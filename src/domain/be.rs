//! Boot environments, snapshots and the inventory they come in.

use super::name::Shown;
use super::{Along, BeName, SnapName, Target, ZoneView};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use uuid::Uuid;

/// The version of every on-disk TOML format this bootenv writes.
pub const FORMAT: u32 = 1;

/// What the tool knows about a BE or snapshot and the store does not. They decorate: a BE without facts is still a
/// BE. Fields and versions this bootenv does not know are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the format.
    #[serde(default)]
    pub version: u32,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it stays until it is unpinned.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The package manager's transaction that it was made before, if it was made without being asked for and nobody has taken it
    /// in hand since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automatic: Option<String>,
    /// Of a zone BE, or a snapshot of one: the identity of the BE, or snapshot, of the host that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Uuid>,
    /// Everything else that stands in the file.
    #[serde(flatten)]
    pub rest: toml::Table,
}

impl Default for Facts {
    fn default() -> Self {
        Facts {
            version: FORMAT,
            description: None,
            pinned: false,
            automatic: None,
            parent: None,
            rest: toml::Table::new(),
        }
    }
}

impl Facts {
    /// What they are once somebody has taken the BE in hand; nothing if that changes nothing.
    pub fn claimed(&self) -> Option<Facts> {
        self.automatic.is_some().then(|| Facts { automatic: None, ..self.clone() })
    }

    /// Why the BE is there, in a word: `static` (it was asked for), `automatic` or `pinned`.
    pub fn policy(&self) -> &'static str {
        match (self.pinned, &self.automatic) {
            (true, _) => "pinned",
            (false, Some(_)) => "automatic",
            (false, None) => "static",
        }
    }
}

/// A read-only point in a BE's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The part after the `@`.
    pub name: SnapName,
    /// Identity in the store.
    pub uuid: Uuid,
    /// Seconds since the epoch.
    pub created: i64,
    /// What the tool knows about it.
    pub facts: Facts,
}

/// A boot environment.
#[derive(Debug, Clone, PartialEq)]
pub struct BootEnv {
    /// Its name.
    pub name: BeName,
    /// Identity in the store; a rollback gives a BE a new one.
    pub uuid: Uuid,
    /// What it was cloned from, by identity.
    pub parent_uuid: Option<Uuid>,
    /// Where its root lies, from the top of the store: `ROOT/blue`.
    pub path: String,
    /// True for a root that was there before bootenv and was adopted where it lies.
    pub adopted: bool,
    /// Seconds since the epoch.
    pub created: i64,
    /// Whether the store holds it read-only.
    pub readonly: bool,
    /// Nested datasets that belong to it, relative to its root, parents first.
    pub nested: Vec<String>,
    /// Where it is mounted, `/` included.
    pub mountpoints: Vec<PathBuf>,
    /// Whether it is what runs: mounted at `/`.
    pub running: bool,
    /// Bytes that only this BE holds, where the store keeps count.
    pub used: Option<u64>,
    /// What the tool knows about it.
    pub facts: Facts,
    /// Its snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
}

impl BootEnv {
    /// Whether it is mounted somewhere other than `/`.
    pub fn mounted(&self) -> bool {
        !self.running && !self.mountpoints.is_empty()
    }

    /// The snapshot called `name`.
    pub fn snapshot(&self, name: &SnapName) -> Option<&Snapshot> {
        self.snapshots.iter().find(|s| s.name == *name)
    }

    /// What the menu calls it.
    pub fn title(&self) -> String {
        title(&self.name, self.facts.description.as_deref())
    }
}

/// What the menu calls a BE. A control character would end the line, or do something to the terminal.
pub fn title(name: &BeName, description: Option<&str>) -> String {
    match description {
        Some(text) if !text.is_empty() => {
            format!("{name}: {}", text.replace(|c: char| c.is_control(), " "))
        }
        _ => name.to_string(),
    }
}

/// What becomes of what a BE that is destroyed shares with another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// Where the other one lies.
    pub to: String,
    /// The snapshot that it takes over, if it came from one that has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

/// The store, as far as people need to tell it from others.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreInfo {
    /// `btrfs` or `zfs`.
    pub kind: &'static str,
    /// What the user called it, or its device.
    pub name: String,
    /// Identity of the filesystem or pool.
    pub uuid: String,
    /// Whether a rollback takes the later snapshots of a BE with it.
    pub rollback_takes_later: bool,
    /// Whether datasets have properties that can be set.
    pub properties: bool,
    /// Whether a clone and what it came from can do without each other.
    pub clones_stand_alone: bool,
    /// Whether GRUB can read kernels in it.
    pub grub_reads: bool,
    /// How long names can be.
    pub room: Room,
}

/// How much room a store has for names, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// For `BE@SNAP` as a whole.
    pub whole: usize,
    /// What a BE's name has to leave of that for the store's own snapshots of it.
    pub own: usize,
    /// The length of the name that a BE with snapshots has while it is put aside.
    pub aside: usize,
    /// Whether the paths of what is nested in a BE need room too.
    pub nested: bool,
}

impl StoreInfo {
    /// Refuses a name that the store has no room for, of a BE in which all this is `nested`, or of a snapshot of it.
    pub fn must_hold(&self, be: &BeName, snap: Option<&SnapName>, nested: &[String]) -> Result<()> {
        let Room { whole, own, aside, nested: counts } = self.room;
        let nested = nested.iter().map(|n| n.len() + 1).max().filter(|_| counts).unwrap_or(0);
        let (name, length, most) = match snap {
            None => (be.to_string(), be.as_str().len(), whole.saturating_sub(own + nested)),
            Some(snap) => {
                let longer = aside.saturating_sub(be.as_str().len());
                (
                    format!("{be}@{snap}"),
                    be.as_str().len() + 1 + snap.as_str().len(),
                    whole.saturating_sub(longer + nested),
                )
            }
        };
        if length <= most {
            return Ok(());
        }
        Err(Error::usage(format!("{:?} is too long a name for this store: it is {length} bytes long", Shown(&name)))
            .hint(format!(
                "choose one of at most {most} bytes{}",
                if nested > 0 { "; what is nested needs the rest" } else { "" }
            )))
    }
}

/// What the boot loader will do, read back from its own files.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NextBoot {
    /// Active on reboot: what boots once no one-shot is pending. Already resolved as the loader resolves
    /// it: a default whose kernel is gone is not here, what the loader falls back to is.
    pub default: Option<String>,
    /// Active for the next boot only.
    pub once: Option<String>,
    /// What the loader is told, before it is resolved.
    pub asked: Asked,
    /// True if the loader's state cannot be seen from here (its ESP is not mounted), so that nothing is known.
    pub unknown: bool,
}

/// What the boot loader is told to boot, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asked {
    /// The default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The next boot only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    /// The default before the last change: what to fall back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// The menu as a whole, next to what the store holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MenuState {
    /// Entries by name: kernel path from the top of the store.
    pub entries: Vec<(String, String)>,
    /// What is wrong with the menu or the loader's state, in words with the repair.
    pub problems: Vec<String>,
    /// What the loader sees of the BEs.
    pub sight: Sight,
}

/// What a loader sees of the BEs, which decides how one that is due can be moved or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sight {
    /// It reads the store, and passes over an entry whose kernel is not there.
    #[default]
    Store,
    /// It reads the ESP only, but an entry can name its root by identity, whatever it is called.
    Identity,
    /// It reads the ESP only, and an entry can name its root only by where it lies.
    Nothing,
}

/// Everything the verbs decide on, read once.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The store.
    pub store: StoreInfo,
    /// The BEs, oldest first.
    pub bes: Vec<BootEnv>,
    /// Whether the shared dataset is there.
    pub shared: bool,
    /// What the next boots will do.
    pub next: NextBoot,
    /// The menu.
    pub menu: MenuState,
    /// What needs attention, in words with the repair.
    pub attention: Vec<String>,
    /// The zone that it is of, if it is not of the host.
    pub zone: Option<ZoneView>,
    /// The zones that the verb takes along, if it is of the host.
    pub zones: Vec<Along>,
}

impl Inventory {
    /// The identity of the BE of the host that a new zone BE belongs to.
    pub fn owner(&self) -> Option<Uuid> {
        Some(self.zone.as_ref()?.owner.as_ref()?.uuid)
    }

    /// The BE called `name`, if there is one.
    pub fn find(&self, name: &BeName) -> Option<&BootEnv> {
        self.bes.iter().find(|b| b.name == *name)
    }

    /// The BE called `name`, or an error that lists what there is.
    pub fn be(&self, name: &BeName) -> Result<&BootEnv> {
        self.find(name).ok_or_else(|| {
            let names: Vec<&str> = self.bes.iter().rev().take(8).map(|b| b.name.as_str()).collect();
            let error = Error::not_found(format!("there is no boot environment {name:?}", name = name.as_str()));
            match names.is_empty() {
                true => error.hint("the store has none yet: `bootenv init` makes or adopts the first"),
                false => error.hint(format!(
                    "there is: {}{}",
                    names.join(", "),
                    if self.bes.len() > 8 { ", ..." } else { "" }
                )),
            }
        })
    }

    /// The snapshot `be@name`, or an error that lists the BE's snapshots.
    pub fn snapshot(&self, be: &BeName, name: &SnapName) -> Result<(&BootEnv, &Snapshot)> {
        let be = self.be(be)?;
        let found = be.snapshot(name).ok_or_else(|| {
            let names: Vec<String> = be.snapshots.iter().map(|s| format!("{}@{}", be.name, s.name)).collect();
            let hint = match names.is_empty() {
                true => format!("{} has no snapshots: `bootenv create {}@{name}` makes one", be.name, be.name),
                false => format!("there is: {}", names.join(", ")),
            };
            Error::not_found(format!("there is no snapshot {}@{name}", be.name)).hint(hint)
        })?;
        Ok((be, found))
    }

    /// The BE that is `/`, if `/` is on this store.
    pub fn running(&self) -> Option<&BootEnv> {
        self.bes.iter().find(|b| b.running)
    }

    /// What lets what is due run, in words.
    pub fn to_boot(&self) -> String {
        self.zone.as_ref().map_or("reboot".into(), |zone| format!("`bootenv zone switch {}`", zone.name))
    }

    /// Refuses what could take away the BE that is due, where it cannot be seen which that is.
    pub fn must_know_next(&self) -> Result<()> {
        if !self.next.unknown {
            return Ok(());
        }
        Err(match self.menu.problems.first() {
            Some(why) => Error::refused(format!("it cannot be seen what boots next: {why}"))
                .hint("mend that, then run this again; `bootenv check` tells everything that is wrong"),
            None => Error::refused("it cannot be seen what boots next: the machine's ESP is not mounted")
                .hint("mount the ESP (usually at /boot/efi), then run this again"),
        })
    }

    /// Whether `be` is what boots once no one-shot is pending.
    pub fn is_default(&self, be: &BeName) -> bool {
        self.next.default.as_deref() == Some(be.as_str())
    }

    /// Whether `be` is what boots next, once.
    pub fn is_once(&self, be: &BeName) -> bool {
        self.next.once.as_deref() == Some(be.as_str())
    }

    /// What each BE came from, by its name today; nothing where that is gone.
    pub fn origins(&self) -> HashMap<&BeName, Target> {
        let own = self.bes.iter().map(|b| (b.uuid, Target::Be(b.name.clone())));
        let snapshots = self
            .bes
            .iter()
            .flat_map(|b| b.snapshots.iter().map(|s| (s.uuid, Target::Snapshot(b.name.clone(), s.name.clone()))));
        let names: HashMap<Uuid, Target> = own.chain(snapshots).collect();
        let from = |be: &BootEnv| names.get(&be.parent_uuid?).cloned();
        self.bes.iter().filter_map(|be| Some((&be.name, from(be)?))).collect()
    }

    /// The BEs that came from the snapshot with this identity.
    pub fn clones_of(&self, uuid: Uuid) -> Vec<&BootEnv> {
        self.bes.iter().filter(|b| b.parent_uuid == Some(uuid)).collect()
    }
}
