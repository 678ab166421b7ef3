//! `describe`: free text for a BE or a snapshot.

use super::{entry, facts_step};
use crate::domain::{BootEnv, Facts, Inventory, Target};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::snapshot_path;

/// Longest description, in bytes: it becomes a line of a menu.
const LONGEST: usize = 1024;

/// Refuses a description that cannot be kept.
pub(super) fn check(text: &str) -> Result<()> {
    if text.len() > LONGEST {
        return Err(Error::usage(format!("the description is {} bytes long", text.len()))
            .hint(format!("at most {LONGEST} bytes are kept")));
    }
    Ok(())
}

/// Plans a description; an empty one takes it away.
pub fn describe(inventory: &Inventory, target: &Target, text: &str) -> Result<Plan> {
    check(text)?;
    let description = (!text.is_empty()).then(|| text.to_string());
    match target {
        Target::Be(be) => {
            let be = inventory.be(be)?;
            let to = Facts { description, automatic: None, ..be.facts.clone() };
            let renamed = BootEnv { facts: to.clone(), ..be.clone() };
            Ok(Plan::new(format!("describe {}", be.name), facts_step(be, to)).removing(entry(inventory, &renamed)))
        }
        Target::Snapshot(be, snap) => {
            let (be, snapshot) = inventory.snapshot(be, snap)?;
            let path = snapshot_path(be.name.as_str(), snapshot.name.as_str());
            let to = Facts { description, ..snapshot.facts.clone() };
            Ok(Plan::new(format!("describe {target}"), Step::Facts { path, to, was: snapshot.facts.clone() }))
        }
    }
}
