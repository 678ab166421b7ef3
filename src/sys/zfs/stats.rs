//! What the kernel tells of one dataset in one call: all properties that it has, with where each comes from; and what lies right below.
//!
//! zfs(8) reads datasets by the same calls. A channel program asks for one property at a time, each of which opens the dataset anew, and
//! libzfs takes longer to open than all of it.
//!
//! Interface: `ZFS_IOC_OBJSET_STATS` and `ZFS_IOC_DATASET_LIST_NEXT` of `/dev/zfs` (sys/fs/zfs.h: "These numbers cannot change over
//! time"), which take a `zfs_cmd_t` (sys/zfs_ioctl.h). Only the beginning of that is used, which is the same in all versions since OpenZFS
//! 0.6; a version that is not so would give an error, or no identity, or the same child for ever, and each is told.

#![allow(unsafe_code)]

use super::datasets::{Kind, Set, is_own};
use super::errors::{Act, told};
use super::lzc::Lzc;
use super::nvlist::{Inside, List, Nvlist, Value, c_string};
use super::properties::decode;
use crate::error::{Error, Result};
use nix::libc;
use std::ffi::{CStr, c_ulong};
use std::os::fd::AsRawFd;

const OBJSET_STATS: c_ulong = 0x5a12;
const DATASET_LIST_NEXT: c_ulong = 0x5a14;
/// Where the words are of a `zfs_cmd_t` after its name (`MAXPATHLEN` bytes).
const NAME: usize = 4096;
const DST: usize = NAME / 8 + 2;
const DST_SIZE: usize = NAME / 8 + 3;
/// Behind two flags, an address, two paths, a name, an identity, and another address with its size.
const COOKIE: usize = NAME / 8 + 4 + 1 + 1 + (2 * 4096 + 256) / 8 + 3;
/// The whole of it has less than 14 KiB.
const COMMAND: usize = 32 << 10;
/// Enough for everything but many long user properties.
const ANSWER: usize = 32 << 10;
/// `DMU_OST_ZVOL`
const VOLUME: u64 = 3;

/// What is known of a dataset or snapshot.
#[derive(Debug)]
pub struct Stats {
    /// Its full name.
    pub name: String,
    /// Its identity in the pool.
    pub guid: u64,
    properties: Nvlist,
}

/// A `zfs_cmd_t`.
struct Command(Vec<u64>);

impl Command {
    /// About a dataset, if it has a name that a dataset may have.
    fn about(name: &CStr) -> Option<Command> {
        let mut words = vec![0; COMMAND / 8];
        for (word, bytes) in words[..NAME / 8].iter_mut().zip(name.to_bytes().chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(whole);
        }
        (name.count_bytes() < NAME).then_some(Command(words))
    }

    /// The name that it is about by now.
    fn name(&self) -> String {
        let bytes: Vec<u8> =
            self.0[..NAME / 8].iter().flat_map(|word| word.to_ne_bytes()).take_while(|b| *b != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Makes the call, which puts what it has to tell into `answer`, unless that is empty. Fails with the errno.
    fn call(&mut self, lzc: &Lzc, number: c_ulong, answer: &mut [u64]) -> std::result::Result<(), i32> {
        self.0[DST] = if answer.is_empty() { 0 } else { answer.as_mut_ptr() as u64 };
        self.0[DST_SIZE] = size_of_val(answer) as u64;
        // SAFETY: the kernel writes to these two, which are larger than what it writes to the first and as large as it was told of the
        // second.
        let done = unsafe { libc::ioctl(lzc.device.as_raw_fd(), number, self.0.as_mut_ptr()) };
        nix::errno::Errno::result(done).map(drop).map_err(|e| e as i32)
    }
}

impl Lzc {
    /// What is known of a dataset or snapshot; nothing if it is not there.
    pub fn stats(&self, name: &str) -> Result<Option<Stats>> {
        let raw = c_string(name)?;
        let mut answer = vec![0u64; ANSWER / 8];
        loop {
            let Some(mut command) = Command::about(&raw) else { return Ok(None) };
            match command.call(self, OBJSET_STATS, &mut answer) {
                Ok(()) => {
                    let told = usize::try_from(command.0[DST_SIZE]).unwrap_or(0).div_ceil(8).min(answer.len());
                    let properties = Nvlist::unpacked(&answer[..told])?;
                    let guid = number(properties.inside(), c"guid").ok_or_else(|| odd(name))?;
                    return Ok(Some(Stats { name: name.into(), guid, properties }));
                }
                Err(libc::ENOENT | libc::ESRCH) => return Ok(None),
                Err(libc::ENOMEM) if answer.len() < (64 << 20) => answer = vec![0; answer.len() * 4],
                Err(errno) => return Err(told(Act::Read, name, errno)),
            }
        }
    }

    /// The datasets right below one, named in full, in no order; none if it is not there.
    pub fn children(&self, name: &str) -> Result<Vec<String>> {
        let raw = c_string(name)?;
        let (mut found, mut cookie) = (Vec::new(), 0);
        loop {
            let Some(mut command) = Command::about(&raw) else { return Ok(found) };
            command.0[COOKIE] = cookie;
            match command.call(self, DATASET_LIST_NEXT, &mut []) {
                // It counts on, or it is not where it is looked for.
                Ok(()) if command.0[COOKIE] == cookie => return Err(odd(name)),
                Ok(()) => found.push(command.name()),
                Err(libc::ENOENT | libc::ESRCH) => return Ok(found),
                Err(errno) => return Err(told(Act::Read, name, errno)),
            }
            cookie = command.0[COOKIE];
        }
    }
}

fn odd(name: &str) -> Error {
    Error::failed(format!("what the OpenZFS module tells of {name} makes no sense"))
        .hint("it is of a version that this bootenv does not know: update bootenv")
}

fn number(all: Inside<'_>, property: &CStr) -> Option<u64> {
    all.list(property)?.number(c"value")
}

impl Stats {
    fn all(&self) -> Inside<'_> {
        self.properties.inside()
    }

    /// A native property that is a number, or one of a choice.
    pub fn number(&self, property: &CStr) -> Option<u64> {
        number(self.all(), property)
    }

    /// A native property that is text.
    pub fn text(&self, property: &CStr) -> Option<String> {
        self.all().list(property)?.text(c"value")
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.number(c"type") {
            _ if self.name.contains('@') => Kind::Snapshot,
            Some(VOLUME) => Kind::Volume,
            _ => Kind::Filesystem,
        }
    }

    /// Whether its property `readonly` is on.
    pub fn is_readonly(&self) -> bool {
        self.number(c"readonly") == Some(1)
    }

    /// A user property that is set on it itself, or came with it, not inherited; decoded ([`decode`]).
    pub fn user(&self, property: &str) -> Option<String> {
        self.user_from(property, &self.name)
    }

    /// A user property that is set on the dataset `origin`, which is it itself or one above it; decoded ([`decode`]).
    pub fn user_from(&self, property: &str, origin: &str) -> Option<String> {
        let found = self.all().list(&c_string(property).ok()?)?;
        let source = found.text(c"source")?;
        let comes = if origin == self.name { is_own(origin, &source) } else { source == origin };
        comes.then(|| found.text(c"value").map(|value| decode(&value)))?
    }

    /// The properties that are set on it itself, or came with it when it was received.
    pub fn set(&self) -> Set {
        let own = |(property, found): (String, Value)| {
            let found = found.list()?;
            is_own(&self.name, found.get("source")?.text()?).then(|| Some((property, found.get("value")?.clone())))?
        };
        Set { kind: self.kind(), properties: self.all().read().into_iter().filter_map(own).collect::<List>() }
    }
}
