//! Processes that stand still for a moment (cgroup v2, "Core Interface Files", `cgroup.freeze`).
//!
//! They go on however we end: a process of our own waits for that, sees it by a pipe, and thaws them. It shares the store's lock,
//! so that nobody else begins before.

#![allow(unsafe_code)]

use crate::error::{Doing, Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long is waited for processes that are at something that cannot be interrupted.
const PATIENCE: Duration = Duration::from_secs(5);

/// Control groups whose processes stand still until this is dropped.
#[derive(Debug)]
pub struct Frozen {
    /// Closing it tells the keeper.
    hold: Option<OwnedFd>,
    keeper: Pid,
}

impl Frozen {
    /// Freezes these control groups, and gives which of them could not be if one could not. What is frozen already stays so
    /// afterwards.
    pub fn new(groups: &[PathBuf]) -> std::result::Result<Option<Frozen>, (usize, Error)> {
        let mut files = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            let file = OpenOptions::new().read(true).write(true).open(group.join("cgroup.freeze"));
            let mut file = file.doing_to("freeze", group).map_err(|e| (at, e))?;
            let mut now = String::new();
            file.read_to_string(&mut now).doing_to("freeze", group).map_err(|e| (at, e))?;
            if now.trim() != "1" {
                files.push((at, file));
            }
        }
        if files.is_empty() {
            return Ok(None);
        }
        let frozen = Frozen::kept(&mut files).map_err(|e| (0, e))?;
        for (at, file) in &mut files {
            file.write_all(b"1").doing_to("freeze", &groups[*at]).map_err(|e| (*at, e))?;
        }
        let until = Instant::now() + PATIENCE;
        for (at, _) in &files {
            while !stands(&groups[*at]) {
                if Instant::now() > until {
                    let told =
                        format!("its processes do not stop, though they were told to {} s ago", PATIENCE.as_secs());
                    let hint =
                        format!("see what they wait for (`cat {}/cgroup.procs`), or stop it", groups[*at].display());
                    return Err((*at, Error::busy(told).hint(hint)));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(Some(frozen))
    }

    /// Starts who thaws them.
    fn kept(files: &mut [(usize, File)]) -> Result<Frozen> {
        let (leash, hold) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).doing("cannot make a pipe")?;
        // Nothing that is typed or sent may end it before its time.
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
            .doing("cannot hold signals back")?;
        // SAFETY: this process has one thread; the child leaves by _exit and runs no destructor of the parent.
        let started = unsafe { fork() };
        if let Ok(ForkResult::Child) = started {
            drop(hold);
            let _ = File::from(leash).read(&mut [0]);
            for (_, file) in files {
                let _ = file.write_all(b"0");
            }
            // SAFETY: _exit(2) is always safe to call.
            unsafe { nix::libc::_exit(0) }
        }
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        match started.doing("cannot start a process")? {
            ForkResult::Parent { child } => Ok(Frozen { hold: Some(hold), keeper: child }),
            ForkResult::Child => unreachable!("it has left"),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = waitpid(self.keeper, None);
    }
}

/// Whether all processes of a control group stand still, or it is gone with them.
fn stands(group: &std::path::Path) -> bool {
    std::fs::read_to_string(group.join("cgroup.events"))
        .map_or(true, |told| told.lines().any(|line| line == "frozen 1"))
}
