//! GRUB on UEFI.
//!
//! Three texts: `early.cfg` inside the EFI image finds the ESP; `stub.cfg` on the ESP finds the menu's directory; `logic.cfg`
//! there shows the menu and decides what boots. Only `menu.cfg` beside it is generated.
//!
//! That directory is the store's own, and kernels are loaded out of the BEs, if GRUB can read the store. Else it is on the
//! ESP, with copies of the kernels in it.

use super::esp::{self, Esp, Finder, Mark};
use super::grubenv::GrubEnv;
use super::kernels::Kernels;
use super::{Entry, Loader, menu};
use crate::domain::{Asked, NextBoot};
use crate::error::{Doing, Error, Result};
use crate::store::Store;
use crate::sys::efivar;
use crate::sys::tree::Tree;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

/// The stub that names the store, from the top of the ESP.
const STUB: &str = "EFI/bootenv/grub.cfg";
/// The loader's state.
const GRUBENV: &str = "EFI/bootenv/grubenv";
/// Our own copy of the EFI image, for a firmware boot entry.
const OWN: &str = "EFI/bootenv/grubx64.efi";
/// The menu's directory in the store's own.
const DIR: &str = "grub";
const MENU: &str = "menu.cfg";
const LOGIC: &str = "grub.cfg";
/// Beside a menu on the ESP: the room that another menu needs while it takes the place of this one, for when there is no other.
const RESERVE: &str = "reserve";
const EARLY_TEXT: &str = include_str!("grub/early.cfg");
const IN_STORE_TEXT: &str = include_str!("grub/in-store.cfg");
const ON_ESP_TEXT: &str = include_str!("grub/on-esp.cfg");
const STUB_TEXT: &str = include_str!("grub/stub.cfg");
const LOGIC_TEXT: &str = include_str!("grub/logic.cfg");
const MODULES_DIR: &str = "/usr/lib/grub/x86_64-efi";
/// What the EFI image must hold, since nothing can be loaded before the store is found.
const MODULES: &str = "part_gpt part_msdos fat btrfs normal configfile loadenv search search_fs_uuid search_fs_file \
    regexp test true echo linux boot gzio zstd all_video efi_gop efi_uga gfxterm serial terminal sleep reboot halt \
    efifwsetup minicmd ls cat";

const DEFAULT: &str = "bootenv_default";
const ONCE: &str = "bootenv_once";
const PREVIOUS: &str = "bootenv_previous";

/// What the store's settings call this loader, where they do.
pub const NAME: &str = "grub";

/// Whether its files are where the loader looks for them: for a store whose settings are lost.
pub fn is_installed(store: &Rc<dyn Store>, is_root: bool) -> bool {
    Grub::new(Rc::clone(store), is_root).has_logic()
}

/// GRUB, for one store. What was read of the ESP and the menu is kept until it is changed here: whoever changes it holds
/// the store's lock.
pub struct Grub {
    store: Rc<dyn Store>,
    finder: Rc<Finder>,
    /// The copies of kernels that it boots, if it cannot read the store.
    kernels: Option<Kernels>,
    menu: RefCell<Option<Rc<String>>>,
    /// Whether every line of that menu has been looked at.
    whole: Cell<bool>,
}

impl Grub {
    /// The loader of a store. `is_root` says whether the running system is on it.
    pub fn new(store: Rc<dyn Store>, is_root: bool) -> Self {
        let info = store.info();
        let mark = move |tree: &Tree| match tree.read(STUB) {
            Ok(Some(stub)) if String::from_utf8_lossy(&stub).contains(&info.uuid) => Mark::Ours,
            Ok(Some(_)) => Mark::Taken,
            _ => Mark::Free,
        };
        let finder = Rc::new(Finder::new(Rc::clone(&store), is_root, mark, None));
        let kernels = (!info.grub_reads).then(|| Kernels::new(Rc::clone(&finder)));
        let (menu, whole) = Default::default();
        Grub { store, finder, kernels, menu, whole }
    }

    fn esp(&self) -> Result<Rc<Esp>> {
        self.finder.find()
    }

    /// Does something in the menu's directory.
    fn in_dir<T>(&self, act: impl FnOnce(&Tree, &str) -> Result<T>) -> Result<T> {
        match &self.kernels {
            None => act(&self.store.home()?, DIR),
            Some(kernels) => {
                let esp = self.esp()?;
                act(esp.tree().map_err(|e| esp.not_found(e))?, kernels.dir())
            }
        }
    }

    fn has_logic(&self) -> bool {
        self.in_dir(|tree, dir| Ok(tree.exists(&format!("{dir}/{LOGIC}")))).unwrap_or(false)
    }

    fn env(&self) -> Result<GrubEnv> {
        match self.esp()?.tree()?.read(GRUBENV)? {
            Some(bytes) => GrubEnv::parse(&bytes),
            None => {
                Err(Error::failed("EFI/bootenv/grubenv is missing on the ESP")
                    .hint("`bootenv check --repair` makes it"))
            }
        }
    }

    /// Whether `init` came as far as the loader. Where the ESP cannot be seen, the store's settings say so.
    fn installed(&self) -> bool {
        self.has_logic() || (self.kernels.is_some() && matches!(self.store.loader(), Ok(Some(name)) if name == NAME))
    }

    /// The menu as text, whether it parses or not.
    fn menu(&self) -> Result<Rc<String>> {
        if let Some(text) = &*self.menu.borrow() {
            return Ok(Rc::clone(text));
        }
        let repair = "`bootenv check --repair` makes it anew from the boot environments there are";
        let text = self.in_dir(|tree, dir| {
            let text = tree.read_text(&format!("{dir}/{MENU}")).map_err(|e| e.hint(repair))?;
            text.ok_or_else(|| Error::failed(format!("the boot menu {MENU} is missing")).hint(repair))
        })?;
        let text = Rc::new(text);
        *self.menu.borrow_mut() = Some(Rc::clone(&text));
        Ok(text)
    }

    fn parse(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<Entry>> {
        if !self.installed() {
            return Ok(Vec::new());
        }
        let entries = menu::parse(&self.menu()?, wanted)?;
        self.whole.set(true);
        if let Some(kernels) = &self.kernels {
            entries.iter().filter_map(|e| e.copies.as_ref()).for_each(|copies| kernels.remember(copies));
        }
        Ok(entries)
    }

    /// Changes the menu as text: parsing and writing a thousand entries takes longer than all the rest of a verb.
    fn edit(&self, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
        let text = self.menu()?;
        let changed = change(&text)?;
        if changed == *text { Ok(()) } else { self.write_menu(changed) }
    }

    fn write_menu(&self, text: String) -> Result<()> {
        *self.menu.borrow_mut() = None;
        self.in_dir(|tree, dir| {
            let write = || tree.write(&format!("{dir}/{MENU}"), text.as_bytes(), 0o644);
            match write() {
                Err(e) if e.is_full() && self.kernels.is_some() => {
                    tree.remove(&format!("{dir}/{RESERVE}"))?;
                    write()
                }
                written => written,
            }
        })?;
        *self.menu.borrow_mut() = Some(Rc::new(text));
        match self.kernels {
            Some(_) => self.esp()?.retire_stand_in(&*self.store),
            None => Ok(()),
        }
    }

    /// Keeps the room that a menu with one entry less needs, so that destroying makes room on an ESP that is full.
    fn keep_reserve(&self) -> Result<()> {
        let size = self.menu()?.len().next_multiple_of(16 << 10);
        self.in_dir(|tree, dir| {
            let path = format!("{dir}/{RESERVE}");
            let there = tree.file(&path)?.and_then(|file| file.metadata().ok()).map_or(0, |m| m.len());
            if there == size as u64 { Ok(()) } else { tree.write(&path, &vec![0; size], 0o600) }
        })
    }

    /// What the menu needs on the ESP besides the kernels' copies: another one is written beside it.
    fn menu_size(&self) -> u64 {
        self.menu().map_or(0, |menu| menu.len() as u64)
    }

    /// Copies what an entry boots to where the loader reads it.
    fn copy(&self, entry: &Entry) -> Result<()> {
        match &self.kernels {
            Some(kernels) => kernels.copy(entry, self.menu_size()),
            None => Ok(()),
        }
    }

    /// Whether the loader takes the entry: it looks whether the files are there.
    fn takes(&self, entry: &Entry) -> bool {
        let Some(kernels) = &self.kernels else { return entry.bootable(&*self.store) };
        let there = |esp: &Esp| {
            let tree = esp.tree().ok()?;
            let mut copies = entry.copies.as_ref()?.all();
            Some(copies.all(|copy| tree.exists(&kernels.path(copy))))
        };
        self.esp().ok().and_then(|esp| there(&esp)).unwrap_or(false)
    }

    /// Whether what it takes comes up, as far as it can be seen: copies that are whole, and a root, which it does not see.
    fn comes_up(&self, entry: &Entry) -> bool {
        let Some(kernels) = &self.kernels else { return true };
        let whole = self.esp().is_ok_and(|esp| esp.tree().is_ok_and(|tree| kernels.has_all(tree, entry)));
        whole && self.store.taken(&entry.path).unwrap_or(false)
    }

    /// Whether the machine was booted without UEFI, and so by something else.
    fn is_passed_by(&self) -> bool {
        self.finder.is_root && !efivar::is_uefi()
    }

    fn stub(&self) -> String {
        let find = if self.kernels.is_some() { ON_ESP_TEXT } else { IN_STORE_TEXT };
        format!("{find}{STUB_TEXT}").replace("@STORE_UUID@", &self.store.info().uuid)
    }

    /// Builds the EFI image with the system's own GRUB.
    fn build_image(&self) -> Result<Option<Vec<u8>>> {
        if !Path::new(MODULES_DIR).join("moddep.lst").exists() {
            return Ok(None);
        }
        // In root's own directory: what a killed process left there is nobody else's, and is replaced.
        let dir = crate::altroot::own_dir()?.join(format!(".grub-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).doing_to("make", &dir)?;
        let build = || -> Result<Option<Vec<u8>>> {
            let early = dir.join("early.cfg");
            let out = dir.join("grub.efi");
            std::fs::write(&early, EARLY_TEXT).doing_to("write", &early)?;
            let mut command = Command::new("grub-mkimage");
            command
                .args(["--format", "x86_64-efi", "--prefix", "/EFI/bootenv", "--directory", MODULES_DIR, "--config"])
                .arg(&early);
            command
                .arg("--output")
                .arg(&out)
                .args(MODULES.split_whitespace().filter(|m| Path::new(MODULES_DIR).join(format!("{m}.mod")).exists()));
            let output = match command.output() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other.doing("cannot run grub-mkimage")?,
            };
            if !output.status.success() {
                return Err(Error::failed(format!("grub-mkimage: {}", String::from_utf8_lossy(&output.stderr).trim())));
            }
            std::fs::read(&out).map(Some).doing_to("read", &out)
        };
        let image = build();
        let _ = std::fs::remove_dir_all(&dir);
        image
    }

    /// Puts the EFI image on the ESP: under our own name, and under the one that firmware starts by itself unless that
    /// is another loader's.
    fn install_image(&self, esp: &Tree, notes: &mut Vec<String>) -> Result<()> {
        let Some(image) = self.build_image()? else {
            notes.push(
                "GRUB for UEFI is not installed here, so no EFI image was built: install grub-efi-amd64-bin and \
                 grub-common, then `bootenv check --repair`"
                    .into(),
            );
            return Ok(());
        };
        let ours = esp.read(OWN)?;
        let removable = esp.read(esp::REMOVABLE)?;
        if ours.as_ref() != Some(&image) {
            esp.write(OWN, &image, 0o644)?;
        }
        if removable.is_none() || removable == ours {
            esp.make_dir("EFI/BOOT", 0o755)?;
            esp.write(esp::REMOVABLE, &image, 0o644)?;
        } else if removable.as_ref() != Some(&image) {
            notes.push(format!(
                "{} on the ESP is another loader's and stays; make a firmware boot entry for {}: \
                 `efibootmgr --create --label bootenv --loader '\\EFI\\bootenv\\grubx64.efi'`",
                esp::REMOVABLE,
                OWN
            ));
        }
        Ok(())
    }
}

impl Loader for Grub {
    fn name(&self) -> &'static str {
        NAME
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        self.parse(|_| true)
    }

    fn named(&self, ids: &[&str]) -> Result<Vec<Entry>> {
        // What all of them know of kernels is wanted too, once.
        let _ = self.kernels();
        match ids.is_empty() && self.whole.get() {
            true => Ok(Vec::new()),
            false => self.parse(|id| ids.contains(&id)),
        }
    }

    fn room_for(&self, entries: &[Entry]) -> Result<()> {
        self.kernels.as_ref().map_or(Ok(()), |kernels| kernels.room_for(entries, self.menu_size()))
    }

    fn kernels(&self) -> Option<&Kernels> {
        if self.kernels.is_some() && !self.whole.get() {
            // What the entries know of kernels need not be read again. Without an ESP nothing is known.
            let _ = self.entries();
        }
        self.kernels.as_ref()
    }

    fn put(&self, entry: &Entry) -> Result<()> {
        self.copy(entry)?;
        self.edit(|text| menu::put(text, entry))
    }

    fn put_beside(&self, entry: &Entry) -> Result<()> {
        self.copy(entry)?;
        self.edit(|text| menu::put_beside(text, entry))
    }

    fn remove(&self, id: &str, path: &str) -> Result<()> {
        if !self.installed() {
            return Ok(());
        }
        self.edit(|text| menu::remove(text, id, path))
    }

    fn replace(&self, entries: &[Entry]) -> Result<()> {
        self.room_for(entries)?;
        entries.iter().try_for_each(|entry| self.copy(entry))?;
        self.write_menu(menu::render(entries))
    }

    fn asked(&self) -> Result<Asked> {
        if !self.installed() {
            return Ok(Asked::default());
        }
        let env = self.env()?;
        let get = |name: &str| env.get(name).map(str::to_string);
        Ok(Asked { default: get(DEFAULT), once: get(ONCE), previous: get(PREVIOUS) })
    }

    fn may_ask(&self, _to: &Asked) -> Result<()> {
        match self.is_passed_by() {
            false => Ok(()),
            true => Err(Error::refused(
                "this machine was not booted by UEFI, so GRUB on its ESP does not decide what boots",
            )
            .hint(efivar::BOOT_BY_UEFI)),
        }
    }

    fn ask(&self, asked: &Asked) -> Result<()> {
        let mut env = self.env()?;
        env.set(DEFAULT, asked.default.as_deref());
        env.set(ONCE, asked.once.as_deref());
        env.set(PREVIOUS, asked.previous.as_deref());
        let esp = self.esp()?;
        esp.tree()?.write(GRUBENV, &env.to_bytes()?, 0o644)?;
        esp.retire_stand_in(&*self.store)
    }

    /// The rules of `grub/logic.cfg`: an entry whose kernel is gone does not count.
    fn due(&self, entries: &[Entry], asked: Asked) -> NextBoot {
        if self.is_passed_by() {
            return NextBoot { asked, unknown: true, ..NextBoot::default() };
        }
        let of = |id: &Option<String>| {
            let id = id.as_ref()?;
            entries.iter().find(|e| e.id == *id && self.takes(e)).cloned()
        };
        let first = || self.entries().ok()?.into_iter().find(|e| self.takes(e));
        let default = of(&asked.default).or_else(|| of(&asked.previous)).or_else(first);
        let be = |entry: Option<Entry>| entry.filter(|e| self.comes_up(e)).map(|e| e.id);
        NextBoot { once: be(of(&asked.once)), default: be(default), asked, unknown: false }
    }

    fn install(&self, notes: &mut Vec<String>) -> Result<()> {
        let esp = self.finder.for_install()?;
        esp.make_dir("EFI/bootenv", 0o755)?;
        esp.write(STUB, self.stub().as_bytes(), 0o644)?;
        if !matches!(esp.read(GRUBENV), Ok(Some(bytes)) if GrubEnv::parse(&bytes).is_ok()) {
            esp.write(GRUBENV, &GrubEnv::default().to_bytes()?, 0o644)?;
        }
        self.install_image(&esp, notes)?;
        self.in_dir(|tree, dir| tree.make_dir(dir, 0o755))?;
        if !self.in_dir(|tree, dir| Ok(tree.exists(&format!("{dir}/{MENU}"))))? {
            self.replace(&[])?;
        }
        // Last, because it is what says that the loader is installed.
        self.in_dir(|tree, dir| tree.write(&format!("{dir}/{LOGIC}"), LOGIC_TEXT.as_bytes(), 0o644))?;
        let chosen = self.store.loader();
        match self.kernels.is_some() || matches!(&chosen, Ok(Some(_))) {
            true if !matches!(&chosen, Ok(Some(name)) if name == NAME) => self.store.set_loader(NAME),
            _ => Ok(()),
        }
    }

    fn tidy(&self) -> Result<()> {
        let Some(kernels) = self.kernels.as_ref().filter(|_| self.installed()) else { return Ok(()) };
        kernels.collect(self.esp()?.tree()?, &[self.menu()?.to_string()])?;
        self.keep_reserve()
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.installed() {
            return vec!["the boot loader's files are missing: `bootenv check --repair` makes them".into()];
        }
        if let Err(e) = self.env() {
            problems.push(e.in_a_line());
        }
        if let Ok(esp) = self.esp()
            && let Ok(tree) = esp.tree()
        {
            let logic = self.kernels.as_ref().map(|kernels| format!("{}/{LOGIC}", kernels.dir()));
            let files = [STUB, OWN].into_iter().chain(logic.as_deref());
            let missing = files.filter(|file| !tree.exists(file));
            problems.extend(missing.map(|f| format!("{f} is missing on the ESP: `bootenv check --repair` makes it")));
            problems.extend(esp.must_be_writable().err().map(|e| e.in_a_line()));
            problems.extend(self.may_ask(&Asked::default()).err().map(|e| e.in_a_line()));
            if let Some(kernels) = &self.kernels {
                let entries = self.entries().unwrap_or_default();
                let bare = entries.iter().filter(|e| e.kernel.is_some() && !kernels.has_all(tree, e));
                problems.extend(bare.map(|e| kernels.missing(&e.id, &esp)));
            }
        }
        problems
    }
}
