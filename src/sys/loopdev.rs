//! Loop devices for image files, with `LO_FLAGS_AUTOCLEAR` from the first instant: the kernel detaches the device
//! when its last user is gone, however that user ends. `losetup` cannot set the flag.
//!
//! Interface: linux/loop.h, loop(4).

use crate::error::{Doing, Error, Result};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An attached loop device. Dropping it lets go; the device stays as long as something is mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _file: File,
}

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, the argument of `LOOP_CONFIGURE` (Linux 5.8).
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;

impl LoopDevice {
    /// Attaches `image`, or finds the device it is attached to already: one Btrfs must never be seen
    /// through two devices.
    pub fn attach(image: &Path, readonly: bool) -> Result<Self> {
        let meta = std::fs::metadata(image).doing_to("open", image)?;
        if meta.len() < 4096 {
            return Err(Error::failed(format!(
                "{} is {} bytes long: no filesystem fits in that",
                image.display(),
                meta.len()
            ))
            .hint("it may be truncated: restore it from a copy, or make a new one with `bootenv init`"));
        }
        let backing = OpenOptions::new()
            .read(true)
            .write(!readonly)
            .custom_flags(libc::O_CLOEXEC)
            .open(image)
            .doing_to("open", image)?;
        // Two processes that look for a device at the same time would both attach one.
        let _turn =
            nix::fcntl::Flock::lock(backing.try_clone().doing_to("open", image)?, nix::fcntl::FlockArg::LockExclusive)
                .map_err(|(_, e)| e)
                .doing_to("lock", image)?;
        if let Some(found) = Self::find(meta.dev(), meta.ino())? {
            return Ok(found);
        }
        let mut flags = LO_FLAGS_AUTOCLEAR;
        if readonly {
            flags |= LO_FLAGS_READ_ONLY;
        }
        for _ in 0..64 {
            let Some(device) = Self::try_free(&backing, flags)? else { continue };
            return Ok(device);
        }
        Err(Error::busy("no loop device could be had: others took each one first").hint("try again"))
    }

    /// The block device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device that `dev`/`inode` is attached to.
    fn find(dev: u64, inode: u64) -> Result<Option<Self>> {
        for entry in std::fs::read_dir("/sys/block").doing("cannot read /sys/block")?.flatten() {
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if !text.starts_with("loop") || !entry.path().join("loop").is_dir() {
                continue;
            }
            let path = Path::new("/dev").join(&name);
            let Ok(file) = OpenOptions::new().read(true).open(&path) else { continue };
            if status(&file).is_ok_and(|info| info.device == dev && info.inode == inode) {
                return Ok(Some(LoopDevice { path, _file: file }));
            }
        }
        Ok(None)
    }

    #[allow(unsafe_code)]
    fn try_free(backing: &File, flags: u32) -> Result<Option<Self>> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(|e| {
            Error::failed(format!("cannot open /dev/loop-control: {e}"))
                .hint("an image file needs loop devices: `modprobe loop`, as root")
        })?;
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(std::io::Error::last_os_error()).doing("cannot get a free loop device");
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        if !std::fs::metadata(&path).is_ok_and(|m| m.file_type().is_block_device()) {
            return Err(Error::failed(format!("{} is not there", path.display()))
                .hint("is /dev complete? try `udevadm settle`"));
        }
        let file =
            OpenOptions::new().read(true).write(flags & LO_FLAGS_READ_ONLY == 0).open(&path).doing_to("open", &path)?;
        let config = LoopConfig {
            fd: u32::try_from(backing.as_raw_fd()).unwrap_or(u32::MAX),
            block_size: 0,
            info: LoopInfo64 { flags, ..LoopInfo64::zeroed() },
            reserved: [0; 8],
        };
        // SAFETY: `config` has the layout of struct loop_config and outlives the call.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        if result == 0 {
            return Ok(Some(LoopDevice { path, _file: file }));
        }
        let e = std::io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::EBUSY) => Ok(None),
            _ => Err(e).doing_to("attach the image to", &path),
        }
    }
}

impl LoopInfo64 {
    fn zeroed() -> Self {
        LoopInfo64 {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            sizelimit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

#[allow(unsafe_code)]
fn status(device: &File) -> std::io::Result<LoopInfo64> {
    let mut info = LoopInfo64::zeroed();
    // SAFETY: `info` has the layout of struct loop_info64, which the kernel fills.
    match unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) } {
        0 => Ok(info),
        _ => Err(std::io::Error::last_os_error()),
    }
}
