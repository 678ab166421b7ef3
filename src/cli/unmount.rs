//! `bootenv unmount`.

use super::{Context, args};
use crate::altroot;
use crate::domain::{BootEnv, Inventory};
use crate::error::Result;
use crate::loader::Described;
use crate::ops;
use crate::plan::execute::Observer;
use crate::session::Session;
use crate::store::Lock;

pub(super) fn run(cx: &mut Context, args: &args::Unmount) -> Result<()> {
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory()?;
    let (be, at) = altroot::find(&inventory, &args.what)?;
    let request = format!("unmount {}", be.name);
    let Some(at) = at else {
        cx.out.already(&request, &format!("{} is not mounted", be.name));
        return Ok(());
    };
    let zones = session.zone_roots(be, &mut cx.out)?;
    altroot::check_unmount(session.store(), be, &at, args.force, &zones)?;
    let steps = [format!("unmount {} from {}", be.path, at.display())];
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    altroot::unmount(session.store(), be, &at, args.force, &zones)?;
    renew(cx, &session, &lock, &inventory, be)?;
    match cx.out.is_json() {
        true => cx.out.change(&request, &steps, Some(&at)),
        false => Ok(()),
    }
}

/// Renews the menu entry of a BE that somebody may have changed the kernel of.
pub(super) fn renew(
    cx: &mut Context,
    session: &Session,
    lock: &Lock,
    inventory: &Inventory,
    be: &BootEnv,
) -> Result<()> {
    let Described { entry, problem } = session.describe(be)?;
    if let Some(problem) = problem {
        cx.out.note(&format!("{}: {}", be.name, problem.message));
    } else if session.loader()?.entries().is_ok_and(|entries| !entries.contains(&entry)) {
        session.run(lock, &ops::renew(inventory, be), &mut cx.out)?;
    }
    Ok(())
}
