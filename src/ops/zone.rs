//! `zone`: containers, made, let go and destroyed. What is in one is changed by the other verbs, told `--zone`.

use super::destroy::everything;
use crate::domain::{BeName, Facts, Inventory, Owner, Zone, ZoneName, policy, title};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::{be_path, zone_path};
use std::path::PathBuf;

/// Where the first root of a zone comes from.
#[derive(Debug, Clone)]
pub enum ZoneOrigin {
    /// A folder or a tar.
    Tree(PathBuf),
    /// A dataset of the store, by its path from the top.
    Dataset(String),
}

/// A zone that is to be made.
#[derive(Debug, Clone)]
pub struct CreateZone {
    /// Its name.
    pub zone: ZoneName,
    /// What kind of container it is.
    pub brand: String,
    /// Whether it follows the BEs of the host.
    pub attached: bool,
    /// Where its first root comes from.
    pub origin: ZoneOrigin,
    /// What its first zone BE is called.
    pub be: BeName,
    /// Free text about that.
    pub description: Option<String>,
}

/// Plans a zone whose first zone BE belongs to `owner`, on the store that `inventory` is of. There is no zone until all of it is
/// there.
pub fn create_zone(inventory: &Inventory, owner: Option<&Owner>, request: &CreateZone) -> Result<Plan> {
    let CreateZone { zone, brand, attached, origin, be, description } = request;
    let owner = owner.ok_or_else(|| {
        Error::refused(
            "nothing of this store runs or is active, so there is no boot environment that the zone could run with",
        )
        .hint("`bootenv` without a verb tells why; `bootenv activate` one")
    })?;
    super::describe::check(description.as_deref().unwrap_or(""))?;
    let path = be_path(be.as_str());
    let from_top = format!("{}/{path}", zone_path(zone));
    let copy = match origin {
        ZoneOrigin::Tree(from) => Step::Import { from: from.clone(), to: path.clone() }.within(zone),
        ZoneOrigin::Dataset(from) if inventory.store.clones_stand_alone => {
            Step::Clone { from: from.clone(), to: from_top, readonly: false }
        }
        ZoneOrigin::Dataset(from) => Step::Copy { from: from.clone(), to: from_top },
    };
    let facts = Facts { description: description.clone(), ..Facts::default() };
    let entry = Step::Entry {
        be: be.to_string(),
        path: path.clone(),
        read: None,
        title: title(be, description.as_deref()),
        fresh: true,
    };
    let settings = Zone::new(brand, *attached);
    let mut plan =
        Plan::new(format!("zone create {zone}"), Step::Zone { zone: zone.clone(), to: Some(settings), was: None });
    plan.add.push(Step::MakeZone { zone: zone.clone() });
    plan.add.push(copy);
    plan.add.extend(super::told(&path, facts).map(|step| step.within(zone)));
    plan.add.push(Step::Share { path, be: be.to_string() }.within(zone));
    plan.add.push(entry.within(zone));
    plan.add.push(Step::Assign { zone: zone.clone(), be: be.to_string(), owner: owner.path.clone(), was: None });
    Ok(plan.noting(format!("the zone {zone} is made, with the boot environment {be}, which belongs to {}", owner.name)))
}

/// Plans to let a zone follow the BEs of the host, or not; nothing if it is so already.
pub fn attach(zone: &ZoneName, settings: &Zone, attached: bool) -> Option<Plan> {
    set(zone, if attached { "attach" } else { "detach" }, settings, Zone { attached, ..settings.clone() })
}

/// Plans to let a zone start with the host, or not; nothing if it is so already.
pub fn autostart(zone: &ZoneName, settings: &Zone, autostart: bool) -> Option<Plan> {
    let verb = if autostart { "enable" } else { "disable" };
    let plan = set(zone, verb, settings, Zone { autostart, ..settings.clone() })?;
    let late = autostart && !settings.attached;
    Some(if late { plan.noting(format!("{zone} is detached: it starts once it is attached")) } else { plan })
}

/// Plans to set how much a zone may take by itself, where something is said of it; nothing if it is so already.
pub fn limit(
    zone: &ZoneName,
    settings: &Zone,
    boot_environments: Option<Option<u64>>,
    space: Option<Option<u64>>,
) -> Option<Plan> {
    let to = Zone {
        most_boot_environments: boot_environments.unwrap_or(settings.most_boot_environments),
        most_space: space.unwrap_or(settings.most_space),
        ..settings.clone()
    };
    let told = limits(zone, &to);
    Some(set(zone, "limit", settings, to)?.noting(told))
}

/// Plans to set something else for a zone; nothing if it is so already.
fn set(zone: &ZoneName, verb: &str, was: &Zone, to: Zone) -> Option<Plan> {
    let differs = to != *was;
    let step = Step::Zone { zone: zone.clone(), to: Some(to), was: Some(was.clone()) };
    differs.then(|| Plan::new(format!("zone {verb} {zone}"), step))
}

/// How much a zone may take by itself, in words.
pub fn limits(zone: &ZoneName, settings: &Zone) -> String {
    let space =
        settings.most_space.map_or("no limit to its space".into(), |most| format!("{} of space", policy::size(most)));
    format!("{zone} may make {} boot environments and snapshots, with {space}", settings.most())
}

/// Plans a zone's end. `inside` is what is in it, if that can be seen.
pub fn destroy_zone(zone: &ZoneName, settings: &Zone, inside: Option<&Inventory>) -> Result<Plan> {
    let step = Step::Zone { zone: zone.clone(), to: None, was: Some(settings.clone()) };
    let mut plan = Plan::new(format!("zone destroy {zone}"), step);
    if let Some(inside) = inside {
        if let Some(be) = inside.bes.iter().find(|be| be.facts.pinned) {
            return Err(Error::refused(format!("{} of the zone {zone} is pinned", be.name))
                .hint(format!("`bootenv --zone {zone} unpin {}` first", be.name)));
        }
        if let Some((be, at)) = inside.bes.iter().find_map(|be| Some((be, be.mountpoints.first()?))) {
            return Err(Error::busy(format!("{} of the zone {zone} is mounted at {}", be.name, at.display()))
                .hint(format!("stop the container, or `bootenv --zone {zone} unmount {}`", be.name)));
        }
        plan.remove.extend(everything(inside)?.into_iter().map(|step| step.within(zone)));
    }
    Ok(plan.removing(Step::DropZone { zone: zone.clone() }))
}
