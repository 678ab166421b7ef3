//! Sockets that whoever starts this process has opened for it (sd_listen_fds(3)).

#![allow(unsafe_code)]

use crate::error::{Doing, Error, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// The first of them.
const FIRST: i32 = 3;

/// The one socket that was passed, which is listened on.
pub fn passed() -> Result<UnixListener> {
    let told = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let nothing = || {
        Error::usage("no socket was passed on")
            .hint("systemd starts this when somebody connects: `systemctl enable --now bootenv-inside@ZONE.socket`")
    };
    if told("LISTEN_PID") != Some(std::process::id()) || told("LISTEN_FDS") != Some(1) {
        return Err(nothing());
    }
    // SAFETY: whoever starts us says that it is open and for us, and it is taken once. What is started later does not get it.
    let fd = unsafe { OwnedFd::from_raw_fd(FIRST) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).map_err(|_| nothing())?;
    let listener = UnixListener::from(fd);
    listener.local_addr().doing("what was passed on is no Unix socket")?;
    Ok(listener)
}
