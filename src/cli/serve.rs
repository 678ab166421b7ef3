//! `bootenv serve`: what systemd starts when somebody connects to a zone's socket, or to the host's.

use super::Context;
use super::output::in_journal;
use crate::domain::ZoneName;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sys::listen;
use crate::sys::peer::Peer;
use crate::varlink::{Deny, Service};
use crate::zone::Brand;
use std::process::Command;

/// This program, even if there is a newer one in its place since it was started.
const THIS: &str = "/proc/self/exe";

/// Whose the BEs are is said here, and by nobody who connects.
pub(super) fn run(cx: &mut Context) -> Result<()> {
    let listener = listen::passed()?;
    let zone = cx.cli.zone.as_deref().map(ZoneName::parse).transpose()?;
    let brand = match &zone {
        Some(zone) => Some(Brand::named(&Session::open(cx.cli.store.as_deref())?.zone(zone)?.brand)?),
        None => None,
    };
    let (store, answers) = (cx.cli.store.clone(), zone.clone());
    let service = Service {
        admits: Box::new(move |peer| match (&zone, &brand) {
            (Some(zone), Some(brand)) => admit(peer, zone, brand),
            _ => root(peer),
        }),
        starts: Box::new(move |peer| {
            let mut command = Command::new(THIS);
            if let Some(store) = &store {
                command.arg("--store").arg(store);
            }
            if let Some(zone) = &answers {
                command.args(["--zone", zone.as_str()]);
            }
            command.args(["answer", "--peer", &peer.pid.to_string()]);
            Ok(command)
        }),
        tell: in_journal,
    };
    service.serve(&listener)
}

fn root(peer: &Peer) -> Result<(), Deny> {
    let no = |why: &str| Deny(format!("process {} {why}", peer.pid));
    match peer.is_root() {
        Ok(true) => Ok(()),
        Ok(false) => Err(no("is not root")),
        Err(e) => Err(no(&format!("cannot be looked at: {}", e.message))),
    }
}

/// Root of the zone, in the zone.
fn admit(peer: &Peer, zone: &ZoneName, brand: &Brand) -> Result<(), Deny> {
    root(peer)?;
    let no = |why: &str| Deny(format!("process {} {why}", peer.pid));
    let unknown = |e: Error| no(&format!("cannot be looked at: {}", e.message));
    let unit = peer.unit().map_err(unknown)?;
    if !unit.as_deref().is_some_and(|unit| brand.is_unit_of(zone, unit)) {
        return Err(no(&format!("is in {}, not in {zone}", unit.as_deref().unwrap_or("no container"))));
    }
    // Root of a zone that has no user namespace may make one for others, as root of the host has for a zone that has one.
    if !peer.is_in_user_namespace_of(std::process::id()).map_err(unknown)?
        && let Some(first) = brand.leader_of(zone).map_err(unknown)?
        && !peer.is_in_user_namespace_of(first).map_err(unknown)?
    {
        return Err(no(&format!("is not root of {zone}, but of a user namespace in it")));
    }
    Ok(())
}
