//! One run of the tool against one store: opened, locked, recovered, read.

mod along;

pub use along::Which;

use crate::domain::{
    Along, BeName, BootEnv, Inventory, MenuState, NextBoot, Owner, StoreInfo, Target, Zone, ZoneName, ZoneView, policy,
    told_of, veil,
};
use crate::error::{Error, Kind, Result};
use crate::loader::{self, Described, Entry, Loader};
use crate::plan::execute::{Observer, World, execute, preflight};
use crate::plan::{Plan, journal, recover};
use crate::settings::Settings;
use crate::store::{self, About, Contents, Lock, Opened, Store};
use crate::sys::mountinfo::{self, Mount};
use crate::sys::tree::Tree;
use crate::zone::{self, Brand, Record};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a verb of the host waits for a zone in which something is done: one that is always at it must not keep the host from its work.
const ZONES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// An open store with its boot loader: all of it, or what a zone has of it.
pub struct Session {
    opened: Opened,
    zone: Option<Inside>,
    /// The loader that `init` is to install.
    chosen: Cell<Option<loader::Which>>,
    loader: RefCell<Option<Rc<dyn Loader>>>,
}

/// The locks of a verb of the host that changes something in zones.
#[derive(Debug)]
pub struct Locks {
    /// The store's own.
    pub store: Lock,
    /// The zones'.
    pub zones: Vec<Lock>,
    /// What is in the zones that the verb takes along.
    pub along: Vec<Along>,
}

/// What a session in a zone knows besides.
struct Inside {
    whole: Box<Session>,
    view: ZoneView,
    brand: Brand,
    guest: Option<Guest>,
}

/// The zone's own administrator, who has asked from inside.
struct Guest {
    /// What his root is.
    root: Option<Mount>,
    settings: Zone,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?})", self.opened)
    }
}

impl Session {
    /// Opens the store that `what` names, or the one that `/` is on.
    pub fn open(what: Option<&Path>) -> Result<Session> {
        Ok(Session { opened: store::open(what)?, zone: None, chosen: Cell::new(None), loader: RefCell::default() })
    }

    /// Goes into a zone: what is not named otherwise is the zone's from then on.
    pub fn enter(self, name: &ZoneName) -> Result<Session> {
        self.must_be_initialised()?;
        let settings = self.zone(name)?;
        let owner = self.owner();
        let store = self.store().enter(name).map_err(|e| match e.kind {
            Kind::NotFound => Error::refused(format!("the zone {name} has lost its place in the store: {}", e.message))
                .hint(format!("`bootenv zone destroy {name}` takes away what is left of it")),
            _ => e,
        })?;
        Ok(Session {
            opened: Opened { store, is_root: false },
            zone: Some(Inside {
                whole: Box::new(self),
                view: ZoneView::new(name.clone(), owner),
                brand: Brand::named(&settings.brand)?,
                guest: None,
            }),
            chosen: Cell::new(None),
            loader: RefCell::default(),
        })
    }

    /// Lets a process inside the zone that was gone into be the one who asks: what it runs in runs, what is the host's has no name, and
    /// what is set for the zone holds.
    pub fn ask_from_inside(&mut self, pid: u32) -> Result<()> {
        let Some(inside) = &mut self.zone else { return Ok(()) };
        let settings = inside.whole.zone(&inside.view.name)?;
        // Who has gone meanwhile has asked all the same.
        inside.guest = Some(Guest { root: mountinfo::root_of(pid), settings });
        inside.view.owner = inside.view.owner.as_ref().map(Owner::veiled).transpose()?;
        Ok(())
    }

    /// Refuses to make more of a zone's BEs and snapshots than it may make itself.
    pub fn may_make_more(&self) -> Result<()> {
        let Some(Guest { settings, .. }) = self.zone.as_ref().and_then(|inside| inside.guest.as_ref()) else {
            return Ok(());
        };
        let bes = self.listing(true)?.bes;
        let there = bes.iter().map(|be| 1 + be.snapshots.len() as u64).sum::<u64>();
        let hint = "destroy some first; or the administrator of the host can allow more (`bootenv zone limit`)";
        if there >= settings.most() {
            return Err(Error::refused(format!(
                "there are {there} boot environments and snapshots, and there may be {}",
                settings.most()
            ))
            .hint(hint));
        }
        let Some(most) = settings.most_space else { return Ok(()) };
        let takes = self.store().takes()?;
        if takes >= most {
            return Err(Error::refused(format!(
                "the zone takes {}, and may take {}",
                policy::size(takes),
                policy::size(most)
            ))
            .hint(hint));
        }
        Ok(())
    }

    /// What is set for a zone, which has to be there.
    pub fn zone(&self, name: &ZoneName) -> Result<Zone> {
        zone::settings(self.store(), name)?.ok_or_else(|| {
            let there = self.zones().unwrap_or_default();
            let names: Vec<&str> = there.iter().map(|(zone, _)| zone.as_str()).collect();
            Error::not_found(format!("there is no zone {name}")).hint(match names.is_empty() {
                true => "`bootenv zone create` makes one".to_string(),
                false => format!("there is: {}", names.join(", ")),
            })
        })
    }

    /// The zones that are there and whole, in the order of their names.
    pub fn zones(&self) -> Result<Vec<(ZoneName, Zone)>> {
        let mut zones = Vec::new();
        for name in store::zones(self.store())? {
            zones.extend(zone::settings(self.store(), &name)?.map(|settings| (name, settings)));
        }
        Ok(zones)
    }

    /// The BE of the host by which it is decided what zones run: the one that runs, else the one that boots next.
    pub fn owner(&self) -> Option<Owner> {
        let inventory = self.inventory_of(&[]).ok()?;
        let due = |be: &&BootEnv| !inventory.next.unknown && inventory.is_default(&be.name);
        let be = inventory.running().or_else(|| inventory.bes.iter().find(due))?;
        Some(Owner { name: be.name.clone(), uuid: be.uuid, path: be.path.clone() })
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
        if let Some(Inside { brand, view, .. }) = &self.zone {
            let owner = view.owner.as_ref().map(|owner| owner.uuid);
            let loader: Rc<dyn Loader> = Rc::new(Record::new(&self.opened.store, brand.clone(), owner));
            *self.loader.borrow_mut() = Some(Rc::clone(&loader));
            return Ok(loader);
        }
        let which = match self.chosen.get() {
            Some(which) => which,
            None => loader::Which::of(&self.opened.store, self.opened.is_root)?,
        };
        let loader = which.open(&self.opened.store, self.opened.is_root);
        *self.loader.borrow_mut() = Some(Rc::clone(&loader));
        Ok(loader)
    }

    /// Chooses a boot loader, for a store that has none yet.
    pub fn choose_loader(&self, which: loader::Which) {
        self.chosen.set(Some(which));
        *self.loader.borrow_mut() = None;
    }

    /// For verbs that only read: finishes or undoes what was begun, if nobody is at it.
    pub fn settle(&self, observer: &mut dyn Observer) -> Result<()> {
        if let Some(inside) = &self.zone {
            inside.whole.settle(observer)?;
        }
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
        if let Some(inside) = &self.zone {
            inside.whole.settle(observer)?;
        }
        self.must_be_initialised()?;
        let lock = Lock::take(self.store())?;
        if let Some(Inside { whole, view, .. }) = &self.zone {
            // Since then the zone may have gone, or something may have been begun on the host that concerns it.
            whole.zone(&view.name)?;
            if journal::read(&whole.store().home()?)?.is_some_and(|plan| plan.zones().contains(&view.name)) {
                return Err(Error::busy(format!("the host works on the zone {}", view.name)).hint("run this again"));
            }
        }
        self.recover(&lock, observer)?;
        Ok(lock)
    }

    /// For verbs of the host that change something in zones: takes each zone's lock too, and finishes or undoes what was begun there.
    pub fn begin_with(&self, zones: &[&ZoneName], observer: &mut dyn Observer) -> Result<Locks> {
        let mut locks = Locks { store: self.begin(observer)?, zones: Vec::new(), along: Vec::new() };
        for zone in zones {
            self.zone(zone)?;
            locks.zones.push(self.lock_zone(zone, observer)?);
        }
        Ok(locks)
    }

    /// Takes a zone's lock, and finishes or undoes what was begun in it.
    pub fn lock_zone(&self, zone: &ZoneName, observer: &mut dyn Observer) -> Result<Lock> {
        let lock = self.take_zone(zone)?;
        self.recover_zone(zone, observer)?;
        Ok(lock)
    }

    /// Finishes or undoes what was begun in a zone, if nobody is at it.
    pub fn settle_zone(&self, zone: &ZoneName, observer: &mut dyn Observer) -> Result<()> {
        let store = self.store().enter(zone)?;
        if journal::read(&store.home()?)?.is_none() {
            return Ok(());
        }
        match Lock::try_take(&*store)? {
            Ok(_lock) => self.recover_zone(zone, observer),
            Err(_) => Ok(()),
        }
    }

    fn recover_zone(&self, zone: &ZoneName, observer: &mut dyn Observer) -> Result<()> {
        let loader = self.loader()?;
        let told = recover::recover_in(&World { store: self.store(), loader: &*loader }, zone, observer)?;
        told.iter().for_each(|told| observer.note(&format!("{zone}: {told}")));
        Ok(())
    }

    /// What is in a zone; nothing if it has lost its place.
    pub fn inside(&self, zone: &ZoneName) -> Result<Option<Inventory>> {
        match self.store().enter(zone) {
            Err(e) if e.kind == Kind::NotFound => Ok(None),
            store => {
                let store = store?;
                let Contents { bes, shared, attention } = store.contents(About::All)?;
                let (next, menu) = (NextBoot::default(), MenuState::default());
                let view = ZoneView::new(zone.clone(), None);
                Ok(Some(Inventory {
                    store: store.info(),
                    bes,
                    shared,
                    next,
                    menu,
                    attention,
                    zone: Some(view),
                    zones: Vec::new(),
                }))
            }
        }
    }

    fn take_zone(&self, zone: &ZoneName) -> Result<Lock> {
        let store = self.store().enter(zone)?;
        let until = Instant::now() + ZONES_WITHIN;
        loop {
            match Lock::take(&*store) {
                Err(e) if e.kind == Kind::Busy && Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
                taken => {
                    return taken
                        .map_err(|e| if e.kind == Kind::Busy { e.context(format!("the zone {zone}")) } else { e });
                }
            }
        }
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
        let begun = journal::read(&self.store().home()?)?;
        let Some(begun) = begun else { return Ok(()) };
        // Of a zone that was being made, or unmade, there may be nothing to lock.
        let there =
            begun.zones().into_iter().filter(|zone| self.store().enter(zone).is_ok_and(|store| store.has_home()));
        let _zones: Vec<Lock> = there.map(|zone| self.take_zone(zone)).collect::<Result<_>>()?;
        // One of its own, which may have to look from elsewhere.
        *self.loader.borrow_mut() = None;
        let loader = self.loader()?;
        *self.loader.borrow_mut() = None;
        let told = recover::recover(&World { store: self.store(), loader: &*loader }, observer)?;
        told.iter().for_each(|t| observer.note(t));
        Ok(())
    }

    /// Refuses a store that `init` has not been at.
    pub fn must_be_initialised(&self) -> Result<()> {
        if self.store().initialised() {
            return Ok(());
        }
        if let Some(Inside { view, .. }) = &self.zone {
            let zone = &view.name;
            return Err(Error::refused(format!("the zone {zone} has no ROOT any more"))
                .hint(format!("`bootenv zone destroy {zone}` takes away what is left of it")));
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
        // What runs in a zone can be any of those that are there.
        if self.zone.is_some() {
            return self.inventory();
        }
        let default = self.loader()?.asked().ok().and_then(|asked| BeName::parse(&asked.default?).ok());
        let wanted: Vec<Target> = wanted.iter().cloned().chain(default.map(Target::Be)).collect();
        self.read(About::There(&wanted))
    }

    /// What the store is. Where it lies on the host is none of a zone's business.
    fn info(&self) -> StoreInfo {
        let info = self.store().info();
        match &self.zone {
            Some(Inside { view, guest: Some(_), .. }) => StoreInfo { name: view.name.to_string(), ..info },
            _ => info,
        }
    }

    fn read(&self, about: About<'_>) -> Result<Inventory> {
        let mut contents = self.store().contents(about)?;
        if !self.store().initialised() {
            let attention = vec![format!(
                "`bootenv init` has not been at {0}: there is no menu, no shared dataset, and what boots next is not known; `bootenv init --dry-run --store {0}` shows what it would make",
                self.store().info().name
            )];
            let next = NextBoot { unknown: true, ..NextBoot::default() };
            let attention = [contents.attention, attention].concat();
            return Ok(Inventory {
                store: self.info(),
                bes: contents.bes,
                shared: contents.shared,
                next,
                menu: MenuState::default(),
                attention,
                zone: None,
                zones: Vec::new(),
            });
        }
        if let Some(inside) = &self.zone {
            self.see_what_runs(inside, &mut contents);
        }
        let loader = self.loader()?;
        let view = self.zone.as_ref().map(|inside| self.view(inside, &contents, about)).transpose()?;
        let (next, mut menu) = loader::read_back(self.store(), &*loader, &contents.bes, about);
        let mut attention = contents.attention;
        if !contents.shared {
            attention.push(
                "the shared dataset SHARED is missing: `bootenv check --repair` makes it, filled from the pristine copies"
                    .into(),
            );
        }
        if let Some(view) = &view {
            attention.iter_mut().chain(&mut menu.problems).for_each(|text| *text = told_of(&view.name, text));
        }
        Ok(Inventory {
            store: self.info(),
            bes: contents.bes,
            shared: contents.shared,
            next,
            menu,
            attention,
            zone: view,
            zones: Vec::new(),
        })
    }

    /// Which zone BE runs: what the first process of the container has as its root, or whoever asks from inside.
    fn see_what_runs(&self, inside: &Inside, contents: &mut Contents) {
        let leaders = inside.brand.leaders_root(&inside.view.name).unwrap_or_else(|e| {
            contents.attention.push(format!("it cannot be seen which boot environment runs: {}", e.in_a_line()));
            None
        });
        let guests = inside.guest.as_ref().and_then(|guest| guest.root.as_ref());
        let roots: Vec<&Mount> = leaders.iter().chain(guests).collect();
        for be in &mut contents.bes {
            be.running = roots.iter().any(|root| self.store().is_mount_of(root, &be.path));
        }
    }

    /// How a zone stands to the BEs of the host.
    fn view(&self, inside: &Inside, contents: &Contents, about: About<'_>) -> Result<ZoneView> {
        let Inside { whole, view, brand, guest } = inside;
        let hosts = whole.store().contents(About::List { details: false })?.bes.into_iter();
        let named = |be: BootEnv| Ok((if guest.is_some() { veil(be.uuid)? } else { be.name }, be.uuid));
        let record = Record::new(&self.opened.store, brand.clone(), None);
        let loader = self.loader()?;
        let runs = |be: &BootEnv| {
            contents.shared && self.describe(be).is_ok_and(|now| loader.can_boot(self.store(), &now.entry))
        };
        let looked_at = matches!(about, About::All | About::List { .. });
        Ok(ZoneView {
            hosts: hosts.map(named).collect::<Result<_>>()?,
            // A damaged one is told of with the menu.
            runs: record.all().unwrap_or_default(),
            cannot_run: contents.bes.iter().filter(|be| looked_at && !runs(be)).map(|be| be.name.clone()).collect(),
            ..view.clone()
        })
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
        let world = World { store: self.store(), loader: &*loader };
        let Some(inside) = &self.zone else { return execute(&world, plan, observer) };
        let owner = inside.view.owner.as_ref().map(|owner| owner.uuid);
        execute(&world, &Plan { owner, ..plan.clone() }, observer)
    }
}
