//! The facts of a BE or snapshot: user properties of its dataset, which go where that goes.

use super::Zfs;
use crate::domain::{FORMAT, Facts};
use crate::error::Result;
use crate::sys::zfs::Property;

/// Free text for people.
const DESCRIPTION: &str = "org.bootenv:description";
/// Version of the format of the other properties.
const VERSION: &str = "org.bootenv:version";
/// TOML: what a newer bootenv keeps and this one does not know.
const REST: &str = "org.bootenv:rest";
/// All of them.
pub(super) const USER: [&str; 3] = [DESCRIPTION, VERSION, REST];

/// Reads them, where `own` gives the properties of the dataset.
pub(super) fn read(own: impl Fn(&str) -> Option<String>) -> Facts {
    let rest = own(REST).and_then(|rest| toml::from_str::<Facts>(&rest).ok()).unwrap_or_default();
    Facts {
        version: own(VERSION).and_then(|v| v.parse().ok()).unwrap_or(FORMAT),
        description: own(DESCRIPTION),
        ..rest
    }
}

/// Facts as the properties they are kept in.
pub(super) fn properties_of(facts: &Facts) -> [(&'static str, Option<String>); 3] {
    // All the rest in one: what a newer bootenv keeps may be anything that TOML can hold.
    let mut rest = toml::Table::try_from(facts).unwrap_or_default();
    for own in ["version", "description"] {
        rest.remove(own);
    }
    let rest = toml::to_string(&rest).unwrap_or_default();
    [
        (DESCRIPTION, facts.description.clone()),
        (VERSION, (*facts != Facts::default()).then_some(FORMAT.to_string())),
        (REST, (!rest.is_empty()).then_some(rest)),
    ]
}

/// What a dataset is born with that has these.
pub(super) fn born_with<'a>(properties: &'a [(&'static str, Option<String>)]) -> Vec<Property<'a>> {
    properties.iter().filter_map(|(name, value)| Some(Property::User(name, value.as_deref()?))).collect()
}

/// Sets those that the dataset has not, as it has if it was born with them.
pub(super) fn set(store: &Zfs, full: &str, facts: &Facts) -> Result<()> {
    let (properties, stats) = (properties_of(facts), store.stats(full)?);
    if properties.iter().all(|(name, value)| stats.user(name) == *value) {
        return Ok(());
    }
    store.lzc.set_user(&properties.each_ref().map(|(name, value)| (full, *name, value.as_deref())))
}
