//! `bootenv diff`.

use super::output::printable;
use super::{Context, args};
use crate::diff::{self, Difference};
use crate::domain::{Inventory, Target};
use crate::error::{Error, Result};
use crate::ops;
use crate::package::{self, Changes};
use crate::session::Session;
use crate::store::LAYOUT;
use crate::sys::compare::Aspect;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One of the two: what it is called, and where it lies.
struct Side {
    target: Target,
    path: String,
}

impl Side {
    fn of(inventory: &Inventory, target: Target) -> Result<Side> {
        Ok(Side { path: ops::path_of(inventory, &target)?, target })
    }
}

pub(super) fn run(cx: &mut Context, args: &args::Diff) -> Result<()> {
    let old = Target::parse(&args.old)?;
    let new = args.new.as_deref().map(Target::parse).transpose()?;
    let session = cx.look()?;
    let inventory = session.inventory_of(&[&old].into_iter().chain(&new).cloned().collect::<Vec<_>>())?;
    let old = Side::of(&inventory, old)?;
    let new = Side::of(&inventory, new.map_or_else(|| running(&inventory), Ok)?)?;
    if args.packages {
        let store = session.store();
        let changes = package::changes(&store.tree(&old.path)?, &store.tree(&new.path)?)?;
        return packages(cx, &old, &new, &changes);
    }
    cx.out.page();
    files(cx, &session, &old, &new)
}

fn running(inventory: &Inventory) -> Result<Target> {
    inventory.bes.iter().find(|be| be.running).map(|be| Target::Be(be.name.clone())).ok_or_else(|| {
        Error::usage("nothing of this store runs that it could be compared with").hint("name two boot environments")
    })
}

fn files(cx: &mut Context, session: &Session, old: &Side, new: &Side) -> Result<()> {
    let store = session.store();
    let trees = (&store.tree(&old.path)?, &store.tree(&new.path)?);
    let mut touched = store.touched(&old.path, &new.path)?;
    // A root at the top of the store has the store's own directories in it.
    let at_top = old.path.is_empty() || new.path.is_empty();
    let is_own = |path: &Path| at_top && LAYOUT.iter().any(|own| path.starts_with(own));
    touched.retain(|touched| !is_own(&touched.path));
    let json = cx.out.is_json();
    if json {
        let (old, new) = (json!(old.target), json!(new.target));
        cx.out.text(&format!("{{\"version\": 1, \"old\": {old}, \"new\": {new}, \"files\": ["));
    }
    let mut first = true;
    diff::files(trees, touched, &is_own, &mut |path, difference| {
        match json {
            true => cx.out.text(&format!("{}\n  {}", if first { "" } else { "," }, document(path, difference))),
            false => cx.out.raw(line(path, difference)),
        }
        first = false;
    })?;
    if json {
        cx.out.raw("\n]}");
    }
    Ok(())
}

/// One difference for people.
fn line(path: &Path, difference: &Difference) -> String {
    let path = printable(Path::new("/").join(path).as_os_str().as_bytes());
    match difference {
        Difference::Added => format!("+ {path}"),
        Difference::Removed => format!("- {path}"),
        Difference::Changed(aspects) if aspects == &[Aspect::Content] => format!("M {path}"),
        Difference::Changed(aspects) => format!("M {path} ({})", words(aspects).join(", ")),
    }
}

fn words(aspects: &[Aspect]) -> Vec<&'static str> {
    aspects.iter().map(|aspect| aspect.word()).collect()
}

/// The same for programs.
fn document(path: &Path, difference: &Difference) -> Value {
    let path = Path::new("/").join(path);
    let (change, aspects) = match difference {
        Difference::Added => ("added", None),
        Difference::Removed => ("removed", None),
        Difference::Changed(aspects) => ("changed", Some(aspects)),
    };
    let mut document = json!({"path": path.to_string_lossy(), "change": change});
    if let Some(aspects) = aspects {
        document["what"] = json!(words(aspects));
    }
    if path.to_str().is_none() {
        // JSON has text only.
        document["path_bytes"] = json!(path.as_os_str().as_bytes());
    }
    document
}

fn packages(cx: &Context, old: &Side, new: &Side, changes: &Changes) -> Result<()> {
    if cx.out.is_json() {
        cx.out.document(&json!({"version": 1, "old": old.target, "new": new.target, "packages": changes}));
        return Ok(());
    }
    changes.added.iter().for_each(|(name, version)| cx.out.raw(format!("+ {name} {version}")));
    changes.removed.iter().for_each(|(name, version)| cx.out.raw(format!("- {name} {version}")));
    changes.changed.iter().for_each(|(name, was, is)| cx.out.raw(format!("M {name} {was} -> {is}")));
    Ok(())
}
