//! `bootenv activate`.

use super::{Context, args};
use crate::domain::{BeName, Inventory};
use crate::error::Result;
use crate::loader::{Described, Entry};
use crate::ops::{self, Clear};
use crate::session::Session;

pub(super) fn run(cx: &mut Context, args: &args::Activate) -> Result<()> {
    let name = BeName::parse(&args.name)?;
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory_about(Some(&name))?;
    session.loader()?.asked()?;
    let outcome = match args.clear {
        true => ops::clear_once(&inventory, &name)?,
        false => {
            let now = describe(&session, &inventory, &name)?;
            let current = session.loader()?.entries()?.contains(&now);
            let bootable = session.loader()?.can_boot(session.store(), &now);
            ops::activate(&inventory, &name, args.once, bootable, current)?
        }
    };
    match outcome {
        Clear::Plan(plan) => cx.carry_out(&session, &lock, &plan),
        Clear::Already => {
            let text = match (args.clear, args.once) {
                (true, _) => format!("{name} is not active for the next boot"),
                (_, true) => format!("{name} is active for the next boot already"),
                _ => format!("{name} is active on reboot already"),
            };
            cx.out.already(&format!("activate {name}"), &text);
            Ok(())
        }
    }
}

/// The menu entry of a BE that is to be booted, as it should be now. Settings that cannot be used are refused here.
pub(super) fn describe(session: &Session, inventory: &Inventory, name: &BeName) -> Result<Entry> {
    let Described { entry, problem } = session.describe(inventory.be(name)?)?;
    match problem {
        Some(problem) => Err(problem.context(name)),
        None => Ok(entry),
    }
}
