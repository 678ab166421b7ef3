//! Zones: containers whose roots follow the BE of the host. What is kept of each lies in the tool's own directory, in a directory of
//! its own: its settings, by which it is there at all, and what it runs. As a container it is driven by its brand.

mod brand;
mod container;
mod drive;
mod record;

pub use brand::{Brand, USUAL};
pub use container::{Container, Due};
pub use drive::happens;
pub use record::Record;

use crate::domain::{FORMAT, Zone, ZoneName};
use crate::error::{Error, Result};
use crate::store::{Store, zone_home};

const SETTINGS: &str = "zone.toml";

fn settings_file(zone: &ZoneName) -> String {
    format!("{}/{SETTINGS}", zone_home(zone))
}

/// What is set for a zone of the whole store; nothing if there is no such zone, or if it was not finished.
pub fn settings(store: &dyn Store, zone: &ZoneName) -> Result<Option<Zone>> {
    let Some(text) = store.home()?.read_text(&settings_file(zone))? else { return Ok(None) };
    toml::from_str(&text).map(Some).map_err(|e: toml::de::Error| {
        let why = e.message().lines().next().unwrap_or_default().to_string();
        Error::failed(format!("BOOTENV/{} is damaged: {why}", settings_file(zone)))
            .hint("mend the file: it says `version = 1`, `brand = \"nspawn\"` and `attached = true`")
    })
}

/// The brand of a zone; while it is made nothing is set for it yet, and nothing is started.
pub fn brand(store: &dyn Store, zone: &ZoneName) -> Result<Brand> {
    Brand::named(&settings(store, zone)?.map_or(USUAL.to_string(), |settings| settings.brand))
}

/// Sets it, durably and at once; nothing makes it no zone.
pub fn set(store: &dyn Store, zone: &ZoneName, to: Option<&Zone>) -> Result<()> {
    let home = store.home()?;
    let file = settings_file(zone);
    let Some(to) = to else {
        home.remove(&file)?;
        return store.sync();
    };
    let text = toml::to_string(to).map_err(|e| Error::failed(format!("cannot write {file}: {e}")))?;
    home.write(&file, text.as_bytes(), 0o644)
}

/// Refuses to change settings of a newer format.
pub fn may_change(zone: &ZoneName, settings: &Zone) -> Result<()> {
    if settings.version <= FORMAT {
        return Ok(());
    }
    Err(Error::refused(format!("the zone {zone} was made by a newer bootenv (format {})", settings.version))
        .hint("use the bootenv of the boot environment that runs, or a newer one"))
}
