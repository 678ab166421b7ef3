//! Finishing or undoing what an earlier bootenv began.

use super::execute::{Observer, World, clear_up, note_due, reached, undo_all};
use super::{Step, inside, journal};
use crate::domain::ZoneName;
use crate::error::Result;

/// Looks for a plan that was begun. If its commit was reached the rest is done, else what was added is undone. Returns
/// what was done about it, in words.
pub fn recover(world: &World<'_>, observer: &mut dyn Observer) -> Result<Option<String>> {
    let home = world.store.home()?;
    let Some(plan) = journal::read(&home)? else { return Ok(None) };
    if let Some(owner) = plan.owner {
        world.loader.look_from(owner);
    }
    if let Step::Exchange { place, with, was } = &plan.commit {
        world.store.settle_exchange(place, with, *was)?;
    }
    let told = if reached(world, &plan.commit)? {
        if let Step::Ask { to, .. } = &plan.commit {
            note_due(world, to, observer);
        }
        clear_up(world, &plan, observer)?;
        format!("finished what was begun: {}", plan.request)
    } else {
        undo_all(world, plan.add.iter().chain(std::iter::once(&plan.commit)))?;
        format!("undid what was begun and not finished: {}", plan.request)
    };
    world.store.sync()?;
    let _ = world.loader.tidy();
    journal::clear(&home)?;
    world.store.keep_home()?;
    Ok(Some(told))
}

/// The same in a zone, of whose store `world` is the whole.
pub fn recover_in(world: &World<'_>, zone: &ZoneName, observer: &mut dyn Observer) -> Result<Option<String>> {
    inside::within(world, zone, |inner, _| recover(inner, observer))
}
