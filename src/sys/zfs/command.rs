//! Running `zfs` and `zpool`.

use crate::error::{Doing, Error, Result};
use crate::sys::child::tied;
use std::process::{Command, Output, Stdio};

/// Runs a command to its end, whatever comes of it.
pub(super) fn output(program: &str, args: &[&str]) -> Result<Output> {
    // Not every way to become root adds the directories of the system's commands.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin:/sbin";
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").env("PATH", path).stdin(Stdio::null());
    match tied(&mut command).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::failed(format!("{program} is not installed"))
            .hint("install the distribution's OpenZFS tools (Debian and Ubuntu: `apt install zfsutils-linux`)")),
        result => result.doing(format_args!("cannot run {program}")),
    }
}

/// What a command prints, if it succeeds. What is no UTF-8 is read with replacement characters.
pub(super) fn printed(program: &str, args: &[&str]) -> Result<String> {
    let output = output(program, args)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(failed(program, &output)),
    }
}

/// What a command that failed says, as an error of the kind it is.
pub(super) fn failed(program: &str, output: &Output) -> Error {
    let said = String::from_utf8_lossy(&output.stderr);
    // The usage follows after an empty line.
    let said: Vec<&str> = said.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let said = if said.is_empty() { output.status.to_string() } else { said.join("; ") };
    meaning(program, &said)
}

/// What OpenZFS says in words, as an error of the kind it is: libzfs has no numbers for most of it.
pub(super) fn meaning(program: &str, said: &str) -> Error {
    let has = |words: &[&str]| words.iter().any(|w| said.contains(w));
    let message = format!("{program}: {said}");
    if has(&["does not exist", "no such pool", "no such dataset"]) {
        Error::not_found(message).hint("see `zfs list`; `zpool import` names pools that are not imported")
    } else if has(&["is busy", "resource busy"]) {
        Error::busy(message).hint("see `findmnt -t zfs` for where it is mounted, also in containers")
    } else if has(&["modules cannot be auto-loaded", "module is not loaded", "modules are not loaded"]) {
        Error::failed(message).hint("`modprobe zfs`; if there is none for this kernel, install it")
    } else if has(&["ermission denied"]) {
        Error::refused(message).hint("run bootenv as root")
    } else if has(&["read only", "read-only"]) {
        Error::failed(message).hint("import the pool read-write")
    } else if has(&["out of space"]) {
        Error::failed(message).hint("`bootenv destroy` a boot environment or a snapshot, then run this again")
    } else {
        Error::failed(message)
    }
}

/// Waits until what has been destroyed in a pool is free (zpool-wait(8)).
pub fn wait_until_free(pool: &str) -> Result<()> {
    printed("zpool", &["wait", "-t", "free", pool]).map(drop)
}
