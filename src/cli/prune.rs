//! `bootenv prune`.

use super::destroy::look_at;
use super::{Context, args};
use crate::altroot;
use crate::domain::policy::Policy;
use crate::domain::policy::size;
use crate::domain::{BeName, Inventory, Target};
use crate::error::Result;
use crate::ops::{self, Destroy};
use crate::plan::{Plan, Step};
use crate::session::{Locks, Session, Which};
use serde_json::json;
use std::collections::VecDeque;

/// What has been done, or would be.
#[derive(Default)]
struct Report {
    destroyed: Vec<BeName>,
    steps: Vec<String>,
    stay: Vec<(BeName, String)>,
    /// Those that would go while space is short: nobody knows before what destroying the others frees.
    spare: Vec<BeName>,
    short: Option<String>,
}

pub(super) fn run(cx: &mut Context, args: &args::Prune) -> Result<()> {
    let (session, locks) = cx.begin_along(Which::All)?;
    let set = session.settings()?.prune;
    let policy = Policy {
        keep: args.keep.unwrap_or(set.keep),
        keep_days: args.keep_days.unwrap_or(set.keep_days),
        keep_free: args.keep_free.or(set.keep_free),
    };
    let report = prune(cx, &session, &locks, &policy)?;
    let dry_run = cx.cli.dry_run;
    if cx.out.is_json() {
        let stay: Vec<_> = report.stay.iter().map(|(be, why)| json!({"name": be.as_str(), "why": why})).collect();
        let names = |bes: &[BeName]| bes.iter().map(|be| be.as_str().to_string()).collect::<Vec<_>>();
        let changed = !dry_run && !report.destroyed.is_empty();
        cx.out.document(&json!({"version": 1, "request": "prune", "dry_run": dry_run, "changed": changed,
            "steps": report.steps, "destroyed": names(&report.destroyed), "stay": stay,
            "while_space_is_short": names(&report.spare), "notes": Vec::from_iter(&report.short)}));
        return Ok(());
    }
    if dry_run {
        cx.out.line("prune would:");
        report.steps.iter().for_each(|step| cx.out.line(format!("  {step}")));
        if !report.spare.is_empty() {
            let names: Vec<&str> = report.spare.iter().map(BeName::as_str).collect();
            cx.out.line(format!("  and, as long as too little is free, destroy {}", names.join(", then ")));
        }
    } else {
        report.destroyed.iter().for_each(|be| cx.out.line(format!("{be} is destroyed")));
    }
    report.stay.iter().for_each(|(be, why)| cx.out.line(format!("{be} stays: {why}")));
    if report.steps.is_empty() && report.spare.is_empty() {
        cx.out.line("no automatic boot environment has had its time");
    }
    report.short.iter().for_each(|text| cx.out.line(text));
    Ok(())
}

/// Destroys what has had its time.
pub(super) fn carry_out(cx: &mut Context, session: &Session, locks: &Locks, policy: &Policy) -> Result<Vec<BeName>> {
    prune(cx, session, locks, policy).map(|report| report.destroyed)
}

fn prune(cx: &mut Context, session: &Session, locks: &Locks, policy: &Policy) -> Result<Report> {
    let read = || Ok(Inventory { zones: session.zones_looked_into(), ..session.inventory()? });
    let inventory: Inventory = read()?;
    let mut pruned = ops::prune(&inventory, policy, chrono::Utc::now().timestamp())?;
    let mut report = Report::default();
    report.stay.extend(pruned.stay.into_iter().map(|(be, why)| (be, why.to_string())));
    for list in [&mut pruned.go, &mut pruned.spare] {
        let mut free = Vec::new();
        for be in list.drain(..) {
            match altroot::mounted_elsewhere(session.store(), &inventory.be(&be)?.path)? {
                Some(words) => report.stay.push((be, format!("it is mounted in another mount namespace: {words}"))),
                None => free.push(be),
            }
        }
        *list = free;
    }
    if !pruned.go.is_empty() {
        let plan = planned(session, &inventory, &pruned.go)?;
        act(cx, session, locks, &plan, pruned.go, &mut report)?;
    }
    let Some(wanted) = policy.keep_free else { return Ok(report) };
    let mut spare = VecDeque::from(pruned.spare);
    loop {
        let space = session.store().space()?;
        let wanted = wanted.of(space.size);
        if space.free >= wanted {
            return Ok(report);
        }
        if cx.cli.dry_run {
            report.spare = spare.into();
            return Ok(report);
        }
        let Some(next) = spare.pop_front() else {
            report.short = Some(format!(
                "only {} is free, less than {}, and no other automatic boot environment may go",
                size(space.free),
                size(wanted)
            ));
            return Ok(report);
        };
        let plan = planned(session, &read()?, std::slice::from_ref(&next))?;
        act(cx, session, locks, &plan, vec![next], &mut report)?;
    }
}

fn planned(session: &Session, inventory: &Inventory, bes: &[BeName]) -> Result<Plan> {
    let mut request = Destroy { targets: bes.iter().cloned().map(Target::Be).collect(), ..Destroy::default() };
    look_at(session, inventory, &mut request)?;
    ops::destroy(inventory, &request)
}

fn act(
    cx: &mut Context,
    session: &Session,
    locks: &Locks,
    plan: &Plan,
    bes: Vec<BeName>,
    report: &mut Report,
) -> Result<()> {
    if cx.cli.dry_run {
        session.preflight(plan)?;
    } else {
        cx.out.follow(plan);
        session.run(&locks.store, plan, &mut cx.out)?;
    }
    report.steps.extend(plan.steps().map(Step::to_string));
    report.destroyed.extend(bes);
    Ok(())
}
