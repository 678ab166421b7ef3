//! What a command finds in an alternate root besides the BE itself: kernel filesystems, devices, the resolver, a policy by
//! which no service is started, and what rpm has to be told.

use crate::error::{Doing, Result};
use crate::sys::mount;
use crate::sys::tree::Tree;
use rustix::fs::{CWD, FileType};
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Devices that cannot do harm. Each is the host's, on a filesystem where others are no devices.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links in `/dev` that programs expect (systemd's manual, "File Hierarchy for the Verification of udev").
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];
/// Where `/proc` lets root change the kernel that everybody shares.
const KERNEL_SETTINGS: [&str; 7] = ["sys", "sysrq-trigger", "bus", "irq", "fs", "acpi", "scsi"];

/// What invoke-rc.d(8) asks before it starts a service.
const POLICY: &str = "usr/sbin/policy-rc.d";
/// Nothing is to be started: the status 101 says so ("action forbidden by policy").
const POLICY_TEXT: &str =
    "#!/bin/sh\n# bootenv: services are not started in a boot environment that does not run\nexit 101\n";
const RESOLVER: &str = "etc/resolv.conf";

/// Where rpm reads macros, after those of its plugins.
const RPM_MACROS: &str = "usr/lib/rpm/macros.d/macros.zz-bootenv";
/// A plugin of rpm gives each script a mount namespace of its own, which nothing here may make, and no script would run.
const RPM_MACROS_TEXT: &str = "%__transaction_unshare %{nil}\n";

/// Files that may have to be there to be mounted on. One of ours is empty, and may neither be read nor run.
const PLACEHOLDERS: [&str; 3] = [POLICY, RESOLVER, RPM_MACROS];
const PLACEHOLDER_MODE: u32 = 0;

/// Puts it all in its places. `own` is a directory in which files can be made that are gone with the namespace.
pub(super) fn furnish(be: &Tree, own: &Path) -> Result<()> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let data = quiet | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let proc = mount::detached("proc", Path::new("proc"), &[], false)?;
    put(be, "proc", proc, data)?;
    for part in KERNEL_SETTINGS.iter().map(|part| format!("proc/{part}")).filter(|part| be.exists(part)) {
        let same = mount::clone_at(be.fd(), &part, false).doing(format_args!("cannot look at /{part}"))?;
        put(be, &part, same, data | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    }
    let sysfs = mount::detached("sysfs", Path::new("sysfs"), &[], false)?;
    put(be, "sys", sysfs, data | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    devices(be, quiet)?;
    let tmp = mount::detached("tmpfs", Path::new("tmpfs"), &[("mode", "1777")], false)?;
    put(be, "tmp", tmp, quiet)?;
    let run = mount::detached("tmpfs", Path::new("tmpfs"), &[("mode", "755")], false)?;
    for_everybody(&Tree::below(&run, "run")?, "lock")?;
    put(be, "run", run, quiet)?;
    resolver(be, own)?;
    if be.exists("usr/sbin/invoke-rc.d") {
        cover(be, POLICY, own, POLICY_TEXT.as_bytes(), 0o755)?;
    }
    match be.exists("usr/lib/rpm/macros.d/macros.transaction_unshare") {
        true => cover(be, RPM_MACROS, own, RPM_MACROS_TEXT.as_bytes(), 0o644),
        false => Ok(()),
    }
}

/// Takes away the files that were made only to be mounted on.
pub(super) fn clear(be: &Tree) -> Result<()> {
    for path in PLACEHOLDERS {
        let is_ours = |stat: rustix::fs::Stat| {
            let plain = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            plain && stat.st_size == 0 && stat.st_mode & 0o7777 == PLACEHOLDER_MODE
        };
        if be.stat(path)?.is_some_and(is_ours) {
            be.remove(path)?;
        }
    }
    Ok(())
}

fn put(be: &Tree, path: &str, what: OwnedFd, attributes: MountAttrFlags) -> Result<()> {
    let doing = format!("cannot mount on /{path} of the boot environment");
    mount::set_attributes(what.as_fd(), attributes).doing(&doing)?;
    let place = be.place(path).map_err(|e| e.hint("`bootenv mount` it and make what is missing"))?;
    mount::attach(what.as_fd(), place.as_fd()).doing(&doing)
}

fn devices(be: &Tree, quiet: MountAttrFlags) -> Result<()> {
    let mounted = mount::detached("tmpfs", Path::new("tmpfs"), &[("mode", "755"), ("size", "4m")], false)?;
    let dev = Tree::below(&mounted, "dev")?;
    for name in DEVICES {
        dev.make_file(name, 0o600)?;
    }
    for (target, name) in LINKS {
        dev.symlink(target, name)?;
    }
    dev.make_dir("pts", 0o755)?;
    for_everybody(&dev, "shm")?;
    put(be, "dev", mounted, quiet)?;
    for name in DEVICES {
        let device =
            mount::clone_at(CWD, &format!("/dev/{name}"), false).doing(format_args!("cannot use /dev/{name}"))?;
        put(be, &format!("dev/{name}"), device, MountAttrFlags::MOUNT_ATTR_NOSUID)?;
    }
    let terminals = [("ptmxmode", "0666"), ("mode", "620"), ("gid", "5")];
    let pts = mount::detached("devpts", Path::new("devpts"), &terminals, false)?;
    put(be, "dev/pts", pts, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)
}

/// Makes a directory that everybody may use, whatever our own umask is.
fn for_everybody(tree: &Tree, name: &str) -> Result<()> {
    tree.make_dir(name, 0o755)?;
    let mode = rustix::fs::Mode::from_raw_mode(0o1777);
    rustix::fs::fchmod(tree.sub(name)?.fd(), mode).doing(format_args!("cannot change the mode of {name}"))
}

/// Lets names be looked up as on the host, unless the BE knows servers of its own.
fn resolver(be: &Tree, own: &Path) -> Result<()> {
    let Ok(text) = std::fs::read("/etc/resolv.conf") else { return Ok(()) };
    match be.kind(RESOLVER)? {
        Some(FileType::Symlink) => {
            // It usually leads into /run, which is empty here; what it leads to is made there.
            let target = be.read_link(RESOLVER)?;
            let in_run = target.strip_prefix("/run/").or_else(|| target.strip_prefix("../run/"));
            if let Some(path) = in_run.filter(|path| !path.split('/').any(|part| part == "..")) {
                if let Some((dir, _)) = path.rsplit_once('/') {
                    be.make_dir(&format!("run/{dir}"), 0o755)?;
                }
                be.write(&format!("run/{path}"), &text, 0o644)?;
            }
            Ok(())
        }
        Some(FileType::RegularFile) if has_servers(&be.read(RESOLVER)?.unwrap_or_default()) => Ok(()),
        Some(FileType::RegularFile) | None => cover(be, RESOLVER, own, &text, 0o644),
        Some(_) => Ok(()),
    }
}

fn has_servers(resolver: &[u8]) -> bool {
    String::from_utf8_lossy(resolver).lines().any(|line| line.starts_with("nameserver"))
}

/// Mounts a file over `path`, which is made for that if it is not there.
fn cover(be: &Tree, path: &str, own: &Path, text: &[u8], mode: u32) -> Result<()> {
    if be.kind(path)?.is_none() {
        be.make_file(path, PLACEHOLDER_MODE)?;
    }
    let name = path.replace('/', "-");
    Tree::at(own)?.write(&name, text, mode)?;
    let file = mount::clone_at(CWD, &own.join(&name).to_string_lossy(), false)
        .doing(format_args!("cannot mount on /{path} of the boot environment"))?;
    put(be, path, file, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_RDONLY)
}
