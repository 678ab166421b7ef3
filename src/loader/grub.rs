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
use std::path::Path;
use std::process::Command;

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

/// GRUB, for one store.
pub struct Grub<'a> {
    store: &'a dyn Store,
    is_root: bool,
}

impl<'a> Grub<'a> {
    /// The loader of a store. `is_root` says whether the running system is on it.
    pub fn new(store: &'a dyn Store, is_root: bool) -> Self {
        Grub { store, is_root }
    }

    fn home(&self) -> Result<Tree> {
        self.store.home()
    }

    /// Looked for anew each time: `init` makes it on the way.
    fn esp(&self) -> Result<Esp> {
        let uuid = self.store.info().uuid;
        let mark = |tree: &Tree| match tree.read(STUB) {
            Ok(Some(stub)) if String::from_utf8_lossy(&stub).contains(&uuid) => Mark::Ours,
            Ok(Some(_)) => Mark::Taken,
            _ => Mark::Free,
        };
        Esp::find(self.store, self.is_root, &mark, None)
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
        is_installed(self.store)
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

impl Loader for Grub<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn entries(&self) -> Result<Vec<Entry>> {
        let repair = "`bootenv check --repair` makes it anew from the boot environments there are";
        match self.home()?.read_text(MENU).map_err(|e| e.hint(repair))? {
            Some(text) => menu::parse(&text),
            None if !self.installed() => Ok(Vec::new()),
            None => Err(Error::failed("the boot menu BOOTENV/grub/menu.cfg is missing")
                .hint("`bootenv check --repair` makes it anew")),
        }
    }

    fn put(&self, entry: &Entry) -> Result<()> {
        let mut entries = self.entries()?;
        let ours = |e: &Entry| e.id == entry.id && e.path == entry.path;
        let place = entries.iter().position(ours).unwrap_or(0);
        let before = entries.clone();
        entries.retain(|e| !ours(e));
        entries.insert(place, entry.clone());
        if entries == before { Ok(()) } else { self.replace(&entries) }
    }

    fn put_beside(&self, entry: &Entry) -> Result<()> {
        let mut entries = self.entries()?;
        if entries.contains(entry) {
            return Ok(());
        }
        let place = entries.iter().position(|e| e.id == entry.id && e.path == entry.path).map_or(0, |at| at + 1);
        entries.insert(place, entry.clone());
        self.replace(&entries)
    }

    fn remove(&self, id: &str, path: &str) -> Result<()> {
        let mut entries = self.entries()?;
        let before = entries.len();
        entries.retain(|e| e.id != id || e.path != path);
        if entries.len() == before { Ok(()) } else { self.replace(&entries) }
    }

    fn replace(&self, entries: &[Entry]) -> Result<()> {
        self.home()?.write(MENU, menu::render(entries).as_bytes(), 0o644)
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
        esp.retire_stand_in(self.store)
    }

    /// The rules of `grub/logic.cfg`: an entry whose kernel is gone does not count.
    fn due(&self, entries: &[Entry], asked: Asked) -> NextBoot {
        let bootable = |id: &Option<String>| -> Option<String> {
            let id = id.as_ref()?;
            entries.iter().any(|e| e.id == *id && e.bootable(self.store)).then(|| id.clone())
        };
        let default = bootable(&asked.default)
            .or_else(|| bootable(&asked.previous))
            .or_else(|| entries.iter().find(|e| e.bootable(self.store)).map(|e| e.id.clone()));
        NextBoot { once: bootable(&asked.once), default, asked, unknown: false }
    }

    fn install(&self, notes: &mut Vec<String>) -> Result<()> {
        let home = self.home()?;
        let esp = self.esp()?.for_install(self.store, self.is_root)?;
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
