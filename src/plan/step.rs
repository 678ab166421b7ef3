//! One change, as data: what can be shown, journalled, done, undone and recognised as done.

use crate::domain::{Asked, Facts, Heir, Zone, ZoneName, in_zone_words};
use crate::store::zone_path;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use uuid::Uuid;

/// One change. Paths are from the top of the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Make the directory of BEs, the shared dataset and the tool's own directory.
    Layout,
    /// Install or renew the boot loader's own files.
    Loader,
    /// Take a root that is there into the list of BEs, where it lies.
    Adopt {
        /// What it is called from now on.
        be: String,
        /// Where it lies.
        path: String,
    },
    /// Take an adopted root off the list.
    Forget {
        /// What it was called.
        be: String,
    },
    /// Copy a root tree (a folder or a tar) into a new BE.
    Import {
        /// Where it comes from, on the running system.
        from: PathBuf,
        /// The new BE.
        to: String,
    },
    /// Clone a BE or a snapshot, with what is nested in it.
    Clone {
        /// What is cloned.
        from: String,
        /// What it becomes.
        to: String,
        /// True for a snapshot.
        readonly: bool,
    },
    /// Clone a BE or a snapshot of the host and what zones run with it, as all of it is at one instant.
    CloneTogether {
        /// What is cloned, that of the host first; paths are from the top of the store.
        clones: Vec<Pair>,
        /// True for snapshots.
        readonly: bool,
    },
    /// Set dataset properties of a new BE.
    Properties {
        /// The BE.
        path: String,
        /// Names and values.
        set: BTreeMap<String, String>,
    },
    /// Move the shared directories of a new BE below `/var/shared`.
    Share {
        /// The BE, which nothing runs from.
        path: String,
        /// What files are called after that have to be kept beside others.
        be: String,
    },
    /// Run a command in a BE.
    Run {
        /// What it is called.
        be: String,
        /// The BE, which nothing runs from.
        path: String,
        /// The command and its arguments.
        command: Vec<OsString>,
    },
    /// See whether a BE that something was done in can be booted and kept.
    Examine {
        /// What it is called.
        be: String,
        /// The BE.
        path: String,
    },
    /// Put into the shared dataset what the BE's pristine copy has and it has not.
    Fill {
        /// The BE.
        path: String,
    },
    /// Put a damaged file of the tool's own directory aside, as `NAME.damaged`.
    PutAside {
        /// Its path in that directory.
        file: String,
    },
    /// Make the whole menu anew.
    Menu {
        /// Its entries, in order.
        entries: Vec<MenuLine>,
    },
    /// Put a menu entry.
    Entry {
        /// What the default names.
        be: String,
        /// What it boots.
        path: String,
        /// Where the kernel is looked for now, if not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read: Option<String>,
        /// What people read.
        title: String,
        /// Whether there was none before, so that undoing takes it away.
        fresh: bool,
    },
    /// Put a second menu entry beside the one there is, for what is about to take the BE's place: the loader passes over
    /// the one whose kernel is not there.
    EntryBeside {
        /// What the default names.
        be: String,
        /// What it boots.
        path: String,
        /// Where the new content waits.
        read: String,
        /// What people read.
        title: String,
    },
    /// Let a menu entry name its root by identity, so that it boots the root whatever that is called: for a loader that
    /// cannot see what is there.
    EntryByIdentity {
        /// What the default names.
        be: String,
        /// What it boots.
        path: String,
        /// What people read.
        title: String,
    },
    /// Take a menu entry away.
    DropEntry {
        /// What the default names.
        be: String,
        /// What it boots.
        path: String,
    },
    /// Tell the boot loader what to boot.
    Ask {
        /// From now on.
        to: Asked,
        /// Until now.
        was: Asked,
    },
    /// Keep facts.
    Facts {
        /// Of this BE or snapshot.
        path: String,
        /// From now on.
        to: Facts,
        /// Until now.
        was: Facts,
    },
    /// Give a BE or snapshot another name.
    Rename {
        /// The old one.
        from: String,
        /// The new one.
        to: String,
    },
    /// Put one dataset in the place of another, atomically.
    Exchange {
        /// The place.
        place: String,
        /// Where the new content waits, and where the old one goes.
        with: String,
        /// Identity of what is in the place until then.
        was: Uuid,
    },
    /// Destroy a BE or snapshot with what is nested in it.
    Destroy {
        /// What.
        path: String,
        /// Its identity: something else of the same name is left alone.
        identity: Uuid,
        /// Who keeps what of it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        heirs: Vec<Heir>,
    },
    /// Forget the facts of what was destroyed.
    DropFacts {
        /// Its identity.
        identity: Uuid,
    },
    /// Copy the files of a dataset into a new one, where a clone would bind the two to each other for good.
    Copy {
        /// What is copied.
        from: String,
        /// What it becomes.
        to: String,
    },
    /// Make what a zone has of the store, with nothing in it.
    MakeZone {
        /// The zone.
        zone: ZoneName,
    },
    /// Take away all that a zone has.
    DropZone {
        /// The zone.
        zone: ZoneName,
    },
    /// Set what a zone is. Without settings there is none.
    Zone {
        /// The zone.
        zone: ZoneName,
        /// From now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Zone>,
        /// Until now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Zone>,
    },
    /// Let a zone BE belong to a BE of the host, and run when that does.
    Assign {
        /// The zone.
        zone: ZoneName,
        /// What the zone BE is called.
        be: String,
        /// Where the BE of the host lies. Its identity may be known only when it is there.
        owner: String,
        /// What it belonged to until now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Uuid>,
    },
    /// Let what belonged to a BE of the host that has become another one belong to that.
    Inherit {
        /// The zone.
        zone: ZoneName,
        /// What its identity was.
        was: Uuid,
        /// Where it lies.
        owner: String,
    },
    /// Let a snapshot of a zone BE belong to a snapshot of the host, with which it goes.
    Belong {
        /// The zone.
        zone: ZoneName,
        /// The snapshot; its path is from the zone's place.
        path: String,
        /// Where the snapshot of the host lies.
        owner: String,
    },
    /// Forget what a zone runs with a BE of the host that is gone.
    Release {
        /// The zone.
        zone: ZoneName,
        /// What its identity was.
        was: Uuid,
    },
    /// Do something in what a zone has of the store.
    In {
        /// The zone.
        zone: ZoneName,
        /// What; its paths are from the zone's place.
        what: Box<Step>,
    },
}

/// One of the clones that are made together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// What is cloned.
    pub from: String,
    /// What it becomes.
    pub to: String,
    /// The zone whose that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
}

/// An entry of a menu that is made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MenuLine {
    /// What the default names.
    pub be: String,
    /// What it boots.
    pub path: String,
    /// What people read.
    pub title: String,
}

impl Step {
    /// The path of the BE or snapshot that it destroys.
    pub fn destroys(&self) -> Option<&str> {
        match self {
            Step::Destroy { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The same, from the top of the store, be it in a zone or not.
    pub fn destroys_from_top(&self) -> Option<String> {
        let path = self.inner().destroys()?;
        Some(self.zone().map_or(path.to_string(), |zone| format!("{}/{path}", zone_path(zone))))
    }

    /// What it clones, from where to where.
    pub fn clones(&self) -> impl Iterator<Item = (&str, &str)> {
        let (one, together): (_, &[Pair]) = match self {
            Step::Clone { from, to, .. } => (Some((from.as_str(), to.as_str())), &[]),
            Step::CloneTogether { clones, .. } => (None, clones),
            _ => (None, &[]),
        };
        one.into_iter().chain(together.iter().map(|pair| (pair.from.as_str(), pair.to.as_str())))
    }

    /// What is really done, be it in a zone or not.
    pub fn inner(&self) -> &Step {
        match self {
            Step::In { what, .. } => what.inner(),
            step => step,
        }
    }

    /// The zone that it changes.
    pub fn zone(&self) -> Option<&ZoneName> {
        match self {
            Step::MakeZone { zone }
            | Step::DropZone { zone }
            | Step::Zone { zone, .. }
            | Step::Assign { zone, .. }
            | Step::Inherit { zone, .. }
            | Step::Belong { zone, .. }
            | Step::Release { zone, .. }
            | Step::In { zone, .. } => Some(zone),
            _ => None,
        }
    }

    /// It, in a zone.
    pub fn within(self, zone: &ZoneName) -> Step {
        Step::In { zone: zone.clone(), what: Box::new(self) }
    }

    /// Whether it changes entries of the menu.
    pub fn changes_entries(&self) -> bool {
        matches!(
            self,
            Step::Entry { .. }
                | Step::EntryBeside { .. }
                | Step::EntryByIdentity { .. }
                | Step::DropEntry { .. }
                | Step::Menu { .. }
        )
    }
}

/// A command as people read it; root's shell, if there is none.
pub fn in_words(command: &[OsString]) -> String {
    let words: Vec<String> = command.iter().map(|word| shown(&word.to_string_lossy())).collect();
    if words.is_empty() { "a shell".into() } else { words.join(" ") }
}

/// A word of a command, in quotes if its ends could not be seen, or a terminal would do something else than show it.
fn shown(word: &str) -> String {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"'\"\\".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_string() } else { format!("{word:?}") }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let top = |path: &str| if path.is_empty() { "the top-level subvolume".to_string() } else { path.to_string() };
        match self {
            Step::Layout => f.write_str("make ROOT, SHARED and BOOTENV where they are missing"),
            Step::Loader => f.write_str("install the boot loader's files"),
            Step::Adopt { be, path } => write!(f, "adopt {} as {be}, where it lies", top(path)),
            Step::Forget { be } => write!(f, "forget the adopted root {be}"),
            Step::Import { from, to } => write!(f, "copy {} to {to}", from.display()),
            Step::Clone { from, to, readonly: false, .. } => write!(f, "clone {} to {to}", top(from)),
            Step::Clone { from, to, readonly: true, .. } => write!(f, "snapshot {} as {to}", top(from)),
            Step::CloneTogether { clones, readonly } => {
                let verb = if *readonly { ("snapshot", "as") } else { ("clone", "to") };
                let all: Vec<String> =
                    clones.iter().map(|pair| format!("{} {} {}", top(&pair.from), verb.1, pair.to)).collect();
                write!(f, "{} at one instant {}", verb.0, all.join(", "))
            }
            Step::Properties { path, set } => {
                let words: Vec<String> = set.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "set {} of {path}", words.join(", "))
            }
            Step::Share { path, .. } => write!(f, "move the shared directories of {path} below /var/shared"),
            Step::Run { path, command, .. } => {
                write!(f, "run {} in {path}", in_words(command))
            }
            Step::Examine { path, .. } => write!(f, "see whether {path} can be booted"),
            Step::Fill { path } => write!(f, "fill the shared dataset with what {path} has and it has not"),
            Step::PutAside { file } => write!(f, "put BOOTENV/{file} aside"),
            Step::Menu { entries } if entries.len() == 1 => f.write_str("make the menu anew, with 1 entry"),
            Step::Menu { entries } => write!(f, "make the menu anew, with {} entries", entries.len()),
            Step::Entry { be, path, fresh, .. } => {
                write!(f, "{} the menu entry {be} for {}", if *fresh { "add" } else { "renew" }, top(path))
            }
            Step::EntryBeside { be, read, .. } => write!(f, "add a menu entry {be} for what is in {read}"),
            Step::EntryByIdentity { be, path, .. } => {
                write!(f, "let the menu entry {be} boot {} under whatever name", top(path))
            }
            Step::DropEntry { be, path } => write!(f, "remove the menu entry {be} for {}", top(path)),
            Step::Ask { to, was } => {
                let name = |v: &Option<String>| v.clone().unwrap_or_else(|| "nothing".into());
                let mut words = Vec::new();
                if to.default != was.default {
                    words.push(format!("boot {} by default", name(&to.default)));
                }
                if to.once != was.once {
                    words.push(match &to.once {
                        Some(be) => format!("boot {be} once"),
                        None => format!("no longer boot {} once", name(&was.once)),
                    });
                }
                if words.is_empty() {
                    words.push(format!("fall back to {}", name(&to.previous)));
                }
                f.write_str(&words.join(", "))
            }
            Step::Facts { path, to, was } => {
                let mut words = Vec::new();
                match (&to.description, &was.description) {
                    (to, was) if to == was => {}
                    (Some(text), _) => words.push(format!("describe {path} as {text:?}")),
                    (None, _) => words.push(format!("remove the description of {path}")),
                }
                match (to.pinned, was.pinned) {
                    (true, false) => words.push(format!("pin {path}")),
                    (false, true) => words.push(format!("unpin {path}")),
                    _ => {}
                }
                match (&to.automatic, &was.automatic) {
                    (Some(_), None) => words.push(format!("let {path} go when it has had its time")),
                    (None, Some(_)) => words.push(format!("let {path} stay")),
                    _ => {}
                }
                match (to.parent, was.parent) {
                    (to, was) if to == was => {}
                    (Some(parent), _) => words.push(format!("let {path} belong to {parent}")),
                    (None, _) => words.push(format!("let {path} belong to nothing")),
                }
                match words.is_empty() {
                    true => write!(f, "leave what is known of {path} as it is"),
                    false => f.write_str(&words.join(", ")),
                }
            }
            Step::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Step::Exchange { place, with, .. } => write!(f, "put {with} in the place of {place}"),
            Step::Destroy { path, heirs, .. } => {
                write!(f, "destroy {path}")?;
                heirs.iter().try_for_each(|heir| match &heir.snapshot {
                    Some(snapshot) => write!(f, "; {} takes over {path}@{snapshot}", heir.to),
                    None => write!(f, "; {} keeps what it shares with it", heir.to),
                })
            }
            Step::DropFacts { identity } => write!(f, "forget what is known of {identity}"),
            Step::Copy { from, to } => write!(f, "copy {from} to {to}"),
            Step::MakeZone { zone } => write!(f, "make ROOT and SHARED of the zone {zone}"),
            Step::DropZone { zone } => {
                write!(f, "destroy all that is left of the zone {zone}, its shared dataset with it")
            }
            Step::Zone { zone, to, was } => match (to, was) {
                (Some(to), Some(was)) if to.autostart != was.autostart => match to.autostart {
                    true => write!(f, "let the zone {zone} start with the host"),
                    false => write!(f, "let the zone {zone} not start with the host"),
                },
                (Some(to), Some(was)) if to.attached == was.attached => {
                    write!(f, "set how much the zone {zone} may take")
                }
                (Some(Zone { attached: true, .. }), Some(_)) => write!(f, "attach the zone {zone}"),
                (Some(_), Some(_)) => write!(f, "detach the zone {zone}"),
                (Some(to), None) => write!(f, "make the zone {zone}, a container of the brand {}", to.brand),
                (None, _) => write!(f, "forget the zone {zone}"),
            },
            Step::Assign { zone, be, owner, .. } => write!(f, "let {be} be what {zone} runs when {owner} does"),
            Step::Inherit { zone, owner, .. } => write!(f, "let what {zone} runs with {owner} go on to be that"),
            Step::Belong { zone, path, owner } => write!(f, "let {path} of the zone {zone} go with {owner}"),
            Step::Release { zone, .. } => write!(f, "forget what {zone} runs with what is gone"),
            Step::In { zone, what } => write!(f, "in the zone {zone}: {}", in_zone_words(&what.to_string())),
        }
    }
}
