//! `bootenv` without a verb: what runs, what boots next, what needs attention.

use super::Context;
use crate::error::Result;
use serde_json::{Value, json};

pub(super) fn run(cx: &mut Context) -> Result<()> {
    let session = cx.look()?;
    let inventory = session.inventory()?;
    let loader = session.loader()?;
    let attention: Vec<&String> = inventory.attention.iter().chain(&inventory.menu.problems).collect();
    let running = inventory.running().map(|b| b.name.to_string());
    let document = json!({
        "version": 1,
        "store": {"kind": inventory.store.kind, "name": inventory.store.name, "uuid": inventory.store.uuid},
        "loader": loader.name(),
        "running": running,
        "on_reboot": inventory.next.default,
        "next_boot_known": !inventory.next.unknown,
        "once": inventory.next.once,
        "boot_environments": inventory.bes.len(),
        "attention": attention,
    });
    show(cx, &document, session.is_root());
    Ok(())
}

/// Shows it; what runs, only where that can be one of them.
pub(super) fn show(cx: &Context, document: &Value, can_run: bool) {
    if cx.out.is_json() {
        return cx.out.document(document);
    }
    let text = |field: &Value| field.as_str().map(str::to_string);
    let count = match document["boot_environments"].as_u64().unwrap_or(0) {
        1 => "1 boot environment".to_string(),
        n => format!("{n} boot environments"),
    };
    let store = &document["store"];
    let (name, kind) = (text(&store["name"]).unwrap_or_default(), text(&store["kind"]).unwrap_or_default());
    cx.out.line(format!("store      {} ({kind}, {count})", cx.out.bold(&name)));
    if can_run {
        cx.out.line(format!("running    {}", text(&document["running"]).as_deref().unwrap_or("none of them")));
    }
    let next = match document["next_boot_known"].as_bool() {
        Some(true) => text(&document["on_reboot"]).unwrap_or("nothing".into()),
        _ => "not known".into(),
    };
    match text(&document["once"]) {
        Some(once) => cx.out.line(format!("next boot  {} (once; then {next})", cx.out.bold(&once))),
        None => cx.out.line(format!("next boot  {}", cx.out.bold(&next))),
    }
    for problem in document["attention"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        cx.out.line(format!("attention  {problem}"));
    }
}
