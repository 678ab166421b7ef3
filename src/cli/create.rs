//! `bootenv create`.

use super::{Context, args};
use crate::domain::{Along, Inventory, Target};
use crate::error::{Error, Result};
use crate::ops::{self, Activate};
use crate::plan::Plan;
use crate::session::{Session, Which};

pub(super) fn run(cx: &mut Context, args: &args::Create) -> Result<()> {
    let parse = |text: &Option<String>| text.as_deref().map(Target::parse).transpose();
    let request = ops::Create {
        name: parse(&args.name)?,
        source: parse(&args.source)?,
        description: args.made.description(),
        activate: args.made.activation(),
        automatic: None,
        properties: args.properties.iter().map(|text| property(text)).collect::<Result<_>>()?,
    };
    let (session, mut locks) = cx.begin_along(if args.no_zones { Which::None } else { Which::Attached })?;
    let (inventory, plan) = planned(&session, &request, std::mem::take(&mut locks.along))?;
    if request.activate != Activate::No {
        // What cannot boot must not become the default, so its source is looked at before anything is made.
        session.loader()?.asked()?;
        let source = ops::source_of(&inventory, &request)?;
        let entry = super::activate::describe(&session, &inventory, &source)?;
        if !session.loader()?.can_boot(session.store(), &entry) {
            return Err(ops::not_bootable(&inventory, &source));
        }
    }
    session.may_make_more()?;
    cx.carry_out(&session, &locks.store, &plan)
}

/// The plan, with what it is made on. A number for a name depends on all BEs, and so do the words of a refusal; else a few
/// are all that counts.
fn planned(session: &Session, request: &ops::Create, mut zones: Vec<Along>) -> Result<(Inventory, Plan)> {
    if let Some(name) = &request.name {
        let wanted: Vec<Target> = std::iter::once(name).chain(&request.source).cloned().collect();
        if let Ok(mut inventory) = session.inventory_of(&wanted) {
            inventory.zones = zones;
            if let Ok(plan) = ops::create(&inventory, request) {
                return Ok((inventory, plan));
            }
            zones = inventory.zones;
        }
    }
    let inventory = Inventory { zones, ..session.inventory_about(None)? };
    let plan = ops::create(&inventory, request)?;
    Ok((inventory, plan))
}

/// `PROP=VALUE`.
fn property(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
        Error::usage(format!("-o {text}: it is no PROP=VALUE")).hint("write it as -o compression=zstd")
    })?;
    Ok((name.to_string(), value.to_string()))
}
