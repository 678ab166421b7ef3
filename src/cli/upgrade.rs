//! `bootenv upgrade`.

use super::{Context, args};
use crate::domain::{BeName, Inventory};
use crate::error::{Doing, Result};
use crate::ops::{self, Activate, Upgraded};
use crate::package::{self, Changes};
use crate::plan::Plan;
use crate::plan::execute::Observer;
use crate::session::{Session, Which};
use crate::store::Lock;
use serde_json::json;

pub(super) fn run(cx: &mut Context, args: &args::Upgrade) -> Result<()> {
    let request = ops::Upgrade {
        name: args.name.as_deref().map(BeName::parse).transpose()?,
        onward: args.onward,
        description: args.made.description(),
        activate: args.made.activation(),
        zones: args.zones,
        keep_failed: args.keep_failed,
        command: args.command.clone(),
    };
    let (session, mut locks) = cx.begin_along(if args.no_zones { Which::None } else { Which::Attached })?;
    let inventory = Inventory { zones: std::mem::take(&mut locks.along), ..session.inventory_about(None)? };
    let upgraded = ops::upgrade(&inventory, &request)?;
    if cx.cli.dry_run {
        return cx.carry_out(&session, &locks.store, &upgraded.whole());
    }
    upgraded.plans().try_for_each(|plan| carry_out(cx, &session, &locks.store, plan))?;
    let store = session.store();
    // The new one is there, whatever can be told of it.
    let changes = package::changes(&store.tree(&upgraded.from)?, &store.tree(&upgraded.path)?).unwrap_or_else(|e| {
        cx.out.note(&format!("which packages differ is not known: {}", e.in_a_line()));
        Changes::default()
    });
    let used = session.inventory_about(Some(&upgraded.be))?.be(&upgraded.be)?.used;
    if cx.out.is_json() {
        let mut document = cx.out.plan_document(&upgraded.whole(), false);
        document["boot_environment"] = upgraded.be.as_str().into();
        document["packages"] = json!(changes);
        document["used_bytes"] = used.into();
        cx.out.document(&document);
    } else {
        summary(cx, &upgraded, &changes, used, request.activate);
    }
    Ok(())
}

/// Runs a plan. With `--json`, what the command says goes to standard error: standard output is for the one document.
fn carry_out(cx: &mut Context, session: &Session, lock: &Lock, plan: &Plan) -> Result<()> {
    cx.out.follow(plan);
    if !cx.out.is_json() {
        return session.run(lock, plan, &mut cx.out);
    }
    let own = rustix::io::dup(rustix::stdio::stdout()).doing("cannot keep standard output")?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr()).doing("cannot redirect the command")?;
    let result = session.run(lock, plan, &mut cx.out);
    rustix::stdio::dup2_stdout(own).doing("cannot restore standard output")?;
    result
}

fn summary(cx: &Context, upgraded: &Upgraded, changes: &Changes, used: Option<u64>, activate: Activate) {
    let be = &upgraded.be;
    let section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            cx.out.line(format!("{title} ({}):", lines.len()));
            lines.iter().for_each(|line| cx.out.line(format!("  {line}")));
        }
    };
    let pair = |(name, version): &(String, String)| format!("{name} {version}");
    section("added", changes.added.iter().map(pair).collect());
    section("removed", changes.removed.iter().map(pair).collect());
    section("changed", changes.changed.iter().map(|(name, old, new)| format!("{name} {old} -> {new}")).collect());
    section("services that differ", changes.services.clone());
    if let Some(used) = used {
        cx.out.line(format!("{be} takes {}", crate::domain::policy::size(used)));
    }
    cx.out.line(match activate {
        Activate::No => format!("{be} is ready: `bootenv activate {be}` boots it from the next boot on"),
        Activate::Default => format!("{be} boots next; `bootenv activate` the one that runs now to go back"),
        Activate::Once => format!("{be} boots next, once; `bootenv activate {be}` there keeps it"),
    });
}
