//! What can go wrong, told in one shape: a kind (which decides the exit status), a message, and the repair.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. It decides the exit status and the `kind` of the JSON error document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Something was tried and failed (exit status 1).
    Failed,
    /// The request itself is malformed (exit status 2).
    Usage,
    /// The request was understood and refused; nothing changed (exit status 3).
    Refused,
    /// There is no such BE, snapshot or zone (exit status 4).
    NotFound,
    /// Another bootenv works on the store, or what is asked about is mounted (exit status 5).
    Busy,
}

impl Kind {
    /// The exit status of the process, from the manual's table.
    pub fn exit_status(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
            Kind::NotFound => 4,
            Kind::Busy => 5,
        }
    }

    /// The name used in `--json` errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::Refused => "refused",
            Kind::NotFound => "not_found",
            Kind::Busy => "busy",
        }
    }
}

/// An error: what happened, and what to do about it.
#[derive(Debug)]
pub struct Error {
    /// The kind, which decides the exit status.
    pub kind: Kind,
    /// What happened, with the path or name it happened to.
    pub message: String,
    /// What to do instead, if there is something to do.
    pub hint: Option<String>,
    /// The operating system's error number behind it, if there is one (errno(3)).
    pub errno: Option<i32>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, errno: None }
    }

    /// Something was tried and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The request is malformed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The request is refused and nothing changed.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// What was named does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// What is needed is in use.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(Kind::Busy, message)
    }

    /// Whether the filesystem is full.
    pub fn is_full(&self) -> bool {
        matches!(self.errno, Some(nix::libc::ENOSPC | nix::libc::EDQUOT))
    }

    /// The same error with the repair named.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// It in one line: message and repair.
    pub fn in_a_line(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}: {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// The same error, said to have happened while doing `what`.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Turns an operating-system error into one of ours, naming what was being done and the repair the errno suggests.
pub trait Doing<T> {
    /// `what` says what was tried, with the path: "cannot read /etc/fstab".
    fn doing(self, what: impl fmt::Display) -> Result<T>;
    /// `doing` with a path.
    fn doing_to(self, what: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| {
            let e: std::io::Error = e.into();
            let mut error = Error::failed(format!("{what}: {}", plain(&e)));
            error.errno = e.raw_os_error();
            match e.raw_os_error() {
                Some(nix::libc::ENOSPC) | Some(nix::libc::EDQUOT) => error
                    .hint("the filesystem is full: `bootenv destroy` a boot environment or a snapshot, then run this again"),
                Some(nix::libc::EROFS) => {
                    error.hint("the filesystem is read-only: mount it read-write (`mount -o remount,rw`) and look into `dmesg` for the reason")
                }
                Some(nix::libc::EPERM) | Some(nix::libc::EACCES) if !nix::unistd::geteuid().is_root() => {
                    error.hint("run bootenv as root")
                }
                _ => error,
            }
        })
    }

    fn doing_to(self, what: &str, path: &Path) -> Result<T> {
        self.doing(format_args!("cannot {what} {}", path.display()))
    }
}

/// The operating system's words, as every other tool prints them.
pub fn plain(e: &std::io::Error) -> String {
    match e.raw_os_error() {
        Some(code) => nix::errno::Errno::from_raw(code).desc().to_string(),
        None => e.to_string(),
    }
}
