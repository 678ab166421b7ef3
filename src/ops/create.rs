//! `create`: a new BE, or a snapshot.

use super::activate::ask_for;
use super::{describe, path_of};
use crate::domain::{BeName, BootEnv, Facts, Inventory, SnapName, Target, title};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::{be_path, snapshot_path};
use std::collections::BTreeMap;

/// Whether the new BE is activated at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activate {
    /// Not.
    #[default]
    No,
    /// On reboot, for good.
    Default,
    /// For the next boot only.
    Once,
}

/// What is to be created.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// The new BE or snapshot; without one a BE gets the source's name with the next free number.
    pub name: Option<Target>,
    /// What it is made from; without one, what runs, else what boots next.
    pub source: Option<Target>,
    /// Free text.
    pub description: Option<String>,
    /// Whether it is activated.
    pub activate: Activate,
    /// The transaction that it is made before, if nobody asks for it: then `prune` may take it.
    pub automatic: Option<String>,
    /// Dataset properties to set.
    pub properties: BTreeMap<String, String>,
}

/// What decides where a BE is mounted, when, and by whom.
const OWN_PROPERTIES: [&str; 4] = ["mountpoint", "canmount", "readonly", "zoned"];

/// Plans a creation.
pub fn create(inventory: &Inventory, request: &Create) -> Result<Plan> {
    if let Some(name) = request.properties.keys().next() {
        let store = &inventory.store;
        if !store.properties {
            return Err(
                Error::usage(format!("-o {name}: {} datasets have no properties", store.kind)).hint("leave -o out")
            );
        }
        if matches!(request.name, Some(Target::Snapshot(..))) {
            return Err(Error::usage("-o is for boot environments, not for snapshots").hint("leave it out"));
        }
    }
    if let Some(own) = request.properties.keys().find(|name| OWN_PROPERTIES.contains(&name.as_str())) {
        return Err(Error::refused(format!("{own} of a boot environment is what makes it one, and cannot be chosen"))
            .hint(format!("leave -o {own} out")));
    }
    match &request.name {
        Some(Target::Snapshot(be, snap)) => snapshot(inventory, request, be, snap),
        Some(Target::Be(name)) => clone(inventory, request, Some(name)),
        None => clone(inventory, request, None),
    }
}

fn snapshot(inventory: &Inventory, request: &Create, be: &BeName, snap: &SnapName) -> Result<Plan> {
    if request.source.is_some() || request.activate != Activate::No {
        return Err(Error::usage(format!("{be}@{snap} is a snapshot: -e, -a and -t are for boot environments"))
            .hint(format!("`bootenv create -e {be}@{snap} NAME` makes a boot environment from it afterwards")));
    }
    let source = inventory.be(be)?;
    if source.adopted {
        return Err(Error::refused(format!("{be} is an adopted root, where it lies; it has no snapshots"))
            .hint(format!("`bootenv create -e {be} NAME` makes a boot environment from it")));
    }
    if source.snapshot(snap).is_some() {
        return Err(
            Error::refused(format!("the snapshot {be}@{snap} exists")).hint("choose another name, or destroy it first")
        );
    }
    inventory.store.must_hold(be, Some(snap), &source.nested)?;
    describe::check(request.description.as_deref().unwrap_or(""))?;
    let facts = Facts { description: request.description.clone(), ..Facts::default() };
    let path = snapshot_path(be.as_str(), snap.as_str());
    let mut along = super::along::snapshots(inventory, source, snap)?;
    let alone = along.pairs.is_empty();
    let clone = along.with(source.path.clone(), path.clone(), true);
    let request = format!("create {be}@{snap}");
    let mut plan = match super::told(&path, facts) {
        Some(facts) if alone => Plan::new(request, facts).adding(clone),
        facts => {
            let mut plan = Plan::new(request, clone);
            plan.remove.extend(facts);
            plan
        }
    };
    plan.remove.extend(along.steps);
    plan.notes.extend(along.notes);
    Ok(plan)
}

fn clone(inventory: &Inventory, request: &Create, name: Option<&BeName>) -> Result<Plan> {
    let said = match &request.source {
        Some(target) => target.clone(),
        None => Target::Be(default_source(inventory)?.name.clone()),
    };
    let (from, source) = (path_of(inventory, &said)?, inventory.be(said.be())?);
    let name = match name {
        Some(name) => name.clone(),
        None => next_free(inventory, source)?,
    };
    inventory.store.must_hold(&name, None, &source.nested)?;
    if inventory.find(&name).is_some() {
        return Err(Error::refused(format!("the boot environment {name} exists"))
            .hint("choose another name, or destroy it first"));
    }
    let path = be_path(name.as_str());
    describe::check(request.description.as_deref().unwrap_or(""))?;
    let facts = Facts {
        description: request.description.clone(),
        automatic: request.automatic.clone(),
        parent: inventory.owner(),
        ..Facts::default()
    };
    let title = title(&name, request.description.as_deref());
    let entry = Step::Entry { be: name.to_string(), path: path.clone(), read: None, title, fresh: true };
    let mut along = super::along::roots(inventory, &said, &name)?;
    let clone = along.with(from, path.clone(), false);
    let facts = super::told(&path, facts);
    let properties = (!request.properties.is_empty())
        .then(|| Step::Properties { path: path.clone(), set: request.properties.clone() });
    let share = source.adopted.then(|| Step::Share { path: path.clone(), be: name.to_string() });
    let request_text = format!("create {name}");
    let mut plan = match request.activate {
        Activate::No => Plan::new(request_text, entry),
        wanted => {
            let mut plan = Plan::new(request_text, ask_for(inventory, &name, wanted == Activate::Once));
            plan.add.push(entry);
            plan
        }
    };
    plan.add.splice(0..0, std::iter::once(clone).chain(properties).chain(facts).chain(share).chain(along.steps));
    plan.notes.push(format!("{name} is made from {said}"));
    plan.notes.extend(along.notes);
    Ok(plan)
}

/// The BE that a creation copies, or whose snapshot it does.
pub fn source_of(inventory: &Inventory, request: &Create) -> Result<BeName> {
    match &request.source {
        Some(source) => Ok(source.be().clone()),
        None => Ok(default_source(inventory)?.name.clone()),
    }
}

fn default_source(inventory: &Inventory) -> Result<&BootEnv> {
    let by_name = |name: &Option<String>| inventory.bes.iter().find(|b| Some(b.name.as_str()) == name.as_deref());
    let only = || (inventory.bes.len() == 1).then(|| &inventory.bes[0]);
    inventory.running().or_else(|| by_name(&inventory.next.default)).or_else(only).ok_or_else(|| {
        let why = inventory.menu.problems.first().map(|p| format!(" ({p})")).unwrap_or_default();
        Error::refused(format!("nothing on this store runs or is active, so there is nothing to copy by default{why}"))
            .hint("name the source with -e BE")
    })
}

/// `default-3` for `default` or `default-2`: one more than the highest number in use, so that names made one after
/// another never collide, as names made from the time do.
fn next_free(inventory: &Inventory, source: &BootEnv) -> Result<BeName> {
    let base = match source.name.as_str().rsplit_once('-') {
        Some((base, number))
            if !number.is_empty()
                && number.len() < 10
                && number.bytes().all(|b| b.is_ascii_digit())
                && !base.is_empty() =>
        {
            base
        }
        _ => source.name.as_str(),
    };
    let number_of =
        |name: &str| name.strip_prefix(base)?.strip_prefix('-').filter(|n| n.len() < 10)?.parse::<u64>().ok();
    let highest = inventory.bes.iter().filter_map(|b| number_of(b.name.as_str())).max().unwrap_or(0);
    let made = BeName::parse(&format!("{base}-{}", highest + 1));
    made.and_then(|name| inventory.store.must_hold(&name, None, &source.nested).map(|()| name)).map_err(|_| {
        Error::usage(format!("no name can be made from {}: it is too long", source.name))
            .hint("give the new boot environment a name")
    })
}
