//! What a zone runs, in place of a boot loader: which zone BEs there are, and which of them is due when each BE of the host runs.
//!
//! One small file, replaced as a whole. Nobody but bootenv reads it, so it need not be right at every instant, only after recovery.

use super::brand::Brand;
use crate::domain::{Asked, NextBoot};
use crate::error::{Error, Kind, Result};
use crate::loader::{Entry, Loader};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use uuid::Uuid;

const FILE: &str = "boot.toml";
const FORMAT: u32 = 1;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// By the identity of the BE of the host.
    #[serde(default)]
    runs: BTreeMap<Uuid, Asked>,
    /// The zone BEs, newest first.
    #[serde(default)]
    entry: Vec<Line>,
    #[serde(flatten)]
    rest: toml::Table,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    be: String,
    path: String,
    title: String,
}

/// It, of one zone.
pub struct Record {
    store: Rc<dyn Store>,
    brand: Brand,
    /// The BE of the host that is asked about.
    owner: Cell<Option<Uuid>>,
}

impl Record {
    /// That of the zone whose store this is.
    pub fn new(store: &Rc<dyn Store>, brand: Brand, owner: Option<Uuid>) -> Record {
        Record { store: Rc::clone(store), brand, owner: Cell::new(owner) }
    }

    fn read(&self) -> Result<Content> {
        let Some(text) = self.store.home()?.read_text(FILE)? else {
            return Ok(Content { version: FORMAT, ..Content::default() });
        };
        let damaged = |e: toml::de::Error| {
            let why = e.message().lines().next().unwrap_or_default().to_string();
            Error::failed(format!("{FILE} of the zone is damaged: {why}")).hint(
                "`bootenv check --repair` makes it anew from the boot environments there are; then `bootenv activate` one",
            )
        };
        let content: Content = toml::from_str(&text).map_err(damaged)?;
        match content.version > FORMAT {
            true => {
                Err(Error::refused(format!("{FILE} of the zone is of a newer bootenv (format {})", content.version))
                    .hint("use the bootenv of the boot environment that runs, or a newer one"))
            }
            false => Ok(content),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> Result<()> {
        self.change_from(self.read()?, change)
    }

    fn change_from(&self, was: Content, change: impl FnOnce(&mut Content)) -> Result<()> {
        let mut content = was.clone();
        change(&mut content);
        if content == was { Ok(()) } else { self.write(&content) }
    }

    /// The same with what only takes away: from a record that is damaged nothing has to be, and it must not keep anything else from being
    /// undone or finished.
    fn take_away(&self, change: impl FnOnce(&mut Content)) -> Result<()> {
        match self.read() {
            Err(e) if e.kind == Kind::Failed => Ok(()),
            was => self.change_from(was?, change),
        }
    }

    fn write(&self, content: &Content) -> Result<()> {
        let text = toml::to_string(content).map_err(|e| Error::failed(format!("cannot write {FILE}: {e}")))?;
        self.store.home()?.write(FILE, text.as_bytes(), 0o644)
    }

    /// What is due when each BE of the host runs, by its identity.
    pub fn all(&self) -> Result<BTreeMap<Uuid, Asked>> {
        Ok(self.read()?.runs)
    }

    /// Lets a zone BE be what runs when a BE of the host does of which nothing is known yet.
    pub fn assign(&self, owner: Uuid, be: &str) -> Result<()> {
        self.change(|content| {
            content.runs.insert(owner, Asked { default: Some(be.to_string()), ..Asked::default() });
        })
    }

    /// What was due when one BE of the host ran is due from now on when another does, which it has become.
    pub fn succeed(&self, was: Uuid, now: Uuid) -> Result<()> {
        self.take_away(|content| {
            if let Some(asked) = content.runs.remove(&was) {
                content.runs.insert(now, asked);
            }
        })
    }

    /// Forgets what is due when a BE of the host runs.
    pub fn forget(&self, owner: Uuid) -> Result<()> {
        self.take_away(|content| drop(content.runs.remove(&owner)))
    }

    fn must_know_owner(&self) -> Result<Uuid> {
        self.owner.get().ok_or_else(|| {
            Error::refused("what the zone runs depends on the host, and it cannot be seen which boot environment of that runs or boots next")
                .hint("`bootenv` without --zone tells why")
        })
    }
}

impl Loader for Record {
    fn name(&self) -> &'static str {
        "zone"
    }

    fn boots_kernels(&self) -> bool {
        false
    }

    fn look_from(&self, owner: Uuid) {
        self.owner.set(Some(owner));
    }

    fn can_boot(&self, store: &dyn Store, entry: &Entry) -> bool {
        // Looking into what is not there would be an error.
        store.taken(&entry.path).unwrap_or(false) && store.tree(&entry.path).is_ok_and(|tree| self.brand.starts(&tree))
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let entry = |line: Line| Entry {
            id: line.be,
            path: line.path,
            kernel: None,
            copies: None,
            arguments: String::new(),
            title: line.title,
        };
        Ok(self.read()?.entry.into_iter().map(entry).collect())
    }

    fn put(&self, entry: &Entry) -> Result<()> {
        self.change(|content| {
            let line = Line::of(entry);
            match content.entry.iter_mut().find(|l| l.be == line.be && l.path == line.path) {
                Some(old) => *old = line,
                None => content.entry.insert(0, line),
            }
        })
    }

    fn put_beside(&self, _entry: &Entry) -> Result<()> {
        // There are no kernels of which one or the other would be there.
        Ok(())
    }

    fn remove(&self, id: &str, path: &str) -> Result<()> {
        self.take_away(|content| content.entry.retain(|line| line.be != id || line.path != path))
    }

    fn replace(&self, entries: &[Entry]) -> Result<()> {
        let was = match self.read() {
            Err(e) if e.kind == Kind::Failed => Content { version: FORMAT, ..Content::default() },
            other => other?,
        };
        self.write(&Content { entry: entries.iter().map(Line::of).collect(), ..was })
    }

    fn asked(&self) -> Result<Asked> {
        let owner = self.must_know_owner()?;
        Ok(self.read()?.runs.remove(&owner).unwrap_or_default())
    }

    fn ask(&self, asked: &Asked) -> Result<()> {
        let owner = self.must_know_owner()?;
        self.change(|content| drop(content.runs.insert(owner, asked.clone())))
    }

    fn due(&self, entries: &[Entry], asked: Asked) -> NextBoot {
        let starts = |name: &Option<String>| {
            let name = name.as_ref()?;
            entries.iter().any(|e| e.id == *name && self.can_boot(&*self.store, e)).then(|| name.clone())
        };
        NextBoot {
            default: starts(&asked.default).or_else(|| starts(&asked.previous)),
            once: starts(&asked.once),
            asked,
            unknown: false,
        }
    }

    fn install(&self, _notes: &mut Vec<String>) -> Result<()> {
        Ok(())
    }

    fn problems(&self) -> Vec<String> {
        // That the one file cannot be read is told by whoever asks for the entries.
        Vec::new()
    }
}

impl Line {
    fn of(entry: &Entry) -> Line {
        Line { be: entry.id.clone(), path: entry.path.clone(), title: entry.title.clone() }
    }
}
