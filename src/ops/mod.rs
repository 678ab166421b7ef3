//! What each request means: an inventory and a request become a plan, or a refusal. Pure: nothing here reads or writes.

mod activate;
mod along;
mod automatic;
mod check;
mod create;
mod describe;
mod destroy;
mod init;
mod pin;
mod prune;
mod rename;
mod rollback;
mod upgrade;
mod zone;

pub use activate::{Clear, activate, clear_once, not_bootable};
pub use along::going;
pub use automatic::{Transaction, automatic};
pub use check::{Problems, repair};
pub use create::{Activate, Create, create, source_of};
pub use describe::describe;
pub use destroy::{Destroy, destroy};
pub use init::{Init, Origin, init};
pub use pin::{claim, pin};
pub use prune::{Pruned, prune};
pub use rename::rename;
pub use rollback::{Elsewhere, rollback};
pub use upgrade::{Upgrade, Upgraded, upgrade};
pub use zone::{CreateZone, ZoneOrigin, attach, autostart, create_zone, destroy_zone, limit, limits};

use crate::domain::{BeName, BootEnv, Facts, Inventory, Target};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::snapshot_path;

/// Where a BE or a snapshot that is there lies, from the top of the store.
pub fn path_of(inventory: &Inventory, target: &Target) -> Result<String> {
    match target {
        Target::Be(be) => Ok(inventory.be(be)?.path.clone()),
        Target::Snapshot(be, snap) => {
            inventory.snapshot(be, snap)?;
            Ok(snapshot_path(be.as_str(), snap.as_str()))
        }
    }
}

/// The step that puts or renews the menu entry of a BE that is there.
fn entry(inventory: &Inventory, be: &BootEnv) -> Step {
    let fresh = !inventory.menu.entries.iter().any(|(id, _)| id == be.name.as_str());
    Step::Entry { be: be.name.to_string(), path: be.path.clone(), read: None, title: be.title(), fresh }
}

/// The step that keeps facts for what the plan makes at `path`, if there is anything to keep.
fn told(path: &str, to: Facts) -> Option<Step> {
    let was = Facts::default();
    (to != was).then(|| Step::Facts { path: path.to_string(), to, was })
}

/// The step that keeps other facts for a BE that is there.
fn facts_step(be: &BootEnv, to: Facts) -> Step {
    Step::Facts { path: be.path.clone(), to, was: be.facts.clone() }
}

/// Refuses to take a zone BE away from another BE of the host, with which the zone would run it.
fn not_due_elsewhere(inventory: &Inventory, be: &BootEnv) -> Result<()> {
    match inventory.zone.as_ref().and_then(|zone| Some((zone, zone.would_run(be)?))) {
        None => Ok(()),
        Some((zone, host)) => Err(Error::refused(format!("{} is what {} runs when {host} boots", be.name, zone.name))
            .hint(format!("activate another when {host} runs; or destroy {host}"))),
    }
}

/// The refusal to take a BE away from a container or a service.
fn in_other_namespace(be: &BeName, at: &str) -> Error {
    Error::busy(format!("{be} is mounted in another mount namespace: {at}"))
        .hint("stop the container or service that uses it")
}

/// Plans the renewal of a BE's menu entry, after something in it changed.
pub fn renew(inventory: &Inventory, be: &BootEnv) -> Plan {
    Plan::new(format!("renew the menu entry of {}", be.name), entry(inventory, be))
}
