//! EFI variables, through efivarfs: one file per variable, named `NAME-VENDOR`, with four bytes of attributes before the
//! value (Documentation/filesystems/efivarfs.rst).

use crate::error::{Doing, Error, Result};
use rustix::fs::{IFlags, Mode, OFlags, StatVfsMountFlags};
use std::path::{Path, PathBuf};

const DIR: &str = "/sys/firmware/efi/efivars";
/// What statfs(2) calls an efivarfs (linux/magic.h, `EFIVARFS_MAGIC`).
const MAGIC: u32 = 0xde5e_81e4;
/// Kept over a reset, and to be seen by the loader and by the system (UEFI specification, "GetVariable()").
const ATTRIBUTES: u32 = 0x1 | 0x2 | 0x4;

/// The variables of one vendor, whose values are text.
#[derive(Debug, Clone, Copy)]
pub struct Variables {
    /// The vendor's GUID, in lower case.
    pub vendor: &'static str,
}

impl Variables {
    fn file(&self, name: &str) -> PathBuf {
        Path::new(DIR).join(format!("{name}-{}", self.vendor))
    }

    /// The text of a variable, or `None` if it is not set or empty. What is no text is an error.
    pub fn get(&self, name: &str) -> Result<Option<String>> {
        let file = self.file(name);
        match std::fs::read(&file) {
            Ok(bytes) => match decode(&bytes) {
                Some(text) => Ok(Some(text).filter(|t| !t.is_empty())),
                None => Err(Error::failed(format!("the EFI variable {name} is no text"))
                    .hint(format!("remove it: chattr -i {0}; rm {0}", file.display()))),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).doing(format_args!("cannot read the EFI variable {name}")),
        }
    }

    /// The texts of a variable that holds several; none if it is not set.
    pub fn list(&self, name: &str) -> Result<Vec<String>> {
        match std::fs::read(self.file(name)) {
            Ok(bytes) => {
                let units = units(&bytes).unwrap_or_default();
                let texts = units.split(|u| *u == 0).filter(|text| !text.is_empty());
                Ok(texts.map(String::from_utf16_lossy).collect())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e).doing(format_args!("cannot read the EFI variable {name}")),
        }
    }

    /// Sets a variable, or takes it away. The firmware does either whole or not at all. What is so already is left alone:
    /// the memory wears out.
    pub fn set(&self, name: &str, value: Option<&str>) -> Result<()> {
        if self.get(name).ok() == Some(value.map(str::to_string)) {
            return Ok(());
        }
        let file = self.file(name);
        thaw(&file);
        let done = match value {
            Some(value) => write(&file, &encode(value)),
            None => match std::fs::remove_file(&file) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        };
        done.doing(format_args!("cannot change the EFI variable {name}")).map_err(|e| match e.errno {
            Some(nix::libc::ENOSPC) => {
                e.hint("the firmware's memory is full: `efibootmgr` shows boot entries that could be deleted")
            }
            _ => e.hint("does the firmware let variables be changed? `efibootmgr -v` tells"),
        })
    }
}

/// What to do where UEFI did not.
pub const BOOT_BY_UEFI: &str = "switch the firmware from BIOS (CSM, legacy) to UEFI";

/// Whether UEFI has booted this machine, as far as it can be seen.
pub fn is_uefi() -> bool {
    Path::new("/sys/firmware/efi").exists()
}

/// Refuses where no variables can be read: no UEFI, or no efivarfs.
pub fn must_be_readable() -> Result<()> {
    if !is_uefi() {
        return Err(
            Error::refused("this machine was not booted by UEFI, so it has no EFI variables").hint(BOOT_BY_UEFI)
        );
    }
    let mounted = rustix::fs::statfs(DIR).is_ok_and(|s| s.f_type as u32 == MAGIC);
    match mounted {
        true => Ok(()),
        false => Err(Error::refused(format!("the EFI variables cannot be seen: no efivarfs is mounted on {DIR}"))
            .hint(format!("mount -t efivarfs efivarfs {DIR}"))),
    }
}

/// Refuses where no variables can be changed.
pub fn must_be_writable() -> Result<()> {
    must_be_readable()?;
    let flags = rustix::fs::statvfs(DIR).doing_to("ask about", Path::new(DIR))?.f_flag;
    match flags.contains(StatVfsMountFlags::RDONLY) {
        false => Ok(()),
        true => Err(Error::refused("the EFI variables cannot be changed: efivarfs is mounted read-only")
            .hint(format!("mount -o remount,rw {DIR}"))),
    }
}

/// The kernel makes variables immutable that are not known to be harmless to delete (efivarfs.rst).
fn thaw(file: &Path) {
    let Ok(fd) = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&fd)
        && flags.contains(IFlags::IMMUTABLE)
    {
        let _ = rustix::fs::ioctl_setflags(&fd, flags - IFlags::IMMUTABLE);
    }
}

/// One write(2) is one call of the firmware.
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let fd = rustix::fs::open(file, flags, Mode::from_raw_mode(0o644))?;
    match rustix::io::write(&fd, bytes)? {
        n if n == bytes.len() => Ok(()),
        _ => Err(std::io::ErrorKind::WriteZero.into()),
    }
}

/// Attributes, then UTF-16 in little endian, ended by NUL.
fn encode(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain(std::iter::once(0)).flat_map(u16::to_le_bytes);
    ATTRIBUTES.to_le_bytes().into_iter().chain(units).collect()
}

fn decode(bytes: &[u8]) -> Option<String> {
    String::from_utf16(units(bytes)?.split(|u| *u == 0).next().unwrap_or(&[])).ok()
}

fn units(bytes: &[u8]) -> Option<Vec<u16>> {
    bytes.get(4..)?.chunks(2).map(|c| Some(u16::from_le_bytes([c[0], *c.get(1)?]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_attributes_and_utf16_with_its_end() {
        assert_eq!(encode("aä"), [7, 0, 0, 0, b'a', 0, 0xe4, 0, 0, 0]);
        assert_eq!(decode(&encode("bootenv-1-blue.conf")).as_deref(), Some("bootenv-1-blue.conf"));
        assert_eq!(decode(&encode("")).as_deref(), Some(""));
        // Some loaders leave the end out; what comes after it does not count.
        assert_eq!(decode(&[7, 0, 0, 0, b'a', 0]).as_deref(), Some("a"));
        assert_eq!(decode(&[7, 0, 0, 0, b'a', 0, 0, 0, b'b', 0]).as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_text_is_told() {
        for bytes in [&[][..], &[7, 0, 0], &[7, 0, 0, 0, b'a'], &[7, 0, 0, 0, 0, 0xd8]] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
