//! A command with processes and mounts of its own, all of which are gone when it ends, or when we do, however that comes.
//!
//! Two processes stand between the caller and the command:
//!
//! ```text
//! caller ──► keeper ──► first process of a PID namespace ──► command
//! ```
//!
//! When the *first process* ends, the kernel kills everything in its namespace and undoes the mounts in its mount namespace
//! (pid_namespaces(7)). It ends with the command, or when the keeper kills it. The *keeper* does that when the caller is
//! gone, which it sees by a pipe, and clears up behind it; so a caller that is killed leaves nothing. The terminal stays as
//! it is: all of them are in the caller's process group, and what is typed (Ctrl-C, Ctrl-Z) reaches the command from the
//! terminal itself. Only signals that somebody sends to the caller are passed on.

#![allow(unsafe_code)]

use crate::error::{Doing, Error, Kind, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SignalFd, siginfo};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// What is passed on to the command when somebody sends it to the caller.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// What is done around a command, each in the process where it has to be.
pub struct Stages<'a> {
    /// In the first process, in namespaces of its own, before the command is started: mounts, and what is given up.
    pub enter: &'a dyn Fn() -> Result<()>,
    /// In the caller, once the command runs.
    pub entered: &'a mut dyn FnMut(),
    /// In the keeper, when everything has ended.
    pub leave: &'a dyn Fn(),
}

/// What the caller is told, one JSON document a line.
#[derive(Serialize, Deserialize)]
enum Told {
    Entered,
    Ended(i32),
    Failed { kind: Kind, message: String, hint: Option<String> },
}

/// Runs a command in mount, PID, UTS and IPC namespaces of its own, and gives what it ended with.
/// Errors: those of `enter`; [`NotFound`](Kind::NotFound) if there is no such command inside.
pub fn run(stages: Stages<'_>, command: &mut Command) -> Result<ExitStatus> {
    let (said, say) = pipe()?;
    let (leash, hold) = pipe()?;
    let signals: SigSet = PASSED_ON.into_iter().chain([Signal::SIGCHLD]).collect();
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before)).doing("cannot hold signals back")?;
    // SAFETY: this process has one thread; the child leaves by _exit and runs no destructor of the parent.
    let result = match unsafe { fork() }.doing("cannot start a process") {
        Ok(ForkResult::Child) => {
            drop((said, hold));
            keep(&stages, &signals, &mut File::from(say), &leash, command);
            // SAFETY: _exit(2) is always safe to call.
            unsafe { nix::libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop((say, leash));
            let ended = listen(said, &mut File::from(hold), &signals, stages.entered);
            let _ = waitpid(child, None);
            ended
        }
        Err(e) => Err(e),
    };
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    result
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(nix::fcntl::OFlag::O_CLOEXEC).doing("cannot make a pipe")
}

fn tell(say: &mut File, told: &Told) {
    // If nobody listens any more, everything ends soon.
    let _ = writeln!(say, "{}", serde_json::to_string(told).unwrap_or_default());
}

fn tell_failure(say: &mut File, e: Error) {
    tell(say, &Told::Failed { kind: e.kind, message: e.message, hint: e.hint });
}

/// The caller: passes signals on until the keeper has told everything, and is gone.
fn listen(said: OwnedFd, hold: &mut File, signals: &SigSet, entered: &mut dyn FnMut()) -> Result<ExitStatus> {
    let arrived = SignalFd::new(signals).doing("cannot wait for signals")?;
    let mut said = BufReader::new(File::from(said));
    let mut result = Err(Error::failed("what ran the command was killed"));
    loop {
        let mut both =
            [PollFd::new(said.get_ref().as_fd(), PollFlags::POLLIN), PollFd::new(arrived.as_fd(), PollFlags::POLLIN)];
        match poll(&mut both, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result.doing("cannot wait for the command")?,
        };
        let [heard, signalled] = both.map(|fd| fd.any() == Some(true));
        if signalled
            && let Ok(Some(info)) = arrived.read_signal()
            && let Some(signal) = to_pass_on(&info)
        {
            let _ = hold.write_all(&[signal as u8]);
        }
        if !heard {
            continue;
        }
        let mut line = String::new();
        if said.read_line(&mut line).doing("cannot hear of the command")? == 0 {
            return result;
        }
        match serde_json::from_str(&line) {
            Ok(Told::Entered) => entered(),
            Ok(Told::Ended(status)) => result = Ok(ExitStatus::from_raw(status)),
            Ok(Told::Failed { kind, message, hint }) => {
                let mut error = Error::new(kind, message);
                error.hint = hint;
                result = Err(error);
            }
            Err(e) => result = Err(Error::failed(format!("cannot understand what ran the command: {e}"))),
        }
    }
}

/// The keeper: starts the first process, and ends it when the caller lets go of the leash.
fn keep(stages: &Stages<'_>, signals: &SigSet, say: &mut File, leash: &OwnedFd, command: &mut Command) {
    let started = unshare(CloneFlags::CLONE_NEWPID)
        .doing("cannot make a PID namespace")
        // SAFETY: as in `run`.
        .and_then(|()| unsafe { fork() }.doing("cannot start a process"));
    match started {
        Ok(ForkResult::Child) => {
            if let Err(e) = first(stages, signals, say, command) {
                tell_failure(say, e);
            }
            // SAFETY: _exit(2) is always safe to call.
            unsafe { nix::libc::_exit(0) }
        }
        Ok(ForkResult::Parent { child }) => {
            watch(child, leash);
            let _ = waitpid(child, None);
            (stages.leave)();
        }
        Err(e) => tell_failure(say, e),
    }
}

/// Passes on to the first process what comes along the leash, until it has ended.
fn watch(first: Pid, leash: &OwnedFd) {
    let Some(pid) = rustix::process::Pid::from_raw(first.as_raw()) else { return };
    let Ok(ended) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let Ok(mut leash) = leash.try_clone().map(File::from) else { return };
    loop {
        let mut both = [PollFd::new(leash.as_fd(), PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        let polled = poll(&mut both, PollTimeout::NONE);
        let [pulled, over] = both.map(|fd| fd.any() == Some(true));
        if over || polled.is_err_and(|e| e != nix::errno::Errno::EINTR) {
            return;
        }
        if !pulled {
            continue;
        }
        let mut number = [0];
        let signal = match leash.read(&mut number) {
            Ok(1) => Signal::try_from(i32::from(number[0])).ok(),
            _ => Some(Signal::SIGKILL),
        };
        if let Some(signal) = signal {
            let _ = kill(first, signal);
            if signal == Signal::SIGKILL {
                return;
            }
        }
    }
}

/// The first process: enters, starts the command, and takes in orphans until the command has ended.
fn first(stages: &Stages<'_>, signals: &SigSet, say: &mut File, command: &mut Command) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .doing("cannot bind a process to its parent")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
        .doing("cannot make namespaces")?;
    (stages.enter)()?;
    // A command inherits what is held back. Nothing else can end this process: it is the first one.
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(signals), None);
    let child = command.spawn();
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(signals), None);
    let child = Pid::from_raw(child.map_err(|e| not_started(command, &e))?.id().cast_signed());
    tell(say, &Told::Entered);
    let arrived = SignalFd::new(signals).doing("cannot wait for signals")?;
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let raw = match status {
                WaitStatus::Exited(pid, code) if pid == child => code << 8,
                WaitStatus::Signaled(pid, signal, _) if pid == child => signal as i32,
                WaitStatus::StillAlive => break,
                _ => continue,
            };
            tell(say, &Told::Ended(raw));
            return Ok(());
        }
        if let Ok(Some(info)) = arrived.read_signal()
            && let Some(signal) = to_pass_on(&info)
        {
            let _ = kill(child, signal);
        }
    }
}

/// The signal that the command has to be sent: somebody sent it to us alone. What the terminal sent (`si_code` above 0,
/// sigaction(2)), it sent to the command too.
fn to_pass_on(info: &siginfo) -> Option<Signal> {
    let signal = Signal::try_from(info.ssi_signo.cast_signed()).ok()?;
    (info.ssi_code <= 0 && signal != Signal::SIGCHLD).then_some(signal)
}

fn not_started(command: &Command, e: &std::io::Error) -> Error {
    let name = command.get_program().to_string_lossy().into_owned();
    let why = crate::error::plain(e);
    match e.raw_os_error() {
        Some(nix::libc::ENOENT) => Error::not_found(format!("there is no command {name} inside"))
            .hint("name one that the boot environment has, or a path in it"),
        Some(nix::libc::ENOEXEC) => Error::failed(format!("{name} cannot run here: {why}"))
            .hint("is it for another architecture, or a script without its first line?"),
        _ => {
            Error::failed(format!("{name} cannot run here: {why}")).hint("see whether it is a program, and executable")
        }
    }
}
