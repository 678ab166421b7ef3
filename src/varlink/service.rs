//! The service at a socket. It knows who has connected, holds calls to their limits, and lets each be answered by a process of its own:
//! nothing that a call brings about there reaches another one, and one that takes too long can be ended.
//!
//! There is a service for each zone, so what one uses up is gone for that zone only.

use super::{Call, DESCRIPTION, INTERFACE, LONGEST_CALL, Messages, Reply, SERVICE, request};
use crate::error::{Doing, Error, Result};
use crate::sys::peer::Peer;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How many may be connected at a time; others wait to be.
const MOST_CONNECTIONS: usize = 8;
/// How long a call may take to come, and a reply to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the answer to a call may take. What is cut off is undone or finished by the next one.
const LONGEST_ANSWER: Duration = Duration::from_secs(300);
/// How long a change waits for the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// After so long without a connection the service ends.
const IDLE: Duration = Duration::from_secs(30);
/// How many calls, and how many of those that change something, may come at once, and how many a second after that.
const CALLS: (f64, f64) = (60.0, 20.0);
const CHANGES: (f64, f64) = (20.0, 2.0);

/// Why somebody is turned away.
#[derive(Debug)]
pub struct Deny(pub String);

type Admits = dyn Fn(&Peer) -> Result<(), Deny> + Send + Sync;
type Starts = dyn Fn(&Peer) -> Result<Command> + Send + Sync;

/// A service.
pub struct Service {
    /// Says who is turned away, and why.
    pub admits: Box<Admits>,
    /// What answers a call, which it reads from its standard input, on its standard output.
    pub starts: Box<Starts>,
    /// Tells the administrator of the host.
    pub tell: fn(&str),
}

struct Running {
    service: Service,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    connections: usize,
    /// Whether a change is being made.
    changing: bool,
    calls: Bucket,
    changes: Bucket,
}

impl Service {
    /// Serves until nobody has wanted anything for a while.
    pub fn serve(self, listener: &UnixListener) -> Result<()> {
        let now = Instant::now();
        let state = State {
            connections: 0,
            changing: false,
            calls: Bucket::new(CALLS, now),
            changes: Bucket::new(CHANGES, now),
        };
        let running = Arc::new(Running { service: self, state: Mutex::new(state), changed: Condvar::new() });
        loop {
            drop(running.wait_while(|state| state.connections >= MOST_CONNECTIONS, Duration::MAX));
            if !is_ready(listener.as_fd(), IDLE)? {
                match running.state().connections {
                    0 => return Ok(()),
                    _ => continue,
                }
            }
            // Who has gone again meanwhile is no reason to end; where there are no descriptors left, some come back.
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            running.state().connections += 1;
            let connected = Connected(Arc::clone(&running));
            // Where no thread can be made, the connection is closed.
            let _ = std::thread::Builder::new().spawn(move || connected.0.attend(&stream));
        }
    }
}

/// One that counts as connected.
struct Connected(Arc<Running>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.state().connections -= 1;
        self.0.changed.notify_all();
    }
}

impl Running {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until something is so no more; nothing if it still is after `longest`.
    fn wait_while(&self, holds: impl Fn(&State) -> bool, longest: Duration) -> Option<MutexGuard<'_, State>> {
        let begun = Instant::now();
        let mut state = self.state();
        while holds(&state) {
            let left = longest.checked_sub(begun.elapsed())?.min(Duration::from_secs(60));
            state = self.changed.wait_timeout(state, left).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        Some(state)
    }

    /// Answers whoever has connected until he goes, or until what he says makes no sense any more.
    fn attend(&self, stream: &UnixStream) {
        let peer = Peer::of(stream).map_err(|e| Deny(e.message)).and_then(|peer| {
            (self.service.admits)(&peer)?;
            // If he were gone, what was found out might be another's.
            if peer.is_there() { Ok(peer) } else { Err(Deny("it has gone".into())) }
        });
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let peer = match peer {
            Ok(peer) => peer,
            Err(Deny(why)) => {
                (self.service.tell)(&format!("a connection is turned away: {why}"));
                let _ = Reply::standard("PermissionDenied", json!({})).send(&mut &*stream);
                return;
            }
        };
        let mut messages = Messages::new(stream, LONGEST_CALL, PATIENCE);
        loop {
            match messages.next() {
                Ok(None) => return,
                Ok(Some(message)) => match self.answer(stream, &peer, &message) {
                    Ok(()) => {}
                    Err(_) => return,
                },
                Err(e) => {
                    let _ = Reply::from(&e).send(&mut &*stream);
                    return;
                }
            }
        }
    }

    /// Answers a call. An error ends the connection.
    fn answer(&self, mut stream: &UnixStream, peer: &Peer, message: &[u8]) -> std::io::Result<()> {
        std::thread::sleep(self.state().calls.take(Instant::now()));
        let call = match Call::<IgnoredAny>::parse(message) {
            Ok(call) => call,
            Err(e) => {
                Reply::from(&e).send(&mut stream)?;
                return Err(std::io::ErrorKind::InvalidData.into());
            }
        };
        let reply = |reply: Reply| if call.oneway { Ok(()) } else { reply.send(&mut &*stream) };
        if call.upgrade {
            return reply((&Error::usage("nothing else is spoken here").hint("leave `upgrade` out")).into());
        }
        let ours = call.method.strip_prefix(INTERFACE).and_then(|rest| rest.strip_prefix('.'));
        let Some(changes) = ours.and_then(request::changes) else {
            return reply(introspect(&call.method, message));
        };
        let Ok(_turn) = self.turn(changes) else {
            let busy = Error::busy("another change is being made").hint("wait until it is done, then try again");
            return reply((&busy).into());
        };
        match self.let_answer(stream, peer, message, call.oneway) {
            Ok(()) => Ok(()),
            Err(e) => {
                (self.service.tell)(&format!("{}: {}", call.method, e.message));
                let failed = Error::failed("the host could not answer").hint("its journal tells why");
                reply((&failed).into())?;
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    /// Waits until it is a call's turn.
    fn turn(&self, changes: bool) -> Result<Option<Turn<'_>>, ()> {
        if !changes {
            return Ok(None);
        }
        let mut state = self.wait_while(|state| state.changing, LONGEST_WAIT).ok_or(())?;
        state.changing = true;
        let pause = state.changes.take(Instant::now());
        drop(state);
        let turn = Turn(self);
        std::thread::sleep(pause);
        Ok(Some(turn))
    }

    /// Lets a process answer a call, and waits for its end.
    fn let_answer(&self, stream: &UnixStream, peer: &Peer, message: &[u8], oneway: bool) -> Result<()> {
        let mut command = (self.service.starts)(peer)?;
        let out = match oneway {
            true => Stdio::null(),
            false => OwnedFd::from(stream.try_clone().doing("cannot pass the connection on")?).into(),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(out).spawn().doing("cannot start a process")?;
        // It reads all of that before it does anything else, and a pipe holds as much.
        let told = child.stdin.take().map(|mut to| to.write_all(message));
        let ended = within(&mut child, LONGEST_ANSWER);
        let _ = child.kill();
        let status = child.wait().doing("cannot wait for a process")?;
        told.transpose().doing("cannot pass the call on")?;
        match (ended?, status.success()) {
            (false, _) => Err(Error::failed(format!("it took longer than {} s", LONGEST_ANSWER.as_secs()))),
            (true, false) => Err(Error::failed(format!("what answers has ended: {status}"))),
            (true, true) => Ok(()),
        }
    }
}

/// The right to change something.
struct Turn<'r>(&'r Running);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().changing = false;
        self.0.changed.notify_all();
    }
}

/// Whether there is something to read within a time.
fn is_ready(fd: std::os::fd::BorrowedFd<'_>, within: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
        Err(nix::errno::Errno::EINTR) => Ok(false),
        ready => Ok(ready.doing("cannot wait")? > 0),
    }
}

/// Whether a process has ended within a time.
fn within(child: &mut Child, longest: Duration) -> Result<bool> {
    let pid = rustix::process::Pid::from_child(child);
    let handle =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).doing("cannot watch a process")?;
    let until = Instant::now() + longest;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || is_ready(handle.as_fd(), left)? {
            return Ok(!left.is_zero());
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interface {
    interface: String,
}

/// The reply to a call of the interface that every service has, or of a method that there is not.
fn introspect(method: &str, message: &[u8]) -> Reply {
    let info = json!({
        "vendor": "bootenv",
        "product": "bootenv",
        "version": env!("CARGO_PKG_VERSION"),
        "url": "man:bootenv-varlink(8)",
        "interfaces": [INTERFACE, SERVICE.0],
    });
    match method.strip_prefix(SERVICE.0) {
        Some(".GetInfo") => Reply::of(info),
        Some(".GetInterfaceDescription") => {
            let interface =
                Call::<Interface>::parse(message).ok().and_then(|call| call.parameters).map(|p| p.interface);
            match interface.as_deref() {
                None => Reply::standard("InvalidParameter", json!({"parameter": "interface"})),
                Some(INTERFACE) => Reply::of(json!({"description": DESCRIPTION})),
                Some(name) if name == SERVICE.0 => Reply::of(json!({"description": SERVICE.1})),
                Some(name) => Reply::standard("InterfaceNotFound", json!({"interface": name})),
            }
        }
        _ => Reply::no_such_method(method),
    }
}

/// So many at once, and so many a second after that.
struct Bucket {
    most: f64,
    each_second: f64,
    left: f64,
    at: Instant,
}

impl Bucket {
    fn new((most, each_second): (f64, f64), now: Instant) -> Bucket {
        Bucket { most, each_second, left: most, at: now }
    }

    /// Takes one, and says how long to wait for it.
    fn take(&mut self, now: Instant) -> Duration {
        let came = now.duration_since(self.at).as_secs_f64() * self.each_second;
        self.left = (self.left + came).min(self.most) - 1.0;
        self.at = now;
        Duration::from_secs_f64((-self.left / self.each_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_one_after_the_other() {
        let now = Instant::now();
        let mut bucket = Bucket::new((3.0, 2.0), now);
        let waits: Vec<u128> = (0..5).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        assert_eq!(bucket.take(now + Duration::from_secs(60)), Duration::ZERO);
        assert_eq!((bucket.left, bucket.most), (2.0, 3.0));
    }

    #[test]
    fn every_method_is_known_to_change_or_not() {
        for method in request::METHODS {
            assert!(request::changes(method).is_some(), "{method}");
        }
        assert_eq!(request::changes("Mount"), None);
    }
}
