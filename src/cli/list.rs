//! `bootenv list`.

use super::args::SortKey;
use super::{Context, args};
use crate::domain::{BeName, BootEnv, Inventory};
use crate::error::Result;
use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::cmp::Ordering;

pub(super) fn run(cx: &mut Context, args: &args::List) -> Result<()> {
    let only = args.name.as_deref().map(BeName::parse).transpose()?;
    let session = cx.look()?;
    let mut inventory = session.inventory()?;
    if let Some(name) = &only {
        inventory.be(name)?;
    }
    sort(&mut inventory.bes, args);
    let chosen: Vec<&BootEnv> = match &only {
        Some(name) if args.tree => descendants(&inventory, name),
        _ => inventory.bes.iter().filter(|b| only.as_ref().is_none_or(|n| b.name == *n)).collect(),
    };
    if cx.out.is_json() {
        cx.out.document(&document(&inventory, &chosen));
    } else {
        table(cx, args, &inventory, &chosen);
    }
    Ok(())
}

fn sort(bes: &mut [BootEnv], args: &args::List) {
    let (key, down) = match (args.ascending, args.descending) {
        (_, Some(key)) => (key, true),
        (key, None) => (key.unwrap_or(SortKey::Date), false),
    };
    let order = |a: &BootEnv, b: &BootEnv| -> Ordering {
        match key {
            // The inventory comes oldest first, finer than the second, and the sort keeps the order of equals.
            SortKey::Date => a.created.cmp(&b.created),
            SortKey::Name => a.name.cmp(&b.name),
            SortKey::Space => a.used.cmp(&b.used),
        }
    };
    bes.sort_by(order);
    if down {
        bes.reverse();
    }
}

/// The document that section JSON of the manual describes.
fn document(inventory: &Inventory, chosen: &[&BootEnv]) -> Value {
    let store = &inventory.store;
    let bes: Vec<Value> = chosen
        .iter()
        .map(|be| {
            let entry = inventory.menu.entries.iter().find(|(id, _)| id == be.name.as_str());
            let snapshots: Vec<Value> = be
                .snapshots
                .iter()
                .map(|s| json!({"name": format!("{}@{}", be.name, s.name), "created": utc(s.created), "description": s.facts.description}))
                .collect();
            json!({
                "name": be.name.as_str(),
                "uuid": be.uuid.to_string(),
                "active_now": be.running,
                "active_on_reboot": inventory.is_default(&be.name),
                "active_once": inventory.is_once(&be.name),
                "mountpoint": be.mountpoints.first().map(|m| m.to_string_lossy()),
                "used_bytes": be.used,
                "created": utc(be.created),
                "description": be.facts.description,
                "origin": inventory.origin(be),
                "policy": "static",
                "datasets": datasets(be),
                "snapshots": snapshots,
                "zones": [],
                "boot": {"kernel": entry.map(|(_, kernel)| kernel).filter(|k| !k.is_empty()), "entry": entry.map(|(id, _)| id)},
            })
        })
        .collect();
    json!({"version": 1, "store": {"kind": store.kind, "name": store.name, "uuid": store.uuid}, "boot_environments": bes})
}

fn datasets(be: &BootEnv) -> Vec<String> {
    let join = |inner: &String| if be.path.is_empty() { inner.clone() } else { format!("{}/{inner}", be.path) };
    std::iter::once(if be.path.is_empty() { "/".to_string() } else { be.path.clone() })
        .chain(be.nested.iter().map(join))
        .collect()
}

fn utc(seconds: i64) -> String {
    DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn table(cx: &Context, args: &args::List, inventory: &Inventory, chosen: &[&BootEnv]) {
    let mut rows: Vec<[String; 6]> = Vec::new();
    let ordered = if args.tree { by_origin(inventory, chosen) } else { chosen.iter().map(|b| (*b, 0)).collect() };
    for (be, depth) in ordered {
        let flags = flags(inventory, be);
        let mountpoint = be.mountpoints.first().map_or_else(|| "-".into(), |m| printable(&m.display().to_string()));
        let description = printable(be.facts.description.as_deref().unwrap_or("-"));
        rows.push([
            format!("{}{}", "  ".repeat(depth), be.name),
            flags,
            mountpoint,
            space(be.used),
            local(be.created, args.script),
            description,
        ]);
        let mut inner = |name: String, created: Option<i64>, description: Option<&String>| {
            rows.push([
                format!("{}  {name}", "  ".repeat(depth)),
                "-".into(),
                "-".into(),
                "-".into(),
                created.map_or_else(|| "-".into(), |c| local(c, args.script)),
                printable(description.map_or("-", String::as_str)),
            ]);
        };
        if args.datasets || args.all {
            datasets(be).into_iter().for_each(|d| inner(d, None, None));
        }
        if args.snapshots || args.all {
            be.snapshots
                .iter()
                .for_each(|s| inner(format!("{}@{}", be.name, s.name), Some(s.created), s.facts.description.as_ref()));
        }
    }
    if args.script {
        let lines: Vec<String> =
            rows.iter().map(|row| row.iter().map(|c| c.trim_start()).collect::<Vec<_>>().join("\t")).collect();
        return cx.out.lines(&lines);
    }
    let header = ["BE", "Active", "Mountpoint", "Space", "Created", "Description"].map(str::to_string);
    let width = |column: usize| rows.iter().chain([&header]).map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        text + &row[5]
    };
    let mut lines = vec![cx.out.bold(&line(&header))];
    lines.extend(rows.iter().map(|row| {
        let text = line(row);
        if row[1].contains('N') { cx.out.green(&text) } else { text }
    }));
    cx.out.lines(&lines);
}

/// `N` runs, `R` boots from now on, `T` boots next, once.
fn flags(inventory: &Inventory, be: &BootEnv) -> String {
    let marks = [(be.running, 'N'), (inventory.is_default(&be.name), 'R'), (inventory.is_once(&be.name), 'T')];
    let text: String = marks.iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect();
    if text.is_empty() { "-".into() } else { text }
}

/// A BE and what came from it, directly or not.
fn descendants<'i>(inventory: &'i Inventory, name: &BeName) -> Vec<&'i BootEnv> {
    let mut found = vec![name.as_str()];
    loop {
        let more: Vec<&str> = inventory
            .bes
            .iter()
            .filter(|b| {
                !found.contains(&b.name.as_str())
                    && came_from(inventory, b).is_some_and(|p| found.contains(&p.as_str()))
            })
            .map(|b| b.name.as_str())
            .collect();
        if more.is_empty() {
            return inventory.bes.iter().filter(|b| found.contains(&b.name.as_str())).collect();
        }
        found.extend(more);
    }
}

/// The BE that a BE, or the snapshot it was made from, belongs to.
fn came_from(inventory: &Inventory, be: &BootEnv) -> Option<String> {
    let origin = inventory.origin(be)?;
    let parent = origin.split('@').next().unwrap_or("").to_string();
    (parent != be.name.as_str()).then_some(parent)
}

/// BEs below what they came from, with their depth.
fn by_origin<'b>(inventory: &Inventory, chosen: &[&'b BootEnv]) -> Vec<(&'b BootEnv, usize)> {
    let parent = |be: &BootEnv| came_from(inventory, be);
    let mut out: Vec<(&BootEnv, usize)> = Vec::new();
    fn place<'b>(
        be: &'b BootEnv,
        depth: usize,
        all: &[&'b BootEnv],
        parent: &dyn Fn(&BootEnv) -> Option<String>,
        out: &mut Vec<(&'b BootEnv, usize)>,
    ) {
        if out.iter().any(|(b, _)| b.name == be.name) {
            return;
        }
        out.push((be, depth));
        for child in all.iter().filter(|c| parent(c).as_deref() == Some(be.name.as_str())) {
            place(child, depth + 1, all, parent, out);
        }
    }
    let known = |name: &str| chosen.iter().any(|b| b.name.as_str() == name);
    for be in chosen.iter().filter(|b| parent(b).is_none_or(|p| !known(&p))) {
        place(be, 0, chosen, &parent, &mut out);
    }
    // What remains came from each other in a circle, after renames: shown without a parent.
    for be in chosen {
        place(be, 0, chosen, &parent, &mut out);
    }
    out
}

/// Control characters would let a description draw on the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn local(seconds: i64, script: bool) -> String {
    let Some(time) = DateTime::<Utc>::from_timestamp(seconds, 0) else { return "-".into() };
    if script {
        time.to_rfc3339_opts(SecondsFormat::Secs, true)
    } else {
        time.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()
    }
}

fn space(used: Option<u64>) -> String {
    let Some(bytes) = used else { return "-".into() };
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1}T")
}
