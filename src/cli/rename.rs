//! `bootenv rename`.

use super::{Context, args};
use crate::domain::BeName;
use crate::error::Result;
use crate::ops;

pub(super) fn run(cx: &mut Context, args: &args::Rename) -> Result<()> {
    let (old, new) = (BeName::parse(&args.old)?, BeName::parse(&args.new)?);
    let (session, lock) = cx.begin()?;
    let inventory = session.inventory_about(Some(&old))?;
    if old == new {
        inventory.be(&old)?;
        cx.out.already(&format!("rename {old} {new}"), &format!("{old} is called that already"));
        return Ok(());
    }
    let plan = ops::rename(&inventory, &old, &new)?;
    cx.carry_out(&session, &lock, &plan)
}
