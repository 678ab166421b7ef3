//! `bootenv check [--repair]`.

use super::{Context, args};
use crate::domain::{BootEnv, Inventory, told_of};
use crate::error::Result;
use crate::loader::Described;
use crate::ops::{self, Problems};
use crate::plan::journal;
use crate::session::Session;
use crate::shared::lacks_mountpoint;
use crate::store;
use crate::zone;
use serde_json::json;
use std::process::ExitCode;

/// Exit status 0: nothing is wrong, or everything was mended; 1: something is wrong.
pub(super) fn run(cx: &mut Context, args: &args::Check) -> Result<ExitCode> {
    let session = cx.session()?;
    let mend = args.repair && !cx.cli.dry_run;
    // Looking needs no lock, and works where nothing can be written.
    let lock = if mend { Some(session.lock()?) } else { session.must_be_initialised().map(|()| None)? };
    let home = session.store().home()?;
    let mut found = Vec::new();
    let mut damaged_journal = false;
    match journal::read(&home) {
        Ok(None) => {}
        Ok(Some(plan)) => {
            found.push(format!("{} was begun and not finished: the next command finishes or undoes it", plan.request))
        }
        Err(e) => {
            damaged_journal = e.kind == crate::error::Kind::Failed;
            found.push(e.message);
        }
    }
    match &lock {
        Some(_) if damaged_journal => journal::put_aside(&home)?,
        Some(lock) => session.settle_locked(lock, &mut cx.out)?,
        None => {}
    }
    let inventory = session.inventory()?;
    let problems = look(&session, &inventory)?;
    found.extend(in_words(&inventory, &problems));
    let plan = ops::repair(&inventory, &problems);
    let healthy = found.is_empty();
    let in_zones = if cx.cli.zone.is_none() { zones(cx, &session)? } else { Vec::new() };
    if args.repair && cx.cli.dry_run {
        cx.out.plan(&plan, true)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(lock), false) = (&lock, healthy) {
        session.run(lock, &plan, &mut cx.out)?;
    }
    let mut left = match mend && !healthy {
        true => {
            let inventory = session.inventory()?;
            in_words(&inventory, &look(&session, &inventory)?)
        }
        false => found.clone(),
    };
    left.extend(in_zones.iter().cloned());
    found.extend(in_zones);
    if cx.out.is_json() {
        cx.out.document(&json!({"version": 1, "healthy": left.is_empty(), "found": found, "left": left, "repaired": mend && !healthy}));
    } else {
        for problem in &found {
            let mark = if mend && !left.contains(problem) { "mended" } else { "found" };
            cx.out.line(format!("{mark}: {problem}"));
        }
        if found.is_empty() {
            cx.out.line("nothing is wrong");
        }
    }
    Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong in zones, which is mended there.
fn zones(cx: &Context, session: &Session) -> Result<Vec<String>> {
    let mut words = Vec::new();
    for zone in store::zones(session.store())? {
        let inside = || -> Result<Vec<String>> {
            if zone::settings(session.store(), &zone)?.is_none() {
                return Ok(Vec::new());
            }
            let inside = Session::open(cx.cli.store.as_deref())?.enter(&zone)?;
            inside.must_be_initialised()?;
            let inventory = inside.inventory()?;
            Ok(in_words(&inventory, &look(&inside, &inventory)?))
        };
        let found = inside().unwrap_or_else(|e| vec![e.in_a_line()]);
        words.extend(found.iter().map(|text| format!("the zone {zone}: {}", told_of(&zone, text))));
    }
    Ok(words)
}

fn in_words(inventory: &Inventory, problems: &Problems) -> Vec<String> {
    let mut words: Vec<String> = inventory.attention.iter().chain(&inventory.menu.problems).cloned().collect();
    words.extend(problems.stale.iter().map(|be| format!("the menu entry of {be} is out of date")));
    words.extend(problems.unreadable.iter().cloned());
    words.extend(problems.placeless.iter().map(|be| format!("{be} has no /var/shared to mount the shared dataset on")));
    let unclaimed = problems.unclaimed.iter();
    words.extend(
        unclaimed.map(|(path, _)| format!("{path} was made for a boot environment that is gone, and holds space")),
    );
    words.extend(problems.orphans.iter().map(|file| format!("BOOTENV/{file} describes something that is gone")));
    words
}

/// What the inventory does not look at, because `list` has no time for it.
fn look(session: &Session, inventory: &Inventory) -> Result<Problems> {
    let store = session.store();
    let mut problems = Problems::default();
    let known: Vec<_> =
        inventory.bes.iter().flat_map(|b| std::iter::once(b.uuid).chain(b.snapshots.iter().map(|s| s.uuid))).collect();
    for kept in store.facts_files()? {
        if kept.damaged {
            problems.damaged.push(kept.file);
        } else if !known.contains(&kept.identity) {
            problems.orphans.push(kept.file);
        }
    }
    match store.adopted() {
        Ok(adopted) => {
            for (name, path) in adopted {
                if store.identity(&path)?.is_none() {
                    problems.gone.push(name);
                }
            }
        }
        Err(_) => problems.damaged.push("store.toml".into()),
    }
    let placeless = |be: &&BootEnv| store.tree(&be.path).is_ok_and(|tree| lacks_mountpoint(&tree).unwrap_or(false));
    problems.placeless = inventory.bes.iter().filter(placeless).map(|be| be.name.to_string()).collect();
    problems.unclaimed = store.unclaimed()?;
    let loader = session.loader()?;
    if let Ok(entries) = loader.entries() {
        for be in &inventory.bes {
            match session.describe(be) {
                // One that cannot be read must not hide what is wrong with the others.
                Err(problem) | Ok(Described { problem: Some(problem), .. }) => {
                    problems.unreadable.push(format!("{}: {}", be.name, problem.message));
                }
                Ok(Described { entry, .. })
                    if entries.iter().any(|e| e.id == entry.id) && !entries.contains(&entry) =>
                {
                    problems.stale.push(be.name.to_string());
                }
                Ok(_) => {}
            }
        }
    }
    Ok(problems)
}
