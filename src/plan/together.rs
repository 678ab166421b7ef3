//! Clones of a BE of the host and of what zones run with it, as all of it is at one instant.

use super::execute::World;
use super::{Pair, Plan};
use crate::error::Result;
use crate::sys::freeze::Frozen;
use crate::zone;

/// Makes them. Where the store cannot see to it that it is one instant, zones that run are frozen meanwhile.
pub(super) fn clone(world: &World<'_>, plan: &Plan, clones: &[Pair], readonly: bool) -> Result<()> {
    let pairs: Vec<(&str, &str)> = clones.iter().map(|pair| (pair.from.as_str(), pair.to.as_str())).collect();
    let facts = pairs.first().map(|(_, to)| plan.facts_for(to)).unwrap_or_default();
    let (mut zones, mut groups) = (Vec::new(), Vec::new());
    if !world.store.clones_at_one_instant() {
        for zone in clones.iter().filter_map(|pair| pair.zone.as_ref()) {
            let brand = zone::brand(world.store, zone)?;
            if brand.runs(zone)
                && let Some(group) = brand.group_of(zone)
            {
                zones.push(zone);
                groups.push(group);
            }
        }
    }
    let _frozen = Frozen::new(&groups).map_err(|(at, e)| e.context(format!("the zone {}", zones[at])))?;
    world.store.clone_together(&pairs, readonly, &facts)
}
