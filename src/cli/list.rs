//! `bootenv list`.

use super::args::SortKey;
use super::{Context, args};
use crate::domain::{BeName, BootEnv, Inventory, Target};
use crate::error::Result;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

pub(super) fn run(cx: &mut Context, args: &args::List) -> Result<()> {
    let only = args.name.as_deref().map(BeName::parse).transpose()?;
    let session = cx.look()?;
    let mut inventory = if cx.out.is_json() { session.inventory()? } else { session.listing()? };
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
    let origins = inventory.origins();
    // The first of a name counts, as it does for the loader.
    let entries: HashMap<&str, &str> =
        inventory.menu.entries.iter().rev().map(|(id, kernel)| (id.as_str(), kernel.as_str())).collect();
    let bes: Vec<Value> = chosen
        .iter()
        .map(|be| {
            let entry = entries.get_key_value(be.name.as_str());
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
                "origin": origins.get(&be.name).map(Target::to_string),
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

/// The cells of one line. What the inventory says already is not copied.
type Row<'i> = [Cow<'i, str>; 6];

fn table(cx: &Context, args: &args::List, inventory: &Inventory, chosen: &[&BootEnv]) {
    let clock = Clock::new(args.script);
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(chosen.len() + 1);
    if !args.script {
        rows.push(["BE", "Active", "Mountpoint", "Space", "Created", "Description"].map(Cow::Borrowed));
    }
    let ordered = if args.tree { by_origin(inventory, chosen) } else { chosen.iter().map(|b| (*b, 0)).collect() };
    for (be, depth) in ordered {
        let indent = "  ".repeat(depth);
        let name = be.name.as_str();
        rows.push([
            if depth == 0 { name.into() } else { format!("{indent}{name}").into() },
            flags(inventory, be),
            be.mountpoints.first().map_or("-".into(), |m| printable(m.to_string_lossy())),
            space(be.used),
            clock.tell(be.created).into(),
            printable(be.facts.description.as_deref().unwrap_or("-").into()),
        ]);
        if args.datasets || args.all {
            rows.extend(datasets(be).into_iter().map(|d| {
                [format!("{indent}  {d}").into(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into()]
            }));
        }
        if args.snapshots || args.all {
            rows.extend(be.snapshots.iter().map(|s| {
                let description = printable(s.facts.description.as_deref().unwrap_or("-").into());
                let name = format!("{indent}  {name}@{}", s.name);
                [name.into(), "-".into(), "-".into(), "-".into(), clock.tell(s.created).into(), description]
            }));
        }
    }
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = if args.script { [0; 5] } else { std::array::from_fn(width) };
    let mut text = String::with_capacity(rows.len() * (widths.iter().sum::<usize>() + 48));
    for (index, row) in rows.iter().enumerate() {
        let (on, off) = match index {
            0 if !args.script => cx.out.bold_marks(),
            _ if !args.script && row[1].contains('N') => cx.out.green_marks(),
            _ => ("", ""),
        };
        text += on;
        for (cell, width) in row.iter().zip(&widths) {
            match args.script {
                true => text.extend([cell.trim_start(), "\t"]),
                false => {
                    text += cell;
                    text.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
                }
            }
        }
        text.extend([&*row[5], off, "\n"]);
    }
    cx.out.text(&text);
}

/// `N` runs, `R` boots from now on, `T` boots next, once.
fn flags(inventory: &Inventory, be: &BootEnv) -> Cow<'static, str> {
    let marks = [(be.running, 'N'), (inventory.is_default(&be.name), 'R'), (inventory.is_once(&be.name), 'T')];
    let text: String = marks.iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect();
    if text.is_empty() { "-".into() } else { text.into() }
}

/// Which BE each came from, itself or by a snapshot.
struct Family<'i>(HashMap<&'i BeName, BeName>);

impl<'i> Family<'i> {
    fn new(inventory: &'i Inventory) -> Self {
        let origins = inventory.origins().into_iter().map(|(be, origin)| (be, origin.be().clone()));
        Family(origins.filter(|(be, parent)| *be != parent).collect())
    }

    fn parent(&self, be: &BootEnv) -> Option<&BeName> {
        self.0.get(&be.name)
    }
}

/// A BE and what came from it, directly or not.
fn descendants<'i>(inventory: &'i Inventory, name: &BeName) -> Vec<&'i BootEnv> {
    let family = Family::new(inventory);
    let mut found: HashSet<&BeName> = inventory.bes.iter().map(|b| &b.name).filter(|n| *n == name).collect();
    loop {
        let before = found.len();
        let parent_found = |be: &&BootEnv| family.parent(be).is_some_and(|p| found.contains(p));
        let more: Vec<&BeName> = inventory.bes.iter().filter(parent_found).map(|b| &b.name).collect();
        found.extend(more);
        if found.len() == before {
            return inventory.bes.iter().filter(|b| found.contains(&b.name)).collect();
        }
    }
}

/// BEs below what they came from, with their depth.
fn by_origin<'b>(inventory: &Inventory, chosen: &[&'b BootEnv]) -> Vec<(&'b BootEnv, usize)> {
    let family = Family::new(inventory);
    let known: HashSet<&BeName> = chosen.iter().map(|b| &b.name).collect();
    let mut children: HashMap<&BeName, Vec<&'b BootEnv>> = HashMap::new();
    for be in chosen {
        family.parent(be).into_iter().for_each(|p| children.entry(p).or_default().push(be));
    }
    let first = chosen.iter().filter(|b| family.parent(b).is_none_or(|p| !known.contains(p)));
    let mut placed: HashSet<&BeName> = HashSet::new();
    let mut out: Vec<(&BootEnv, usize)> = Vec::new();
    // What remains after those without a parent came from each other in a circle, after renames.
    for start in first.chain(chosen) {
        let mut waiting = vec![(*start, 0)];
        while let Some((be, depth)) = waiting.pop() {
            if placed.insert(&be.name) {
                out.push((be, depth));
                waiting.extend(children.get(&be.name).into_iter().flatten().rev().map(|child| (*child, depth + 1)));
            }
        }
    }
    out
}

/// Control characters would let a description draw on the terminal.
fn printable(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.chars().any(char::is_control) {
        true => text.chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
        false => text,
    }
}

/// Tells times: in UTC for scripts, as people read them otherwise. The format is taken apart once, not for every line.
struct Clock {
    script: bool,
    format: Vec<Item<'static>>,
}

impl Clock {
    fn new(script: bool) -> Self {
        Clock { script, format: StrftimeItems::new("%Y-%m-%d %H:%M").collect() }
    }

    fn tell(&self, seconds: i64) -> String {
        let Some(time) = DateTime::<Utc>::from_timestamp(seconds, 0) else { return "-".into() };
        match self.script {
            true => time.to_rfc3339_opts(SecondsFormat::Secs, true),
            false => time.with_timezone(&Local).naive_local().format_with_items(self.format.iter()).to_string(),
        }
    }
}

fn space(used: Option<u64>) -> Cow<'static, str> {
    let Some(bytes) = used else { return "-".into() };
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.1}{unit}") }.into();
        }
        value /= 1024.0;
    }
    format!("{value:.1}T").into()
}
