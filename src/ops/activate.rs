//! `activate`: what boots next.

use super::{entry, facts_step};
use crate::domain::{Asked, BeName, Belongs, Facts, Inventory};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};

/// What `activate` comes to when there may be nothing to do.
#[derive(Debug)]
pub enum Clear {
    /// It is already so.
    Already,
    /// This is to be done.
    Plan(Box<Plan>),
}

/// The step that makes `be` the default, or the one-shot.
pub(super) fn ask_for(inventory: &Inventory, be: &BeName, once: bool) -> Step {
    let was = inventory.next.asked.clone();
    let to = match once {
        true => Asked { once: Some(be.to_string()), ..was.clone() },
        false => Asked {
            // Asking for a default means asking for it on the next boot too.
            once: None,
            previous: if was.default.as_deref() == Some(be.as_str()) {
                was.previous.clone()
            } else {
                was.default.clone()
            },
            default: Some(be.to_string()),
        },
    };
    Step::Ask { to, was }
}

/// The refusal to activate what has no kernel, or in a zone no init.
pub fn not_bootable(inventory: &Inventory, be: &BeName) -> Error {
    if inventory.zone.is_some() {
        return Error::refused(format!("{be} has nothing to start in it: neither systemd nor an init"))
            .hint(format!("`bootenv mount {be}` and install one with its package manager"));
    }
    Error::refused(format!("{be} has no kernel in its /boot, so no boot loader can start it"))
        .hint("install a kernel in it (`bootenv mount`, then its package manager); a separate /boot partition must become part of the root")
}

/// Plans an activation, for good or for the next boot only. `bootable` says whether the BE has a kernel, `current` whether
/// its menu entry says what is in it.
pub fn activate(inventory: &Inventory, be: &BeName, once: bool, bootable: bool, current: bool) -> Result<Clear> {
    let found = inventory.be(be)?;
    let orphan = match inventory.zone.as_ref().map(|zone| (zone, zone.belongs(found))) {
        Some((_, Belongs::Elsewhere(host))) => {
            return Err(Error::refused(format!("{be} belongs to {host}, and is activated when that runs"))
                .hint(format!("`bootenv create -a -e {be} NAME` makes a copy that belongs to what runs now")));
        }
        Some((zone, Belongs::Nowhere)) => zone.owner.as_ref(),
        _ => None,
    };
    if !bootable {
        return Err(not_bootable(inventory, be));
    }
    let asked = &inventory.next.asked;
    let wanted = Some(be.to_string());
    // The entry is renewed even then: the kernel in the BE may have changed.
    let already = match once {
        true => asked.once == wanted,
        false => asked.default == wanted && asked.once.is_none(),
    };
    let renewed = entry(inventory, found);
    if already && orphan.is_none() {
        return Ok(if current { Clear::Already } else { Clear::Plan(Box::new(super::renew(inventory, found))) });
    }
    let verb = if once { "activate -t" } else { "activate" };
    let then = inventory.next.default.as_deref().unwrap_or("nothing");
    let note = if once { format!("{be} boots next, once; then {then} again") } else { format!("{be} boots next") };
    let mut plan = Plan::new(format!("{verb} {be}"), ask_for(inventory, be, once)).adding(renewed).noting(note);
    if let Some(owner) = orphan {
        plan.add.insert(0, facts_step(found, Facts { parent: Some(owner.uuid), ..found.facts.clone() }));
        plan.notes.push(format!("it belonged to none any more, and belongs to {} now", owner.name));
    }
    plan.remove.extend(found.facts.claimed().filter(|_| orphan.is_none()).map(|to| facts_step(found, to)));
    Ok(Clear::Plan(Box::new(plan)))
}

/// Plans the taking back of a one-shot.
pub fn clear_once(inventory: &Inventory, be: &BeName) -> Result<Clear> {
    inventory.be(be)?;
    let was = inventory.next.asked.clone();
    if was.once.as_deref() != Some(be.as_str()) {
        return Ok(Clear::Already);
    }
    let to = Asked { once: None, ..was.clone() };
    Ok(Clear::Plan(Box::new(Plan::new(format!("activate -T {be}"), Step::Ask { to, was }))))
}
