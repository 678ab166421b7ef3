//! The boot loader: the menu, the default and the one-shot. None of them belongs to a BE.

mod cmdline;
mod esp;
mod grub;
mod grubenv;
pub mod kernels;
mod menu;
mod systemd_boot;

use crate::domain::{Asked, BeName, BootEnv, MenuState, NextBoot, Sight, kernel};
use crate::error::{Error, Kind, Result};
use crate::store::{About, Store};
use kernels::{Copies, Copy, Kernels};
use std::collections::HashSet;
use std::rc::Rc;
use uuid::Uuid;

/// One entry of the menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the default and the one-shot name: the BE's name.
    pub id: String,
    /// Where the BE's root lies, from the top of the store.
    pub path: String,
    /// The kernel below the BE's `/boot`; `None` if it has none and cannot be booted.
    pub kernel: Option<kernel::Kernel>,
    /// The same by content, for a loader that boots copies on the ESP.
    pub copies: Option<Copies>,
    /// The kernel's arguments.
    pub arguments: String,
    /// What people read.
    pub title: String,
}

impl Entry {
    /// Describes the BE at `path` as it is now. `read` is where it can be looked at: `path`, unless it is about to be
    /// renamed. Settings of the BE that cannot be used are left out and told: one BE must not stand in the way of others.
    pub fn describe(
        store: &dyn Store,
        loader: &dyn Loader,
        id: &str,
        path: &str,
        read: &str,
        title: String,
    ) -> Result<Described> {
        if !loader.boots_kernels() {
            let (id, path) = (id.to_string(), path.to_string());
            let entry = Entry { id, path, kernel: None, copies: None, arguments: String::new(), title };
            return Ok(Described { entry, problem: None });
        }
        let tree = store.tree(read)?;
        let files: Vec<String> = tree.list("boot")?.into_iter().filter_map(|n| n.into_string().ok()).collect();
        let (extra, problem) = match cmdline::extra(&tree) {
            Ok(extra) => (extra, None),
            Err(e) => (String::new(), Some(e)),
        };
        let arguments = format!("{} rw {extra}", store.root_arguments(path)).trim_end().to_string();
        let kernel = kernel::newest(&files);
        let copies = match (&kernel, loader.kernels()) {
            (Some(kernel), Some(kernels)) => kernels.identify(&tree, kernel)?,
            _ => None,
        };
        let entry = Entry { id: id.to_string(), path: path.to_string(), kernel, copies, arguments, title };
        Ok(Described { entry, problem })
    }

    /// Whether this and an entry that was described earlier are of the same copies, whose files nobody has written to in between.
    pub fn is_the_same_files(&self, earlier: &Entry) -> bool {
        let stamps = |entry: &Entry| entry.copies.iter().flat_map(Copies::all).map(Copy::is).collect::<Vec<_>>();
        self == earlier && self.copies.is_some() && stamps(self) == stamps(earlier)
    }

    /// The kernel's path from the top of the store.
    pub fn kernel_path(&self) -> Option<String> {
        self.kernel.as_ref().map(|k| format!("{}/boot/{}", self.path, k.image))
    }

    /// Whether the BE has what a loader has to load.
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

    /// Whether a kernel is what it boots: a container has none.
    fn boots_kernels(&self) -> bool {
        true
    }

    /// From now on, what is due when this BE of the host runs is asked about: for a zone, of which there is one answer for each.
    fn look_from(&self, _owner: Uuid) {}

    /// Whether a BE has what it takes to be booted.
    fn can_boot(&self, store: &dyn Store, entry: &Entry) -> bool {
        entry.bootable(store)
    }

    /// The menu's entries, newest first. A damaged menu is an error that names the repair.
    fn entries(&self) -> Result<Vec<Entry>>;

    /// The entries of these BEs only, from a menu that is known to be whole: all of a thousand take longer than the rest of
    /// a verb.
    fn named(&self, ids: &[&str]) -> Result<Vec<Entry>> {
        Ok(self.entries()?.into_iter().filter(|e| ids.contains(&e.id.as_str())).collect())
    }

    /// Puts an entry into the menu, replacing those with the same id and path.
    fn put(&self, entry: &Entry) -> Result<()>;

    /// Puts an entry beside those with the same id and path: the loader takes the one whose kernel is there. For loaders
    /// that look into the store.
    fn put_beside(&self, entry: &Entry) -> Result<()>;

    /// Takes entries out of the menu; it is no error if they are not there.
    fn remove(&self, id: &str, path: &str) -> Result<()>;

    /// Replaces the whole menu: the repair of a damaged one.
    fn replace(&self, entries: &[Entry]) -> Result<()>;

    /// What the loader is told to boot: default, one-shot, previous default.
    fn asked(&self) -> Result<Asked>;

    /// Changes what the loader is told to boot, durably and at once.
    fn ask(&self, asked: &Asked) -> Result<()>;

    /// Refuses what `ask` could not do, before anything else is done.
    fn may_ask(&self, _to: &Asked) -> Result<()> {
        self.asked().map(drop)
    }

    /// What the next boots will do, by the loader's own rules to the end.
    fn due(&self, entries: &[Entry], asked: Asked) -> NextBoot;

    /// Refuses if what these entries need has no room where the loader reads, before the first byte is written.
    fn room_for(&self, _entries: &[Entry]) -> Result<()> {
        Ok(())
    }

    /// The copies of kernels that it boots, if it cannot read the store.
    fn kernels(&self) -> Option<&Kernels> {
        None
    }

    /// Removes what nothing needs any more. Called last: what it does not come to is done the next time.
    fn tidy(&self) -> Result<()> {
        Ok(())
    }

    /// Makes the loader's own files where they are missing or old.
    fn install(&self, notes: &mut Vec<String>) -> Result<()>;

    /// What is wrong with the loader's files, in words with the repair.
    fn problems(&self) -> Vec<String>;
}

/// The loaders there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// GRUB on UEFI.
    Grub,
    /// systemd-boot.
    SystemdBoot,
}

impl Which {
    /// What the store's settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Which::Grub => grub::NAME,
            Which::SystemdBoot => systemd_boot::NAME,
        }
    }

    /// The one that has booted this machine, as far as it says so, else GRUB: for a store on which none was chosen.
    pub fn of_this_machine() -> Which {
        if systemd_boot::booted_by().is_some() { Which::SystemdBoot } else { Which::Grub }
    }

    /// The one that a store is booted by. Where its settings are lost, its files tell.
    pub fn of(store: &Rc<dyn Store>, is_root: bool) -> Result<Which> {
        match store.loader() {
            Ok(Some(name)) => {
                [Which::Grub, Which::SystemdBoot].into_iter().find(|w| w.name() == name).ok_or_else(|| {
                    Error::refused(format!("the store is booted by {name}, which this bootenv does not know"))
                        .hint("use the bootenv of the boot environment that runs, or a newer one")
                })
            }
            Ok(None) => Ok(Which::Grub),
            Err(_) if grub::is_installed(store, is_root) => Ok(Which::Grub),
            Err(_) if systemd_boot::is_installed(store, is_root) => Ok(Which::SystemdBoot),
            Err(_) => Ok(Which::Grub),
        }
    }

    /// It, for a store. `is_root` says whether the running system is on the store.
    pub fn open(self, store: &Rc<dyn Store>, is_root: bool) -> Rc<dyn Loader> {
        match self {
            Which::Grub => Rc::new(grub::Grub::new(Rc::clone(store), is_root)),
            Which::SystemdBoot => Rc::new(systemd_boot::SystemdBoot::new(Rc::clone(store), is_root)),
        }
    }
}

/// Reads back what the next boots will do, following the loader's own rules to the end: an entry whose kernel is
/// gone does not count. How much is said of the menu depends on what is asked `about`.
pub fn read_back(store: &dyn Store, loader: &dyn Loader, bes: &[BootEnv], about: About<'_>) -> (NextBoot, MenuState) {
    let sight = match loader.kernels() {
        None => Sight::Store,
        Some(_) if store.names_roots_by_identity() => Sight::Identity,
        Some(_) => Sight::Nothing,
    };
    let mut menu = MenuState { sight, ..MenuState::default() };
    let asked = loader.asked();
    let entries = match about {
        About::All => loader.entries(),
        About::List { .. } | About::There(_) => named(loader, asked.as_ref().ok(), None),
        About::One(be) => named(loader, asked.as_ref().ok(), be.map(BeName::as_str)),
    };
    let entries = entries.unwrap_or_else(|e| {
        menu.problems.push(e.in_a_line());
        Vec::new()
    });
    let next = match asked {
        Ok(asked) => loader.due(&entries, asked),
        // The state is where it cannot be seen from here, and the loader will find it.
        Err(e) if e.kind == Kind::Refused => NextBoot { unknown: true, ..NextBoot::default() },
        // The loader goes on without its state, as if nothing had been asked; `problems` tells of it.
        Err(_) => loader.due(&entries, Asked::default()),
    };
    if let Some(foreign) = next.asked.once.iter().chain(&next.asked.default).find(|name| name.starts_with("entry ")) {
        menu.problems.push(format!(
            "the loader was told to boot the {foreign}, which is none of bootenv's: `bootenv activate` a boot environment"
        ));
    } else if !entries.is_empty() && !next.unknown && next.asked.default.is_some() && next.asked.default != next.default
    {
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
