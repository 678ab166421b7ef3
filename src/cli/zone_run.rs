//! `bootenv zone start|stop|switch`.

use super::Context;
use super::args::{StartZone, StopZone, SwitchZone};
use crate::domain::ZoneName;
use crate::error::{Error, Kind, Result};
use crate::plan::execute::Observer;
use crate::session::Session;
use crate::store::Lock;
use crate::zone::{Brand, Container, Due, happens};

pub(super) fn start(cx: &mut Context, args: &StartZone) -> Result<()> {
    let Some(name) = &args.name else { return booted(cx) };
    if args.place {
        return match own(cx, name)? {
            Some((session, name)) => place(cx, &session, &name),
            None => Ok(()),
        };
    }
    let (session, name) = look(cx, name)?;
    let container = container(&session, &name)?;
    let request = format!("zone start {name}");
    if container.brand().runs(&name) {
        let text = match container.runs()? {
            Some(be) => format!("{name} runs already: {be}"),
            None => format!("{name} runs already"),
        };
        cx.out.already(&request, &text);
        return Ok(());
    }
    let due = container.due()?;
    container.check(&due)?;
    let steps = steps_up(&container, &name, &due, args.wait);
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    up(cx, &container, &name, &due, args.wait)?;
    told(cx, &container, &name, &request, &steps)
}

pub(super) fn stop(cx: &mut Context, args: &StopZone) -> Result<()> {
    if args.place {
        return match own(cx, &args.name)? {
            Some((session, name)) => container(&session, &name)?.take_away(),
            None => Ok(()),
        };
    }
    let (session, name) = look(cx, &args.name)?;
    let container = container(&session, &name)?;
    let request = format!("zone stop {name}");
    if !container.brand().runs(&name) {
        cx.out.already(&request, &format!("{name} does not run"));
        return Ok(());
    }
    let steps = steps_down(&container, &name);
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    down(cx, &container, &name)?;
    told(cx, &container, &name, &request, &steps)
}

pub(super) fn switch(cx: &mut Context, args: &SwitchZone) -> Result<()> {
    let (session, name) = look(cx, &args.name)?;
    let container = container(&session, &name)?;
    let request = format!("zone switch {name}");
    let (due, runs) = (container.due()?, container.brand().runs(&name));
    if runs && !due.once && container.runs()?.as_ref() == Some(&due.be) {
        cx.out.already(&request, &format!("{name} runs already what is due: {}", due.be));
        return Ok(());
    }
    // Before it is stopped.
    container.check(&due)?;
    let mut steps = if runs { steps_down(&container, &name) } else { Vec::new() };
    steps.extend(steps_up(&container, &name, &due, args.wait));
    if cx.cli.dry_run {
        return cx.out.change(&request, &steps, None);
    }
    if runs {
        down(cx, &container, &name)?;
    }
    up(cx, &container, &name, &due, args.wait)?;
    told(cx, &container, &name, &request, &steps)
}

/// After the host has booted: makes the places that zones are found by, and starts those that start with it. One that cannot be started
/// must not keep the others from it.
fn booted(cx: &mut Context) -> Result<()> {
    let Some(session) = host(cx)? else { return Ok(()) };
    let mut failed = Vec::new();
    for (name, settings) in session.zones()? {
        let starts = settings.attached && settings.autostart;
        let done = container(&session, &name).and_then(|container| {
            container.prepare()?;
            if !starts || container.brand().runs(&name) {
                return Ok(());
            }
            match container.due() {
                // The zone may be younger than what has booted.
                Err(e) if e.kind == Kind::Refused => cx.out.note(&e.in_a_line()),
                due => due.and_then(|_| container.brand().start(&name))?,
            }
            Ok(())
        });
        if let Err(e) = done {
            cx.out.error(&e.context(format!("the zone {name}")));
            failed.push(name.to_string());
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Error::failed(format!("not all zones can be started: {}", failed.join(", ")))),
    }
}

/// Puts in place what is due: done on the container's own way up.
fn place(cx: &mut Context, session: &Session, name: &ZoneName) -> Result<()> {
    let store = session.store().enter(name)?;
    let locked = locked(session, name, &mut cx.out)?;
    let container = container(session, name)?;
    let due = container.due()?;
    // What is for once is used up, which changes what others may be about to change.
    if locked.is_none() && due.once {
        return Err(Error::busy(format!("another bootenv works on the zone {}", store.zone().unwrap_or(name)))
            .hint("start it again when that is done"));
    }
    container.put_in_place(&due)
}

/// Takes the zone's lock, if it comes free: a container that has to come back does not wait for an upgrade in another zone BE.
fn locked(session: &Session, name: &ZoneName, out: &mut super::Output) -> Result<Option<Lock>> {
    match session.lock_zone(name, out) {
        Err(e) if e.kind == Kind::Busy => Ok(None),
        lock => lock.map(Some),
    }
}

/// The store of the running system, if it has zones. A machine whose host has none is nobody's business.
fn host(cx: &mut Context) -> Result<Option<Session>> {
    let Ok(session) = cx.session() else { return Ok(None) };
    match session.is_root() && session.store().initialised() {
        true => session.settle(&mut cx.out).map(|()| Some(session)),
        false => Ok(None),
    }
}

/// The machine of this name, if it is a zone.
fn own(cx: &mut Context, name: &str) -> Result<Option<(Session, ZoneName)>> {
    let Ok(name) = ZoneName::parse(name) else { return Ok(None) };
    let Some(session) = host(cx)? else { return Ok(None) };
    let is_zone = session.zones()?.iter().any(|(zone, _)| *zone == name);
    Ok(is_zone.then_some((session, name)))
}

fn look(cx: &mut Context, name: &str) -> Result<(Session, ZoneName)> {
    let name = ZoneName::parse(name)?;
    let session = cx.look()?;
    session.zone(&name)?;
    session.settle_zone(&name, &mut cx.out)?;
    Ok((session, name))
}

/// The container of a zone, which there is only where its host runs.
pub(super) fn container(session: &Session, name: &ZoneName) -> Result<Container> {
    let settings = session.zone(name)?;
    let elsewhere = || {
        Error::refused(format!("{name} runs where its host does: / is on none of the boot environments of this store"))
            .hint("boot one of them")
    };
    let owner = session.owner().filter(|_| session.is_root()).ok_or_else(elsewhere)?;
    let store = session.store().enter(name)?;
    Ok(Container::new(store, Brand::named(&settings.brand)?, name.clone(), owner.uuid))
}

fn steps_up(container: &Container, name: &ZoneName, due: &Due, wait: bool) -> Vec<String> {
    let brand = container.brand();
    let at = brand.root_of(name);
    let mut steps = vec![format!("run `{}`", brand.shown(&brand.start, name))];
    steps.push(format!(
        "on its way, mount {} of {name} on {}, and its shared dataset in it, read-write",
        due.path,
        at.display()
    ));
    if due.once {
        steps.push(format!("no longer run {} once", due.be));
    }
    if wait && !brand.ready.is_empty() {
        steps.push(format!("wait for `{}`", brand.shown(&brand.ready, name)));
    }
    steps
}

fn steps_down(container: &Container, name: &ZoneName) -> Vec<String> {
    let brand = container.brand();
    let at = brand.root_of(name);
    vec![format!("run `{}`", brand.shown(&brand.stop, name)), format!("unmount {}", at.display())]
}

fn up(cx: &mut Context, container: &Container, name: &ZoneName, due: &Due, wait: bool) -> Result<()> {
    let brand = container.brand();
    container.prepare()?;
    cx.out.working(format!("starting {name}"));
    brand.start(name)?;
    if wait && !brand.ready.is_empty() {
        cx.out.working(format!("waiting for {name} to boot"));
        brand.wait(name)?;
    }
    match container.runs()? {
        Some(be) if be == due.be => Ok(()),
        other => Err(Error::failed(format!(
            "{name} was started, but runs {} instead of {}",
            other.as_deref().unwrap_or("something else"),
            due.be
        ))
        .hint("`make install` of bootenv installs what puts its root in place; then `systemctl daemon-reload`")),
    }
}

fn down(cx: &mut Context, container: &Container, name: &ZoneName) -> Result<()> {
    cx.out.working(format!("stopping {name}"));
    container.brand().stop(name)?;
    // Its unit takes that away too, and does not wait for it.
    match happens(|| !container.is_in_place().unwrap_or(true)) {
        true => Ok(()),
        false => container.take_away(),
    }
}

/// Tells what is so now.
fn told(cx: &mut Context, container: &Container, name: &ZoneName, request: &str, steps: &[String]) -> Result<()> {
    cx.out.idle();
    if cx.out.is_json() {
        return cx.out.change(request, steps, Some(&container.brand().root_of(name)));
    }
    cx.out.line(match container.runs()? {
        Some(be) => format!("{name} runs {be}"),
        None => format!("{name} does not run"),
    });
    Ok(())
}
