//! `bootenv rollback`.

use super::{Context, args};
use crate::altroot;
use crate::domain::Target;
use crate::error::{Error, Result};
use crate::ops;

pub(super) fn run(cx: &mut Context, args: &args::Rollback) -> Result<()> {
    let Target::Snapshot(be, snap) = Target::parse(&args.snapshot)? else {
        return Err(Error::usage(format!("{} is no snapshot", args.snapshot))
            .hint("name one as BE@SNAP; `bootenv list -s` shows them"));
    };
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory_about(Some(&be))?;
    let elsewhere = altroot::mounted_elsewhere(session.store(), inventory.be(&be)?)?;
    let plan = ops::rollback(&inventory, &be, &snap, elsewhere.as_deref())?;
    if !args.yes && !cx.cli.dry_run {
        cx.out.confirm(&format!("Give up what {be} became after {be}@{snap}?"))?;
    }
    cx.carry_out(&session, &lock, &plan)
}
