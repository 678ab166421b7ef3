//! What the command line accepts.

mod zone;

pub use zone::{AdoptZone, CreateZone, Limit, MadeZone, StartZone, StopZone, SwitchZone, Zone, ZoneVerb};

use crate::domain::policy::Amount;
use crate::ops;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Boot environments: keep several bootable copies of one Linux installation, change one, boot it, go back.
#[derive(Debug, Parser)]
#[command(
    name = "bootenv",
    version,
    about = "Boot environments: keep several bootable copies of one Linux installation, change one, boot it, go back",
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do; without one, what runs, what boots next and what needs attention is shown.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The store: an image file, a block device, a directory, a ZFS pool or dataset [default: what / is on]
    #[arg(long, global = true, value_name = "STORE")]
    pub store: Option<PathBuf>,
    /// The boot environments of a zone (container) instead of the host's
    #[arg(long, global = true, value_name = "ZONE")]
    pub zone: Option<String>,
    /// Write one JSON document to standard output, errors as JSON to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// Show what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Tell every step
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Tell nothing but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what runs, what boots next and what needs attention
    Status,
    /// List boot environments
    List(List),
    /// Create a boot environment, or a snapshot of one (BE@SNAP)
    Create(Create),
    /// Choose what boots next
    Activate(Activate),
    /// Destroy boot environments or snapshots
    Destroy(Destroy),
    /// Destroy automatic boot environments that have had their time
    Prune(Prune),
    /// Let boot environments stay until they are unpinned
    Pin(Pin),
    /// Let boot environments go again
    Unpin(Pin),
    /// Keep what runs as it is, before a package manager changes it: called by its hook
    Auto(Auto),
    /// Give a boot environment another name
    Rename(Rename),
    /// Describe a boot environment or a snapshot
    Describe(Describe),
    /// Mount a boot environment as an alternate root
    Mount(Mount),
    /// Unmount an alternate root
    #[command(alias = "umount")]
    Unmount(Unmount),
    /// Run a command, or a shell, inside a boot environment that does not run
    Run(Run),
    /// Make a boot environment, run a command in it, and keep it only if that succeeds
    Upgrade(Upgrade),
    /// Show what waits to be merged into the shared dataset
    Pending(Pending),
    /// Make a boot environment again what a snapshot of it was
    Rollback(Rollback),
    /// Show how two boot environments or snapshots differ
    Diff(Diff),
    /// Make a store, or adopt the root that is on one
    Init(Init),
    /// Make, start and destroy zones: containers with boot environments of their own
    Zone(Zone),
    /// Look for what is wrong with the store, the menu and the loader
    Check(Check),
    /// Serve io.bootenv at the socket that was passed on: started by systemd
    #[command(hide = true)]
    Serve,
    /// Answer a call from standard input: started by `serve`
    #[command(hide = true)]
    Answer {
        /// The process that has called
        #[arg(long, value_name = "PID")]
        peer: u32,
    },
    /// Write shell completions to standard output
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// `list`.
#[derive(Debug, Default, Args)]
pub struct List {
    /// All: datasets and snapshots
    #[arg(short)]
    pub all: bool,
    /// The datasets of each boot environment
    #[arg(short)]
    pub datasets: bool,
    /// The snapshots of each boot environment
    #[arg(short)]
    pub snapshots: bool,
    /// For scripts: no header, fields separated by one tab
    #[arg(short = 'H')]
    pub script: bool,
    /// Sort by KEY (date, name or space), ascending
    #[arg(short = 'k', value_name = "KEY", hide_possible_values = true, conflicts_with = "descending")]
    pub ascending: Option<SortKey>,
    /// Sort by KEY (date, name or space), descending
    #[arg(short = 'K', value_name = "KEY", hide_possible_values = true)]
    pub descending: Option<SortKey>,
    /// Show what came from what
    #[arg(long, conflicts_with_all = ["script", "ascending", "descending"])]
    pub tree: bool,
    /// Only this boot environment
    pub name: Option<String>,
}

/// What `list` sorts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortKey {
    /// By creation, the default
    Date,
    /// By name
    Name,
    /// By the space only it holds
    Space,
}

/// What is said of a BE that is made.
#[derive(Debug, Args)]
pub struct Made {
    /// Activate it: boot it from now on
    #[arg(short, conflicts_with = "once")]
    pub activate: bool,
    /// Activate it for the next boot only
    #[arg(short = 't')]
    pub once: bool,
    /// Describe it
    #[arg(short, value_name = "TEXT")]
    pub description: Option<String>,
}

impl Made {
    /// Whether it is activated.
    pub fn activation(&self) -> ops::Activate {
        match (self.activate, self.once) {
            (true, _) => ops::Activate::Default,
            (_, true) => ops::Activate::Once,
            _ => ops::Activate::No,
        }
    }

    /// Its description; an empty one is none.
    pub fn description(&self) -> Option<String> {
        self.description.clone().filter(|text| !text.is_empty())
    }
}

/// `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// What becomes of it.
    #[command(flatten)]
    pub made: Made,
    /// Make it from this boot environment or snapshot [default: what runs, else what boots next]
    #[arg(short = 'e', value_name = "BE|BE@SNAP")]
    pub source: Option<String>,
    /// Leave attached zones out
    #[arg(long)]
    pub no_zones: bool,
    /// Set a dataset property (ZFS only)
    #[arg(short = 'o', value_name = "PROP=VALUE")]
    pub properties: Vec<String>,
    /// Its name, or BE@SNAP for a snapshot [default: the source's with the next number]
    #[arg(value_name = "NAME|BE@SNAP", allow_hyphen_values = true)]
    pub name: Option<String>,
}

/// `activate`.
#[derive(Debug, Args)]
pub struct Activate {
    /// For the next boot only
    #[arg(short = 't', conflicts_with = "clear")]
    pub once: bool,
    /// No longer for the next boot
    #[arg(short = 'T')]
    pub clear: bool,
    /// The boot environment
    pub name: String,
}

/// `destroy`.
#[derive(Debug, Args)]
pub struct Destroy {
    /// Unmount it by force if it is mounted
    #[arg(short = 'f')]
    pub force: bool,
    /// Do not ask
    #[arg(short = 'F')]
    pub yes: bool,
    /// With its snapshots
    #[arg(short)]
    pub snapshots: bool,
    /// With the snapshot it came from
    #[arg(short)]
    pub origin: bool,
    /// The boot environments and snapshots
    #[arg(value_name = "NAME|BE@SNAP", required = true)]
    pub names: Vec<String>,
}

/// `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Keep the newest N [default: what /etc/bootenv.toml says, else 10]
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Keep those that are no older than N days
    #[arg(long, value_name = "N")]
    pub keep_days: Option<u32>,
    /// Destroy more, the oldest first, while less than this is free: 20G or 10%
    #[arg(long, value_name = "SIZE", value_parser = amount)]
    pub keep_free: Option<Amount>,
}

fn amount(text: &str) -> Result<Amount, String> {
    Amount::try_from(text.to_string())
}

/// `pin` and `unpin`.
#[derive(Debug, Args)]
pub struct Pin {
    /// The boot environments
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

/// `auto`.
#[derive(Debug, Args)]
pub struct Auto {
    /// The package manager
    #[arg(long, value_name = "NAME", required_unless_present = "booted")]
    pub before: Option<String>,
    /// The process of the package manager, for which one boot environment is enough
    #[arg(long, value_name = "PID")]
    pub process: Option<u32>,
    /// What has booted is no automatic boot environment any more: done by the service bootenv-booted
    #[arg(long, conflicts_with_all = ["before", "process"])]
    pub booted: bool,
}

/// `rename`.
#[derive(Debug, Args)]
pub struct Rename {
    /// What it is called
    pub old: String,
    /// What it is to be called
    pub new: String,
}

/// `describe`.
#[derive(Debug, Args)]
pub struct Describe {
    /// The boot environment or snapshot
    #[arg(value_name = "NAME|BE@SNAP")]
    pub name: String,
    /// The description; an empty one removes it
    #[arg(allow_hyphen_values = true)]
    pub text: String,
}

/// `mount`.
#[derive(Debug, Args)]
pub struct Mount {
    /// How the shared dataset is mounted; only ro is allowed
    #[arg(short = 's', value_name = "ro", default_value = "ro")]
    pub shared: String,
    /// Mount the boot environment itself read-only too
    #[arg(long)]
    pub read_only: bool,
    /// The boot environment
    pub name: String,
    /// An empty directory [default: one below /run/bootenv]
    pub dir: Option<PathBuf>,
}

/// `unmount`.
#[derive(Debug, Args)]
pub struct Unmount {
    /// Even if it is in use
    #[arg(short)]
    pub force: bool,
    /// The boot environment, or where it is mounted
    #[arg(value_name = "NAME|DIR")]
    pub what: String,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The boot environment
    pub name: String,
    /// The command and its arguments [default: root's shell]
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

/// `upgrade`.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// What the new boot environment is called [default: the source's name with the next number]
    #[arg(short, value_name = "NAME")]
    pub name: Option<String>,
    /// What becomes of it.
    #[command(flatten)]
    pub made: Made,
    /// Go on from what boots next, instead of from what runs
    #[arg(long = "continue")]
    pub onward: bool,
    /// Run the command in the new root of each attached zone too
    #[arg(long, conflicts_with = "no_zones")]
    pub zones: bool,
    /// Leave attached zones out
    #[arg(long)]
    pub no_zones: bool,
    /// Keep the boot environment if the command fails, to look at
    #[arg(long)]
    pub keep_failed: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// `pending`.
#[derive(Debug, Args)]
pub struct Pending {
    /// Merge it: done by the service bootenv-pending when a boot environment boots
    #[arg(long, conflicts_with = "name")]
    pub merge: bool,
    /// The boot environment [default: the one that runs]
    pub name: Option<String>,
}

/// `rollback`.
#[derive(Debug, Args)]
pub struct Rollback {
    /// Do not ask
    #[arg(short = 'F')]
    pub yes: bool,
    /// The snapshot to go back to
    #[arg(value_name = "BE@SNAP")]
    pub snapshot: String,
}

/// `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// Packages, by name and version, instead of files
    #[arg(long)]
    pub packages: bool,
    /// The one that is taken for the older
    #[arg(value_name = "A")]
    pub old: String,
    /// The one that is compared with it [default: what runs]
    #[arg(value_name = "B")]
    pub new: Option<String>,
}

/// `init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Size of a new image, as 4G or 800M
    #[arg(long)]
    pub size: Option<String>,
    /// The root to copy in: a folder or a tar
    #[arg(long, value_name = "ROOT")]
    pub from: Option<PathBuf>,
    /// What the first boot environment is called
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Describe it
    #[arg(short, value_name = "TEXT")]
    pub description: Option<String>,
    /// The boot loader, grub or systemd-boot [default: on a machine what has booted it, else grub]
    #[arg(long, value_name = "LOADER", hide_possible_values = true)]
    pub loader: Option<LoaderName>,
}

/// The boot loaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoaderName {
    /// GRUB on UEFI
    Grub,
    /// systemd-boot
    SystemdBoot,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Mend what can be mended
    #[arg(long)]
    pub repair: bool,
}
