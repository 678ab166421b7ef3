//! `bootenv pending`.

use super::{Context, args};
use crate::domain::BeName;
use crate::domain::shared::MOUNTPOINT;
use crate::error::{Error, Result};
use crate::shared::{self, Merged};
use crate::sys::mountinfo;
use crate::sys::tree::Tree;
use serde_json::json;
use std::path::Path;

pub(super) fn run(cx: &mut Context, args: &args::Pending) -> Result<()> {
    if args.merge {
        return merge(cx);
    }
    let waiting = match &args.name {
        None => shared::waiting(&Tree::at(Path::new("/"))?)?,
        Some(name) => {
            let name = BeName::parse(name)?;
            let session = cx.look()?;
            let inventory = session.inventory_about(Some(&name))?;
            shared::waiting(&session.store().tree(&inventory.be(&name)?.path)?)?
        }
    };
    if cx.out.is_json() {
        cx.out.document(&json!({"version": 1, "waiting": waiting}));
    } else {
        waiting.iter().for_each(|path| cx.out.raw(format!("/var/shared/{path}")));
    }
    Ok(())
}

/// Needs no store: the root and the shared dataset are mounted when this is called, early in the boot.
fn merge(cx: &mut Context) -> Result<()> {
    let at = Path::new("/").join(MOUNTPOINT);
    let mounts = mountinfo::own()?;
    match mounts.iter().rev().find(|m| m.target == at) {
        Some(mount) if mount.fstype != "overlay" => {}
        _ => {
            return Err(Error::refused("the shared dataset is not mounted on /var/shared")
                .hint("this is for a boot environment that runs: `systemctl status var-shared.mount`"));
        }
    }
    let root = Tree::at(Path::new("/"))?;
    if cx.cli.dry_run {
        let steps: Vec<String> =
            shared::waiting(&root)?.iter().map(|path| format!("merge /var/shared/{path}")).collect();
        return cx.out.change("pending --merge", &steps, None);
    }
    let merged = shared::merge_pending(&root, &Tree::at(&at)?)?;
    if cx.out.is_json() {
        cx.out.document(&json!({"version": 1, "merged": merged}));
        return Ok(());
    }
    let Merged { made, beside, left_out, disowned } = merged;
    made.iter().for_each(|path| cx.out.line(format!("/var/shared/{path}: made")));
    for (path, name) in beside {
        cx.out.line(format!("/var/shared/{path}: was there and stays; what arrived is beside it as {name}"));
    }
    left_out.iter().for_each(|(path, why)| cx.out.line(format!("/var/shared/{path}: left out, because {why}")));
    disowned
        .iter()
        .for_each(|path| cx.out.line(format!("/var/shared/{path}: root's, because its owner is nobody here")));
    Ok(())
}
