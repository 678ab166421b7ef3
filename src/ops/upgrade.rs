//! `upgrade`: a new BE in which a command is run, kept whole or not at all.

use super::activate::ask_for;
use super::create::{Activate, Create, create};
use crate::domain::{BeName, Inventory, Target};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::be_path;
use std::ffi::OsString;

/// What is to be done.
#[derive(Debug, Clone, Default)]
pub struct Upgrade {
    /// The new BE; without one it gets the source's name with the next free number.
    pub name: Option<BeName>,
    /// Made from what boots next instead of from what runs.
    pub onward: bool,
    /// Free text.
    pub description: Option<String>,
    /// Whether the new BE is activated.
    pub activate: Activate,
    /// Whether the command is run in the new root of each attached zone too.
    pub zones: bool,
    /// Whether the new BE is kept even if the command fails.
    pub keep_failed: bool,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

/// A planned upgrade.
#[derive(Debug)]
pub struct Upgraded {
    /// The new BE.
    pub be: BeName,
    /// What it is made from, as a path of the store.
    pub from: String,
    /// The new BE as a path of the store.
    pub path: String,
    /// What makes the BE, if it is to be kept whatever happens to the rest.
    pub first: Option<Plan>,
    /// The rest, or all of it.
    pub plan: Plan,
}

impl Upgraded {
    /// The plans in order.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.first.iter().chain(std::iter::once(&self.plan))
    }

    /// Both as one, to be shown.
    pub fn whole(&self) -> Plan {
        Plan {
            add: self.first.iter().flat_map(Plan::steps).chain(&self.plan.add).cloned().collect(),
            notes: self.plans().flat_map(|plan| &plan.notes).cloned().collect(),
            ..self.plan.clone()
        }
    }
}

/// Plans it: a creation in which the command is run, and its result looked at, before anything can boot it.
pub fn upgrade(inventory: &Inventory, request: &Upgrade) -> Result<Upgraded> {
    let creation = Create {
        name: request.name.clone().map(Target::Be),
        source: request.onward.then(|| pending(inventory)).transpose()?,
        description: request.description.clone(),
        activate: if request.keep_failed { Activate::No } else { request.activate },
        ..Create::default()
    };
    let mut plan = create(inventory, &creation)?;
    let clone = plan.steps().find_map(|step| step.clones().next()).map(|(from, to)| (from.to_string(), to.to_string()));
    let entry = plan.steps().find(|step| matches!(step, Step::Entry { .. })).cloned();
    let (Some((from, path)), Some(Step::Entry { be, title, .. })) = (clone, entry) else {
        return Err(Error::failed("a creation that makes nothing to boot"));
    };
    let name = BeName::parse(&be)?;
    let command = request.command.clone();
    let in_one = |be: &str, path: &str| {
        [
            Step::Run { be: be.to_string(), path: path.to_string(), command: command.clone() },
            Step::Examine { be: be.to_string(), path: path.to_string() },
        ]
    };
    let mut inside = Vec::from(in_one(&be, &path));
    for step in plan.steps().filter(|_| request.zones) {
        if let Step::Assign { zone, be, .. } = step {
            inside.extend(in_one(be, &be_path(be)).map(|step| step.within(zone)));
        }
    }
    let request_text = format!("upgrade {be}");
    let (first, plan) = if request.keep_failed {
        let renewed = Step::Entry { be, path: path.clone(), read: None, title, fresh: false };
        let mut rest = match request.activate {
            Activate::No => Plan::new(request_text, renewed),
            wanted => Plan::new(request_text, ask_for(inventory, &name, wanted == Activate::Once)).adding(renewed),
        };
        rest.add.splice(0..0, inside);
        (Some(plan), rest)
    } else {
        let at = plan.add.iter().position(|step| matches!(step, Step::Entry { .. })).unwrap_or(plan.add.len());
        plan.add.splice(at..at, inside);
        plan.request = request_text;
        (None, plan)
    };
    Ok(Upgraded { be: name, from, path, first, plan })
}

/// The BE that boots next and does not run yet.
fn pending(inventory: &Inventory) -> Result<Target> {
    let next = inventory.next.once.as_ref().or(inventory.next.default.as_ref());
    let be = next.and_then(|name| inventory.bes.iter().find(|be| be.name.as_str() == name));
    match be {
        Some(be) if !be.running => Ok(Target::Be(be.name.clone())),
        _ => Err(Error::refused("--continue: what boots next is what runs now, so there is nothing to go on from")
            .hint("leave --continue out")),
    }
}
