//! What verbs of the host do in the zones that they take along.

use super::Elsewhere;
use super::destroy::{Destroy, Destruction, chosen};
use crate::domain::{Along, BeName, BootEnv, Inventory, SnapName, Snapshot, Target, ZoneName, title, told_of};
use crate::error::{Error, Result};
use crate::plan::{Pair, Plan, Step};
use crate::store::{be_path, snapshot_path, zone_path};
use std::collections::HashMap;
use uuid::Uuid;

/// What is cloned in zones with a BE or a snapshot of the host.
#[derive(Debug, Default)]
pub(super) struct Clones {
    /// From where to where, from the top of the store.
    pub pairs: Vec<Pair>,
    /// What is done with the clones in their zones.
    pub steps: Vec<Step>,
    /// What people should know about it.
    pub notes: Vec<String>,
}

impl Clones {
    /// The step that makes them together with that of the host.
    pub fn with(&mut self, from: String, to: String, readonly: bool) -> Step {
        match self.pairs.is_empty() {
            true => Step::Clone { from, to, readonly },
            false => {
                let host = Pair { from, to, zone: None };
                let clones = std::iter::once(host).chain(std::mem::take(&mut self.pairs)).collect();
                Step::CloneTogether { clones, readonly }
            }
        }
    }
}

/// The root of each attached zone that runs with the BE of the host that `source` names, or that was put by with that snapshot, for the
/// new BE of the host `name`, with which the clones run. What is said of that is not for the zone's eyes.
pub(super) fn roots(inventory: &Inventory, source: &Target, name: &BeName) -> Result<Clones> {
    let mut clones = Clones::default();
    let host = inventory.be(source.be())?;
    for zone in inventory.zones.iter().filter(|zone| zone.attached) {
        let found = match source {
            Target::Be(_) => zone.due(host.uuid).map(|be| (be, be.path.clone())),
            Target::Snapshot(be, snap) => {
                let (_, snapshot) = inventory.snapshot(be, snap)?;
                let found = zone.snapshot_with(snapshot.uuid);
                found.map(|(be, snapshot)| (be, snapshot_path(be.name.as_str(), snapshot.name.as_str())))
            }
        };
        let Some((root, path)) = found else {
            let what = if matches!(source, Target::Be(_)) { "runs nothing" } else { "has no snapshot that was taken" };
            clones.notes.push(format!("the zone {} {what} with {source}, so it has no root for {name}", zone.name));
            continue;
        };
        let be = free_name(zone, name)?;
        told(&zone.name, zone.inside.store.must_hold(&be, None, &root.nested))?;
        let to = be_path(be.as_str());
        clones.pairs.push(pair(zone, &path, &to));
        let title = title(&be, None);
        let entry = Step::Entry { be: be.to_string(), path: to, read: None, title, fresh: true };
        clones.steps.push(entry.within(&zone.name));
        let owner = be_path(name.as_str());
        clones.steps.push(Step::Assign { zone: zone.name.clone(), be: be.to_string(), owner, was: None });
        clones.notes.push(format!("{} runs {be} with it, made from {}", zone.name, root.name));
    }
    Ok(clones)
}

/// Snapshots of what each attached zone runs with the BE of the host `host`, which go with the snapshot `snap` of it.
pub(super) fn snapshots(inventory: &Inventory, host: &BootEnv, snap: &SnapName) -> Result<Clones> {
    let mut clones = Clones::default();
    let owner = snapshot_path(host.name.as_str(), snap.as_str());
    for zone in inventory.zones.iter().filter(|zone| zone.attached) {
        let Some(be) = zone.due(host.uuid) else {
            clones
                .notes
                .push(format!("the zone {} runs nothing with {}, so nothing of it is kept", zone.name, host.name));
            continue;
        };
        let names = numbered(snap.as_str()).map_while(|name| SnapName::parse(&name).ok());
        let Some(name) = names.into_iter().find(|name| be.snapshot(name).is_none()) else {
            return Err(no_name(zone, snap.as_str()));
        };
        told(&zone.name, zone.inside.store.must_hold(&be.name, Some(&name), &be.nested))?;
        let to = snapshot_path(be.name.as_str(), name.as_str());
        clones.pairs.push(pair(zone, &be.path, &to));
        clones.steps.push(Step::Belong { zone: zone.name.clone(), path: to, owner: owner.clone() });
        clones.notes.push(format!("{}@{name} of the zone {} goes with it", be.name, zone.name));
    }
    Ok(clones)
}

/// Makes what a zone runs with a BE of the host again what was put by with a snapshot of that, once it has become that. `elsewhere` says
/// where a zone BE is mounted in other mount namespaces.
pub(super) fn roll_back(
    plan: &mut Plan,
    inventory: &Inventory,
    host: &BootEnv,
    snapshot: &Snapshot,
    elsewhere: &HashMap<ZoneName, String>,
) -> Result<()> {
    for zone in &inventory.zones {
        let name = &zone.name;
        let inherit = Step::Inherit { zone: name.clone(), was: host.uuid, owner: host.path.clone() };
        let Some((be, kept)) = zone.snapshot_with(snapshot.uuid) else {
            plan.remove.push(inherit);
            if let Some(due) = zone.due(host.uuid) {
                plan.notes.push(format!(
                    "{} of the zone {name} stays as it is: there is no snapshot of it that was taken with {}@{}",
                    due.name, host.name, snapshot.name
                ));
            }
            continue;
        };
        let elsewhere = Elsewhere { be: elsewhere.get(name).cloned(), ..Elsewhere::default() };
        let inner = told(name, super::rollback(&zone.inside, &be.name, &kept.name, &elsewhere, true))?;
        plan.add.extend(inner.add.into_iter().map(|step| step.within(name)));
        plan.remove.push(inner.commit.within(name));
        plan.remove.push(inherit);
        if zone.due(host.uuid).is_none_or(|due| due.name != be.name) {
            let assign =
                Step::Assign { zone: name.clone(), be: be.name.to_string(), owner: host.path.clone(), was: None };
            plan.remove.push(assign);
        }
        plan.remove.extend(inner.remove.into_iter().map(|step| step.within(name)));
        plan.notes.extend(inner.notes.into_iter().map(|note| format!("{name}: {note}")));
    }
    Ok(())
}

/// Why a zone BE stays when the BEs of the host that these are go, one of which it belongs to.
fn stays(zone: &Along, be: &BootEnv, hosts: &[Uuid], mounted_elsewhere: Option<&String>) -> Option<String> {
    let named = |asked: &crate::domain::Asked| {
        [&asked.default, &asked.once].into_iter().flatten().any(|name| *name == *be.name.as_str())
    };
    let run_elsewhere = zone.runs.iter().any(|(host, asked)| !hosts.contains(host) && named(asked));
    match be.mountpoints.first().map(|at| at.display().to_string()).or(mounted_elsewhere.cloned()) {
        _ if be.facts.pinned => Some("it is pinned".into()),
        _ if run_elsewhere => Some("the zone runs it with another boot environment of the host".into()),
        Some(at) => Some(format!("it is mounted at {at}")),
        None => None,
    }
}

/// The zone BEs that go with the BEs of the host that these are, and those that stay, with why. `mounted_elsewhere` says which are
/// mounted in other mount namespaces.
pub fn going<'z>(
    zone: &'z Along,
    hosts: &[Uuid],
    mounted_elsewhere: impl Fn(&BeName) -> Option<String>,
) -> (Vec<&'z BootEnv>, Vec<(&'z BootEnv, String)>) {
    let (mut going, mut staying) = (Vec::new(), Vec::new());
    for be in hosts.iter().flat_map(|host| zone.of(*host)) {
        match stays(zone, be, hosts, mounted_elsewhere(&be.name).as_ref()) {
            Some(why) => staying.push((be, why)),
            None => going.push(be),
        }
    }
    (going, staying)
}

/// Lets what belongs in zones to BEs and snapshots of the host go with them: these are gone once the plan has run. `request` says for each
/// zone what only the store and the mount tables know.
pub(super) fn go_along(plan: &mut Plan, inventory: &Inventory, request: &Destroy) -> Result<()> {
    let gone: Vec<Uuid> = plan
        .steps()
        .filter_map(|step| match step {
            Step::Destroy { identity, .. } => Some(*identity),
            _ => None,
        })
        .collect();
    for zone in &inventory.zones {
        let known = request.zones.get(&zone.name);
        let elsewhere = |be: &BeName| known.and_then(|known| known.mounted_elsewhere.get(be));
        let (going, staying) = going(zone, &gone, |be| elsewhere(be).cloned());
        for (be, why) in staying {
            plan.notes.push(format!("{} of the zone {} stays, and belongs to none: {why}", be.name, zone.name));
        }
        let within = Destroy {
            targets: going.iter().map(|be| Target::Be(be.name.clone())).collect(),
            snapshots: request.snapshots,
            ..known.cloned().unwrap_or_default()
        };
        let bes = chosen(&zone.inside, &within)?;
        let mut destruction =
            Destruction { inventory: &zone.inside, request: &within, bes: bes.clone(), gone: Vec::new() };
        let mut steps = Vec::new();
        for be in &bes {
            let own =
                destruction.lost(be).into_iter().filter(|s| s.facts.parent.is_none_or(|with| !gone.contains(&with)));
            let own: Vec<String> = own.map(|snapshot| format!("{}@{}", be.name, snapshot.name)).collect();
            if !own.is_empty() && !request.snapshots {
                return Err(Error::refused(format!(
                    "{} of the zone {}, which would go too, has snapshots: {}",
                    be.name,
                    zone.name,
                    own.join(", ")
                ))
                .hint(format!("destroy them first (`bootenv --zone {} destroy`), or all at once with -s", zone.name)));
            }
            steps.push(Step::DropEntry { be: be.name.to_string(), path: be.path.clone() });
        }
        for be in bes {
            steps.extend(destruction.be(be)?);
        }
        for be in &zone.inside.bes {
            for snapshot in be.snapshots.iter().filter(|s| s.facts.parent.is_some_and(|with| gone.contains(&with))) {
                match destruction.snapshot(be, snapshot, &[&be.name]) {
                    Ok(more) => steps.extend(more),
                    Err(e) => plan.notes.push(format!("it stays in the zone {}: {}", zone.name, e.message)),
                }
            }
        }
        plan.remove.extend(steps.into_iter().map(|step| step.within(&zone.name)));
        let known_with = gone.iter().filter(|host| zone.runs.contains_key(host));
        plan.remove.extend(known_with.map(|host| Step::Release { zone: zone.name.clone(), was: *host }));
    }
    Ok(())
}

/// Whether a zone BE that goes with this BE of the host has snapshots that somebody has taken.
pub(super) fn has_snapshots(inventory: &Inventory, host: &BootEnv) -> bool {
    inventory.zones.iter().any(|zone| zone.of(host.uuid).any(|be| !be.facts.pinned && !be.snapshots.is_empty()))
}

fn pair(zone: &Along, from: &str, to: &str) -> Pair {
    let place = zone_path(&zone.name);
    Pair { from: format!("{place}/{from}"), to: format!("{place}/{to}"), zone: Some(zone.name.clone()) }
}

/// `blue`, `blue-2`, `blue-3`...
fn numbered(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_string()).chain((2..100_000).map(move |number| format!("{name}-{number}")))
}

/// What a zone BE is called that belongs to a new BE of the host: the same, or the same with a number.
fn free_name(zone: &Along, host: &BeName) -> Result<BeName> {
    let mut names = numbered(host.as_str()).map_while(|name| BeName::parse(&name).ok());
    names.find(|name| zone.inside.find(name).is_none()).ok_or_else(|| no_name(zone, host.as_str()))
}

fn no_name(zone: &Along, name: &str) -> Error {
    Error::usage(format!("no name can be made from {name} in the zone {}", zone.name)).hint("choose a shorter name")
}

/// An error of what is done in a zone, told as such.
fn told<T>(zone: &ZoneName, result: Result<T>) -> Result<T> {
    result.map_err(|e| {
        let e = Error { message: told_of(zone, &e.message), hint: e.hint.map(|hint| told_of(zone, &hint)), ..e };
        e.context(format!("the zone {zone}"))
    })
}
