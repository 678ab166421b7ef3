//! `bootenv zone list`.

use super::Context;
use crate::domain::{Zone, ZoneName};
use crate::error::Result;
use crate::loader::Loader;
use crate::plan::execute::Observer;
use crate::session::Session;
use crate::zone::{Brand, Record};
use serde_json::json;

/// What is told of a zone.
struct Row {
    name: ZoneName,
    settings: Zone,
    /// What it runs, and how many zone BEs it has.
    inside: Option<(Option<String>, usize)>,
    running: bool,
}

pub(super) fn run(cx: &mut Context, script: bool) -> Result<()> {
    let session = cx.look()?;
    let (mut rows, mut attention) = (Vec::new(), Vec::new());
    for (name, settings) in session.zones()? {
        // One that is damaged must not hide the others.
        let inside = session.settle_zone(&name, &mut cx.out).and_then(|()| look(&session, &name, &settings));
        if let Err(e) = &inside {
            attention.push(format!("{name}: {}", e.in_a_line()));
        }
        let running = Brand::named(&settings.brand).is_ok_and(|brand| brand.runs(&name));
        rows.push(Row { name, settings, inside: inside.ok(), running });
    }
    if cx.out.is_json() {
        let zones: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name.as_str(),
                    "brand": row.settings.brand,
                    "attached": row.settings.attached,
                    "autostart": row.settings.autostart,
                    "running": row.running,
                    "active": row.inside.as_ref().and_then(|(active, _)| active.clone()),
                    "boot_environments": row.inside.as_ref().map(|(_, count)| count),
                })
            })
            .collect();
        cx.out.document(&json!({"version": 1, "zones": zones, "attention": attention}));
        return Ok(());
    }
    attention.iter().for_each(|text| cx.out.note(text));
    let lines: Vec<[String; 5]> = rows.iter().map(cells).collect();
    if script {
        lines.iter().for_each(|line| cx.out.raw(line.join("\t")));
        return Ok(());
    }
    let header = ["Zone", "Brand", "State", "Active", "BEs"].map(String::from);
    let all: Vec<&[String; 5]> = std::iter::once(&header).chain(&lines).collect();
    let width = |column: usize| all.iter().map(|line| line[column].chars().count()).max().unwrap_or(0) + 2;
    let widths = [width(0), width(1), width(2), width(3)];
    for line in all {
        let text: String = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cx.out.raw(text + &line[4]);
    }
    Ok(())
}

fn cells(row: &Row) -> [String; 5] {
    let state = match (row.running, row.settings.attached) {
        (true, true) => "running",
        (true, false) => "running, detached",
        (false, true) => "attached",
        (false, false) => "detached",
    };
    let (active, count) = match &row.inside {
        Some((active, count)) => (active.clone().unwrap_or("-".into()), count.to_string()),
        None => ("!".into(), "!".into()),
    };
    [row.name.to_string(), row.settings.brand.clone(), state.into(), active, count]
}

/// What a zone runs with the BE of the host that zones are looked at from, and how many zone BEs it has.
fn look(session: &Session, name: &ZoneName, settings: &Zone) -> Result<(Option<String>, usize)> {
    let store = session.store().enter(name)?;
    let record = Record::new(&store, Brand::named(&settings.brand)?, session.owner().map(|owner| owner.uuid));
    let entries = record.entries()?;
    let count = entries.len();
    Ok((record.due(&entries, record.asked()?).default, count))
}
