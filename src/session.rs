//! One run of the tool against one store: opened, locked, recovered, read.

use crate::domain::{BeName, BootEnv, Inventory, MenuState, NextBoot, Target};
use crate::error::{Error, Result};
use crate::loader::{self, Described, Entry, Loader, Which};
use crate::plan::execute::{Observer, World, execute, preflight};
use crate::plan::{Plan, journal, recover};
use crate::settings::Settings;
use crate::store::{self, About, Lock, Opened, Store};
use crate::sys::tree::Tree;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

/// An open store with its boot loader.
pub struct Session {
    opened: Opened,
    /// The loader that `init` is to install.
    chosen: Cell<Option<Which>>,
    loader: RefCell<Option<Rc<dyn Loader>>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?})", self.opened)
    }
}

impl Session {
    /// Opens the store that `what` names, or the one that `/` is on.
    pub fn open(what: Option<&Path>) -> Result<Session> {
        Ok(Session { opened: store::open(what)?, chosen: Cell::new(None), loader: RefCell::default() })
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        &*self.opened.store
    }

    /// Whether the running system is on the store.
    pub fn is_root(&self) -> bool {
        self.opened.is_root
    }

    /// The settings of the running system; where it is not on the store, nothing is set.
    pub fn settings(&self) -> Result<Settings> {
        match self.is_root() {
            true => Settings::read(&Tree::at(Path::new("/"))?),
            false => Ok(Settings::default()),
        }
    }

    /// The boot loader: the one that was chosen in this run, else the store's.
    pub fn loader(&self) -> Result<Rc<dyn Loader>> {
        if let Some(loader) = &*self.loader.borrow() {
            return Ok(Rc::clone(loader));
        }
        let which = match self.chosen.get() {
            Some(which) => which,
            None => Which::of(&self.opened.store, self.opened.is_root)?,
        };
        let loader = which.open(&self.opened.store, self.opened.is_root);
        *self.loader.borrow_mut() = Some(Rc::clone(&loader));
        Ok(loader)
    }

    /// Chooses a boot loader, for a store that has none yet.
    pub fn choose_loader(&self, which: Which) {
        self.chosen.set(Some(which));
        *self.loader.borrow_mut() = None;
    }

    /// For verbs that only read: finishes or undoes what was begun, if nobody is at it.
    pub fn settle(&self, observer: &mut dyn Observer) -> Result<()> {
        if !self.store().initialised() && !self.foreign().is_empty() {
            return Ok(());
        }
        self.must_be_initialised()?;
        match journal::read(&self.store().home()?) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => match Lock::try_take(self.store())? {
                Ok(lock) => self.recover(&lock, observer),
                Err(_) => Ok(()),
            },
            Err(e) => {
                observer.note(&e.in_a_line());
                Ok(())
            }
        }
    }

    /// For verbs that change something: takes the lock, then finishes or undoes what was begun.
    pub fn begin(&self, observer: &mut dyn Observer) -> Result<Lock> {
        self.must_be_initialised()?;
        let lock = Lock::take(self.store())?;
        self.recover(&lock, observer)?;
        Ok(lock)
    }

    /// Takes the lock without looking at the journal: for the repair of a damaged one.
    pub fn lock(&self) -> Result<Lock> {
        self.must_be_initialised()?;
        Lock::take(self.store())
    }

    /// Whether the tool's own directory is there: `init` came at least so far.
    pub fn has_home(&self) -> bool {
        self.store().has_home()
    }

    /// For `init`: the lock, on a store that may not have a place for one yet. `None` where nothing is to be changed.
    pub fn lock_first(&self, dry_run: bool, observer: &mut dyn Observer) -> Result<Option<Lock>> {
        if dry_run {
            return Ok(None);
        }
        self.store().make_home()?;
        let lock = Lock::take(self.store())?;
        self.recover(&lock, observer)?;
        Ok(Some(lock))
    }

    /// Finishes or undoes what was begun, with the lock already held.
    pub fn settle_locked(&self, lock: &Lock, observer: &mut dyn Observer) -> Result<()> {
        self.recover(lock, observer)
    }

    fn recover(&self, _lock: &Lock, observer: &mut dyn Observer) -> Result<()> {
        let loader = self.loader()?;
        let told = recover::recover(&World { store: self.store(), loader: &*loader }, observer)?;
        told.iter().for_each(|t| observer.note(t));
        Ok(())
    }

    /// Refuses a store that `init` has not been at.
    pub fn must_be_initialised(&self) -> Result<()> {
        if self.store().initialised() {
            return Ok(());
        }
        let name = self.store().info().name;
        let foreign = self.foreign();
        if !foreign.is_empty() {
            return Err(Error::refused(format!(
                "{name} has boot environments that bootenv did not make: {}",
                foreign.join(", ")
            ))
            .hint(format!("`bootenv init --store {name}` makes what it needs beside them; see --dry-run first")));
        }
        let hint = match self.is_root() {
            true => "`bootenv init` adopts the running root".to_string(),
            false => format!(
                "`bootenv init --store {name}` adopts a root that is there; with `--from ROOT` it copies one in"
            ),
        };
        Err(Error::refused(format!("{name} has no boot environments yet")).hint(hint))
    }

    /// The BEs of a store that `init` has not been at: other tools keep theirs in the same place.
    fn foreign(&self) -> Vec<String> {
        // A Btrfs that has no place for them cannot be read.
        let bes = self.store().contents(About::One(None)).map(|contents| contents.bes).unwrap_or_default();
        bes.into_iter().map(|be| be.name.to_string()).collect()
    }

    /// Reads everything there is to know.
    pub fn inventory(&self) -> Result<Inventory> {
        self.read(About::All)
    }

    /// Reads what a list shows, with snapshots and what is nested or without: not whether the menu agrees with it.
    pub fn listing(&self, details: bool) -> Result<Inventory> {
        self.read(About::List { details })
    }

    /// Reads everything that a decision about one BE is made on; about none, if a new one is made.
    pub fn inventory_about(&self, be: Option<&BeName>) -> Result<Inventory> {
        self.read(About::One(be))
    }

    /// Reads which of these BEs and snapshots are there, besides what runs and what boots by default: enough for a new BE,
    /// where there are a thousand.
    pub fn inventory_of(&self, wanted: &[Target]) -> Result<Inventory> {
        let default = self.loader()?.asked().ok().and_then(|asked| BeName::parse(&asked.default?).ok());
        let wanted: Vec<Target> = wanted.iter().cloned().chain(default.map(Target::Be)).collect();
        self.read(About::There(&wanted))
    }

    fn read(&self, about: About<'_>) -> Result<Inventory> {
        let contents = self.store().contents(about)?;
        if !self.store().initialised() {
            let attention = vec![format!(
                "`bootenv init` has not been at {0}: there is no menu, no shared dataset, and what boots next is not known; `bootenv init --dry-run --store {0}` shows what it would make",
                self.store().info().name
            )];
            let next = NextBoot { unknown: true, ..NextBoot::default() };
            let attention = [contents.attention, attention].concat();
            return Ok(Inventory {
                store: self.store().info(),
                bes: contents.bes,
                shared: contents.shared,
                next,
                menu: MenuState::default(),
                attention,
            });
        }
        let loader = self.loader()?;
        let (next, menu) = loader::read_back(self.store(), &*loader, &contents.bes, about);
        let mut attention = contents.attention;
        if !contents.shared {
            attention.push(
                "the shared dataset SHARED is missing: `bootenv check --repair` makes it, filled from the pristine copies"
                    .into(),
            );
        }
        Ok(Inventory { store: self.store().info(), bes: contents.bes, shared: contents.shared, next, menu, attention })
    }

    /// What the menu entry of a BE should say now.
    pub fn describe(&self, be: &BootEnv) -> Result<Described> {
        let loader = self.loader()?;
        Entry::describe(self.store(), &*loader, be.name.as_str(), &be.path, &be.path, be.title())
    }

    /// Refuses a plan that could not be finished, before anything is done.
    pub fn preflight(&self, plan: &Plan) -> Result<()> {
        let loader = self.loader()?;
        preflight(&World { store: self.store(), loader: &*loader }, plan).map(drop)
    }

    /// Runs a plan. The caller holds the lock.
    pub fn run(&self, _lock: &Lock, plan: &Plan, observer: &mut dyn Observer) -> Result<()> {
        let loader = self.loader()?;
        execute(&World { store: self.store(), loader: &*loader }, plan, observer)
    }
}
