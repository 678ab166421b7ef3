//! `bootenv unmount`.

use super::{Context, args};
use crate::altroot;
use crate::error::Result;
use crate::loader::{Described, Entry};
use crate::ops;
use crate::plan::execute::Observer;

pub(super) fn run(cx: &mut Context, args: &args::Unmount) -> Result<()> {
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory()?;
    let (be, at) = altroot::find(&inventory, &args.what)?;
    let request = format!("unmount {}", be.name);
    let Some(at) = at else {
        cx.out.already(&request, &format!("{} is not mounted", be.name));
        return Ok(());
    };
    altroot::check_unmount(session.store(), be, &at, args.force)?;
    let steps = [format!("unmount {} from {}", be.path, at.display())];
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    altroot::unmount(session.store(), be, &at, args.force)?;
    // A package manager may have changed the kernel in it.
    let loader = session.loader()?;
    let Described { entry, problem } =
        Entry::describe(session.store(), &*loader, be.name.as_str(), &be.path, &be.path, be.title())?;
    if let Some(problem) = problem {
        cx.out.note(&format!("{}: {}", be.name, problem.message));
    } else if loader.entries().is_ok_and(|entries| !entries.contains(&entry)) {
        session.run(&lock, &ops::renew(&inventory, be), &mut cx.out)?;
    }
    match cx.out.is_json() {
        true => cx.out.change(&request, &steps, Some(&at)),
        false => Ok(()),
    }
}
