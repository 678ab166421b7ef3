//! `bootenv destroy`.

use super::{Context, args};
use crate::altroot;
use crate::domain::Target;
use crate::error::Result;
use crate::ops;

pub(super) fn run(cx: &mut Context, args: &args::Destroy) -> Result<()> {
    let target = Target::parse(&args.name)?;
    let (session, lock) = cx.begin()?;
    let mut inventory = session.inventory_about(Some(target.be()))?;
    let mut request = ops::Destroy { target, snapshots: args.snapshots, origin: args.origin, mounted_elsewhere: None };
    let mut mounted = None;
    if let Target::Be(name) = &request.target {
        let be = inventory.be(name)?.clone();
        if !be.running {
            request.mounted_elsewhere = altroot::mounted_elsewhere(session.store(), &be)?;
        }
        if args.force && be.mounted() {
            // Everything else is decided before the first mount goes.
            inventory.bes.iter_mut().filter(|b| b.name == *name).for_each(|b| b.mountpoints.clear());
            mounted = Some(be);
        }
    }
    let plan = ops::destroy(&inventory, &request)?;
    if !args.yes && !cx.cli.dry_run {
        cx.out.confirm(&format!("Destroy {}?", request.target))?;
    }
    if let (Some(be), false) = (&mounted, cx.cli.dry_run) {
        for at in be.mountpoints.iter().rev() {
            altroot::unmount(session.store(), be, at, true)?;
        }
    }
    cx.carry_out(&session, &lock, &plan)
}
