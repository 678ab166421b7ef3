//! `io.bootenv`: boot environments over a socket, by Varlink (varlink.org). A message is a JSON object with a NUL behind it.
//!
//! What comes from a socket may be anything. So a call has a longest size and a latest end, a key that is there twice or that nobody
//! knows is an error, and what is wanted of the store is text that the verbs themselves take apart.

mod client;
mod request;
mod service;

pub use client::Client;
pub use request::{Activate, Create, Describe, Destroy, List, Pin, Rename, Rollback};
pub use request::{Activation, Diff, DiffPackages, Request, Status};
pub use service::{Deny, Service};

use crate::error::{Doing, Error, Kind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The interface.
pub const INTERFACE: &str = "io.bootenv";

/// What it is, for introspection and for programs that are written for it.
pub const DESCRIPTION: &str = include_str!("io.bootenv.varlink");

/// The interface that every service has, and what it is.
const SERVICE: (&str, &str) = ("org.varlink.service", include_str!("org.varlink.service.varlink"));

/// Where a zone finds the socket that its own BEs are administered by.
pub const INSIDE: &str = "/run/bootenv-host/io.bootenv";

/// The longest call, in bytes: the longest names and texts that the verbs take, several times over.
const LONGEST_CALL: usize = 64 << 10;

/// A call.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call<P> {
    /// Interface and method.
    pub method: String,
    /// What it is told.
    pub parameters: Option<P>,
    /// Whether no reply is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oneway: bool,
    /// Whether several replies may come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Whether something else is to be spoken from here on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
}

impl<P: DeserializeOwned> Call<P> {
    /// Takes a message apart.
    pub fn parse(message: &[u8]) -> Result<Call<P>> {
        serde_json::from_slice(message).map_err(|e| {
            Error::usage(format!("the call cannot be understood: {e}"))
                .hint("`varlinkctl introspect` tells what can be called, and how")
        })
    }
}

/// A reply: parameters, or an error and what there is to say of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    /// The error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is told.
    #[serde(default)]
    pub parameters: Value,
    /// Whether another reply comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continues: bool,
}

impl Reply {
    /// What was asked for.
    pub fn of(parameters: Value) -> Reply {
        Reply { error: None, parameters, continues: false }
    }

    /// An error of the interface that every service has.
    fn standard(error: &str, parameters: Value) -> Reply {
        Reply { error: Some(format!("{}.{error}", SERVICE.0)), parameters, continues: false }
    }

    /// The reply to a call of a method that there is not.
    pub fn no_such_method(method: &str) -> Reply {
        match method.rsplit_once('.') {
            Some((interface, _)) if interface != INTERFACE && interface != SERVICE.0 => {
                Reply::standard("InterfaceNotFound", json!({"interface": interface}))
            }
            _ => Reply::standard("MethodNotFound", json!({"method": method})),
        }
    }

    /// The reply to a call that can only be answered in several, if it does not want them.
    pub fn expected_more() -> Reply {
        Reply::standard("ExpectedMore", json!({}))
    }

    /// Sends it.
    pub fn send(&self, to: &mut impl Write) -> std::io::Result<()> {
        send(self, to)
    }
}

impl From<&Error> for Reply {
    fn from(error: &Error) -> Reply {
        let name = match error.kind {
            Kind::Failed => "Failed",
            Kind::Usage => "Usage",
            Kind::Refused => "Refused",
            Kind::NotFound => "NotFound",
            Kind::Busy => "Busy",
        };
        let told = json!({"kind": error.kind.as_str(), "message": error.message, "hint": error.hint});
        Reply { error: Some(format!("{INTERFACE}.{name}")), parameters: told, continues: false }
    }
}

/// The kinds of packages in which two roots differ.
const PACKAGES: [&str; 3] = ["added", "removed", "changed"];

/// Packages as the interface has them, in which there are no lists of lists.
pub fn name_packages(document: &mut Value) {
    each_package(document, |package| match package.as_array().and_then(|words| words.split_first()) {
        Some((name, versions)) => json!({"name": name, "versions": versions}),
        None => package.take(),
    });
}

/// The same back again.
pub fn list_packages(document: &mut Value) {
    each_package(document, |package| {
        let versions = package["versions"].as_array().into_iter().flatten();
        [&package["name"]].into_iter().chain(versions).cloned().collect()
    });
}

fn each_package(document: &mut Value, turn: impl Fn(&mut Value) -> Value) {
    for kind in PACKAGES {
        let packages = document["packages"][kind].as_array_mut();
        packages.into_iter().flatten().for_each(|package| *package = turn(package));
    }
}

fn send(message: &impl Serialize, to: &mut impl Write) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(0);
    to.write_all(&bytes)?;
    to.flush()
}

/// The messages that come from a connection.
struct Messages<'s> {
    stream: &'s UnixStream,
    longest: usize,
    patience: Duration,
    /// What has come and is not a whole message yet.
    begun: Vec<u8>,
}

impl<'s> Messages<'s> {
    fn new(stream: &'s UnixStream, longest: usize, patience: Duration) -> Self {
        Messages { stream, longest, patience, begun: Vec::new() }
    }

    /// The next one, whole; nothing if there are no more. However slowly it comes, it has to be there in time.
    fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let until = Instant::now() + self.patience;
        let mut looked_at = 0;
        loop {
            if let Some(end) = memchr::memchr(0, &self.begun[looked_at..]).map(|at| looked_at + at) {
                let mut message: Vec<u8> = self.begun.drain(..=end).collect();
                message.pop();
                return Ok(Some(message));
            }
            looked_at = self.begun.len();
            if looked_at >= self.longest {
                return Err(Error::usage(format!("a message is longer than {} bytes", self.longest))
                    .hint("no call needs as much"));
            }
            let late = || Error::usage(format!("no whole message came within {} s", self.patience.as_secs()));
            let left = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or_else(late)?;
            self.stream.set_read_timeout(Some(left)).doing("cannot wait for a message")?;
            let mut piece = [0; 4096];
            let room = piece.len().min(self.longest - looked_at);
            match (&mut &*self.stream).read(&mut piece[..room]) {
                Ok(0) => return Ok(None),
                Ok(some) => self.begun.extend_from_slice(&piece[..some]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(late()),
                Err(e) => return Err(e).doing("the connection broke"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn messages(sent: &[u8], longest: usize) -> Vec<Result<Option<Vec<u8>>, String>> {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(sent).unwrap();
        drop(here);
        let mut messages = Messages::new(&there, longest, Duration::from_millis(200));
        let mut all = Vec::new();
        loop {
            let next = messages.next().map_err(|e| e.message);
            let last = !matches!(next, Ok(Some(_)));
            all.push(next);
            if last {
                return all;
            }
        }
    }

    #[test]
    fn messages_end_with_a_nul() {
        assert_eq!(
            messages(b"a\0bc\0\0d", 9),
            [Ok(Some(b"a".to_vec())), Ok(Some(b"bc".to_vec())), Ok(Some(Vec::new())), Ok(None)]
        );
    }

    #[test]
    fn what_has_no_end_is_not_read_on() {
        assert!(messages(&[b'x'; 100], 64)[0].as_ref().is_err_and(|e| e.contains("longer than 64")));
        let (_here, there) = UnixStream::pair().unwrap();
        let slow = Messages::new(&there, 64, Duration::from_millis(50)).next();
        assert!(slow.unwrap_err().message.contains("no whole message"));
    }

    #[test]
    fn keys_that_are_there_twice_or_unknown_are_errors() {
        let parse = |text: &str| Call::<Map<String, Value>>::parse(text.as_bytes()).map(|call| call.method);
        assert_eq!(parse(r#"{"method": "io.bootenv.List"}"#).unwrap(), "io.bootenv.List");
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"method": 1}"#,
            r#"{"method": "a", "method": "b"}"#,
            r#"{"method": "a", "zone": "db"}"#,
            r#"{"method": "a", "more": "yes"}"#,
            r#"{"method": "a"} {}"#,
            &"[".repeat(10_000),
            &format!(r#"{{"method": "a", "parameters": {{"x": {}"#, "[".repeat(10_000)),
        ] {
            assert_eq!(parse(bad).unwrap_err().kind, Kind::Usage, "{bad:.60}");
        }
    }

    #[test]
    fn what_can_be_called_is_described() {
        for method in request::METHODS {
            assert!(DESCRIPTION.contains(&format!("\nmethod {method}(")), "{method}");
        }
        assert_eq!(DESCRIPTION.matches("\nmethod ").count(), request::METHODS.len());
    }
}
