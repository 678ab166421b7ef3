//! The other end: a zone that administers its own BEs.

use super::{Call, INSIDE, INTERFACE, Messages, Reply, Request, send};
use crate::error::{Doing, Error, Kind, Result};
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The longest reply, in bytes.
const LONGEST_REPLY: usize = 16 << 20;
/// How long the host may take.
const PATIENCE: Duration = Duration::from_secs(360);

/// A connection to the host.
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Whether there is a host to connect to.
    pub fn is_inside() -> bool {
        Path::new(INSIDE).exists()
    }

    /// Connects.
    pub fn connect() -> Result<Client> {
        let stream = UnixStream::connect(INSIDE).map_err(|e| {
            let why = crate::error::plain(&e);
            Error::failed(format!("the host does not answer at {INSIDE}: {why}"))
                .hint("its administrator sees why: `systemctl status 'bootenv-inside@*'`")
        })?;
        Ok(Client { stream })
    }

    /// Asks for something that is answered once.
    pub fn call<R: Request>(&self, request: R) -> Result<Value> {
        let mut told = Value::Null;
        self.ask(request, false, &mut |reply| told = reply)?;
        Ok(told)
    }

    /// Asks for something that is answered in as many replies as it takes.
    pub fn call_more<R: Request>(&self, request: R, each: &mut dyn FnMut(Value)) -> Result<()> {
        self.ask(request, true, each)
    }

    fn ask<R: Request>(&self, request: R, more: bool, each: &mut dyn FnMut(Value)) -> Result<()> {
        let method = format!("{INTERFACE}.{}", R::METHOD);
        let call = Call { method, parameters: Some(request), oneway: false, more, upgrade: false };
        // If the host wants to hear nothing, it has said why.
        let sent = send(&call, &mut &self.stream);
        let mut messages = Messages::new(&self.stream, LONGEST_REPLY, PATIENCE);
        loop {
            let Some(message) = messages.next()? else {
                sent.doing("the host hangs up")?;
                return Err(Error::failed("the host has hung up").hint("try again; its journal tells why"));
            };
            let reply: Reply = serde_json::from_slice(&message)
                .map_err(|e| Error::failed(format!("the host's answer cannot be understood: {e}")))?;
            if let Some(error) = reply.error {
                return Err(error_of(&error, &reply.parameters));
            }
            each(reply.parameters);
            if !(more && reply.continues) {
                return Ok(());
            }
        }
    }
}

/// The error that the host has told.
fn error_of(name: &str, told: &Value) -> Error {
    let kind = match name.strip_prefix(INTERFACE) {
        Some(".Failed") => Kind::Failed,
        Some(".Usage") => Kind::Usage,
        Some(".Refused") => Kind::Refused,
        Some(".NotFound") => Kind::NotFound,
        Some(".Busy") => Kind::Busy,
        _ if name.ends_with(".PermissionDenied") => {
            return Error::refused("the host lets only root of this container administer its boot environments")
                .hint("run bootenv as root of the container itself, not of one inside it");
        }
        _ if name.ends_with(".MethodNotFound") => {
            return Error::refused("the bootenv of the host cannot do that")
                .hint("it is older than this one: the administrator of the host can upgrade it");
        }
        _ => return Error::failed(format!("the host says {name}: {told}")),
    };
    let text = |field: &str| told[field].as_str().map(str::to_string);
    let error = Error::new(kind, text("message").unwrap_or_else(|| json!(told).to_string()));
    Error { hint: text("hint"), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_what_they_were() {
        for kind in [Kind::Failed, Kind::Usage, Kind::Refused, Kind::NotFound, Kind::Busy] {
            let was = Error::new(kind, "it is so").hint("do that");
            let reply = Reply::from(&was);
            let is = error_of(&reply.error.unwrap(), &reply.parameters);
            assert_eq!((is.kind, is.message, is.hint), (kind, "it is so".to_string(), Some("do that".to_string())));
        }
        assert_eq!(error_of("org.varlink.service.PermissionDenied", &json!({})).kind, Kind::Refused);
        assert!(error_of("x", &json!({"y": 1})).message.contains("{\"y\":1}"));
    }
}
