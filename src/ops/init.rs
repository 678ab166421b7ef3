//! `init`: the first BE, copied in or made from a root that is there.

use crate::domain::{Asked, BeName, Facts, Inventory, title};
use crate::error::{Error, Result};
use crate::plan::{Plan, Step};
use crate::store::be_path;
use std::path::PathBuf;

/// Where the first BE comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A folder or a tar.
    Tree(PathBuf),
    /// A root that is on the store, by its path from the top.
    Found(String),
}

/// What `init` is to do.
#[derive(Debug, Clone)]
pub struct Init {
    /// What the BE is called.
    pub name: BeName,
    /// Where it comes from.
    pub origin: Origin,
    /// Free text.
    pub description: Option<String>,
}

/// Plans it. `inventory` is `None` on a store that `init` has not been at yet.
pub fn init(inventory: Option<&Inventory>, request: &Init) -> Result<Plan> {
    let name = &request.name;
    if inventory.is_some_and(|i| i.find(name).is_some()) {
        return Err(Error::refused(format!("the boot environment {name} exists")).hint("name the new one with --name"));
    }
    let path = be_path(name.as_str());
    let facts = Facts { description: request.description.clone(), ..Facts::default() };
    let title = title(name, request.description.as_deref());
    let was = inventory.map(|i| i.next.asked.clone()).unwrap_or_default();
    let entry = Step::Entry { be: name.to_string(), path: path.clone(), read: None, title, fresh: true };
    let mut add = vec![Step::Layout, Step::Loader];
    let (mut notes, mut found_entry) = (Vec::new(), None);
    match &request.origin {
        Origin::Tree(from) => add.push(Step::Import { from: from.clone(), to: path.clone() }),
        Origin::Found(found) => {
            // What lies where BEs lie is one already.
            let there = found.strip_prefix(&be_path("")).and_then(|n| BeName::parse(n).ok());
            let adopted = there.clone().unwrap_or_else(|| adopted_name(found, name));
            let unknown = there.is_none() && inventory.is_none_or(|i| i.find(&adopted).is_none());
            if unknown {
                add.push(Step::Adopt { be: adopted.to_string(), path: found.clone() });
            }
            if unknown || there.is_some() {
                // Once the store knows what all its roots boot with.
                found_entry = Some(Step::Entry {
                    be: adopted.to_string(),
                    path: found.clone(),
                    read: None,
                    title: adopted.to_string(),
                    fresh: true,
                });
            }
            add.push(Step::Clone { from: found.clone(), to: path.clone(), readonly: false });
            notes.push(format!("{adopted} stays as it is; {name} is a copy of it with the shared directories moved"));
        }
    }
    add.extend(super::told(&path, facts));
    add.push(Step::Share { path: path.clone(), be: name.to_string() });
    add.extend(found_entry);
    let activate = was.default.is_none() || matches!(request.origin, Origin::Found(_));
    let to = Asked { default: Some(name.to_string()), once: None, previous: was.default.clone() };
    let mut plan = match activate {
        true => {
            add.push(entry);
            Plan::new(format!("init {name}"), Step::Ask { to, was })
        }
        false => Plan::new(format!("init {name}"), entry),
    };
    plan.add = add;
    notes.push(match activate {
        true => format!("{name} is made and boots next"),
        false => format!("{name} is made"),
    });
    plan.notes = notes;
    Ok(plan)
}

/// What a root is called that was there before.
fn adopted_name(path: &str, taken: &BeName) -> BeName {
    let plain: String = path.chars().filter(|c| c.is_ascii_alphanumeric() || "_.:-".contains(*c)).collect();
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let wanted = match plain {
        "" if path.is_empty() => "toplevel",
        "" => "root",
        name => name,
    };
    let wanted = if wanted == taken.as_str() { format!("{wanted}.before") } else { wanted.to_string() };
    BeName::parse(&wanted).unwrap_or_else(|_| taken.clone())
}
