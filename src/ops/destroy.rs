//! `destroy`: BEs and snapshots, gone.

use crate::domain::{BeName, BootEnv, Heir, Inventory, Snapshot, Target, ZoneName};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::snapshot_path;
use std::collections::HashMap;
use uuid::Uuid;

/// What is to be destroyed.
#[derive(Debug, Clone, Default)]
pub struct Destroy {
    /// The BEs and snapshots.
    pub targets: Vec<Target>,
    /// BEs with their snapshots.
    pub snapshots: bool,
    /// BEs with the snapshots they came from.
    pub origin: bool,
    /// Where BEs are mounted in other mount namespaces, in words.
    pub mounted_elsewhere: HashMap<BeName, String>,
    /// Who keeps what of BEs.
    pub heirs: HashMap<BeName, Vec<Heir>>,
    /// The same two of what goes along in zones.
    pub zones: HashMap<ZoneName, Destroy>,
}

/// Plans a destruction. Mounted BEs have been unmounted before, or are refused.
pub fn destroy(inventory: &Inventory, request: &Destroy) -> Result<Plan> {
    let mut plan = Destruction { inventory, request, bes: chosen(inventory, request)?, gone: Vec::new() };
    plan.check()?;
    let mut steps: Vec<Step> =
        plan.bes.iter().map(|be| Step::DropEntry { be: be.name.to_string(), path: be.path.clone() }).collect();
    let mut notes = Vec::new();
    for be in plan.bes.clone() {
        steps.extend(plan.be(be)?);
    }
    for target in &request.targets {
        if let Target::Snapshot(be, snapshot) = target {
            let (be, snapshot) = inventory.snapshot(be, snapshot)?;
            steps.extend(plan.snapshot(be, snapshot, &[&be.name])?);
        }
    }
    for be in plan.bes.clone().into_iter().filter(|_| request.origin) {
        match plan.origin(be)? {
            Some(destroy) => steps.extend(destroy),
            None => notes.push(format!("{} came from no snapshot, so -o has nothing to do", be.name)),
        }
    }
    let names: Vec<String> = request.targets.iter().map(Target::to_string).collect();
    let mut steps = steps.into_iter();
    let commit = steps.next().ok_or_else(|| Error::usage("nothing is named").hint("name a boot environment"))?;
    let mut plan = Plan::new(format!("destroy {}", names.join(" ")), commit);
    plan.remove.extend(steps);
    plan.notes = notes;
    super::along::go_along(&mut plan, inventory, request)?;
    Ok(plan)
}

/// The steps that destroy every BE and snapshot there is, but no menu entry: that goes too.
pub(super) fn everything(inventory: &Inventory) -> Result<Vec<Step>> {
    let targets = inventory.bes.iter().map(|be| Target::Be(be.name.clone())).collect();
    let request = Destroy { targets, snapshots: true, ..Destroy::default() };
    let mut plan = Destruction { inventory, request: &request, bes: chosen(inventory, &request)?, gone: Vec::new() };
    let steps = plan.bes.clone().into_iter().map(|be| plan.be(be)).collect::<Result<Vec<_>>>()?;
    Ok(steps.concat())
}

/// The BEs that go, each after those that came from it: so nothing has to be handed over that goes too.
pub(super) fn chosen<'i>(inventory: &'i Inventory, request: &Destroy) -> Result<Vec<&'i BootEnv>> {
    let mut bes: Vec<&BootEnv> = Vec::new();
    for target in &request.targets {
        if let Target::Be(name) = target {
            let be = inventory.be(name)?;
            if !bes.iter().any(|b| b.name == be.name) {
                bes.push(be);
            }
        }
    }
    let origins = inventory.origins();
    // Names may have changed places since, so that two came from each other.
    let depth = |be: &BootEnv| {
        let parents = std::iter::successors(Some(&be.name), |name| origins.get(name).map(Target::be));
        parents.take(inventory.bes.len()).count()
    };
    bes.sort_by_cached_key(|be| std::cmp::Reverse(depth(be)));
    Ok(bes)
}

/// A destruction as it is put together.
pub(super) struct Destruction<'i> {
    pub inventory: &'i Inventory,
    pub request: &'i Destroy,
    pub bes: Vec<&'i BootEnv>,
    /// Snapshots that have their step.
    pub gone: Vec<Uuid>,
}

impl<'i> Destruction<'i> {
    /// Refuses what cannot be done at all.
    fn check(&self) -> Result<()> {
        let Destruction { inventory, request, .. } = self;
        if self.bes.is_empty() && (request.snapshots || request.origin) {
            return Err(Error::usage("-s and -o are for boot environments, not for snapshots").hint("leave them out"));
        }
        for be in &self.bes {
            self.may_go(be)?;
        }
        if !self.bes.is_empty() && inventory.bes.len() == self.bes.len() {
            return Err(match &self.bes[..] {
                [only] => Error::refused(format!("{} is the only boot environment", only.name)),
                _ => Error::refused("no boot environment would be left"),
            }
            .hint("create another first"));
        }
        Ok(())
    }

    fn may_go(&self, be: &BootEnv) -> Result<()> {
        let Destruction { inventory, request, .. } = self;
        let name = &be.name;
        if be.running {
            return Err(Error::refused(format!("{name} is running")).hint(match inventory.zone {
                None => "activate another boot environment, reboot into it, then destroy this one".to_string(),
                Some(_) => format!("activate another boot environment, {}, then destroy this one", inventory.to_boot()),
            }));
        }
        if be.facts.pinned {
            return Err(Error::refused(format!("{name} is pinned")).hint(format!("`bootenv unpin {name}` first")));
        }
        super::not_due_elsewhere(inventory, be)?;
        if inventory.bes.len() == 1 {
            return Ok(());
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
        if let Some(words) = request.mounted_elsewhere.get(name) {
            return Err(super::in_other_namespace(name, words));
        }
        if be.adopted && be.path.is_empty() {
            return Err(Error::refused(format!(
                "{name} lies at the top of the store, around everything else, and cannot be destroyed as a whole"
            ))
            .hint("delete its files by hand, but not ROOT, SHARED and BOOTENV"));
        }
        let lost = self.lost(be);
        if !lost.is_empty() && !request.snapshots {
            let names: Vec<String> = lost.iter().map(|s| format!("{name}@{}", s.name)).collect();
            return Err(Error::refused(format!("{name} has snapshots: {}", names.join(", ")))
                .hint("destroy them first, or all at once with -s"));
        }
        Ok(())
    }

    fn heirs(&self, be: &BootEnv) -> &'i [Heir] {
        self.request.heirs.get(&be.name).map_or(&[], Vec::as_slice)
    }

    /// The snapshots of a BE that nobody takes over.
    pub fn lost(&self, be: &'i BootEnv) -> Vec<&'i Snapshot> {
        let kept = |s: &&Snapshot| self.heirs(be).iter().any(|heir| heir.snapshot.as_deref() == Some(s.name.as_str()));
        be.snapshots.iter().filter(|s| !kept(s)).collect()
    }

    /// The steps that destroy a BE whose menu entry is gone.
    pub fn be(&mut self, be: &'i BootEnv) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for snapshot in self.lost(be) {
            steps.extend(self.snapshot(be, snapshot, &[])?);
        }
        steps.push(Step::Destroy { path: be.path.clone(), identity: be.uuid, heirs: self.heirs(be).to_vec() });
        steps.push(Step::DropFacts { identity: be.uuid });
        if be.adopted {
            steps.push(Step::Forget { be: be.name.to_string() });
        }
        Ok(steps)
    }

    /// The steps that destroy the snapshot a BE came from; `None` if it came from none.
    fn origin(&mut self, be: &BootEnv) -> Result<Option<Vec<Step>>> {
        let found = self.inventory.bes.iter().find_map(|origin| {
            let found = origin.snapshots.iter().find(|s| Some(s.uuid) == be.parent_uuid)?;
            Some((origin, found))
        });
        let Some((origin, snapshot)) = found else { return Ok(None) };
        match self.bes.iter().any(|b| b.name == origin.name) {
            true => Ok(Some(Vec::new())),
            false => self.snapshot(origin, snapshot, &[&origin.name]).map(Some),
        }
    }

    /// The steps that destroy a snapshot, the committing one first. What is known of it goes too, even if it cannot be read.
    /// Refused if a BE that stays came from it, other than those in `except`: after a rollback a BE comes from its own
    /// snapshot, and can do without it.
    pub fn snapshot(&mut self, be: &BootEnv, snapshot: &Snapshot, except: &[&BeName]) -> Result<Vec<Step>> {
        if self.gone.contains(&snapshot.uuid) {
            return Ok(Vec::new());
        }
        self.gone.push(snapshot.uuid);
        let stays = |c: &&BootEnv| !except.contains(&&c.name) && !self.bes.iter().any(|b| b.name == c.name);
        let clones = self.inventory.clones_of(snapshot.uuid).into_iter().filter(stays);
        let clones: Vec<&str> = clones.map(|c| c.name.as_str()).collect();
        if !clones.is_empty() {
            return Err(Error::refused(format!(
                "{}@{} is what {} came from",
                be.name,
                snapshot.name,
                clones.join(", ")
            ))
            .hint(format!("destroy {} first", clones.join(", "))));
        }
        let path = snapshot_path(be.name.as_str(), snapshot.name.as_str());
        Ok(vec![
            Step::Destroy { path, identity: snapshot.uuid, heirs: Vec::new() },
            Step::DropFacts { identity: snapshot.uuid },
        ])
    }
}
