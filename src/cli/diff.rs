//! `bootenv diff`.

use super::output::printable;
use super::{Context, args};
use crate::diff::{self, Difference};
use crate::domain::{Inventory, Target};
use crate::error::{Error, Result};
use crate::ops;
use crate::package;
use crate::session::Session;
use crate::store::LAYOUT;
use crate::sys::compare::Aspect;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One of the two: what it is called, and where it lies.
pub(super) struct Side {
    pub(super) target: Target,
    path: String,
}

impl Side {
    fn of(inventory: &Inventory, target: Target) -> Result<Side> {
        Ok(Side { path: ops::path_of(inventory, &target)?, target })
    }
}

pub(super) fn run(cx: &mut Context, args: &args::Diff) -> Result<()> {
    let (session, [old, new]) = sides(cx, &args.old, args.new.as_deref())?;
    if args.packages {
        let store = session.store();
        let changes = package::changes(&store.tree(&old.path)?, &store.tree(&new.path)?)?;
        let changes = json!({"version": 1, "old": old.target, "new": new.target, "packages": changes});
        show_packages(cx, &changes);
        return Ok(());
    }
    cx.out.page();
    let mut shown = Shown::begin(cx, &json!(old.target), &json!(new.target));
    files(&session, &old, &new, &mut |document| shown.one(&document))?;
    shown.end();
    Ok(())
}

/// Both, of a store that is opened for it.
pub(super) fn sides(cx: &mut Context, old: &str, new: Option<&str>) -> Result<(Session, [Side; 2])> {
    let old = Target::parse(old)?;
    let new = new.map(Target::parse).transpose()?;
    let session = cx.look()?;
    let inventory = session.inventory_of(&[&old].into_iter().chain(&new).cloned().collect::<Vec<_>>())?;
    let old = Side::of(&inventory, old)?;
    let new = Side::of(&inventory, new.map_or_else(|| running(&inventory), Ok)?)?;
    Ok((session, [old, new]))
}

fn running(inventory: &Inventory) -> Result<Target> {
    inventory.bes.iter().find(|be| be.running).map(|be| Target::Be(be.name.clone())).ok_or_else(|| {
        Error::usage("nothing of this store runs that it could be compared with").hint("name two boot environments")
    })
}

/// Tells each file in which they differ, as a document.
pub(super) fn files(session: &Session, old: &Side, new: &Side, each: &mut dyn FnMut(Value)) -> Result<()> {
    let store = session.store();
    let trees = (&store.tree(&old.path)?, &store.tree(&new.path)?);
    let mut touched = store.touched(&old.path, &new.path)?;
    // A root at the top of the store has the store's own directories in it.
    let at_top = old.path.is_empty() || new.path.is_empty();
    let is_own = |path: &Path| at_top && LAYOUT.iter().any(|own| path.starts_with(own));
    touched.retain(|touched| !is_own(&touched.path));
    diff::files(trees, touched, &is_own, &mut |path, difference| each(document(path, difference)))
}

/// Files, as they are shown one after the other.
pub(super) struct Shown<'c> {
    cx: &'c Context,
    first: bool,
}

impl<'c> Shown<'c> {
    pub(super) fn begin(cx: &'c Context, old: &Value, new: &Value) -> Self {
        if cx.out.is_json() {
            cx.out.text(&format!("{{\"version\": 1, \"old\": {old}, \"new\": {new}, \"files\": ["));
        }
        Shown { cx, first: true }
    }

    pub(super) fn one(&mut self, document: &Value) {
        match self.cx.out.is_json() {
            true => self.cx.out.text(&format!("{}\n  {document}", if self.first { "" } else { "," })),
            false => self.cx.out.raw(line(document)),
        }
        self.first = false;
    }

    pub(super) fn end(self) {
        if self.cx.out.is_json() {
            self.cx.out.raw("\n]}");
        }
    }
}

/// One difference for people.
fn line(document: &Value) -> String {
    let bytes: Option<Vec<u8>> = document["path_bytes"]
        .as_array()
        .map(|bytes| bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect());
    let path = printable(bytes.as_deref().unwrap_or(document["path"].as_str().unwrap_or_default().as_bytes()));
    match document["change"].as_str() {
        Some("added") => format!("+ {path}"),
        Some("removed") => format!("- {path}"),
        _ => match texts(&document["what"])[..] {
            [what] if what == Aspect::Content.word() => format!("M {path}"),
            ref what => format!("M {path} ({})", what.join(", ")),
        },
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
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
        document["what"] = aspects.iter().map(|aspect| aspect.word()).collect();
    }
    if path.to_str().is_none() {
        // JSON has text only.
        document["path_bytes"] = json!(path.as_os_str().as_bytes());
    }
    document
}

/// Shows the packages in which they differ.
pub(super) fn show_packages(cx: &Context, document: &Value) {
    if cx.out.is_json() {
        return cx.out.document(document);
    }
    let all = |kind: &str| document["packages"][kind].as_array().into_iter().flatten().map(texts);
    all("added").for_each(|package| cx.out.raw(format!("+ {}", package.join(" "))));
    all("removed").for_each(|package| cx.out.raw(format!("- {}", package.join(" "))));
    for package in all("changed") {
        if let [name, was, is] = package[..] {
            cx.out.raw(format!("M {name} {was} -> {is}"));
        }
    }
}
