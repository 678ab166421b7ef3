//! `rename`: another name for a BE, its snapshots and its menu entry.

use crate::domain::{BeName, BootEnv, Inventory, Sight};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::{be_path, snapshot_path};

/// Plans a rename, at every instant of which the default can be booted. A loader that reads the store knows both paths until
/// it is over, and passes over the one that is not there. For one that does not, the entry names its root by identity until
/// it is over; where that cannot be, a BE that is due is not renamed.
pub fn rename(inventory: &Inventory, from: &BeName, to: &BeName) -> Result<Plan> {
    let be = inventory.be(from)?;
    inventory.must_know_next()?;
    super::not_due_elsewhere(inventory, be)?;
    if inventory.find(to).is_some() {
        return Err(Error::refused(format!("the boot environment {to} exists"))
            .hint("choose another name, or destroy it first"));
    }
    if be.adopted {
        return Err(Error::refused(format!("{from} is an adopted root and stays where it lies"))
            .hint(format!("`bootenv create -e {from} {to}` makes a copy under the new name")));
    }
    inventory.store.must_hold(to, None, &be.nested)?;
    be.snapshots.iter().try_for_each(|s| inventory.store.must_hold(to, Some(&s.name), &be.nested))?;
    let sight = inventory.menu.sight;
    if sight == Sight::Nothing && (inventory.is_default(from) || inventory.is_once(from)) {
        return Err(Error::refused(format!(
            "{from} boots next, and while it is renamed the boot loader would look for it under one name or the other"
        ))
        .hint("activate another boot environment first, and this one again afterwards"));
    }
    let (old, new) = (be.path.clone(), be_path(to.as_str()));
    let title = BootEnv { name: to.clone(), ..be.clone() }.title();
    let entry = |id: &BeName, read: Option<String>, fresh| Step::Entry {
        be: id.to_string(),
        path: new.clone(),
        read,
        title: title.clone(),
        fresh,
    };
    let mut plan = Plan::new(format!("rename {from} {to}"), Step::Rename { from: old.clone(), to: new.clone() });
    match sight {
        Sight::Store => {
            plan.add = vec![entry(from, Some(old.clone()), true), entry(to, Some(old.clone()), true)];
        }
        Sight::Identity => {
            let (be, path) = (from.to_string(), old.clone());
            plan.add.push(Step::EntryByIdentity { be, path, title: inventory.be(from)?.title() });
            plan.remove.push(entry(to, None, true));
        }
        Sight::Nothing => plan.remove.push(entry(to, None, true)),
    }
    for snapshot in &be.snapshots {
        let path = |be: &BeName| snapshot_path(be.as_str(), snapshot.name.as_str());
        plan.remove.push(Step::Rename { from: path(from), to: path(to) });
    }
    let was = inventory.next.asked.clone();
    let mut asked = was.clone();
    for name in [&mut asked.default, &mut asked.once, &mut asked.previous] {
        if name.as_deref() == Some(from.as_str()) {
            *name = Some(to.to_string());
        }
    }
    if asked != was {
        plan.remove.push(Step::Ask { to: asked, was });
    }
    plan.remove.push(Step::DropEntry { be: from.to_string(), path: old });
    if sight == Sight::Store {
        plan.remove.push(Step::DropEntry { be: from.to_string(), path: new.clone() });
    }
    plan.remove.extend(be.facts.claimed().map(|to| Step::Facts { path: new, to, was: be.facts.clone() }));
    if be.running && inventory.zone.is_none() {
        plan.notes.push(format!("{from} is running: /proc/cmdline shows its old name until the next boot"));
    }
    Ok(plan)
}
