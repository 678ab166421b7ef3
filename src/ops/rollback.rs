//! `rollback`: a BE becomes again what a snapshot of it was.

use super::entry;
use crate::domain::{BeName, Inventory, Sight, SnapName, ZoneName};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::{be_path, snapshot_path};
use std::collections::HashMap;

/// Where in other mount namespaces that is mounted which would be rolled back, in words.
#[derive(Debug, Clone, Default)]
pub struct Elsewhere {
    /// The BE.
    pub be: Option<String>,
    /// The zone BEs that go back with it.
    pub zones: HashMap<ZoneName, String>,
}

/// Plans a rollback. What the running BE is made of never changes under it: that is refused.
/// `same_kernel` says whether its menu entry has the kernel that
/// is in the snapshot.
pub fn rollback(
    inventory: &Inventory,
    be: &BeName,
    snap: &SnapName,
    elsewhere: &Elsewhere,
    same_kernel: bool,
) -> Result<Plan> {
    let (be, snapshot) = inventory.snapshot(be, snap)?;
    let name = &be.name;
    if be.running {
        return Err(Error::refused(format!("{name} is running and cannot be changed under its own feet"))
            .hint(format!("`bootenv create -a -e {name}@{snap} {name}-back` makes a boot environment from the snapshot and activates it; then {}", inventory.to_boot())));
    }
    if let Some(at) = be.mountpoints.first() {
        return Err(Error::busy(format!("{name} is mounted at {}", at.display()))
            .hint(format!("`bootenv unmount {name}` first")));
    }
    if let Some(at) = &elsewhere.be {
        return Err(super::in_other_namespace(name, at));
    }
    let later: Vec<String> =
        be.snapshots.iter().skip_while(|s| s.name != *snap).skip(1).map(|s| format!("{name}@{}", s.name)).collect();
    if inventory.store.rollback_takes_later && !later.is_empty() {
        return Err(Error::refused(format!(
            "a rollback to {name}@{snap} would take the later snapshots with it: {}",
            later.join(", ")
        ))
        .hint(format!(
            "destroy those first; or `bootenv create -e {name}@{snap} {name}-back` makes a boot environment from it"
        )));
    }
    let sees = inventory.menu.sight == Sight::Store;
    if !sees {
        inventory.must_know_next()?;
        let why = match inventory.menu.sight {
            Sight::Nothing => Some("while it is exchanged the boot loader would not find it".to_string()),
            _ if same_kernel => None,
            _ => Some(format!(
                "{name}@{snap} has another kernel or initrd, and there is no instant at which both could be exchanged at once"
            )),
        };
        if let Some(why) = why.filter(|_| inventory.is_default(name) || inventory.is_once(name)) {
            return Err(Error::refused(format!("{name} boots next; {why}")).hint(format!(
                "activate another boot environment first; or `bootenv create -a -e {name}@{snap} {name}-back`"
            )));
        }
    }
    let waiting = be_path(&format!(".rollback-{}", uuid::Uuid::new_v4()));
    let clone = Step::Clone {
        from: snapshot_path(name.as_str(), snapshot.name.as_str()),
        to: waiting.clone(),
        readonly: false,
    };
    let facts = super::told(&waiting, be.facts.clone());
    let exchange = Step::Exchange { place: be.path.clone(), with: waiting.clone(), was: be.uuid };
    let mut plan = Plan::new(format!("rollback {name}@{snap}"), exchange).adding(clone);
    plan.add.extend(facts);
    // The snapshot may have another kernel than the BE has now.
    if sees {
        plan.add.push(Step::EntryBeside {
            be: name.to_string(),
            path: be.path.clone(),
            read: waiting.clone(),
            title: be.title(),
        });
    }
    // What belonged to the old one belongs to what it is now.
    super::along::roll_back(&mut plan, inventory, be, snapshot, &elsewhere.zones)?;
    Ok(plan
        .removing(entry(inventory, be))
        .removing(Step::Destroy { path: waiting, identity: be.uuid, heirs: Vec::new() })
        .removing(Step::DropFacts { identity: be.uuid })
        .noting(format!("what {name} became after {name}@{snap} is gone for good; its snapshots stay")))
}
