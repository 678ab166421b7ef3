//! `bootenv` without a verb: what runs, what boots next, what needs attention.

use super::Context;
use crate::error::Result;
use serde_json::json;

pub(super) fn run(cx: &mut Context) -> Result<()> {
    let session = cx.look()?;
    let inventory = session.inventory()?;
    let loader = session.loader()?;
    let attention: Vec<&String> = inventory.attention.iter().chain(&inventory.menu.problems).collect();
    let running = inventory.running().map(|b| b.name.to_string());
    if cx.out.is_json() {
        cx.out.document(&json!({
            "version": 1,
            "store": {"kind": inventory.store.kind, "name": inventory.store.name, "uuid": inventory.store.uuid},
            "loader": loader.name(),
            "running": running,
            "on_reboot": inventory.next.default,
            "next_boot_known": !inventory.next.unknown,
            "once": inventory.next.once,
            "boot_environments": inventory.bes.len(),
            "attention": attention,
        }));
        return Ok(());
    }
    let store = &inventory.store;
    let count = match inventory.bes.len() {
        1 => "1 boot environment".to_string(),
        n => format!("{n} boot environments"),
    };
    cx.out.line(format!("store      {} ({}, {count})", cx.out.bold(&store.name), store.kind));
    if session.is_root() {
        cx.out.line(format!("running    {}", running.as_deref().unwrap_or("none of them")));
    }
    let next = match inventory.next.unknown {
        true => "not known",
        false => inventory.next.default.as_deref().unwrap_or("nothing"),
    };
    match &inventory.next.once {
        Some(once) => cx.out.line(format!("next boot  {} (once; then {next})", cx.out.bold(once))),
        None => cx.out.line(format!("next boot  {}", cx.out.bold(next))),
    }
    for problem in attention {
        cx.out.line(format!("attention  {problem}"));
    }
    Ok(())
}
