//! Processes: which one it is, what it was started with, and whether this one may change what is mounted (proc(5)).

use crate::error::{Doing, Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Another process.
#[derive(Debug, Clone)]
pub struct Process {
    /// No other one has it, now or at any other time, on this machine.
    pub identity: String,
    /// Its command and arguments.
    pub command: Vec<OsString>,
}

impl Process {
    /// Reads one that runs.
    pub fn read(pid: u32) -> Result<Process> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let read = |path: &Path| std::fs::read(path).doing_to("read", path);
        let stat = read(&dir.join("stat"))?;
        // The name of the command may be anything, in parentheses; the start time is the twentieth field after it.
        let stat = String::from_utf8_lossy(&stat);
        let started = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(19));
        let started = started.ok_or_else(|| Error::failed(format!("{}/stat says nothing", dir.display())))?;
        let boot = read(Path::new("/proc/sys/kernel/random/boot_id"))?;
        let boot = String::from_utf8_lossy(&boot);
        let command = read(&dir.join("cmdline"))?;
        let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(Process {
            identity: format!("{} {pid} {started}", boot.trim()),
            command: words.map(|word| OsString::from_vec(word.to_vec())).collect(),
        })
    }
}

/// Whether this process has another root than the system: in a chroot, or where it may mount nothing (a container,
/// `bootenv run`).
pub fn is_inside() -> bool {
    use rustix::thread::CapabilitySet;
    let sets = rustix::thread::capabilities(None);
    let same = |one: &str, other: &str| {
        let [one, other] = [one, other].map(|path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino)));
        matches!((one, other), (Ok(one), Ok(other)) if one == other)
    };
    let is_chroot = same("/proc/1/ns/mnt", "/proc/self/ns/mnt") && !same("/proc/1/root", "/");
    is_chroot || !sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}
