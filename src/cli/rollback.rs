//! `bootenv rollback`.

use super::{Context, args};
use crate::altroot;
use crate::domain::{BeName, Inventory, SnapName, Target, ZoneName};
use crate::error::{Error, Result};
use crate::loader::Entry;
use crate::ops;
use crate::session::Session;
use crate::store::snapshot_path;

pub(super) fn run(cx: &mut Context, args: &args::Rollback) -> Result<()> {
    let Target::Snapshot(be, snap) = Target::parse(&args.snapshot)? else {
        return Err(Error::usage(format!("{} is no snapshot", args.snapshot))
            .hint("name one as BE@SNAP; `bootenv list -s` shows them"));
    };
    let session = cx.session()?;
    // What belongs to it in zones has to follow.
    let zones: Vec<_> = match &cx.cli.zone {
        Some(_) => Vec::new(),
        None => {
            let there = |zone: &ZoneName| session.store().enter(zone).is_ok();
            session.zones()?.into_iter().map(|(zone, _)| zone).filter(there).collect()
        }
    };
    let locks = session.begin_with(&zones.iter().collect::<Vec<_>>(), &mut cx.out)?;
    let inventory = session.inventory_about(Some(&be))?;
    let elsewhere = altroot::mounted_elsewhere(session.store(), &inventory.be(&be)?.path)?;
    let same_kernel = has_same_kernel(&session, &inventory, &be, &snap)?;
    let plan = ops::rollback(&inventory, &be, &snap, elsewhere.as_deref(), same_kernel)?;
    if !args.yes && !cx.cli.dry_run {
        cx.out.confirm(&format!("Give up what {be} became after {be}@{snap}?"))?;
    }
    cx.carry_out(&session, &locks.store, &plan)
}

/// Whether the kernel and the initrd in a snapshot are the ones that the BE's menu entry boots.
fn has_same_kernel(session: &Session, inventory: &Inventory, be: &BeName, snap: &SnapName) -> Result<bool> {
    let (be, snapshot) = inventory.snapshot(be, snap)?;
    let loader = session.loader()?;
    let path = snapshot_path(be.name.as_str(), snapshot.name.as_str());
    let there = Entry::describe(session.store(), &*loader, be.name.as_str(), &be.path, &path, be.title())?.entry;
    let entries = loader.entries().unwrap_or_default();
    Ok(entries.iter().any(|e| e.id == there.id && e.kernel == there.kernel && e.copies == there.copies))
}
