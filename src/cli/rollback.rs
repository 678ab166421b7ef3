//! `bootenv rollback`.

use super::{Context, args};
use crate::altroot;
use crate::domain::{BeName, Inventory, SnapName, Target};
use crate::error::{Error, Result};
use crate::loader::Entry;
use crate::ops::{self, Elsewhere};
use crate::session::{Session, Which};
use crate::store::snapshot_path;

pub(super) fn run(cx: &mut Context, args: &args::Rollback) -> Result<()> {
    let Target::Snapshot(be, snap) = Target::parse(&args.snapshot)? else {
        return Err(Error::usage(format!("{} is no snapshot", args.snapshot))
            .hint("name one as BE@SNAP; `bootenv list -s` shows them"));
    };
    let (session, mut locks) = cx.begin_along(Which::All)?;
    let inventory = Inventory { zones: std::mem::take(&mut locks.along), ..session.inventory_about(Some(&be))? };
    let mut elsewhere = Elsewhere {
        be: altroot::mounted_elsewhere(session.store(), &inventory.be(&be)?.path)?,
        ..Elsewhere::default()
    };
    let (_, snapshot) = inventory.snapshot(&be, &snap)?;
    for zone in &inventory.zones {
        if let Some((be, _)) = zone.snapshot_with(snapshot.uuid)
            && let Some(words) = altroot::mounted_elsewhere(&*session.store().enter(&zone.name)?, &be.path)?
        {
            elsewhere.zones.insert(zone.name.clone(), words);
        }
    }
    let same_kernel = has_same_kernel(&session, &inventory, &be, &snap)?;
    let plan = ops::rollback(&inventory, &be, &snap, &elsewhere, same_kernel)?;
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
