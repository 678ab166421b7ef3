//! `bootenv destroy`.

use super::{Context, args};
use crate::altroot;
use crate::domain::{BootEnv, Inventory, Target};
use crate::error::Result;
use crate::ops;
use crate::plan::Step;
use crate::session::{Session, Which};
use std::path::Path;
use uuid::Uuid;

pub(super) fn run(cx: &mut Context, args: &args::Destroy) -> Result<()> {
    let targets = args.names.iter().map(|name| Target::parse(name)).collect::<Result<Vec<_>>>()?;
    let (session, mut locks) = cx.begin_along(Which::All)?;
    let mut inventory = match &targets[..] {
        [one] => session.inventory_about(Some(one.be()))?,
        _ => session.inventory()?,
    };
    inventory.zones = std::mem::take(&mut locks.along);
    let mut request =
        ops::Destroy { targets, snapshots: args.snapshots, origin: args.origin, ..ops::Destroy::default() };
    let bes = look_at(&session, &inventory, &mut request)?;
    let mounted: Vec<_> = bes.iter().filter(|be| args.force && be.mounted()).collect();
    // Everything else is decided before the first mount goes.
    let unmounted = inventory.bes.iter_mut().filter(|b| mounted.iter().any(|be| be.name == b.name));
    unmounted.for_each(|b| b.mountpoints.clear());
    let goes = |at: &Path| mounted.iter().flat_map(|be| &be.mountpoints).any(|of| at.starts_with(of));
    let in_zones = inventory.zones.iter_mut().flat_map(|zone| &mut zone.inside.bes);
    in_zones.for_each(|b| b.mountpoints.retain(|at| !goes(at)));
    let mut plan = ops::destroy(&inventory, &request)?;
    if cx.cli.dry_run {
        let paths: Vec<String> = plan.steps().filter_map(Step::destroys_from_top).collect();
        plan.frees = session.store().frees(&paths.iter().map(String::as_str).collect::<Vec<_>>())?;
    } else if !args.yes {
        let in_zones = plan.steps().filter(|step| step.zone().is_some()).filter_map(Step::destroys_from_top);
        let all: Vec<String> = args.names.iter().cloned().chain(in_zones).collect();
        cx.out.confirm(&format!("Destroy {}?", all.join(", ")))?;
    }
    if !mounted.is_empty() && !cx.cli.dry_run {
        session.preflight(&plan)?;
        let places = mounted.iter().flat_map(|be| be.mountpoints.iter().rev().map(move |at| (*be, at.as_path())));
        altroot::vacate(session.store(), &places.collect::<Vec<_>>())?;
    }
    cx.carry_out(&session, &locks.store, &plan)
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
    let hosts: Vec<Uuid> = bes.iter().map(|be| be.uuid).collect();
    for zone in &inventory.zones {
        let store = session.store().enter(&zone.name)?;
        let mut within = ops::Destroy::default();
        for be in hosts.iter().flat_map(|host| zone.of(*host)) {
            if let Some(words) = altroot::mounted_elsewhere(&*store, &be.path)? {
                within.mounted_elsewhere.insert(be.name.clone(), words);
            }
        }
        let (going, _) = ops::going(zone, &hosts, |be| within.mounted_elsewhere.get(be).cloned());
        let paths: Vec<&str> = going.iter().map(|be| be.path.as_str()).collect();
        for be in going {
            within.heirs.insert(be.name.clone(), store.heirs(&be.path, &paths)?);
        }
        request.zones.insert(zone.name.clone(), within);
    }
    Ok(bes)
}
