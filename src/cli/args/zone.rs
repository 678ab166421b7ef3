//! `zone`, and its verbs.

use crate::domain::policy;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `zone`.
#[derive(Debug, Args)]
pub struct Zone {
    /// What to do.
    #[command(subcommand)]
    pub verb: ZoneVerb,
}

/// The verbs of `zone`.
#[derive(Debug, Subcommand)]
pub enum ZoneVerb {
    /// List zones
    List {
        /// For scripts: no header, fields separated by one tab
        #[arg(short = 'H')]
        script: bool,
    },
    /// Make a zone from a folder, a tar, or another zone
    Create(CreateZone),
    /// Make a zone of a container that is there
    Adopt(AdoptZone),
    /// Let a zone follow the boot environments of the host
    Attach {
        /// The zone
        name: String,
    },
    /// Let a zone not follow the boot environments of the host
    Detach {
        /// The zone
        name: String,
    },
    /// Set how much a zone may take by itself
    Limit {
        /// Boot environments and snapshots, so many together; `none` for as many as usual
        #[arg(long, value_name = "N", value_parser = count)]
        boot_environments: Option<Limit>,
        /// Space, as 20G; `none` for any
        #[arg(long, value_name = "SIZE", value_parser = size)]
        space: Option<Limit>,
        /// The zone
        name: String,
    },
    /// Destroy a zone with all that it has
    Destroy {
        /// Do not ask
        #[arg(short = 'F')]
        yes: bool,
        /// The zone
        name: String,
    },
    /// Start a zone in the boot environment that is due
    Start(StartZone),
    /// Stop a zone
    Stop(StopZone),
    /// Stop a zone, and start it in the boot environment that is due
    Switch(SwitchZone),
    /// Let a zone start with the host
    Enable {
        /// The zone
        name: String,
    },
    /// Let a zone not start with the host
    Disable {
        /// The zone
        name: String,
    },
}

/// `zone start`.
#[derive(Debug, Args)]
pub struct StartZone {
    /// Wait until it has booted
    #[arg(long)]
    pub wait: bool,
    /// Only put its root in place: done by its unit, or a hook, when a container starts
    #[arg(long, conflicts_with = "wait")]
    pub place: bool,
    /// Those that start with the host: done by the service bootenv-zones
    #[arg(long, conflicts_with_all = ["wait", "place", "name"])]
    pub booted: bool,
    /// The zone
    #[arg(required_unless_present = "booted")]
    pub name: Option<String>,
}

/// `zone stop`.
#[derive(Debug, Args)]
pub struct StopZone {
    /// Only take its root away: done by its unit, or a hook, when a container has stopped
    #[arg(long)]
    pub place: bool,
    /// The zone
    pub name: String,
}

/// `zone switch`.
#[derive(Debug, Args)]
pub struct SwitchZone {
    /// Wait until it has booted
    #[arg(long)]
    pub wait: bool,
    /// The zone
    pub name: String,
}

/// What is said of a zone that is made.
#[derive(Debug, Args)]
pub struct MadeZone {
    /// The kind of container
    #[arg(long, value_name = "BRAND", default_value = crate::zone::USUAL)]
    pub brand: String,
    /// Do not let it follow the boot environments of the host
    #[arg(long)]
    pub detached: bool,
    /// Describe its first boot environment
    #[arg(short, value_name = "TEXT")]
    pub description: Option<String>,
}

/// `zone create`.
#[derive(Debug, Args)]
pub struct CreateZone {
    /// What becomes of it.
    #[command(flatten)]
    pub made: MadeZone,
    /// The root to copy in: a folder or a tar
    #[arg(long, value_name = "ROOT", conflicts_with = "clone")]
    pub from: Option<PathBuf>,
    /// The zone whose root is copied
    #[arg(long, value_name = "ZONE")]
    pub clone: Option<String>,
    /// What it is called
    #[arg(allow_hyphen_values = true)]
    pub name: String,
}

/// `zone adopt`.
#[derive(Debug, Args)]
pub struct AdoptZone {
    /// What becomes of it.
    #[command(flatten)]
    pub made: MadeZone,
    /// What the container is called
    #[arg(allow_hyphen_values = true)]
    pub name: String,
    /// The directory of the container [default: where its kind is looked for, as /var/lib/machines/NAME]
    pub dir: Option<PathBuf>,
}

/// A limit: so much, or none.
pub type Limit = Option<u64>;

fn count(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| "that is no number, and not `none`".to_string()),
    }
}

fn size(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(None),
        _ => policy::bytes(text).map(Some).map_err(|e| e.message),
    }
}
