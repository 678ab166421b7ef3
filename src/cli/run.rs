//! `bootenv run`.

use super::{Context, args, unmount};
use crate::altroot;
use crate::domain::BeName;
use crate::error::{Error, Kind, Result};
use crate::plan::execute::Observer;
use crate::plan::in_words;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

/// What shells give where there is no such command, and where it cannot be run.
const NO_COMMAND: u8 = 127;
const NOT_RUN: u8 = 126;

pub(super) fn run(cx: &mut Context, args: &args::Run) -> Result<ExitCode> {
    if cx.cli.json && !cx.cli.dry_run {
        return Err(Error::usage("run --json: standard output is the command's").hint("leave --json out"));
    }
    let name = BeName::parse(&args.name)?;
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory_about(Some(&name))?;
    let be = inventory.be(&name)?;
    altroot::check(be, None)?;
    if cx.cli.dry_run {
        altroot::check_run(session.store(), &name, &be.path)?;
        let steps = [
            format!("mount {} where nobody else sees it, the shared dataset below it read-only", be.path),
            format!("run {} in it, without the privileges that could undo that", in_words(&args.command)),
        ];
        cx.out.change(&format!("run {name}"), &steps, None)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wrong_before = altroot::look(session.store(), &be.path)?;
    let prepared = altroot::prepare(session.store(), &be.name, &be.path)?;
    // Others may use the store while the command runs; this BE is mounted, and so safe from them.
    let mut lock = Some(lock);
    let ended = altroot::run(&prepared, &args.command, &mut || drop(lock.take()));
    drop((prepared, lock));
    let status = match ended {
        Ok(status) => status,
        Err(e) => {
            let code = match e.kind {
                Kind::NotFound => NO_COMMAND,
                Kind::Failed if e.hint.is_some() => NOT_RUN,
                _ => return Err(e),
            };
            cx.out.error(&e);
            return Ok(ExitCode::from(code));
        }
    };
    // Anew: others may have changed the store meanwhile.
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory_about(Some(&name))?;
    let be = inventory.be(&name)?;
    unmount::renew(cx, &session, &lock, &inventory, be)?;
    // What the command has broken, and not what it has found.
    for wrong in altroot::look(session.store(), &be.path)?.iter().filter(|wrong| !wrong_before.contains(wrong)) {
        cx.out.note(&format!("{name} may not boot as it is now: {wrong}"));
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(code as u8))
}
