//! `pin` and `unpin`: whether a BE may go.

use super::facts_step;
use crate::domain::{BeName, Facts, Inventory};
use crate::error::Result;
use crate::plan::Plan;

/// Plans it; nothing if it is so already.
pub fn pin(inventory: &Inventory, be: &BeName, pinned: bool) -> Result<Option<Plan>> {
    let be = inventory.be(be)?;
    if be.facts.pinned == pinned {
        return Ok(None);
    }
    let verb = if pinned { "pin" } else { "unpin" };
    let to = Facts { pinned, ..be.facts.clone() };
    Ok(Some(Plan::new(format!("{verb} {}", be.name), facts_step(be, to))))
}

/// Plans that a BE is no longer an automatic one, because somebody has taken it in hand; nothing if it is none.
pub fn claim(inventory: &Inventory, be: &BeName) -> Result<Option<Plan>> {
    let be = inventory.be(be)?;
    Ok(be.facts.claimed().map(|to| Plan::new(format!("claim {}", be.name), facts_step(be, to))))
}
