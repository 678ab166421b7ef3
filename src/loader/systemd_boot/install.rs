//! systemd-boot's own files on the ESP, and what can be wrong with them.

use super::{ENTRIES, LOADER, NAME, SystemdBoot, booted_by};
use crate::error::{Doing, Result};
use crate::loader::Loader;
use crate::loader::esp::{Esp, REMOVABLE};
use crate::loader::kernels::partition;
use crate::sys::tree::Tree;
use std::path::Path;

/// Where bootctl(1) puts the loader.
const OWN: &str = "EFI/systemd/systemd-bootx64.efi";
/// Where distributions keep it; a signed one is taken first, as bootctl(1) does.
const SOURCES: [&str; 2] =
    ["/usr/lib/systemd/boot/efi/systemd-bootx64.efi.signed", "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"];
/// What every systemd-boot has in it.
const MAGIC: &[u8] = b"#### LoaderInfo: systemd-boot ";

impl SystemdBoot {
    /// Makes the loader's files where they are missing.
    pub(super) fn make(&self, notes: &mut Vec<String>) -> Result<()> {
        let esp = self.kernels.esp_for_install()?;
        esp.make_dir(ENTRIES, 0o755)?;
        install_image(&esp, notes)?;
        // This is what says that the ESP knows the store.
        esp.make_dir(self.kernels.dir(), 0o755)?;
        esp.sync()?;
        if self.store.loader().ok().flatten().as_deref() != Some(NAME) {
            self.store.set_loader(NAME)?;
        }
        Ok(())
    }

    /// Why something else than this ESP's systemd-boot decides what boots next, if it does.
    pub(super) fn another_boots(&self, esp: &Esp) -> Option<String> {
        let Esp::Mounted(_, place) = esp else { return None };
        if !self.is_root {
            return None;
        }
        if booted_by().is_none() {
            return Some(
                "this machine was not booted by systemd-boot, so it cannot be seen what boots next: make a firmware boot \
                 entry for it (`bootctl install`, or efibootmgr), and boot by it"
                    .into(),
            );
        }
        let from = LOADER.get("LoaderDevicePartUUID").ok().flatten()?;
        match partition(&from)? {
            device if device == place.device.canonicalize().unwrap_or_else(|_| place.device.clone()) => None,
            device => Some(format!(
                "this machine was booted from the ESP on {}, and {} is on {}: mount the right one there",
                device.display(),
                esp.name(),
                place.device.display()
            )),
        }
    }

    /// What is wrong, in words with the repair.
    pub(super) fn what_is_wrong(&self) -> Vec<String> {
        let repair = "`bootenv check --repair` makes it";
        if !self.installed() {
            return vec!["the boot loader's files are missing: `bootenv check --repair` makes them".into()];
        }
        let state = match self.state() {
            Ok(state) => state,
            // `entries` fails with the same, and is told.
            Err(_) => return Vec::new(),
        };
        let mut problems = Vec::new();
        problems.extend(self.asked().err().map(|e| e.in_a_line()));
        problems.extend(state.esp.must_be_writable().err().map(|e| e.in_a_line()));
        problems.extend(self.another_boots(&state.esp));
        for file in &state.damaged {
            problems.push(format!(
                "{ENTRIES}/{file} on {} is damaged: `bootenv check --repair` mends it",
                state.esp.name()
            ));
        }
        for item in state.items.iter().filter(|i| !i.listed || !i.loads) {
            if let Some(be) = &item.be
                && state.of(be).is_some_and(|(_, conf)| conf.entry.kernel.is_some())
            {
                problems.push(self.kernels.missing(be, &state.esp));
            }
        }
        if state.esp.tree().is_ok_and(|tree| !tree.exists(OWN)) {
            problems.push(format!("{OWN} is missing on the ESP: {repair}"));
        }
        problems
    }
}

/// Puts systemd-boot on the ESP where there is none. One that is there may be newer, or signed: `bootctl update` is its
/// business.
fn install_image(esp: &Tree, notes: &mut Vec<String>) -> Result<()> {
    let source = SOURCES.iter().map(Path::new).find(|path| path.exists());
    let image = match source {
        Some(path) => Some(std::fs::read(path).doing_to("read", path)?),
        None => None,
    };
    if !esp.exists(OWN) {
        let Some(image) = &image else {
            notes.push(
                "systemd-boot is not installed here, so it was not put on the ESP: install systemd-boot-efi, then \
                 `bootenv check --repair`"
                    .into(),
            );
            return Ok(());
        };
        esp.make_dir("EFI/systemd", 0o755)?;
        esp.write(OWN, image, 0o644)?;
    }
    match (esp.read(REMOVABLE)?, image) {
        (None, Some(image)) => {
            esp.make_dir("EFI/BOOT", 0o755)?;
            esp.write(REMOVABLE, &image, 0o644)?;
        }
        (Some(there), _) if !there.windows(MAGIC.len()).any(|w| w == MAGIC) => notes.push(format!(
            "{REMOVABLE} on the ESP is another loader's and stays; make a firmware boot entry for {OWN}: \
             `efibootmgr --create --label bootenv --loader '\\EFI\\systemd\\systemd-bootx64.efi'`"
        )),
        _ => {}
    }
    Ok(())
}
