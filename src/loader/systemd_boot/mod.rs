//! systemd-boot: entries and kernels on the ESP, default and one-shot in EFI variables.
//!
//! The loader reads the ESP and nothing else, so it cannot see whether a BE is there: an entry is there exactly as long as its
//! BE is, and the entry of a BE that is due names a root that is there at every instant. `loader.conf` is the admin's.
//!
//! The order of the menu says in which order BEs were activated, the last one first. So what the loader falls back to by
//! itself, when the default is gone or the firmware has lost its variables, is the default before it; and an image
//! that no machine has booted yet, for which there are no variables, comes up in the BE that was activated last.

mod conf;
mod install;
mod name;
mod rules;
mod state;

use super::esp::{Esp, Finder, Mark};
use super::kernels::{self, Kernels, partition};
use super::{Entry, Loader};
use crate::domain::{Asked, NextBoot};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::sys::efivar::{self, Variables};
use crate::sys::tree::Tree;
use conf::{Conf, Rank};
use rules::Asks;
use state::State;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// What `BOOTENV/store.toml` calls this loader.
pub const NAME: &str = "systemd-boot";
/// Where entries lie (Boot Loader Specification).
const ENTRIES: &str = "loader/entries";
/// "The Boot Loader Interface", systemd.
const LOADER: Variables = Variables { vendor: "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f" };
const DEFAULT: &str = "LoaderEntryDefault";
const ONCE: &str = "LoaderEntryOneShot";
/// Outranks the default, from this version on.
const PREFERRED: (&str, u32) = ("LoaderEntryPreferred", 260);
const LAST: &str = "LoaderEntryLastBooted";

/// systemd-boot, for one store.
pub struct SystemdBoot {
    store: Rc<dyn Store>,
    is_root: bool,
    kernels: Kernels,
    /// What stands on the ESP, until something is written there.
    seen: RefCell<Option<Rc<State>>>,
}

/// The version of systemd-boot that this machine was booted by, 0 if it tells none; `None` if it was another loader.
pub fn booted_by() -> Option<u32> {
    efivar::must_be_readable().ok()?;
    let info = LOADER.get("LoaderInfo").ok()??;
    let version = info.strip_prefix("systemd-boot ")?;
    Some(version.split(|c: char| !c.is_ascii_digit()).next()?.parse().unwrap_or(0))
}

/// Whether an ESP or its stand-in holds entries: for a store whose settings are lost.
pub fn is_installed(store: &Rc<dyn Store>, is_root: bool) -> bool {
    let kernels = kernels(store, is_root, None);
    kernels.esp().is_ok_and(|esp| esp.tree().is_ok_and(|tree| tree.exists(kernels.dir())))
}

/// The copies for a store, whose directory is what says that an ESP knows it.
fn kernels(store: &Rc<dyn Store>, is_root: bool, preferred: Option<PathBuf>) -> Kernels {
    let dir = kernels::dir(&**store);
    let mark = move |tree: &Tree| if tree.exists(&dir) { Mark::Ours } else { Mark::Free };
    Kernels::new(Rc::new(Finder::new(Rc::clone(store), is_root, mark, preferred)))
}

impl SystemdBoot {
    /// The loader of a store. `is_root` says whether the running system is on it.
    pub fn new(store: Rc<dyn Store>, is_root: bool) -> Self {
        let booted = || partition(&LOADER.get("LoaderDevicePartUUID").ok()??);
        let kernels = kernels(&store, is_root, if is_root { booted() } else { None });
        SystemdBoot { store, is_root, kernels, seen: RefCell::default() }
    }

    fn uuid(&self) -> String {
        self.store.info().uuid
    }

    /// Whether `init` came as far as the loader.
    fn installed(&self) -> bool {
        matches!(self.store.loader(), Ok(Some(name)) if name == NAME) || is_installed(&self.store, self.is_root)
    }

    /// What stands on the ESP.
    fn state(&self) -> Result<Rc<State>> {
        if let Some(state) = &*self.seen.borrow() {
            return Ok(state.clone());
        }
        let state = Rc::new(State::read(self.kernels.esp()?, &self.kernels, &self.uuid())?);
        for copies in state.confs.iter().filter_map(|(_, conf)| conf.entry.copies.as_ref()) {
            self.kernels.remember(copies);
        }
        *self.seen.borrow_mut() = Some(state.clone());
        Ok(state)
    }

    /// Whether the EFI variables of this machine are the ones that count. There are none for an image that no machine has
    /// booted; and a disk of another machine has nothing to do with ours.
    fn has_variables(&self, esp: &Esp) -> Result<bool> {
        match esp {
            Esp::Staged(_) | Esp::Missing => Ok(false),
            _ if self.is_root => efivar::must_be_readable().map(|()| true),
            _ => {
                let ours = |value: Option<String>| value.is_some_and(|v| name::decode(&self.uuid(), &v).is_some());
                match efivar::must_be_readable().is_ok() && LOADER.get(DEFAULT).is_ok_and(ours) {
                    true => Ok(true),
                    false => Err(Error::refused(format!(
                        "{} is this store's, but what boots from it is kept in the EFI variables of its machine, and this does not seem to be that machine",
                        esp.name()
                    ))
                    .hint("run this on the machine itself, in one of its boot environments")),
                }
            }
        }
    }

    /// What has been asked of the loader, in its own words.
    fn asks(&self, state: &State) -> Result<Asks> {
        let mut asks = Asks { config: state.config.clone(), ..Asks::default() };
        if self.has_variables(&state.esp)? {
            asks.once = LOADER.get(ONCE)?;
            asks.default = LOADER.get(DEFAULT)?;
            asks.last = LOADER.get(LAST)?;
            if booted_by().is_some_and(|version| version >= PREFERRED.1) {
                asks.preferred = LOADER.get(PREFERRED.0)?;
            }
        }
        Ok(asks)
    }

    /// The entries as the loader lists them.
    fn menu(&self, state: &State) -> Vec<rules::Item> {
        let mut items = state.items.clone();
        // Those that are not on this ESP, or made by the loader itself.
        if matches!(self.has_variables(&state.esp), Ok(true)) {
            let others = LOADER.list("LoaderEntries").unwrap_or_default();
            for id in others.into_iter().map(|id| id.to_ascii_lowercase()) {
                if name::decode(&self.uuid(), &id).is_none() && !items.iter().any(|i| i.id == id) {
                    items.push(rules::Item { id, listed: true, loads: true, ..rules::Item::default() });
                }
            }
        }
        rules::menu(items)
    }

    /// The BE that a value names, or else the value, in a form that is no BE's name.
    fn named(&self, state: &State, value: &str) -> String {
        let known = state.confs.iter().find(|(file, _)| file.eq_ignore_ascii_case(value));
        known
            .map(|(_, conf)| conf.entry.id.clone())
            .or_else(|| name::decode(&self.uuid(), value))
            .unwrap_or_else(|| format!("entry {value}"))
    }

    /// The other way round.
    fn value(&self, state: &State, named: &str) -> Result<String> {
        if let Some(foreign) = named.strip_prefix("entry ") {
            return Ok(foreign.to_string());
        }
        match state.of(named) {
            Some((file, _)) => Ok(file.clone()),
            None => Err(Error::failed(format!("{named} has no entry on {}", state.esp.name()))
                .hint("`bootenv check --repair` makes it")),
        }
    }

    fn write(&self, state: &State, file: &str, conf: &Conf) -> Result<()> {
        let text = conf::render(conf, self.kernels.dir());
        let path = format!("{ENTRIES}/{file}");
        let esp = state.esp.tree()?;
        if esp.read(&path).is_ok_and(|old| old.as_deref() == Some(text.as_bytes())) {
            return Ok(());
        }
        *self.seen.borrow_mut() = None;
        esp.make_dir(ENTRIES, 0o755)?;
        esp.write(&path, text.as_bytes(), 0o644)
    }

    fn put_ranked(&self, entry: &Entry, made: Option<u32>) -> Result<()> {
        self.kernels.copy(entry, 0)?;
        // An entry that was there may find its kernel now.
        *self.seen.borrow_mut() = None;
        let state = self.state()?;
        let file = name::encode(&self.uuid(), &entry.id);
        let mut conf = match state.of(&entry.id) {
            Some((_, conf)) => Conf { entry: entry.clone(), ..conf.clone() },
            None => {
                let last = state.confs.iter().map(|(_, c)| c.rank.made).max().unwrap_or(0);
                Conf { entry: entry.clone(), rank: Rank { activated: 0, made: last + 1 }, others: Vec::new() }
            }
        };
        conf.rank.made = made.unwrap_or(conf.rank.made);
        self.write(&state, &file, &conf)?;
        state.esp.retire_stand_in(&*self.store)
    }

    /// Brings the menu in the order of activation: the default first, then the one before it. Each write puts an entry
    /// somewhere else, and the first of them says which comes first.
    fn order(&self, to: &Asked) -> Result<()> {
        let state = self.state()?;
        let Some((file, default)) = to.default.as_deref().and_then(|id| state.of(id)) else { return Ok(()) };
        let mut others: Vec<_> = state.confs.iter().filter(|(f, c)| f != file && c.rank.activated > 0).collect();
        others.sort_by_key(|(_, c)| std::cmp::Reverse(c.rank.activated));
        let highest = others.first().map_or(0, |(_, c)| c.rank.activated);
        let ranked = |conf: &Conf, activated| Conf { rank: Rank { activated, ..conf.rank }, ..conf.clone() };
        let previous = to.previous.as_deref().and_then(|id| state.of(id)).filter(|(f, _)| f != file);
        let in_place = previous.is_none_or(|(f, _)| others.first().is_some_and(|(first, _)| first == f));
        let due = highest.max(if in_place { 0 } else { default.rank.activated.max(highest) + 1 });
        if default.rank.activated <= due {
            self.write(&state, file, &ranked(default, due + 1))?;
        }
        match previous {
            Some((file, conf)) if !in_place => self.write(&state, file, &ranked(conf, due)),
            None if to.previous.is_none() => {
                others.iter().try_for_each(|(file, conf)| self.write(&state, file, &ranked(conf, 0)))
            }
            _ => Ok(()),
        }
    }
}

impl Loader for SystemdBoot {
    fn name(&self) -> &'static str {
        NAME
    }

    fn kernels(&self) -> Option<&Kernels> {
        if self.seen.borrow().is_none() && self.installed() {
            // What the entries know of kernels need not be read again. Without an ESP nothing is known.
            let _ = self.state();
        }
        Some(&self.kernels)
    }

    fn room_for(&self, entries: &[Entry]) -> Result<()> {
        self.kernels.room_for(entries, 0)
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        if !self.installed() {
            return Ok(Vec::new());
        }
        let state = match self.state() {
            Err(e) => return Err(self.kernels.esp()?.not_found(e)),
            Ok(state) => state,
        };
        if let Some(version) = state.newer {
            return Err(Error::refused(format!(
                "an entry on {} was written by a newer bootenv (format {version})",
                state.esp.name()
            ))
            .hint("use the bootenv of the boot environment that runs, or a newer one"));
        }
        let mut confs: Vec<&Conf> = state.confs.iter().map(|(_, conf)| conf).collect();
        confs.sort_by_key(|c| std::cmp::Reverse(c.rank.made));
        Ok(confs.into_iter().map(|c| c.entry.clone()).collect())
    }

    fn put(&self, entry: &Entry) -> Result<()> {
        self.put_ranked(entry, None)
    }

    fn put_beside(&self, entry: &Entry) -> Result<()> {
        // One entry a BE: a plan for a loader that cannot look into the store has no such step.
        self.put(entry)
    }

    fn remove(&self, id: &str, path: &str) -> Result<()> {
        if !self.installed() {
            return Ok(());
        }
        let state = self.state()?;
        let Some((file, _)) = state.of(id).filter(|(_, conf)| conf.entry.path == path) else { return Ok(()) };
        *self.seen.borrow_mut() = None;
        let esp = state.esp.tree()?;
        esp.remove(&format!("{ENTRIES}/{file}"))?;
        esp.sync()?;
        state.esp.retire_stand_in(&*self.store)
    }

    fn replace(&self, entries: &[Entry]) -> Result<()> {
        self.room_for(entries)?;
        for (entry, made) in entries.iter().rev().zip(1..) {
            self.put_ranked(entry, Some(made))?;
        }
        let state = self.state()?;
        let esp = state.esp.tree()?;
        let wanted: Vec<String> = entries.iter().map(|e| name::encode(&self.uuid(), &e.id)).collect();
        for file in state.own.iter().filter(|f| !wanted.iter().any(|w| w.eq_ignore_ascii_case(f))) {
            *self.seen.borrow_mut() = None;
            esp.remove(&format!("{ENTRIES}/{file}"))?;
        }
        esp.sync()
    }

    fn asked(&self) -> Result<Asked> {
        if !self.installed() {
            return Ok(Asked::default());
        }
        let state = self.state()?;
        let asks = self.asks(&state)?;
        let menu = self.menu(&state);
        let last = state.activated().next().map(|conf| conf.entry.id.clone());
        let default = match asks.preferred.as_ref().or(asks.default.as_ref()) {
            Some(value) => Some(self.named(&state, value)),
            // A default in loader.conf counts as asked for if there is such an entry.
            None => match rules::default(&menu, &asks).filter(|_| asks.config.is_some()) {
                Some(item) => Some(self.named(&state, &item.id)),
                None => last,
            },
        };
        let once = asks.once.as_ref().map(|value| self.named(&state, value));
        let previous = state.activated().map(|conf| &conf.entry.id).find(|id| Some(*id) != default.as_ref()).cloned();
        Ok(Asked { default, once, previous })
    }

    fn may_ask(&self, to: &Asked) -> Result<()> {
        if !self.installed() {
            return if self.is_root { efivar::must_be_writable() } else { Ok(()) };
        }
        let state = self.state()?;
        state.esp.must_be_writable()?;
        if !self.has_variables(&state.esp)? {
            if to.once.is_some() {
                return Err(Error::refused("what is to boot only once is kept in EFI variables of a machine, and no machine has booted this image yet")
                    .hint("`bootenv activate` without -t; or do it on the machine"));
            }
            return match &state.config {
                None => Ok(()),
                Some(_) => Err(Error::refused(format!(
                    "loader.conf on {} has a default, which decides until a machine has its own",
                    state.esp.name()
                ))
                .hint("take the line `default` out of loader/loader.conf; bootenv never changes that file")),
            };
        }
        efivar::must_be_writable()?;
        match self.asks(&state)?.preferred {
            None => Ok(()),
            Some(value) => {
                Err(Error::refused(format!("the EFI variable {} outranks the default, and is {value}", PREFERRED.0))
                    .hint("`bootctl set-preferred ''` takes it away"))
            }
        }
    }

    fn ask(&self, to: &Asked) -> Result<()> {
        self.may_ask(to)?;
        let state = self.state()?;
        if !self.has_variables(&state.esp)? {
            return self.order(to);
        }
        let value = |name: &Option<String>| name.as_deref().map(|n| self.value(&state, n)).transpose();
        let now = self.asked()?;
        let (default, once) = (value(&to.default)?, value(&to.once)?);
        let was = (LOADER.get(DEFAULT)?, LOADER.get(ONCE)?);
        let change = || -> Result<()> {
            // In this order a one-shot that is taken back is due until the new default is.
            if to.default != now.default {
                LOADER.set(DEFAULT, default.as_deref())?;
            }
            if to.once != now.once {
                LOADER.set(ONCE, once.as_deref())?;
            }
            self.order(to)
        };
        change().inspect_err(|_| {
            let _ = LOADER.set(DEFAULT, was.0.as_deref()).and_then(|()| LOADER.set(ONCE, was.1.as_deref()));
        })?;
        state.esp.retire_stand_in(&*self.store)
    }

    fn due(&self, _entries: &[Entry], asked: Asked) -> NextBoot {
        let Ok((state, asks)) = self.state().and_then(|s| self.asks(&s).map(|a| (s, a))) else {
            return NextBoot { asked, unknown: true, ..NextBoot::default() };
        };
        let menu = self.menu(&state);
        // The loader does not see whether the root is there, but it matters what comes of it.
        let there =
            |be: &str| state.of(be).is_some_and(|(_, conf)| self.store.taken(&conf.entry.path).unwrap_or(false));
        let be = |item: Option<&rules::Item>| item.filter(|i| i.loads)?.be.clone().filter(|be| there(be));
        NextBoot {
            default: be(rules::default(&menu, &asks)),
            once: be(rules::once(&menu, &asks)),
            asked,
            unknown: self.another_boots(&state.esp).is_some(),
        }
    }

    fn install(&self, notes: &mut Vec<String>) -> Result<()> {
        *self.seen.borrow_mut() = None;
        self.make(notes)
    }

    fn problems(&self) -> Vec<String> {
        self.what_is_wrong()
    }

    fn tidy(&self) -> Result<()> {
        if !self.installed() {
            return Ok(());
        }
        let esp = self.kernels.esp()?;
        let esp = esp.tree()?;
        self.kernels.collect(esp, &state::texts(esp)?.into_iter().map(|(_, text)| text).collect::<Vec<_>>())
    }
}
