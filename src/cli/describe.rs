//! `bootenv describe`.

use super::{Context, args};
use crate::domain::Target;
use crate::error::Result;
use crate::ops;

pub(super) fn run(cx: &mut Context, args: &args::Describe) -> Result<()> {
    let target = Target::parse(&args.name)?;
    let (session, lock) = cx.begin()?;
    let plan = ops::describe(&session.inventory_about(Some(target.be()))?, &target, &args.text)?;
    cx.carry_out(&session, &lock, &plan)
}
