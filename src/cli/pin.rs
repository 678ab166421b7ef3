//! `bootenv pin` and `bootenv unpin`.

use super::{Context, args};
use crate::domain::BeName;
use crate::error::Result;
use crate::ops;
use crate::plan::Plan;

pub(super) fn run(cx: &mut Context, args: &args::Pin, pinned: bool) -> Result<()> {
    let names = args.names.iter().map(|name| BeName::parse(name)).collect::<Result<Vec<_>>>()?;
    let (session, lock) = cx.begin()?;
    let inventory = match &names[..] {
        [one] => session.inventory_about(Some(one))?,
        _ => session.inventory()?,
    };
    let plans = names.iter().map(|name| ops::pin(&inventory, name, pinned)).collect::<Result<Vec<_>>>()?;
    // All are found before the first is changed, and one plan after the other does no harm.
    match plans.into_iter().flatten().reduce(Plan::then) {
        Some(plan) => cx.carry_out(&session, &lock, &plan),
        None => {
            let verb = if pinned { "pin" } else { "unpin" };
            let how = if pinned { "pinned already" } else { "not pinned" };
            let is = if names.len() == 1 { "is" } else { "are" };
            cx.out
                .already(&format!("{verb} {}", args.names.join(" ")), &format!("{} {is} {how}", args.names.join(", ")));
            Ok(())
        }
    }
}
