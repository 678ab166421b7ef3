//! `prune`: automatic BEs that have had their time.

use crate::domain::policy::Policy;
use crate::domain::{BeName, BootEnv, Inventory};
use crate::error::Result;

const DAY: i64 = 24 * 60 * 60;

/// What a policy comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Those that go, oldest first.
    pub go: Vec<BeName>,
    /// Those that may go too, where space is short, oldest first.
    pub spare: Vec<BeName>,
    /// Automatic ones that stay whatever the policy says, with the reason.
    pub stay: Vec<(BeName, &'static str)>,
}

/// Decides which automatic BEs go. `now` is in seconds since the epoch.
pub fn prune(inventory: &Inventory, policy: &Policy, now: i64) -> Result<Pruned> {
    let automatic: Vec<&BootEnv> = inventory.bes.iter().filter(|be| be.facts.automatic.is_some()).collect();
    let mut pruned = Pruned::default();
    let mut free = Vec::new();
    for be in automatic {
        match stays(inventory, be) {
            Some(why) => pruned.stay.push((be.name.clone(), why)),
            None => free.push(be),
        }
    }
    free.sort_by_key(|be| be.created);
    let young = |be: &BootEnv| now.saturating_sub(be.created) <= i64::from(policy.keep_days) * DAY;
    let beyond = free.len().saturating_sub(policy.keep);
    for (index, be) in free.iter().enumerate() {
        let old = index < beyond && !(policy.keep_days > 0 && young(be));
        let newest = index + 1 == free.len();
        match (old, newest) {
            (true, _) => pruned.go.push(be.name.clone()),
            (false, false) => pruned.spare.push(be.name.clone()),
            (false, true) => {}
        }
    }
    if policy.keep_free.is_none() {
        pruned.spare.clear();
    }
    if !(pruned.go.is_empty() && pruned.spare.is_empty()) {
        inventory.must_know_next()?;
    }
    Ok(pruned)
}

/// Why an automatic BE stays whatever the policy says.
fn stays(inventory: &Inventory, be: &BootEnv) -> Option<&'static str> {
    [
        (be.facts.pinned, "it is pinned"),
        (be.running, "it is running"),
        (inventory.is_default(&be.name), "it is active on reboot"),
        (inventory.is_once(&be.name), "it is active for the next boot"),
        (be.mounted(), "it is mounted"),
        (!be.snapshots.is_empty(), "it has snapshots"),
        (super::along::has_snapshots(inventory, be), "what zones run with it has snapshots"),
    ]
    .into_iter()
    .find_map(|(so, why)| so.then_some(why))
}
