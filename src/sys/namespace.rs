//! Private mount namespaces: where a tree of mounts is put together out of everybody's sight, and where a mount is
//! locked read-only.
//!
//! Before Linux 6.15 nothing can be mounted on a detached mount, so a tree is put together in a namespace of
//! its own and cloned out of it whole.
//!
//! A mount's read-only flag can be taken off by any root process (`mount -o remount,rw,bind`) unless it is *locked*: the
//! kernel locks the flags of every mount that is copied into a namespace owned by another user namespace
//! (mount_namespaces(7), "Restrictions on mount namespaces"), and a clone of such a mount keeps the lock wherever
//! it is attached later. So the shared dataset's mount makes a trip through a user namespace of its own.

use super::mount;
use crate::error::{Doing, Error, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Returns a copy of the detached, already read-only `mount` whose read-only flag nobody can take off.
/// `scratch` is a directory to attach it to in a namespace that nobody sees.
pub fn lock_flags(shared: BorrowedFd<'_>, scratch: &Path) -> Result<OwnedFd> {
    in_child("lock the shared dataset's mount read-only", || {
        private_namespace()?;
        mount::attach(shared, mount::place(scratch).map_err(at("open"))?.as_fd()).map_err(at("attach"))?;
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| (e as i32, "unshare(user)"))?;
        mount::clone_at(mount::place(scratch).map_err(at("open"))?.as_fd(), "", false).map_err(at("open_tree"))
    })
    .map_err(|e| {
        e.hint("mounting a boot environment safely needs user namespaces: see `sysctl user.max_user_namespaces`; in a chroot there are none, so do it outside")
    })
}

/// Puts detached mounts together: the first at the top, the others on the given paths inside it. Returns
/// the whole as one detached tree.
pub fn assemble(mounts: &[(OwnedFd, String)], scratch: &Path) -> Result<OwnedFd> {
    if let [(only, _)] = mounts {
        return only.try_clone().doing("cannot use a mount twice");
    }
    in_child("put the mounts together", || {
        private_namespace()?;
        for (index, (fd, path)) in mounts.iter().enumerate() {
            if index == 0 {
                mount::attach(fd.as_fd(), mount::place(scratch).map_err(at("open"))?.as_fd()).map_err(at("attach"))?;
                continue;
            }
            use rustix::fs::{Mode, OFlags, ResolveFlags};
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let top = mount::place(scratch).map_err(at("open"))?;
            let onto = rustix::fs::openat2(&top, path.as_str(), flags, Mode::empty(), ResolveFlags::IN_ROOT)
                .map_err(at("open"))?;
            mount::attach(fd.as_fd(), onto.as_fd()).map_err(at("attach"))?;
        }
        mount::clone_at(mount::place(scratch).map_err(at("open"))?.as_fd(), "", true).map_err(at("open_tree"))
    })
}

/// What failed in the child: the errno and the call.
type ChildError = (i32, &'static str);

fn at(call: &'static str) -> impl Fn(rustix::io::Errno) -> ChildError {
    move |e| (e.raw_os_error(), call)
}

/// Moves the calling process into a mount namespace of its own, from which nothing spreads back.
fn private_namespace() -> Result<(), ChildError> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| (e as i32, "unshare(mount)"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(at("mount(private)"))
}

/// Runs `work` in a child process and returns the descriptor it made. A namespace entered there is gone with the child.
#[allow(unsafe_code)]
fn in_child(what: &str, work: impl FnOnce() -> Result<OwnedFd, ChildError>) -> Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .doing(format_args!("cannot {what}"))?;
    // SAFETY: the child makes system calls and sends one message, then leaves by _exit: it runs no
    // destructor and no exit handler of the parent.
    match unsafe { fork() }.doing(format_args!("cannot {what}"))? {
        ForkResult::Child => {
            let result = work();
            let (code, call) = match &result {
                Ok(_) => (0, ""),
                Err((code, call)) => (*code, *call),
            };
            let mut message = code.to_ne_bytes().to_vec();
            message.extend_from_slice(call.as_bytes());
            let fds: Vec<RawFd> = result.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&fds)];
            let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
            let sent = sendmsg::<()>(theirs.as_raw_fd(), &[IoSlice::new(&message)], control, MsgFlags::empty(), None);
            // SAFETY: _exit(2) is always safe to call.
            unsafe { nix::libc::_exit(i32::from(sent.is_err())) }
        }
        ForkResult::Parent { child } => {
            drop(theirs);
            let mut buffer = [0u8; 64];
            let mut control = nix::cmsg_space!([RawFd; 1]);
            let mut iov = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<()>(ours.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
            let outcome = received.map(|message| {
                let fd = message.cmsgs().into_iter().flatten().find_map(|c| match c {
                    ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                    _ => None,
                });
                (message.bytes, fd)
            });
            let _ = waitpid(child, None);
            let (length, fd) = outcome.doing(format_args!("cannot {what}"))?;
            if let Some(fd) = fd {
                // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
                return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
            }
            let code = buffer.first_chunk::<4>().map_or(0, |b| i32::from_ne_bytes(*b));
            let call = String::from_utf8_lossy(buffer.get(4..length).unwrap_or_default()).into_owned();
            Err(Error::failed(format!("cannot {what}: {call}: {}", nix::errno::Errno::from_raw(code).desc())))
        }
    }
}
