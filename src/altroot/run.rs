//! Running a command in a BE that does not run: in namespaces of its own, with nothing that could undo the protection of the
//! running system and of the shared data.

use super::{OWN_DIR, furnish, own_dir, pending};
use crate::domain::BeName;
use crate::domain::shared::{MOUNTPOINT, PENDING};
use crate::error::{Doing, Error, Result};
use crate::package;
use crate::shared::{come_back, note_owners};
use crate::store::Store;
use crate::sys::keeper::{self, Stages};
use crate::sys::tree::Tree;
use crate::sys::{confine, mount, namespace};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// What would say to a command that a service manager, a session or a bus of the host is its own.
const NOT_INSIDE: [&str; 10] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "SSH_AUTH_SOCK",
    "TMPDIR",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
];
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A BE that a command can be run in: mounted, where nobody sees it.
#[derive(Debug)]
pub struct Prepared {
    name: String,
    whole: OwnedFd,
    shared: Option<OwnedFd>,
    tree: Tree,
    /// Whether directories have to stand where there are links into the shared dataset.
    directories: bool,
}

/// Refuses a BE that no command can be run in: one that is read-only, or in use somewhere.
pub fn check_run(store: &dyn Store, be: &BeName, path: &str) -> Result<()> {
    if store.is_readonly(path)? {
        return Err(Error::refused(format!("{be} is read-only"))
            .hint(format!("`bootenv create -e {be} NAME` makes a copy that can be changed")));
    }
    match super::mounted_elsewhere(store, path)? {
        None => Ok(()),
        Some(place) => Err(Error::busy(format!("{be} is in use: another process has it mounted at {place}"))
            .hint("wait for the command that runs in it, or end it")),
    }
}

/// Mounts the BE at `path` out of everybody's sight. To be called with the store locked; the BE counts as mounted from
/// when the command runs.
pub fn prepare(store: &dyn Store, be: &BeName, path: &str) -> Result<Prepared> {
    check_run(store, be, path)?;
    let scratch = own_dir()?;
    let mounts = store.mounts(path)?;
    for (mount, _) in &mounts {
        // A device that a package makes is none here.
        mount::set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_NODEV)
            .doing(format_args!("cannot mount {be}"))?;
    }
    let whole = namespace::assemble(&mounts, &scratch)?;
    let tree = Tree::below(&whole, be.as_str())?;
    let shared = super::shared(store, be, path)?;
    if let Some(shared) = &shared {
        // Left by a command that was cut off.
        come_back(&tree)?;
        pending::make_room(&tree, shared)?;
    }
    let directories = shared.is_some() && package::wants_directories(&tree);
    Ok(Prepared { name: be.to_string(), whole, shared, tree, directories })
}

/// Runs a command, or root's shell if it is empty, and gives what it ended with. All its processes and mounts are gone then.
/// `entered` is called when the command has been started.
pub fn run(prepared: &Prepared, command: &[OsString], entered: &mut dyn FnMut()) -> Result<ExitStatus> {
    carry_out(prepared, &mut process(prepared, command)?, entered)
}

/// The same without a terminal, with what the command said.
pub(super) fn captured(prepared: &Prepared, command: &[OsString]) -> Result<(ExitStatus, String)> {
    let mut said = rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC)
        .map(File::from)
        .doing("cannot make a file")?;
    let mut process = process(prepared, command)?;
    let copy = || said.try_clone().doing("cannot use a file twice");
    process.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
    let status = carry_out(prepared, &mut process, &mut || {})?;
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text)).doing("cannot read what the command said")?;
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}

fn carry_out(prepared: &Prepared, process: &mut Command, entered: &mut dyn FnMut()) -> Result<ExitStatus> {
    let stages = Stages { enter: &|| enter(prepared), entered, leave: &|| leave(prepared) };
    keeper::run(stages, process)
}

fn process(prepared: &Prepared, command: &[OsString]) -> Result<Command> {
    let mut process = match command {
        [] => Command::new(shell(&prepared.tree)?),
        [program, arguments @ ..] => {
            let mut process = Command::new(program);
            process.args(arguments);
            process
        }
    };
    for name in NOT_INSIDE {
        process.env_remove(name);
    }
    process.env("PATH", SEARCH_PATH).env("HOME", "/root").env("USER", "root").env("LOGNAME", "root");
    // Debian's shells show the second in their prompt.
    process.env("SYSTEMD_OFFLINE", "1").env("debian_chroot", &prepared.name);
    Ok(process)
}

/// Makes the BE `/` in the mount namespace of the calling process, which nobody else is in.
fn enter(prepared: &Prepared) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("cannot keep mounts private")?;
    let scratch = Path::new(OWN_DIR);
    let own = mount::detached("tmpfs", Path::new("bootenv"), &[("mode", "700")], false)?;
    mount::attach_on(own.as_fd(), scratch)?;
    let attach = |mount: &OwnedFd, name: &str| -> Result<PathBuf> {
        let at = scratch.join(name);
        std::fs::create_dir(&at).doing_to("make", &at)?;
        mount::attach_on(mount.as_fd(), &at)?;
        Ok(at)
    };
    let root = attach(&prepared.whole, "root")?;
    let tree = &prepared.tree;
    if let Some(shared) = &prepared.shared {
        let lower = attach(shared, "shared")?;
        let overlay = pending::overlay(tree, &lower)?;
        let place = tree.place(MOUNTPOINT)?;
        mount::attach(overlay.as_fd(), place.as_fd()).doing("cannot mount the pending content")?;
        if prepared.directories {
            pending::stand_in(tree)?;
        }
        // The layers are not to be changed behind the overlay's back.
        let cover = mount::detached("tmpfs", Path::new("bootenv"), &[("mode", "700")], true)?;
        mount::attach(cover.as_fd(), tree.place(PENDING)?.as_fd()).doing("cannot cover the pending content")?;
    }
    furnish::furnish(tree, scratch)?;
    rustix::process::chdir(&root).doing_to("enter", &root)?;
    // Both the new root and the old one are at `.` then, the old one on top (pivot_root(2)).
    rustix::process::pivot_root(".", ".").doing("cannot make the boot environment the root")?;
    mount::detach(Path::new("."), true).doing("cannot leave the old root")?;
    rustix::process::chdir("/").doing("cannot enter the new root")?;
    confine::confine()
}

/// Clears up behind the command. What cannot be cleared up does no harm.
fn leave(prepared: &Prepared) {
    let _ = furnish::clear(&prepared.tree);
    if come_back(&prepared.tree).is_ok() {
        let _ = pending::clear_if_empty(&prepared.tree);
    }
    let _ = note_owners(&prepared.tree);
}

/// What root's shell is in the BE.
fn shell(tree: &Tree) -> Result<String> {
    let users = tree.read("etc/passwd")?.unwrap_or_default();
    let users = String::from_utf8_lossy(&users);
    let root = users.lines().find(|line| line.starts_with("root:"));
    let shell = root.and_then(|line| line.rsplit(':').next()).filter(|shell| shell.starts_with('/'));
    Ok(shell.unwrap_or("/bin/sh").to_string())
}
