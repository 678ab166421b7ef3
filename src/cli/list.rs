//! `bootenv list`.

use super::args::SortKey;
use super::{Context, args};
use crate::domain::{Along, BeName, Belongs, BootEnv, Facts, Inventory, Target};
use crate::error::Result;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local, SecondsFormat, Utc};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::mem::ManuallyDrop;

pub(super) fn run(cx: &mut Context, args: &args::List) -> Result<()> {
    args.name.as_deref().map(BeName::parse).transpose()?;
    let session = cx.look()?;
    let zones = if cx.out.is_json() { session.zones_looked_into() } else { Vec::new() };
    let inventory = match cx.out.is_json() {
        true => session.inventory()?,
        false => session.listing(args.snapshots || args.datasets || args.all || args.tree)?,
    };
    show(cx, args, inventory, &zones)
}

/// Shows what is to be seen of it.
pub(super) fn show(cx: &Context, args: &args::List, inventory: Inventory, zones: &[Along]) -> Result<()> {
    let only = args.name.as_deref().map(BeName::parse).transpose()?;
    // Never dropped: the process ends next, and giving a thousand BEs back piece by piece takes as long as finding some.
    let mut inventory = ManuallyDrop::new(inventory);
    if let Some(name) = &only {
        inventory.be(name)?;
    }
    sort(&mut inventory.bes, args);
    let chosen: Vec<&BootEnv> = match &only {
        Some(name) if args.tree => descendants(&inventory, name),
        _ => inventory.bes.iter().filter(|b| only.as_ref().is_none_or(|n| b.name == *n)).collect(),
    };
    if cx.out.is_json() {
        cx.out.document(&document(&inventory, zones, &chosen));
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
fn document(inventory: &Inventory, zones: &[Along], chosen: &[&BootEnv]) -> Value {
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
            let mut document = json!({
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
                "policy": be.facts.policy(),
                "datasets": datasets(be),
                "snapshots": snapshots,
                "zones": in_zones(zones, be),
                "boot": {"kernel": entry.map(|(_, kernel)| kernel).filter(|k| !k.is_empty()), "entry": entry.map(|(id, _)| id)},
            });
            if let Some(zone) = &inventory.zone {
                let parent = zone.hosts.iter().find(|(_, uuid)| Some(*uuid) == be.facts.parent);
                document["belongs_to"] = json!(parent.map(|(host, _)| host.as_str()));
                document["would_run_with"] = json!(zone.would_run(be).map(BeName::as_str));
                document["can_run"] = json!(!zone.cannot_run.contains(&be.name));
            }
            document
        })
        .collect();
    let mut document = json!({"version": 1, "store": {"kind": store.kind, "name": store.name, "uuid": store.uuid}});
    if let Some(zone) = &inventory.zone {
        document["host"] = json!(zone.owner.as_ref().map(|owner| owner.name.as_str()));
    }
    document["boot_environments"] = bes.into();
    document
}

/// What belongs to a BE of the host in zones, and what they run with it.
fn in_zones(zones: &[Along], be: &BootEnv) -> Vec<Value> {
    let told = |zone: &Along| {
        let names: Vec<&str> = zone.of(be.uuid).map(|be| be.name.as_str()).collect();
        let active = zone.due(be.uuid).map(|be| be.name.as_str());
        let something = active.is_some() || !names.is_empty();
        something.then(|| json!({"name": zone.name.as_str(), "active": active, "boot_environments": names}))
    };
    zones.iter().filter_map(told).collect()
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

/// A cell of the table. Nothing that the inventory says already is copied, and times are told only when they are printed.
enum Cell<'i> {
    Text(Cow<'i, str>),
    Description(&'i str),
    Time(i64),
}

impl Cell<'_> {
    /// How many columns of the terminal it takes.
    fn width(&self) -> usize {
        match self {
            Cell::Text(text) => text.chars().count(),
            Cell::Description(text) => text.chars().count(),
            Cell::Time(_) => "2026-01-31 10:00".len(),
        }
    }

    fn write(&self, clock: &Clock, text: &mut String) {
        match self {
            Cell::Text(cell) => *text += cell,
            Cell::Description(cell) => *text += &printable((*cell).into()),
            Cell::Time(time) => clock.tell(*time, text),
        }
    }
}

impl<'i, T: Into<Cow<'i, str>>> From<T> for Cell<'i> {
    fn from(text: T) -> Self {
        Cell::Text(text.into())
    }
}

/// The cells of a line that is coloured or not.
type Row<'i> = ([Cell<'i>; 7], bool);

/// The lines of one BE.
fn rows<'i>(
    args: &args::List,
    inventory: &Inventory,
    be: &'i BootEnv,
    depth: usize,
) -> impl Iterator<Item = Row<'i>> + use<'i> {
    let described = |facts: &'i Facts| Cell::Description(facts.description.as_deref().unwrap_or("-"));
    let indent = "  ".repeat(depth);
    let own = [
        if depth == 0 { be.name.as_str().into() } else { format!("{indent}{}", be.name).into() },
        flags(inventory, be).into(),
        be.mountpoints.first().map_or("-".into(), |m| printable(m.to_string_lossy()).into()),
        be.used.map_or("-".into(), |bytes| crate::domain::policy::size(bytes).into()),
        be.facts.policy().into(),
        Cell::Time(be.created),
        described(&be.facts),
    ];
    let datasets = if args.datasets || args.all { datasets(be) } else { Vec::new() };
    let snapshots = if args.snapshots || args.all { &be.snapshots[..] } else { &[] };
    let inside = indent.clone();
    let datasets = datasets.into_iter().map(move |d| {
        [format!("{indent}  {d}").into(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into(), "-".into()]
    });
    let snapshots = snapshots.iter().map(move |s| {
        let name = format!("{inside}  {}@{}", be.name, s.name);
        [name.into(), "-".into(), "-".into(), "-".into(), "-".into(), Cell::Time(s.created), described(&s.facts)]
    });
    std::iter::once((own, be.running)).chain(datasets.chain(snapshots).map(|row| (row, false)))
}

fn table(cx: &Context, args: &args::List, inventory: &Inventory, chosen: &[&BootEnv]) {
    let clock = Clock::new(args.script);
    let ordered = if args.tree { by_origin(inventory, chosen) } else { chosen.iter().map(|b| (*b, 0)).collect() };
    let rows = || ordered.iter().flat_map(|(be, depth)| rows(args, inventory, be, *depth));
    if args.script {
        let mut text = String::new();
        for (row, _) in rows() {
            for (index, cell) in row.into_iter().enumerate() {
                text += if index == 0 { "" } else { "\t" };
                match cell {
                    Cell::Text(cell) => text += cell.trim_start(),
                    other => other.write(&clock, &mut text),
                }
            }
            text.push('\n');
        }
        return cx.out.text(&text);
    }
    let header = ["BE", "Active", "Mountpoint", "Space", "Policy", "Created", "Description"];
    let mut widths = header.map(str::len);
    for (row, _) in rows() {
        row.iter().zip(&mut widths).take(6).for_each(|(cell, width)| *width = cell.width().max(*width));
    }
    let mut text = String::with_capacity((ordered.len() + 1) * (widths.iter().sum::<usize>() + 48));
    let (bold, plain) = cx.out.bold_marks();
    text += bold;
    header[..6].iter().zip(&widths).for_each(|(cell, width)| padded(&mut text, *width, |text| *text += cell));
    text.extend([header[6], plain, "\n"]);
    for (row, coloured) in rows() {
        let (on, off) = if coloured { cx.out.green_marks() } else { ("", "") };
        text += on;
        let [first @ .., last] = row;
        for (cell, width) in first.into_iter().zip(&widths) {
            padded(&mut text, *width, |text| cell.write(&clock, text));
        }
        last.write(&clock, &mut text);
        text.extend([off, "\n"]);
    }
    cx.out.text(&text);
}

/// Writes something, and blanks up to the next column.
fn padded(text: &mut String, width: usize, write: impl FnOnce(&mut String)) {
    let begin = text.len();
    write(text);
    let written = text[begin..].chars().count();
    text.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(written)));
}

/// `N` runs, `R` boots from now on, `T` boots next, once. In a zone: `x` belongs to another BE of the host, `b` would run if that
/// booted, `!` cannot run, `O` belongs to none any more.
fn flags(inventory: &Inventory, be: &BootEnv) -> Cow<'static, str> {
    let zone = inventory.zone.as_ref();
    let belongs = zone.map(|zone| zone.belongs(be));
    let marks = [
        (be.running, 'N'),
        (inventory.is_default(&be.name), 'R'),
        (inventory.is_once(&be.name), 'T'),
        (matches!(belongs, Some(Belongs::Elsewhere(_))), 'x'),
        (zone.is_some_and(|zone| zone.would_run(be).is_some()), 'b'),
        (zone.is_some_and(|zone| zone.cannot_run.contains(&be.name)), '!'),
        (belongs == Some(Belongs::Nowhere), 'O'),
    ];
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

    fn tell(&self, seconds: i64, text: &mut String) {
        let Some(time) = DateTime::<Utc>::from_timestamp(seconds, 0) else { return text.push('-') };
        // Writing to a String cannot fail.
        let _ = match self.script {
            true => write!(text, "{}", time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            false => write!(text, "{}", time.with_timezone(&Local).naive_local().format_with_items(self.format.iter())),
        };
    }
}
