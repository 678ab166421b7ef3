//! `rename`: another name for a BE, its snapshots and its menu entry.

use crate::domain::{BeName, BootEnv, Inventory, NAME_MAX};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::{be_path, snapshot_path};

/// Plans a rename. The menu knows both paths until it is over; the loader passes over the one that is not there, so
/// that at every instant the default can be booted.
pub fn rename(inventory: &Inventory, from: &BeName, to: &BeName) -> Result<Plan> {
    let be = inventory.be(from)?;
    inventory.must_know_next()?;
    if inventory.find(to).is_some() {
        return Err(Error::refused(format!("the boot environment {to} exists"))
            .hint("choose another name, or destroy it first"));
    }
    if be.adopted {
        return Err(Error::refused(format!("{from} is an adopted root and stays where it lies"))
            .hint(format!("`bootenv create -e {from} {to}` makes a copy under the new name")));
    }
    if let Some(long) = be.snapshots.iter().find(|s| to.as_str().len() + 1 + s.name.as_str().len() > NAME_MAX) {
        return Err(Error::usage(format!("{to}@{} would be longer than {NAME_MAX} bytes", long.name))
            .hint("choose a shorter name"));
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
    let mut plan = Plan::new(format!("rename {from} {to}"), Step::Rename { from: old.clone(), to: new.clone() })
        .adding(entry(from, Some(old.clone()), true))
        .adding(entry(to, Some(old.clone()), true));
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
    plan.remove.push(Step::DropEntry { be: from.to_string(), path: new });
    if be.running {
        plan.notes.push(format!("{from} is running: /proc/cmdline shows its old name until the next boot"));
    }
    Ok(plan)
}
