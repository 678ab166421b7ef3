//! `check`: what is wrong, and the plan that mends it.

use crate::domain::Inventory;
use crate::plan::{MenuLine, Plan, Step};
use uuid::Uuid;

/// What `check` found beyond what the inventory tells.
#[derive(Debug, Clone, Default)]
pub struct Problems {
    /// Damaged files of the tool's own directory.
    pub damaged: Vec<String>,
    /// Adopted roots that are gone, by name.
    pub gone: Vec<String>,
    /// Menu entries that no longer say what their BE holds, by name.
    pub stale: Vec<String>,
    /// BEs whose own settings cannot be read, with the reason.
    pub unreadable: Vec<String>,
    /// BEs with nothing to mount the shared dataset on, by name.
    pub placeless: Vec<String>,
    /// Snapshots that were made for a BE that is gone: path and identity.
    pub unclaimed: Vec<(String, Uuid)>,
    /// Descriptions of datasets that are gone, by file.
    pub orphans: Vec<String>,
}

/// Plans the repair: everything that can be derived is made anew from what is there. Nothing is destroyed but what nobody can use.
pub fn repair(inventory: &Inventory, problems: &Problems) -> Plan {
    let line = |b: &crate::domain::BootEnv| MenuLine { be: b.name.to_string(), path: b.path.clone(), title: b.title() };
    let entries = inventory.bes.iter().rev().map(line).collect();
    let mut plan = Plan::new("check --repair", Step::Menu { entries });
    plan.add.extend(problems.damaged.iter().chain(&problems.orphans).map(|file| Step::PutAside { file: file.clone() }));
    plan.add.push(Step::Layout);
    plan.add.push(Step::Loader);
    plan.add.extend(problems.gone.iter().map(|be| Step::Forget { be: be.clone() }));
    let filled = inventory.bes.iter().filter(|b| {
        let placeless = !b.readonly && problems.placeless.contains(&b.name.to_string());
        placeless || (!inventory.shared && !b.adopted)
    });
    plan.remove.extend(filled.map(|b| Step::Fill { path: b.path.clone() }));
    let unclaimed = problems.unclaimed.iter().cloned();
    plan.remove.extend(unclaimed.map(|(path, identity)| Step::Destroy { path, identity, heirs: Vec::new() }));
    plan
}
