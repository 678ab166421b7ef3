//! `bootenv mount`.

use super::{Context, args};
use crate::altroot;
use crate::domain::BeName;
use crate::error::{Error, Result};

pub(super) fn run(cx: &mut Context, args: &args::Mount) -> Result<()> {
    let name = BeName::parse(&args.name)?;
    match args.shared.as_str() {
        "ro" => {}
        "rw" => {
            return Err(Error::refused("-s rw: the shared dataset is never writable through an alternate root").hint(
                "what runs writes to it at the same time; leave -s out, and change shared data where the system runs",
            ));
        }
        other => {
            return Err(Error::usage(format!("-s {other}: only ro is known"))
                .hint("leave -s out: the shared dataset is mounted read-only"));
        }
    }
    let (session, _lock) = cx.begin()?;
    let inventory = session.inventory_about(Some(&name))?;
    let be = inventory.be(&name)?;
    altroot::check(be, args.dir.as_deref())?;
    let steps = [format!("mount {} as an alternate root, with the shared dataset below it read-only", be.path)];
    let request = format!("mount {name}");
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    let at = altroot::mount(session.store(), be, args.dir.as_deref(), args.read_only)?;
    match cx.out.is_json() {
        true => cx.out.change(&request, &steps, Some(&at)),
        false => {
            cx.out.raw(at.display().to_string());
            Ok(())
        }
    }
}
