//! Copying trees with `cp` and `tar`: both keep owners, modes, ACLs, extended attributes, hard links, holes,
//! sockets and times, and `cp` reflinks where the filesystem can. We only watch and count.

use super::child::tied;
use crate::error::{Doing, Error, Result};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Told how far a copy has come.
pub trait Progress {
    /// `what` begins; `total` units are to come, 0 if unknown.
    fn begin(&mut self, what: &str, total: u64);
    /// So many units are done in all.
    fn at(&mut self, done: u64);
    /// It is over.
    fn end(&mut self);
}

/// Nobody watches.
#[derive(Debug)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn begin(&mut self, _: &str, _: u64) {}
    fn at(&mut self, _: u64) {}
    fn end(&mut self) {}
}

/// Counts what is below `path`, itself included, without following symlinks or leaving the filesystem's tree.
pub fn count(path: &Path) -> u64 {
    let mut total = 1;
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten() {
            total += match entry.file_type() {
                Ok(kind) if kind.is_dir() => count(&entry.path()),
                _ => 1,
            };
        }
    }
    total
}

/// Copies `sources` (files or directories) into the directory `into`, under their own names, in one go so
/// that hard links between them are kept.
pub fn into_dir(sources: &[impl AsRef<Path>], into: &Path, what: &str, progress: &mut dyn Progress) -> Result<()> {
    if sources.is_empty() {
        return Ok(());
    }
    let total = sources.iter().map(|s| count(s.as_ref())).sum();
    let mut command = cp();
    command.arg("-t").arg(into).arg("--").args(sources.iter().map(|s| s.as_ref().as_os_str()));
    counted(command, what, total, progress)
}

/// Copies the content of the directory `from` into the directory `into`, and gives `into` its owner, mode and times.
pub fn contents(from: &Path, into: &Path, what: &str, progress: &mut dyn Progress) -> Result<()> {
    let total = count(from);
    let mut command = cp();
    command.arg("-T").arg("--").arg(from).arg(into);
    counted(command, what, total, progress)
}

fn cp() -> Command {
    let mut command = Command::new("cp");
    // --one-file-system does not stop at subvolumes we want, so it is not used: callers name what they copy.
    command.args(["--archive", "--verbose", "--reflink=auto", "--sparse=auto"]);
    command
}

/// Runs a command that prints a line for every file it is done with.
fn counted(mut command: Command, what: &str, total: u64, progress: &mut dyn Progress) -> Result<()> {
    let mut child = tied(&mut command)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .doing(format_args!("cannot run {}", command.get_program().display()))?;
    progress.begin(what, total);
    let errors = child.stderr.take().map(|stderr| std::thread::spawn(move || first_lines(stderr)));
    let mut done = 0;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            line.clear();
            done += 1;
            if done % 64 == 0 {
                progress.at(done);
            }
        }
    }
    finish(child, what, errors, progress)
}

/// Unpacks a tar, of any compression that `tar` knows, into the directory `into`.
pub fn untar(archive: &Path, into: &Path, what: &str, progress: &mut dyn Progress) -> Result<()> {
    let mut file = std::fs::File::open(archive).doing_to("open", archive)?;
    let total = file.metadata().doing_to("open", archive)?.len();
    let mut head = [0u8; 6];
    let got = file.read(&mut head).doing_to("read", archive)?;
    let file = std::fs::File::open(archive).doing_to("open", archive)?;
    let mut command = Command::new("tar");
    command.args([
        "--extract",
        "--preserve-permissions",
        "--numeric-owner",
        "--acls",
        "--xattrs",
        "--xattrs-include=*",
    ]);
    command.args(compression(&head[..got])).arg("--directory").arg(into).arg("--file=-");
    let mut child = tied(&mut command)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .doing("cannot run tar")?;
    progress.begin(what, total);
    let errors = child.stderr.take().map(|stderr| std::thread::spawn(move || first_lines(stderr)));
    if let Some(mut stdin) = child.stdin.take() {
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut done = 0;
        loop {
            let chunk = reader.fill_buf().doing_to("read", archive)?;
            // A tar that ended early says why itself.
            if chunk.is_empty() || stdin.write_all(chunk).is_err() {
                break;
            }
            let n = chunk.len();
            reader.consume(n);
            done += n as u64;
            progress.at(done);
        }
    }
    finish(child, what, errors, progress)
}

/// tar cannot seek on a pipe to find out how its input is compressed, so it is told.
fn compression(head: &[u8]) -> Option<&'static OsStr> {
    let option = match head {
        [0x1f, 0x8b, ..] => "--gzip",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "--xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "--zstd",
        [b'B', b'Z', b'h', ..] => "--bzip2",
        _ => return None,
    };
    Some(OsStr::new(option))
}

fn first_lines(stderr: impl Read) -> String {
    let lines: Vec<String> = BufReader::new(stderr).lines().map_while(|l| l.ok()).collect();
    lines.into_iter().take(3).collect::<Vec<_>>().join("; ")
}

fn finish(
    mut child: std::process::Child,
    what: &str,
    errors: Option<std::thread::JoinHandle<String>>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let status = child.wait().doing(format_args!("cannot {what}"))?;
    let errors = errors.and_then(|e| e.join().ok()).unwrap_or_default();
    progress.end();
    if status.success() {
        return Ok(());
    }
    let error = Error::failed(format!(
        "cannot {what}: {}",
        if errors.is_empty() { status.to_string() } else { errors.clone() }
    ));
    Err(match errors.contains("No space left on device") {
        true => error.hint("the store is full: make it larger, or destroy a boot environment first"),
        false if what.starts_with("unpack") => error.hint("is it a tar of a root, and whole? `tar -tf` on it tells"),
        false => error,
    })
}
