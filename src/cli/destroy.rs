//! `bootenv destroy`.

use super::{Context, args};
use crate::altroot;
use crate::domain::{BootEnv, Inventory, Target};
use crate::error::Result;
use crate::ops;
use crate::plan::Step;
use crate::session::Session;

pub(super) fn run(cx: &mut Context, args: &args::Destroy) -> Result<()> {
    let targets = args.names.iter().map(|name| Target::parse(name)).collect::<Result<Vec<_>>>()?;
    let (session, lock) = cx.begin()?;
    let mut inventory = match &targets[..] {
        [one] => session.inventory_about(Some(one.be()))?,
        _ => session.inventory()?,
    };
    let mut request =
        ops::Destroy { targets, snapshots: args.snapshots, origin: args.origin, ..ops::Destroy::default() };
    let bes = look_at(&session, &inventory, &mut request)?;
    let mounted: Vec<_> = bes.iter().filter(|be| args.force && be.mounted()).collect();
    // Everything else is decided before the first mount goes.
    let unmounted = inventory.bes.iter_mut().filter(|b| mounted.iter().any(|be| be.name == b.name));
    unmounted.for_each(|b| b.mountpoints.clear());
    let mut plan = ops::destroy(&inventory, &request)?;
    if cx.cli.dry_run {
        plan.frees = session.store().frees(&plan.steps().filter_map(Step::destroys).collect::<Vec<_>>())?;
    } else if !args.yes {
        cx.out.confirm(&format!("Destroy {}?", args.names.join(", ")))?;
    }
    if !mounted.is_empty() && !cx.cli.dry_run {
        session.preflight(&plan)?;
        let places = mounted.iter().flat_map(|be| be.mountpoints.iter().rev().map(move |at| (*be, at.as_path())));
        altroot::vacate(session.store(), &places.collect::<Vec<_>>())?;
    }
    cx.carry_out(&session, &lock, &plan)
}

/// Adds what only the store and the mount tables know of the BEs that are to be destroyed, and gives them.
pub(super) fn look_at(session: &Session, inventory: &Inventory, request: &mut ops::Destroy) -> Result<Vec<BootEnv>> {
    let mut bes = Vec::new();
    for target in &request.targets {
        if let Target::Be(name) = target {
            bes.push(inventory.be(name)?.clone());
        }
    }
    let paths: Vec<&str> = bes.iter().map(|be| be.path.as_str()).collect();
    for be in bes.iter().filter(|be| !be.running) {
        request.heirs.insert(be.name.clone(), session.store().heirs(&be.path, &paths)?);
        if let Some(words) = altroot::mounted_elsewhere(session.store(), &be.path)? {
            request.mounted_elsewhere.insert(be.name.clone(), words);
        }
    }
    Ok(bes)
}
