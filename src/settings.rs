//! `/etc/bootenv.toml`, the settings that belong to a BE: see bootenv.toml(5).

use crate::domain::policy::Policy;
use crate::error::{Error, Result};
use crate::sys::tree::Tree;
use serde::Deserialize;

const FILE: &str = "etc/bootenv.toml";

/// What can be set. Unknown keys are an error: a mistyped one would be silently without effect.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How it boots.
    pub boot: Boot,
    /// BEs that are made before a package manager changes the running one.
    pub automatic: Automatic,
    /// Which of those stay.
    pub prune: Policy,
}

/// How a BE boots.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boot {
    /// Arguments for the kernel.
    pub cmdline: Option<String>,
}

/// Whether automatic BEs are made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Automatic {
    /// Whether they are.
    pub enabled: bool,
    /// Whether nothing may be changed without one.
    pub required: bool,
}

impl Settings {
    /// Those of a root; without the file nothing is set.
    pub fn read(root: &Tree) -> Result<Settings> {
        let Some(text) = root.read_text(FILE)? else { return Ok(Settings::default()) };
        toml::from_str(&text).map_err(|e| {
            Error::refused(format!("/{FILE} does not parse: {}", e.message()))
                .hint("mend it (bootenv.toml(5)), or remove it")
        })
    }
}
