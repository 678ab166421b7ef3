//! `bootenv rename`.

use super::{Context, args};
use crate::domain::BeName;
use crate::error::Result;
use crate::ops;

pub(super) fn run(cx: &mut Context, args: &args::Rename) -> Result<()> {
    let (old, new) = (BeName::parse(&args.old)?, BeName::parse(&args.new)?);
    let (session, lock) = cx.begin()?;
    let plan = ops::rename(&session.inventory()?, &old, &new)?;
    cx.carry_out(&session, &lock, &plan)
}
