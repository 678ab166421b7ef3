//! `bootenv mount`.

use super::{Context, args};
use crate::altroot;
use crate::domain::BeName;
use crate::error::{Error, Result};
use crate::plan::execute::Observer;

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
    let zones = session.zone_roots(be, &mut cx.out)?;
    let mut steps = vec![format!("mount {} as an alternate root, with the shared dataset below it read-only", be.path)];
    steps.extend(zones.iter().map(|root| {
        format!(
            "mount {} of the zone {} at /{} in it, its shared dataset read-only too",
            root.be.path, root.zone, root.place
        )
    }));
    let request = format!("mount {name}");
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    let mut note = |text: &str| cx.out.note(text);
    let at = altroot::mount(session.store(), be, args.dir.as_deref(), args.read_only, &zones, &mut note)?;
    match cx.out.is_json() {
        true => cx.out.change(&request, &steps, Some(&at)),
        false => {
            cx.out.raw(at.display().to_string());
            Ok(())
        }
    }
}
