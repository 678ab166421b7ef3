//! Who is at the other end of a Unix socket (unix(7), ioctl_ns(2), user_namespaces(7)).
//!
//! All of it is what the kernel tells. What was true when the connection was made is true of the process that made it, which a
//! descriptor holds on to, so that no other one is taken for it.

#![allow(unsafe_code)]

use crate::error::{Doing, Error, Result};
use nix::sys::socket::{getsockopt, sockopt};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The process that has connected.
#[derive(Debug)]
pub struct Peer {
    /// Its number, as this process sees it.
    pub pid: u32,
    uid: u32,
    handle: OwnedFd,
}

impl Peer {
    /// That of this connection.
    pub fn of(stream: &UnixStream) -> Result<Peer> {
        let told = getsockopt(stream, sockopt::PeerCredentials).doing("cannot ask who has connected")?;
        let pid = rustix::process::Pid::from_raw(told.pid())
            .ok_or_else(|| Error::refused("who has connected cannot be seen from here"))?;
        let handle = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(handle) => handle,
            // Before Linux 6.5 the number is all there is. Where one is known to have gone, it may be another's by now.
            Err(nix::errno::Errno::ENOPROTOOPT) => {
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
                    .doing("who has connected has gone")?
            }
            Err(e) => return Err(e).doing("who has connected has gone"),
        };
        Ok(Peer { pid: pid.as_raw_nonzero().get().unsigned_abs(), uid: told.uid(), handle })
    }

    /// Whether it is still there, so that what was read of it is true of it.
    pub fn is_there(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut ended = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut ended, PollTimeout::ZERO), Ok(0))
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }

    /// Whether it is root: where this process is, or in a user namespace that root has made right below, as whoever runs a container
    /// does. Root in one that somebody has made for himself is nobody.
    pub fn is_root(&self) -> Result<bool> {
        let open = |path: &Path| std::fs::File::open(path).doing_to("open", path);
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
        let meta = |file: &std::fs::File| file.metadata().doing("cannot look at a user namespace");
        let (its, own) = (open(&self.proc("ns/user"))?, meta(&open(Path::new("/proc/self/ns/user"))?)?);
        if same(&meta(&its)?, &own) {
            return Ok(self.uid == 0);
        }
        // One that is not below this process' cannot be asked about.
        let Ok(above) = parent(&its) else { return Ok(false) };
        if !same(&meta(&above)?, &own) || maker(&its)? != 0 {
            return Ok(false);
        }
        let map = self.proc("uid_map");
        let map = std::fs::read_to_string(&map).doing_to("read", &map)?;
        Ok(root_in(&map) == Some(self.uid))
    }

    /// Whether it is in the same user namespace as another process.
    pub fn is_in_user_namespace_of(&self, process: u32) -> Result<bool> {
        let of = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).doing_to("look at", path);
        Ok(of(&self.proc("ns/user"))? == of(&Path::new("/proc").join(process.to_string()).join("ns/user"))?)
    }

    /// What runs it, as systemd and others name control groups: the first one that is no slice.
    pub fn unit(&self) -> Result<Option<String>> {
        let path = self.proc("cgroup");
        let told = std::fs::read_to_string(&path).doing_to("read", &path)?;
        Ok(unit_in(&told).map(str::to_string))
    }
}

/// Which user outside is root inside, by `/proc/PID/uid_map`.
fn root_in(map: &str) -> Option<u32> {
    let lines = map.lines().map(|line| line.split_whitespace().filter_map(|n| n.parse().ok()).collect::<Vec<u32>>());
    lines.filter(|line| line.len() == 3 && line[0] == 0 && line[2] > 0).map(|line| line[1]).next()
}

/// The first control group on the way that is no slice, by `/proc/PID/cgroup`. Whoever is in one may make others below, of any
/// name, but none above.
fn unit_in(told: &str) -> Option<&str> {
    let unified = told.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| *path != "/");
    let path =
        unified.or_else(|| told.lines().find_map(|line| line.split_once(":name=systemd:").map(|(_, path)| path)))?;
    path.split('/').find(|part| !part.is_empty() && !part.ends_with(".slice"))
}

mod ioctl {
    // linux/nsfs.h
    nix::ioctl_none_bad!(ns_get_parent, nix::request_code_none!(0xb7, 2));
    nix::ioctl_read_bad!(ns_get_owner_uid, nix::request_code_none!(0xb7, 4), nix::libc::uid_t);
}

fn parent(namespace: &std::fs::File) -> Result<std::fs::File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the ioctl gives a new descriptor, which nobody else has.
    unsafe {
        let fd = ioctl::ns_get_parent(namespace.as_raw_fd()).doing("cannot ask about a user namespace")?;
        Ok(std::fs::File::from_raw_fd(fd))
    }
}

fn maker(namespace: &std::fs::File) -> Result<u32> {
    let mut uid = u32::MAX;
    // SAFETY: the kernel writes one number into it.
    unsafe { ioctl::ns_get_owner_uid(namespace.as_raw_fd(), &mut uid) }.doing("cannot ask about a user namespace")?;
    Ok(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_root_inside() {
        assert_eq!(root_in("         0     524288      65536\n"), Some(524_288));
        assert_eq!(root_in("1 5 1\n0 7 1\n"), Some(7));
        for none in ["", "0", "1 0 5", "0 1 0", "x y z"] {
            assert_eq!(root_in(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_made_below_a_container_is_still_that_container() {
        let told = |path: &str| unit_in(path).map(str::to_string);
        assert_eq!(
            told("0::/machine.slice/systemd-nspawn@db.service/payload/systemd-nspawn@web.service\n").as_deref(),
            Some("systemd-nspawn@db.service")
        );
        assert_eq!(told("0::/lxc.payload.web/init.scope\n").as_deref(), Some("lxc.payload.web"));
        assert_eq!(
            told("9:name=systemd:/machine.slice/machine-web.scope\n0::/\n").as_deref(),
            Some("machine-web.scope")
        );
        assert_eq!(told("0::/system.slice\n"), None);
        assert_eq!(told("0::/\n"), None);
        assert_eq!(told(""), None);
    }
}
