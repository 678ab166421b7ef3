//! The write-ahead journal: the whole plan, durable in the store before its first step runs, gone after its last.
//!
//! One file, because one lock allows one plan. Every step is in it before any runs, and every step can be recognised as
//! done, so nothing has to be written between steps.

use super::{FORMAT, Plan};
use crate::error::{Error, Result};
use crate::sys::tree::Tree;
use serde::Deserialize;

/// Where it lies in the tool's own directory.
pub const FILE: &str = "journal.toml";

/// Writes the plan, so that it is durable before anything its steps do is; on a store whose own directory has to be kept for that
/// ([`Store::keep_home`](crate::store::Store::keep_home)), the caller does so. A plan that begins with a clone need not wait for either: a
/// clone is durable with a commit of the whole store, and with it everything that came before.
pub fn write(home: &Tree, plan: &Plan) -> Result<()> {
    let text = toml::to_string(plan).map_err(|e| Error::failed(format!("cannot write the journal: {e}")))?;
    match plan.begins_with_a_clone() {
        true => home.write_for_next_commit(FILE, text.as_bytes(), 0o600),
        false => home.write(FILE, text.as_bytes(), 0o600),
    }
}

/// Removes it. If a power cut brings it back, recovery finds everything done.
pub fn clear(home: &Tree) -> Result<()> {
    home.remove(FILE)
}

/// Reads the plan that was begun, if there is one.
pub fn read(home: &Tree) -> Result<Option<Plan>> {
    let repair = "`bootenv check --repair` puts it aside and brings the menu in line with what is there";
    let Some(text) = home.read_text(FILE).map_err(|e| e.hint(repair))? else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let damaged = |e: toml::de::Error| {
        Error::failed(format!("the journal BOOTENV/{FILE} is damaged: {}", e.message().lines().next().unwrap_or("")))
            .hint(repair)
    };
    let head: Head = toml::from_str(&text).map_err(damaged)?;
    if head.version > FORMAT {
        return Err(Error::refused(format!(
            "a newer bootenv (journal format {}) began something and did not finish",
            head.version
        ))
        .hint("run that bootenv once: it finishes or undoes it"));
    }
    toml::from_str(&text).map(Some).map_err(damaged)
}

/// Puts a damaged journal aside, for people to look at.
pub fn put_aside(home: &Tree) -> Result<()> {
    home.rename(FILE, "journal.damaged.toml", rustix::fs::RenameFlags::empty())
}
