//! A BE that nobody asks for: what runs, as it is before a package manager changes it.

use super::create::{Create, create};
use crate::domain::{BeName, Inventory, Target};
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Longest description, in characters: it is read in lists and menus.
const LONGEST: usize = 100;

/// What a package manager is about to do.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// The package manager.
    pub by: String,
    /// The day, as `2026-01-31`.
    pub day: String,
    /// The command that is carried out; empty where that is not known.
    pub command: String,
    /// What tells it from every other one; empty where nothing does.
    pub identity: String,
}

/// Plans the BE; nothing if there is one for this transaction already. Package managers call their hooks several times.
pub fn automatic(inventory: &Inventory, transaction: &Transaction) -> Result<Option<Plan>> {
    let Transaction { by, day, command, identity } = transaction;
    let running = inventory.running().ok_or_else(|| {
        Error::refused("what runs is no boot environment of this store").hint("`bootenv init` adopts the running root")
    })?;
    let is_this = |told: &String| !identity.is_empty() && told == identity;
    if inventory.bes.iter().any(|be| be.facts.automatic.as_ref().is_some_and(is_this)) {
        return Ok(None);
    }
    let base = format!("{by}-{day}");
    let taken = |name: &str| inventory.bes.iter().any(|be| be.name.as_str() == name);
    let name = std::iter::once(base.clone()).chain((2..).map(|n: u32| format!("{base}-{n}"))).find(|name| !taken(name));
    let name = BeName::parse(&name.unwrap_or(base))?;
    let what = if command.is_empty() { by } else { command };
    let request = Create {
        name: Some(Target::Be(name)),
        source: Some(Target::Be(running.name.clone())),
        description: Some(format!("before {what}").chars().take(LONGEST).collect()),
        automatic: Some(identity.clone()),
        ..Create::default()
    };
    create(inventory, &request).map(Some)
}
