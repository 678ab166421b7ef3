//! The boot loader: the menu, the default and the one-shot. None of them belongs to a BE.

mod cmdline;
mod esp;
mod grub;
mod grubenv;
mod menu;

use crate::domain::{Asked, BeName, BootEnv, MenuState, NextBoot, kernel};
use crate::error::{Error, Kind, Result};
use crate::store::{About, Store};
use std::collections::HashSet;
use std::rc::Rc;

/// One entry of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the default and the one-shot name: the BE's name.
    pub id: String,
    /// Where the BE's root lies, from the top of the store.
    pub path: String,
    /// The kernel below the BE's `/boot`; `None` if it has none and cannot be booted.
    pub kernel: Option<kernel::Kernel>,
    /// The kernel's arguments.
    pub arguments: String,
    /// What people read.
    pub title: String,
}

impl Entry {
    /// Describes the BE at `path` as it is now. `read` is where it can be looked at: `path`, unless it is about to be
    /// renamed. Settings of the BE that cannot be used are left out and told: one BE must not stand in the way of others.
    pub fn describe(store: &dyn Store, id: &str, path: &str, read: &str, title: String) -> Result<Described> {
        let tree = store.tree(read)?;
        let files: Vec<String> = tree.list("boot")?.into_iter().filter_map(|n| n.into_string().ok()).collect();
        let (extra, problem) = match cmdline::extra(&tree) {
            Ok(extra) => (extra, None),
            Err(e) => (String::new(), Some(e)),
        };
        let arguments = format!("{} rw {extra}", store.root_arguments(path)).trim_end().to_string();
        let entry =
            Entry { id: id.to_string(), path: path.to_string(), kernel: kernel::newest(&files), arguments, title };
        Ok(Described { entry, problem })
    }

    /// The kernel's path from the top of the store.
    pub fn kernel_path(&self) -> Option<String> {
        self.kernel.as_ref().map(|k| format!("{}/boot/{}", self.path, k.image))
    }

    /// Whether the loader would find what it has to load.
    pub fn bootable(&self, store: &dyn Store) -> bool {
        let Some(kernel) = &self.kernel else { return false };
        let Ok(tree) = store.tree(&self.path) else { return false };
        tree.exists(&format!("boot/{}", kernel.image))
            && kernel.initrd.as_ref().is_none_or(|i| tree.exists(&format!("boot/{i}")))
    }
}

/// What a BE says its entry should be.
#[derive(Debug)]
pub struct Described {
    /// The entry.
    pub entry: Entry,
    /// Why the BE's own kernel arguments are not in it.
    pub problem: Option<Error>,
}

/// A boot loader.
pub trait Loader {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// The menu's entries, newest first. A damaged menu is an error that names the repair.
    fn entries(&self) -> Result<Vec<Entry>>;

    /// The entries of these BEs only, from a menu that is known to be whole: all of a thousand take longer than the rest of
    /// a verb.
    fn named(&self, ids: &[&str]) -> Result<Vec<Entry>>;

    /// Puts an entry into the menu, replacing those with the same id and path.
    fn put(&self, entry: &Entry) -> Result<()>;

    /// Puts an entry beside those with the same id and path: the loader takes the one whose kernel is there.
    fn put_beside(&self, entry: &Entry) -> Result<()>;

    /// Takes entries out of the menu; it is no error if they are not there.
    fn remove(&self, id: &str, path: &str) -> Result<()>;

    /// Replaces the whole menu: the repair of a damaged one.
    fn replace(&self, entries: &[Entry]) -> Result<()>;

    /// What the loader is told to boot: default, one-shot, previous default.
    fn asked(&self) -> Result<Asked>;

    /// Changes what the loader is told to boot, durably and at once.
    fn ask(&self, asked: &Asked) -> Result<()>;

    /// Makes the loader's own files where they are missing or old.
    fn install(&self, notes: &mut Vec<String>) -> Result<()>;

    /// What is wrong with the loader's files, in words with the repair.
    fn problems(&self) -> Vec<String>;
}

/// The loader that a store is booted by. `is_root` says whether the running system is on the store.
pub fn open(store: &Rc<dyn Store>, is_root: bool) -> Box<dyn Loader> {
    Box::new(grub::Grub::new(Rc::clone(store), is_root))
}

/// Reads back what the next boots will do, following the loader's own rules to the end: an entry whose kernel is
/// gone does not count. How much is said of the menu depends on what is asked `about`.
pub fn read_back(store: &dyn Store, loader: &dyn Loader, bes: &[BootEnv], about: About<'_>) -> (NextBoot, MenuState) {
    let mut menu = MenuState::default();
    let asked = loader.asked();
    let entries = match about {
        About::All => loader.entries(),
        About::List => named(loader, asked.as_ref().ok(), None),
        About::One(be) => named(loader, asked.as_ref().ok(), be.map(BeName::as_str)),
    };
    let entries = entries.unwrap_or_else(|e| {
        menu.problems.push(with_hint(e));
        Vec::new()
    });
    let next = match asked {
        Ok(asked) => resolve(store, loader, &entries, asked),
        // The state is where it cannot be seen from here, and the loader will find it.
        Err(e) if e.kind == Kind::Refused => NextBoot { unknown: true, ..NextBoot::default() },
        // The loader goes on without its state, as if nothing had been asked; `problems` tells of it.
        Err(_) => resolve(store, loader, &entries, Asked::default()),
    };
    if !entries.is_empty() && next.asked.default.is_some() && next.asked.default != next.default {
        menu.problems.push(format!(
            "the default is {}, which cannot be booted; the loader falls back to {}: `bootenv activate` another",
            next.asked.default.as_deref().unwrap_or("-"),
            next.default.as_deref().unwrap_or("nothing")
        ));
    }
    if let About::All = about {
        menu.problems.splice(0..0, loader.problems());
        if !entries.is_empty() || menu.problems.is_empty() {
            compare(&entries, bes, &mut menu.problems);
        }
    }
    menu.entries = entries.iter().map(|e| (e.id.clone(), e.kernel_path().unwrap_or_default())).collect();
    (next, menu)
}

/// The entries that decide what boots next, and those of one BE.
fn named(loader: &dyn Loader, asked: Option<&Asked>, be: Option<&str>) -> Result<Vec<Entry>> {
    let asked = asked.map(|a| [&a.default, &a.once, &a.previous]).into_iter().flatten();
    let ids: Vec<&str> = asked.filter_map(|id| id.as_deref()).chain(be).collect();
    loader.named(&ids)
}

fn with_hint(e: Error) -> String {
    match e.hint {
        Some(hint) => format!("{}: {hint}", e.message),
        None => e.message,
    }
}

/// Tells of BEs without an entry, and of entries without a BE.
fn compare(entries: &[Entry], bes: &[BootEnv], problems: &mut Vec<String>) {
    let have: HashSet<&str> = entries.iter().map(|e| e.id.as_str()).collect();
    for be in bes.iter().filter(|b| !have.contains(b.name.as_str())) {
        problems.push(format!("{} has no menu entry: `bootenv check --repair` makes it", be.name));
    }
    let known: HashSet<&str> = bes.iter().map(|b| b.name.as_str()).collect();
    for entry in entries.iter().filter(|e| !known.contains(e.id.as_str())) {
        problems.push(format!("the menu names {}, which is gone: `bootenv check --repair` drops it", entry.id));
    }
}

/// What the loader makes of what it was asked: the rules of `grub/logic.cfg`. `entries` are at least those that are asked for.
fn resolve(store: &dyn Store, loader: &dyn Loader, entries: &[Entry], asked: Asked) -> NextBoot {
    let bootable = |id: &Option<String>| -> Option<String> {
        let id = id.as_ref()?;
        entries.iter().any(|e| e.id == *id && e.bootable(store)).then(|| id.clone())
    };
    let first = || -> Option<String> {
        let all = loader.entries().ok()?;
        all.iter().find(|e| e.bootable(store)).map(|e| e.id.clone())
    };
    let default = bootable(&asked.default).or_else(|| bootable(&asked.previous)).or_else(first);
    NextBoot { once: bootable(&asked.once), default, asked, unknown: false }
}
