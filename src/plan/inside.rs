//! Steps of the host's plans that are done in zones.
//!
//! What a zone has of the store is a store, and what it runs is its boot loader: so a step in a zone is any step, in another world. The
//! plan and its journal stay the host's.

use super::execute::World;
use super::{Plan, Step};
use crate::domain::{Facts, ZoneName};
use crate::error::{Error, Kind, Result};
use crate::store::{About, Store};
use crate::zone::{self, Brand, Record, USUAL};
use std::rc::Rc;
use uuid::Uuid;

/// Does something in the world of a zone.
pub(super) fn within<T>(
    world: &World<'_>,
    zone: &ZoneName,
    act: impl FnOnce(&World<'_>, &Record) -> Result<T>,
) -> Result<T> {
    entered(world, zone, &world.store.enter(zone)?, act)
}

/// The same; nothing, where the zone has no place, or nothing is kept of it: then it is being made, or taken away.
pub(super) fn within_if_there<T>(
    world: &World<'_>,
    zone: &ZoneName,
    act: impl FnOnce(&World<'_>, &Record) -> Result<T>,
) -> Result<Option<T>> {
    match world.store.enter(zone) {
        Err(e) if e.kind == Kind::NotFound => Ok(None),
        Ok(store) if !store.has_home() => Ok(None),
        store => entered(world, zone, &store?, act).map(Some),
    }
}

/// Does something in the world of a zone, whose store is `store`.
fn entered<T>(
    world: &World<'_>,
    zone: &ZoneName,
    store: &Rc<dyn Store>,
    act: impl FnOnce(&World<'_>, &Record) -> Result<T>,
) -> Result<T> {
    // No step depends on the brand, so that settings which have been damaged since do not stop what was begun.
    let brand = zone::brand(world.store, zone).or_else(|_| Brand::named(USUAL))?;
    let record = Record::new(store, brand, None);
    act(&World { store: &**store, loader: &record }, &record)
}

/// Lets a zone BE belong to the BE of the host at `owner`.
pub(super) fn assign(world: &World<'_>, zone: &ZoneName, be: &str, owner: &str) -> Result<()> {
    let owner = world.store.identity(owner)?.ok_or_else(|| Error::not_found(format!("{owner} is gone")))?;
    within(world, zone, |inner, record| {
        belong(inner, be, Some(owner))?;
        record.assign(owner, be)
    })
}

/// Takes that back. `was` is what it belonged to.
pub(super) fn take_back(world: &World<'_>, zone: &ZoneName, be: &str, owner: &str, was: Option<Uuid>) -> Result<()> {
    let owner = world.store.identity(owner)?;
    let undone = within_if_there(world, zone, |inner, record| {
        owner.map_or(Ok(()), |owner| record.forget(owner))?;
        belong(inner, be, was)
    });
    undone.map(drop)
}

fn belong(inner: &World<'_>, be: &str, parent: Option<Uuid>) -> Result<()> {
    let path = crate::store::be_path(be);
    match inner.store.identity(&path)? {
        Some(_) => inner.store.set_facts(&path, &Facts { parent, ..inner.store.facts(&path)? }),
        None => Ok(()),
    }
}

/// Lets what belonged to the BE of the host at `owner`, when its identity was `was`, belong to it as it is now.
pub(super) fn inherit(world: &World<'_>, zone: &ZoneName, was: Uuid, owner: &str) -> Result<()> {
    let Some(now) = world.store.identity(owner)?.filter(|now| *now != was) else { return Ok(()) };
    let done = within_if_there(world, zone, |inner, record| {
        for be in inner.store.contents(About::All)?.bes.iter().filter(|be| be.facts.parent == Some(was)) {
            belong(inner, be.name.as_str(), Some(now))?;
        }
        record.succeed(was, now)
    });
    done.map(drop)
}

/// Lets the snapshot at `path` of a zone belong to that of the host at `owner`.
pub(super) fn belong_with(world: &World<'_>, zone: &ZoneName, path: &str, owner: &str) -> Result<()> {
    let Some(parent) = world.store.identity(owner)? else { return Ok(()) };
    let done = within_if_there(world, zone, |inner, _| match inner.store.identity(path)? {
        Some(_) => inner.store.set_facts(path, &Facts { parent: Some(parent), ..inner.store.facts(path)? }),
        None => Ok(()),
    });
    done.map(drop)
}

/// Forgets what a zone runs with a BE of the host that is gone.
pub(super) fn release(world: &World<'_>, zone: &ZoneName, was: Uuid) -> Result<()> {
    within_if_there(world, zone, |_, record| record.forget(was)).map(drop)
}

/// Whether a zone BE is what runs when the BE of the host at `owner` does.
pub(super) fn is_assigned(world: &World<'_>, zone: &ZoneName, be: &str, owner: &str) -> Result<bool> {
    let Some(owner) = world.store.identity(owner)? else { return Ok(false) };
    let due = within_if_there(world, zone, |_, record| match record.all() {
        // What has been damaged since names none.
        Err(e) if e.kind == Kind::Failed => Ok(None),
        all => Ok(all?.remove(&owner)),
    })?;
    Ok(due.flatten().is_some_and(|asked| asked.default.as_deref() == Some(be)))
}

/// Refuses what would fail half-way in the zones that a plan changes. One that it makes has no place yet, and one of a newer bootenv
/// is left alone.
pub(super) fn preflight(world: &World<'_>, plan: &Plan) -> Result<()> {
    for zone in plan.zones() {
        within_if_there(world, zone, |inner, _| super::execute::preflight(inner, &plan.within(zone)).map(drop))?;
    }
    for step in plan.steps() {
        match step {
            Step::Zone { zone, was: Some(was), .. } => zone::may_change(zone, was)?,
            Step::DropZone { zone } => match world.store.enter(zone) {
                Err(e) if e.kind != Kind::NotFound => return Err(e),
                _ => {}
            },
            Step::Assign { zone, be, .. } => {
                within_if_there(world, zone, |inner, record| {
                    record.all()?;
                    match inner.store.identity(&crate::store::be_path(be))? {
                        Some(_) => inner.store.may_change_facts(&[&inner.store.facts(&crate::store::be_path(be))?]),
                        None => Ok(()),
                    }
                })?;
            }
            _ => {}
        }
    }
    Ok(())
}
