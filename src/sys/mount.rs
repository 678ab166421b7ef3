//! The kernel's mount API: fsopen(2), fsmount(2), open_tree(2), mount_setattr(2), move_mount(2).
//!
//! A detached mount is reached by its descriptor alone and shows up in nobody's mount table; it goes
//! away with the descriptor, however the process ends.

use crate::error::{Doing, Error, Result};
use nix::libc;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Mounts `device` detached. `options` are filesystem options (`subvolid=5`); `readonly` asks for a read-only filesystem.
pub fn detached(fstype: &str, device: &Path, options: &[(&str, &str)], readonly: bool) -> Result<OwnedFd> {
    let (super_flags, attributes): (&[&str], _) = match readonly {
        true => (&["ro"], MountAttrFlags::MOUNT_ATTR_RDONLY),
        false => (&[], MountAttrFlags::empty()),
    };
    detached_with(fstype, device, options, super_flags, attributes)
}

/// `detached`, with the flags of the filesystem (`ro`) told apart from the attributes (`MOUNT_ATTR_*`) of this mount of it.
/// The errno is kept.
pub fn detached_with(
    fstype: &str,
    device: &Path,
    options: &[(&str, &str)],
    super_flags: &[&str],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let fs = fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| match e {
        rustix::io::Errno::NODEV => {
            Error::failed(format!("this kernel has no {fstype}")).hint(format!("try `modprobe {fstype}`"))
        }
        rustix::io::Errno::PERM => Error::refused("mounting needs root").hint("run bootenv as root"),
        e => Error::failed(format!("fsopen({fstype}): {e}")),
    })?;
    let configure = || -> rustix::io::Result<()> {
        fsconfig_set_string(&fs, "source", device)?;
        for (key, value) in options {
            fsconfig_set_string(&fs, *key, *value)?;
        }
        for flag in super_flags {
            fsconfig_set_flag(&fs, *flag)?;
        }
        fsconfig_create(&fs)
    };
    if let Err(e) = configure() {
        let told = kernel_words(&fs);
        let told = if told.is_empty() { crate::error::plain(&e.into()) } else { told };
        let mut error = Error::failed(format!("cannot mount {} as {fstype}: {told}", device.display()));
        error.errno = Some(e.raw_os_error());
        return Err(error);
    }
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).doing_to("mount", device)
}

/// What the kernel wrote into the filesystem context's log: "e btrfs: ...".
fn kernel_words(fs: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let Ok(copy) = fs.try_clone() else { return String::new() };
    let mut file = std::fs::File::from(copy);
    let mut buffer = [0u8; 1024];
    while let Ok(n) = file.read(&mut buffer) {
        if n == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&buffer[..n]).trim().to_string();
        lines.push(line.trim_start_matches(['e', 'w', 'i']).trim().to_string());
    }
    lines.join("; ")
}

/// A detached copy of the mount at `path` below `dir` (of everything mounted below it too, if `recursive`).
pub fn clone_at(dir: BorrowedFd<'_>, path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags)
}

/// Sets attributes (`MOUNT_ATTR_*`) of a mount, and makes it private: nothing mounted below it spreads.
///
/// rustix and nix have no mount_setattr(2); `struct mount_attr` is from linux/mount.h.
#[allow(unsafe_code)]
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttrFlags) -> rustix::io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is a NUL-terminated literal, `attr` outlives the call and its size is passed with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO))
    }
}

/// Attaches a detached mount on the directory `onto`.
pub fn attach(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", onto, "", flags)
}

/// Attaches a detached mount on the directory at `path`.
pub fn attach_on(mount: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let place = place(path).doing_to("open", path)?;
    attach(mount, place.as_fd()).doing_to("mount on", path)
}

/// Opens a directory as a place to mount on: `O_PATH`, the top of what is mounted there.
pub fn place(path: &Path) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Unmounts what is mounted at `path`. `lazy` takes it out of the tree even while it is used.
pub fn detach(path: &Path, lazy: bool) -> rustix::io::Result<()> {
    let mut flags = UnmountFlags::NOFOLLOW;
    if lazy {
        flags |= UnmountFlags::DETACH;
    }
    unmount(path, flags)
}
