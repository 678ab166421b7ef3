//! GRUB on UEFI.
//!
//! Three texts: `early.cfg` inside the EFI image finds the ESP; `stub.cfg` on the ESP finds the store; `logic.cfg` in
//! the store's own directory shows the menu and decides what boots. Only `menu.cfg` beside it is generated.

use super::esp::{self, Esp, Mark};
use super::grubenv::GrubEnv;
use super::{Entry, Loader, menu};
use crate::domain::{Asked, NextBoot};
use crate::error::{Doing, Error, Result};
use crate::store::Store;
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
const DIR: &str = "grub";
const MENU: &str = "grub/menu.cfg";
const LOGIC: &str = "grub/grub.cfg";
const EARLY_TEXT: &str = include_str!("grub/early.cfg");
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

/// Whether `init` came as far as the loader.
pub fn is_installed(store: &dyn Store) -> bool {
    store.home().is_ok_and(|home| home.exists(LOGIC))
}

/// GRUB, for one store. What was read of the ESP and the menu is kept until it is changed here: whoever changes it holds
/// the store's lock.
pub struct Grub {
    store: Rc<dyn Store>,
    is_root: bool,
    esp: RefCell<Option<Rc<Esp>>>,
    menu: RefCell<Option<Rc<String>>>,
    /// Whether every line of that menu has been looked at.
    whole: Cell<bool>,
}

impl Grub {
    /// The loader of a store. `is_root` says whether the running system is on it.
    pub fn new(store: Rc<dyn Store>, is_root: bool) -> Self {
        Grub { store, is_root, esp: RefCell::default(), menu: RefCell::default(), whole: Cell::new(false) }
    }

    fn home(&self) -> Result<Tree> {
        self.store.home()
    }

    /// Looked for once; `install`, which makes it, forgets it.
    fn esp(&self) -> Result<Rc<Esp>> {
        if let Some(esp) = &*self.esp.borrow() {
            return Ok(Rc::clone(esp));
        }
        let esp = Rc::new(self.find_esp()?);
        *self.esp.borrow_mut() = Some(Rc::clone(&esp));
        Ok(esp)
    }

    fn find_esp(&self) -> Result<Esp> {
        let uuid = self.store.info().uuid;
        let mark = |tree: &Tree| match tree.read(STUB) {
            Ok(Some(stub)) if String::from_utf8_lossy(&stub).contains(&uuid) => Mark::Ours,
            Ok(Some(_)) => Mark::Taken,
            _ => Mark::Free,
        };
        Esp::find(&*self.store, self.is_root, &mark, None)
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

    /// Whether `init` came as far as the loader.
    fn installed(&self) -> bool {
        is_installed(&*self.store)
    }

    /// The menu as text, whether it parses or not.
    fn menu(&self) -> Result<Rc<String>> {
        if let Some(text) = &*self.menu.borrow() {
            return Ok(Rc::clone(text));
        }
        let repair = "`bootenv check --repair` makes it anew from the boot environments there are";
        let text = self.home()?.read_text(MENU).map_err(|e| e.hint(repair))?;
        let text = text.ok_or_else(|| Error::failed("the boot menu BOOTENV/grub/menu.cfg is missing").hint(repair))?;
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
        self.home()?.write(MENU, text.as_bytes(), 0o644)?;
        *self.menu.borrow_mut() = Some(Rc::new(text));
        Ok(())
    }

    fn stub(&self) -> String {
        STUB_TEXT.replace("@STORE_UUID@", &self.store.info().uuid)
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
        match ids.is_empty() && self.whole.get() {
            true => Ok(Vec::new()),
            false => self.parse(|id| ids.contains(&id)),
        }
    }

    fn put(&self, entry: &Entry) -> Result<()> {
        self.edit(|text| menu::put(text, entry))
    }

    fn put_beside(&self, entry: &Entry) -> Result<()> {
        self.edit(|text| menu::put_beside(text, entry))
    }

    fn remove(&self, id: &str, path: &str) -> Result<()> {
        if !self.installed() {
            return Ok(());
        }
        self.edit(|text| menu::remove(text, id, path))
    }

    fn replace(&self, entries: &[Entry]) -> Result<()> {
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
        let bootable = |id: &Option<String>| -> Option<String> {
            let id = id.as_ref()?;
            entries.iter().any(|e| e.id == *id && e.bootable(&*self.store)).then(|| id.clone())
        };
        let default = bootable(&asked.default)
            .or_else(|| bootable(&asked.previous))
            .or_else(|| self.entries().ok()?.iter().find(|e| e.bootable(&*self.store)).map(|e| e.id.clone()));
        NextBoot { once: bootable(&asked.once), default, asked, unknown: false }
    }

    fn install(&self, notes: &mut Vec<String>) -> Result<()> {
        let home = self.home()?;
        *self.esp.borrow_mut() = None;
        let esp = self.find_esp()?.for_install(&*self.store, self.is_root)?;
        esp.make_dir("EFI/bootenv", 0o755)?;
        esp.write(STUB, self.stub().as_bytes(), 0o644)?;
        if !matches!(esp.read(GRUBENV), Ok(Some(bytes)) if GrubEnv::parse(&bytes).is_ok()) {
            esp.write(GRUBENV, &GrubEnv::default().to_bytes()?, 0o644)?;
        }
        self.install_image(&esp, notes)?;
        home.make_dir(DIR, 0o755)?;
        if !home.exists(MENU) {
            self.replace(&[])?;
        }
        // Last, because it is what says that the loader is installed.
        home.write(LOGIC, LOGIC_TEXT.as_bytes(), 0o644)?;
        match self.store.loader() {
            Ok(Some(other)) if other != NAME => self.store.set_loader(NAME),
            _ => Ok(()),
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.installed() {
            return vec!["the boot loader's files are missing: `bootenv check --repair` makes them".into()];
        }
        if let Err(e) = self.env() {
            problems.push(match e.hint {
                Some(hint) => format!("{}: {hint}", e.message),
                None => e.message,
            });
        }
        if let Ok(esp) = self.esp()
            && let Ok(tree) = esp.tree()
        {
            let missing = [STUB, OWN].into_iter().filter(|file| !tree.exists(file));
            problems.extend(missing.map(|f| format!("{f} is missing on the ESP: `bootenv check --repair` makes it")));
        }
        problems
    }
}
