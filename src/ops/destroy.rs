//! `destroy`: a BE or a snapshot, gone.

use crate::domain::{BeName, BootEnv, Inventory, SnapName, Snapshot, Target};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::snapshot_path;

/// What is to be destroyed.
#[derive(Debug, Clone)]
pub struct Destroy {
    /// The BE or snapshot.
    pub target: Target,
    /// With its snapshots.
    pub snapshots: bool,
    /// With the snapshot it came from.
    pub origin: bool,
    /// Where it is mounted in other mount namespaces, in words.
    pub mounted_elsewhere: Option<String>,
}

/// Plans a destruction. A mounted BE has been unmounted before, or is refused.
pub fn destroy(inventory: &Inventory, request: &Destroy) -> Result<Plan> {
    match &request.target {
        Target::Snapshot(be, snap) => {
            if request.snapshots || request.origin {
                return Err(
                    Error::usage("-s and -o are for boot environments, not for snapshots").hint("leave them out")
                );
            }
            let (be, snapshot) = inventory.snapshot(be, snap)?;
            // After a rollback a BE comes from its own snapshot, and can do without it.
            keep_origins(inventory, be, &snapshot.name, &[&be.name])?;
            let [destroy, forget] = destroy_snapshot(be, snapshot);
            Ok(Plan::new(format!("destroy {}", request.target), destroy).removing(forget))
        }
        Target::Be(name) => destroy_be(inventory, request, name),
    }
}

fn destroy_be(inventory: &Inventory, request: &Destroy, name: &BeName) -> Result<Plan> {
    let be = inventory.be(name)?;
    if be.running {
        return Err(Error::refused(format!("{name} is running"))
            .hint("activate another boot environment, reboot into it, then destroy this one"));
    }
    if inventory.bes.len() == 1 {
        return Err(Error::refused(format!("{name} is the only boot environment")).hint("create another first"));
    }
    inventory.must_know_next()?;
    if inventory.is_default(name) {
        return Err(
            Error::refused(format!("{name} is active on reboot")).hint("activate another boot environment first")
        );
    }
    if inventory.is_once(name) {
        return Err(Error::refused(format!("{name} is active for the next boot"))
            .hint(format!("`bootenv activate -T {name}` takes that back")));
    }
    if let Some(at) = be.mountpoints.first() {
        return Err(Error::busy(format!("{name} is mounted at {}", at.display()))
            .hint(format!("`bootenv unmount {name}`, or destroy it with -f")));
    }
    if let Some(words) = &request.mounted_elsewhere {
        return Err(super::in_other_namespace(name, words));
    }
    if be.adopted && be.path.is_empty() {
        return Err(Error::refused(format!(
            "{name} lies at the top of the store, around everything else, and cannot be destroyed as a whole"
        ))
        .hint("delete its files by hand, but not ROOT, SHARED and BOOTENV"));
    }
    if !be.snapshots.is_empty() && !request.snapshots {
        let names: Vec<String> = be.snapshots.iter().map(|s| format!("{name}@{}", s.name)).collect();
        return Err(Error::refused(format!("{name} has snapshots: {}", names.join(", ")))
            .hint("destroy them first, or all at once with -s"));
    }
    for snapshot in &be.snapshots {
        keep_origins(inventory, be, &snapshot.name, &[name])?;
    }
    let mut plan =
        Plan::new(format!("destroy {name}"), Step::DropEntry { be: name.to_string(), path: be.path.clone() });
    for snapshot in &be.snapshots {
        plan.remove.extend(destroy_snapshot(be, snapshot));
    }
    plan.remove.push(Step::Destroy { path: be.path.clone(), identity: be.uuid });
    plan.remove.push(Step::DropFacts { identity: be.uuid });
    if be.adopted {
        plan.remove.push(Step::Forget { be: name.to_string() });
    }
    if request.origin
        && let Some((origin, snapshot)) = inventory.bes.iter().find_map(|o| {
            let found = o.snapshots.iter().find(|s| Some(s.uuid) == be.parent_uuid)?;
            Some((o, found))
        })
    {
        if origin.name != *name {
            keep_origins(inventory, origin, &snapshot.name, &[name, &origin.name])?;
            plan.remove.extend(destroy_snapshot(origin, snapshot));
        }
    } else if request.origin {
        plan.notes.push(format!("{name} came from no snapshot, so -o has nothing to do"));
    }
    Ok(plan)
}

/// The steps that destroy a snapshot, the committing one first. What is known of it goes too, even if it cannot be read.
fn destroy_snapshot(be: &BootEnv, snapshot: &Snapshot) -> [Step; 2] {
    let path = snapshot_path(be.name.as_str(), snapshot.name.as_str());
    [Step::Destroy { path, identity: snapshot.uuid }, Step::DropFacts { identity: snapshot.uuid }]
}

/// Refuses to destroy a snapshot that a BE, other than those in `except`, came from.
fn keep_origins(inventory: &Inventory, be: &BootEnv, name: &SnapName, except: &[&BeName]) -> Result<()> {
    let Some(snapshot) = be.snapshot(name) else { return Ok(()) };
    let clones: Vec<&str> = inventory
        .clones_of(snapshot.uuid)
        .into_iter()
        .filter(|c| !except.contains(&&c.name))
        .map(|c| c.name.as_str())
        .collect();
    if clones.is_empty() {
        return Ok(());
    }
    Err(Error::refused(format!("{}@{name} is what {} came from", be.name, clones.join(", ")))
        .hint(format!("destroy {} first", clones.join(", "))))
}
