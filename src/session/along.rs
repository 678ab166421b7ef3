//! Zones, for verbs of the host that take them along.

use super::{Locks, Session};
use crate::altroot::ZoneRoot;
use crate::domain::{Along, BootEnv, Zone, ZoneName};
use crate::error::{Error, Kind, Result};
use crate::loader::Loader;
use crate::plan::execute::Observer;
use crate::store;
use crate::zone::{self, Brand, Record};

/// Which zones a verb takes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// None.
    None,
    /// Those that follow the BEs of the host.
    Attached,
    /// All, for what belongs to a BE of the host does so whether or not more will.
    All,
}

impl Session {
    /// For verbs of the host that take zones along: takes the locks of these that can be looked into, in the order of their names. What
    /// is damaged must not stop the host, so those are left out, and that is said.
    pub fn begin_along(&self, which: Which, observer: &mut dyn Observer) -> Result<Locks> {
        let mut locks = Locks { store: self.begin(observer)?, zones: Vec::new(), along: Vec::new() };
        if self.zone.is_some() || which == Which::None {
            return Ok(locks);
        }
        for zone in store::zones(self.store())? {
            let taken = match zone::settings(self.store(), &zone) {
                // It was not finished.
                Ok(None) => continue,
                Ok(Some(settings)) if which == Which::Attached && !settings.attached => continue,
                Ok(Some(settings)) => self.lock_zone(&zone, observer).and_then(|lock| {
                    zone::may_change(&zone, &settings)?;
                    Ok((lock, self.along(&zone, &settings)?))
                }),
                Err(e) => Err(e),
            };
            match taken {
                Ok((lock, along)) => {
                    locks.zones.push(lock);
                    locks.along.push(along);
                }
                Err(e) if e.kind == Kind::Busy => return Err(e),
                Err(e) => observer.note(&left_out(&zone, &e)),
            }
        }
        Ok(locks)
    }

    /// A zone as verbs of the host see it.
    fn along(&self, zone: &ZoneName, settings: &Zone) -> Result<Along> {
        let store = self.store().enter(zone)?;
        let record = Record::new(&store, Brand::named(&settings.brand)?, None);
        let runs = record.all()?;
        let lost = || Error::not_found(format!("{} is gone", store::zone_path(zone)));
        let mut inside = self.inside(zone)?.ok_or_else(lost)?;
        inside.menu.entries = record.entries()?.into_iter().map(|entry| (entry.id, String::new())).collect();
        Ok(Along { name: zone.clone(), attached: settings.attached, runs, inside })
    }

    /// What zones run with a BE of the host, and where. Those that cannot be looked into are left out, and that is said.
    pub fn zone_roots(&self, host: &BootEnv, observer: &mut dyn Observer) -> Result<Vec<ZoneRoot>> {
        let mut roots = Vec::new();
        for (zone, seen) in self.zones_seen() {
            let be = match &seen {
                Ok(along) => along.due(host.uuid),
                Err(e) => {
                    observer.note(&left_out(&zone, e));
                    None
                }
            };
            let Some(be) = be else { continue };
            let place = Brand::named(&self.zone(&zone)?.brand)?.root_of(&zone);
            let place = place.to_string_lossy().trim_start_matches('/').to_string();
            roots.push(ZoneRoot { store: self.store().enter(&zone)?, zone, be: be.clone(), place });
        }
        Ok(roots)
    }

    /// The zones, as far as they can be looked into, for verbs that change nothing in them.
    pub fn zones_seen(&self) -> Vec<(ZoneName, Result<Along>)> {
        let seen = |zone: ZoneName| match zone::settings(self.store(), &zone) {
            // It was not finished.
            Ok(None) => None,
            Ok(Some(settings)) => {
                let along = self.along(&zone, &settings);
                Some((zone, along))
            }
            Err(e) => Some((zone, Err(e))),
        };
        match self.zone {
            Some(_) => Vec::new(),
            None => store::zones(self.store()).unwrap_or_default().into_iter().filter_map(seen).collect(),
        }
    }

    /// Those of them that can be looked into.
    pub fn zones_looked_into(&self) -> Vec<Along> {
        self.zones_seen().into_iter().filter_map(|(_, seen)| seen.ok()).collect()
    }
}

/// That a zone is not taken along.
fn left_out(zone: &ZoneName, e: &Error) -> String {
    format!("the zone {zone} is left out: {}", e.in_a_line())
}
