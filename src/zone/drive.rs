//! Driving containers, by the commands that their brands name.

use super::Brand;
use crate::domain::ZoneName;
use crate::error::{Doing, Error, Result};
use crate::sys::mountinfo::{self, Mount};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long is waited for what has been started to boot.
const BOOTS_WITHIN: Duration = Duration::from_secs(300);
/// How long is waited for what has been stopped to be seen as that.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Brand {
    /// Starts a zone.
    pub fn start(&self, zone: &ZoneName) -> Result<()> {
        self.carry_out(&self.start, zone).map(drop)
    }

    /// Waits until what a zone starts when it boots is there.
    pub fn wait(&self, zone: &ZoneName) -> Result<()> {
        let until = Instant::now() + BOOTS_WITHIN;
        loop {
            let Err(e) = self.carry_out(&self.ready, zone) else { return Ok(()) };
            if !self.runs(zone) {
                return Err(
                    Error::failed(format!("{zone} has stopped while it booted")).hint("its journal may tell why")
                );
            }
            if Instant::now() > until {
                return Err(e.context(format!("{zone} runs, but has not booted within {} s", BOOTS_WITHIN.as_secs())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Stops a zone.
    pub fn stop(&self, zone: &ZoneName) -> Result<()> {
        self.carry_out(&self.stop, zone)?;
        match happens(|| !self.runs(zone)) {
            true => Ok(()),
            false => Err(Error::failed(format!("{zone} still runs: it was started by something else"))
                .hint("stop it as it was started")),
        }
    }

    /// The number of a zone's first process; nothing where it does not run.
    pub fn leader_of(&self, zone: &ZoneName) -> Result<Option<u32>> {
        if self.leader.is_empty() || !self.runs(zone) {
            return Ok(None);
        }
        let told = self.carry_out(&self.leader, zone)?;
        told.parse().map(Some).map_err(|_| Error::failed(format!("{zone} runs, but not as a process: {told:?}")))
    }

    /// The root of a zone's first process; nothing where it does not run.
    pub fn leaders_root(&self, zone: &ZoneName) -> Result<Option<Mount>> {
        Ok(self.leader_of(zone)?.and_then(mountinfo::root_of))
    }

    /// The command of a list of words for a zone, as people read it.
    pub fn shown(&self, words: &[String], zone: &ZoneName) -> String {
        self.filled(&words.join(" "), zone)
    }

    /// Runs one of its commands for a zone, and gives what it prints.
    fn carry_out(&self, words: &[String], zone: &ZoneName) -> Result<String> {
        let command = self.shown(words, zone);
        let words: Vec<String> = words.iter().map(|word| self.filled(word, zone)).collect();
        let [program, arguments @ ..] = &*words else { return Ok(String::new()) };
        let ran = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let ran = ran.doing(format_args!("cannot run `{command}`"))?;
        match ran.status.success() {
            true => Ok(String::from_utf8_lossy(&ran.stdout).trim().to_string()),
            false => {
                let said = String::from_utf8_lossy(&ran.stderr);
                let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
                let said = if said.is_empty() { "it says nothing".into() } else { said.join("; ") };
                Err(Error::failed(format!("`{command}` failed ({}): {said}", ran.status)))
            }
        }
    }
}

/// Waits a little for something, and tells whether it has come.
pub fn happens(mut has: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + SEEN_WITHIN;
    while !has() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    true
}
