//! `bootenv zone`.

use super::args::{self, ZoneVerb};
use super::init::root_tree;
use super::{Context, zone_list, zone_run};
use crate::altroot;
use crate::domain::{BeName, Owner, Zone, ZoneName};
use crate::error::{Error, Result};
use crate::loader::Loader;
use crate::ops::{self, CreateZone, ZoneOrigin};
use crate::plan::Plan;
use crate::plan::execute::Observer;
use crate::session::{Locks, Session};
use crate::store::{SHARED, Store, be_path, zone_home, zone_path};
use crate::sys::mountinfo::{self, Mount};
use crate::zone::{self, Brand, Record};
use std::path::{Path, PathBuf};

/// What the first zone BE is called.
const FIRST: &str = "default";

pub(super) fn run(cx: &mut Context, args: &args::Zone) -> Result<()> {
    if cx.cli.zone.is_some() {
        return Err(Error::usage("--zone is for what is in a zone; `zone` itself takes the name as an argument")
            .hint("leave --zone out"));
    }
    match &args.verb {
        ZoneVerb::List { script } => zone_list::run(cx, *script),
        ZoneVerb::Create(args) => create(cx, args),
        ZoneVerb::Adopt(args) => adopt(cx, args),
        ZoneVerb::Attach { name } => set(cx, name, "attach", "is attached", |n, was| ops::attach(n, was, true)),
        ZoneVerb::Detach { name } => set(cx, name, "detach", "is detached", |n, was| ops::attach(n, was, false)),
        ZoneVerb::Limit { boot_environments, space, name } => limit(cx, name, *boot_environments, *space),
        ZoneVerb::Destroy { yes, name } => destroy(cx, name, *yes),
        ZoneVerb::Start(args) => zone_run::start(cx, args),
        ZoneVerb::Stop(args) => zone_run::stop(cx, args),
        ZoneVerb::Switch(args) => zone_run::switch(cx, args),
        ZoneVerb::Enable { name } => {
            set(cx, name, "enable", "starts with the host", |n, was| ops::autostart(n, was, true))
        }
        ZoneVerb::Disable { name } => {
            set(cx, name, "disable", "does not start with the host", |n, was| ops::autostart(n, was, false))
        }
    }
}

fn create(cx: &mut Context, args: &args::CreateZone) -> Result<()> {
    let name = ZoneName::parse(&args.name)?;
    Brand::named(&args.made.brand)?;
    let from = args.from.as_deref().map(root_tree).transpose()?;
    let model = args.clone.as_deref().map(ZoneName::parse).transpose()?;
    let session = cx.session()?;
    let mut locks = session.begin_with(&[], &mut cx.out)?;
    must_be_free(&session, &name)?;
    let origin = match (from, &model) {
        (Some(from), _) => ZoneOrigin::Tree(from),
        (None, Some(model)) => {
            let settings = session.zone(model)?;
            locks.zones.push(session.lock_zone(model, &mut cx.out)?);
            ZoneOrigin::Dataset(active(&session, model, &settings)?)
        }
        (None, None) => {
            return Err(Error::usage(format!("where does the root of {name} come from?"))
                .hint("--from names a folder or a tar of one, --clone another zone"));
        }
    };
    make(cx, &session, &locks, name, &args.made, origin)
}

/// Where the zone BE lies that a zone runs with the BE of the host that zones are looked at from.
fn active(session: &Session, name: &ZoneName, settings: &Zone) -> Result<String> {
    let store = session.store().enter(name)?;
    let record = Record::new(&store, Brand::named(&settings.brand)?, session.owner().map(|owner| owner.uuid));
    let due = record.due(&record.entries()?, record.asked()?).default;
    let be = due.ok_or_else(|| {
        Error::refused(format!("{name} has no boot environment that runs now"))
            .hint(format!("`bootenv --zone {name} activate` one"))
    })?;
    Ok(format!("{}/{}", zone_path(name), be_path(&be)))
}

fn adopt(cx: &mut Context, args: &args::AdoptZone) -> Result<()> {
    let name = ZoneName::parse(&args.name)?;
    let brand = Brand::named(&args.made.brand)?;
    let dir = args.dir.clone().unwrap_or_else(|| brand.root_of(&name));
    let session = cx.session()?;
    let locks = session.begin_with(&[], &mut cx.out)?;
    must_be_free(&session, &name)?;
    let dir = adoptable(&dir)?;
    if brand.runs(&name) {
        return Err(Error::busy(format!("{name} is running")).hint(format!("`machinectl poweroff {name}` first")));
    }
    let place = place_of(&dir)?;
    if let Some(user) = mountinfo::elsewhere()?.into_iter().find(|m| m.source == place.source && m.root == place.root) {
        return Err(Error::busy(format!(
            "{} is in use by a container: it is its {}",
            dir.display(),
            user.target.display()
        ))
        .hint("stop the container first"));
    }
    let origin = match dataset_at(session.store(), &place)? {
        Some(path) => ZoneOrigin::Dataset(path),
        None => ZoneOrigin::Tree(dir.clone()),
    };
    make(cx, &session, &locks, name, &args.made, origin)?;
    if !cx.cli.dry_run {
        cx.out.line(format!("{} stays as it is; the zone has a copy", dir.display()));
    }
    Ok(())
}

/// The directory of a container that may be adopted. A symlink could lead anywhere by the time it is copied.
fn adoptable(dir: &Path) -> Result<PathBuf> {
    let hint = "name the directory of the container: bootenv zone adopt NAME DIR";
    let meta = std::fs::symlink_metadata(dir).map_err(|e| {
        Error::not_found(format!("{} cannot be adopted: {}", dir.display(), crate::error::plain(&e))).hint(hint)
    })?;
    if meta.is_symlink() {
        return Err(Error::refused(format!("{} is a symlink", dir.display())).hint(hint));
    }
    if !meta.is_dir() {
        return Err(Error::refused(format!("{} is no directory; an image of a disk cannot be adopted", dir.display()))
            .hint("unpack it, then `bootenv zone create --from` that"));
    }
    let full = root_tree(dir)?;
    match full.parent() {
        Some(_) => Ok(full),
        None => Err(Error::refused("the running root is no container").hint(hint)),
    }
}

/// The mount that would show a directory: what it is on, and where that is in it.
fn place_of(dir: &Path) -> Result<Mount> {
    let mounts = mountinfo::own()?;
    let on = mounts.into_iter().filter(|m| dir.starts_with(&m.target)).max_by_key(|m| m.target.components().count());
    let on = on.ok_or_else(|| Error::failed(format!("{} is on no mount that can be seen", dir.display())))?;
    let rest = dir.strip_prefix(&on.target).unwrap_or(Path::new(""));
    let root = if rest.as_os_str().is_empty() { on.root.clone() } else { on.root.join(rest) };
    Ok(Mount { root, target: dir.to_path_buf(), ..on })
}

/// Where that lies in the store, if it is a dataset of it that can be cloned and be left alone from then on.
fn dataset_at(store: &dyn Store, place: &Mount) -> Result<Option<String>> {
    let Some(path) = place.root.to_str().map(|root| root.trim_start_matches('/')) else { return Ok(None) };
    let in_store = store.info().clones_stand_alone && store.is_mount_of(place, path);
    Ok(match in_store && store.identity(path)?.is_some() {
        true => Some(path.to_string()),
        false => None,
    })
}

/// Refuses a name that something has.
fn must_be_free(session: &Session, name: &ZoneName) -> Result<()> {
    if zone::settings(session.store(), name)?.is_some() {
        return Err(Error::refused(format!("the zone {name} exists")).hint("choose another name, or destroy it first"));
    }
    let path = zone_path(name);
    let taken = session.store().taken(&path)?;
    if taken || session.store().home()?.exists(&zone_home(name)) {
        let where_it_is = if taken { path } else { format!("BOOTENV/{}", zone_home(name)) };
        return Err(Error::refused(format!("something that is no zone stands at {where_it_is}"))
            .hint("move it away, or choose another name"));
    }
    Ok(())
}

fn make(
    cx: &mut Context,
    session: &Session,
    locks: &Locks,
    zone: ZoneName,
    made: &args::MadeZone,
    origin: ZoneOrigin,
) -> Result<()> {
    let owner: Option<Owner> = session.owner();
    let request = CreateZone {
        zone,
        brand: made.brand.clone(),
        attached: !made.detached,
        origin,
        be: BeName::parse(FIRST)?,
        description: made.description.clone().filter(|text| !text.is_empty()),
    };
    let plan = ops::create_zone(&session.inventory_of(&[])?, owner.as_ref(), &request)?;
    cx.carry_out(session, &locks.store, &plan)?;
    // So that others who can start it find it.
    if session.is_root()
        && !cx.cli.dry_run
        && let Err(e) = zone_run::container(session, &request.zone)?.prepare()
    {
        cx.out.note(&format!("{} cannot be started yet: {}", request.zone, e.in_a_line()));
    }
    Ok(())
}

/// Changes what is set for a zone; `so` is what it is if that changes nothing.
fn set(
    cx: &mut Context,
    name: &str,
    verb: &str,
    so: &str,
    plan: impl Fn(&ZoneName, &Zone) -> Option<Plan>,
) -> Result<()> {
    let name = ZoneName::parse(name)?;
    let session = cx.session()?;
    let locks = session.begin_with(&[&name], &mut cx.out)?;
    match plan(&name, &session.zone(&name)?) {
        Some(plan) => cx.carry_out(&session, &locks.store, &plan),
        None => {
            cx.out.already(&format!("zone {verb} {name}"), &format!("{name} {so} already"));
            Ok(())
        }
    }
}

fn limit(
    cx: &mut Context,
    name: &str,
    boot_environments: Option<args::Limit>,
    space: Option<args::Limit>,
) -> Result<()> {
    let name = ZoneName::parse(name)?;
    let session = cx.session()?;
    let locks = session.begin_with(&[&name], &mut cx.out)?;
    let settings = session.zone(&name)?;
    match ops::limit(&name, &settings, boot_environments, space) {
        Some(plan) => cx.carry_out(&session, &locks.store, &plan),
        None => {
            cx.out.already(&format!("zone limit {name}"), &ops::limits(&name, &settings));
            Ok(())
        }
    }
}

fn destroy(cx: &mut Context, name: &str, yes: bool) -> Result<()> {
    let name = ZoneName::parse(name)?;
    let session = cx.session()?;
    // What has lost its place has nothing to lock.
    let there = session.store().enter(&name).is_ok() && session.zone(&name).is_ok();
    let locked = [&name];
    let locks = session.begin_with(if there { &locked } else { &[] }, &mut cx.out)?;
    let settings = session.zone(&name)?;
    if Brand::named(&settings.brand).is_ok_and(|brand| brand.runs(&name)) {
        return Err(Error::busy(format!("{name} is running")).hint(format!("`bootenv zone stop {name}` first")));
    }
    let inside = session.inside(&name)?;
    let plan = ops::destroy_zone(&name, &settings, inside.as_ref())?;
    if let Some(inside) = &inside {
        let store = session.store().enter(&name)?;
        let used = inside.bes.iter().map(|be| be.path.as_str()).chain([SHARED]);
        for path in used {
            let own = mountinfo::own()?.into_iter().find(|m| store.is_mount_of(m, path));
            let at = own.map(|m| m.target.display().to_string());
            if let Some(at) = at.map_or_else(|| altroot::mounted_elsewhere(&*store, path), |at| Ok(Some(at)))? {
                return Err(Error::busy(format!("{path} of the zone {name} is mounted at {at}"))
                    .hint("stop the container or the command that uses it"));
            }
        }
    }
    if !yes && !cx.cli.dry_run {
        cx.out.confirm(&format!("Destroy the zone {name} with all its boot environments, its logs and its mail?"))?;
    }
    let container = zone_run::container(&session, &name);
    cx.carry_out(&session, &locks.store, &plan)?;
    if let (Ok(container), false) = (container, cx.cli.dry_run) {
        container.forget();
    }
    Ok(())
}
