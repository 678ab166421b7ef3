//! What the kernel tells of one dataset in one call: all properties that it has, with where each comes from.
//!
//! zfs(8) reads datasets by the same call. A channel program asks for one property at a time, each of which opens the dataset anew, and
//! libzfs takes longer to open than all of it.
//!
//! Interface: `ZFS_IOC_OBJSET_STATS` of `/dev/zfs` (sys/fs/zfs.h: "These numbers cannot change over time"), which takes a `zfs_cmd_t`
//! (sys/zfs_ioctl.h). Only the beginning of that is used, which is the same in all versions since OpenZFS 0.6; a version that is not so
//! would give an error or no identity, and either is told.

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
/// Where the words are of a `zfs_cmd_t` after its name (`MAXPATHLEN` bytes).
const NAME: usize = 4096;
const DST: usize = NAME / 8 + 2;
const DST_SIZE: usize = NAME / 8 + 3;
/// The whole of it has less than 14 KiB. What is not touched of this is no memory.
const COMMAND: usize = 128 << 10;
/// Enough for everything but many long user properties.
const ANSWER: usize = 128 << 10;
/// `DMU_OST_ZVOL`
const VOLUME: u64 = 3;

/// What is known of a dataset or snapshot.
#[derive(Debug)]
pub struct Stats {
    name: String,
    /// Its identity in the pool.
    pub guid: u64,
    properties: Nvlist,
}

impl Lzc {
    /// What is known of a dataset or snapshot; nothing if it is not there.
    pub fn stats(&self, name: &str) -> Result<Option<Stats>> {
        let raw = c_string(name)?;
        if raw.as_bytes().len() >= NAME {
            return Ok(None);
        }
        let mut answer = vec![0u64; ANSWER / 8];
        loop {
            let mut command = vec![0u64; COMMAND / 8];
            for (word, bytes) in command.iter_mut().zip(raw.as_bytes().chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_ne_bytes(whole);
            }
            command[DST] = answer.as_mut_ptr() as u64;
            command[DST_SIZE] = (answer.len() * 8) as u64;
            // SAFETY: the kernel writes to these two, which are larger than what it writes to the first and as large as it was told of
            // the second.
            let done = unsafe { libc::ioctl(self.device.as_raw_fd(), OBJSET_STATS, command.as_mut_ptr()) };
            match nix::errno::Errno::result(done).map_err(|e| e as i32) {
                Ok(_) => {
                    let told = usize::try_from(command[DST_SIZE]).unwrap_or(0).div_ceil(8).min(answer.len());
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
}

fn odd(name: &str) -> Error {
    Error::failed(format!("the OpenZFS module does not tell the identity of {name}"))
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
        let set = self.all().list(&c_string(property).ok()?)?;
        is_own(&self.name, &set.text(c"source")?).then(|| set.text(c"value").map(|value| decode(&value)))?
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
