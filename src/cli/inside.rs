//! `bootenv` in a zone: the host is asked, and what it tells is shown as it would be there.

use super::args::{self, Verb};
use super::{Context, diff, list, status};
use crate::domain::{
    Asked, BeName, BootEnv, Facts, Inventory, MenuState, NextBoot, Owner, Room, SnapName, Snapshot, StoreInfo, Target,
    ZoneName, ZoneView,
};
use crate::error::{Error, Result};
use crate::varlink::{self, Activation, Client, Request};
use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use uuid::Uuid;

/// Whether the BEs are those of the zone that this runs in. Another store than that can be named, a hook of a package manager is not
/// to stand in its way, and what waits in the root that runs is there to be merged.
pub(super) fn is_meant(cx: &Context, verb: Option<&Verb>) -> bool {
    let elsewhere = match verb {
        Some(Verb::Auto(_) | Verb::Completions { .. } | Verb::Serve | Verb::Answer { .. }) => true,
        Some(Verb::Pending(args)) => args.name.is_none(),
        _ => false,
    };
    cx.cli.store.is_none() && !elsewhere && Client::is_inside()
}

pub(super) fn run(cx: &mut Context, verb: Option<Verb>) -> Result<()> {
    if let Some(zone) = &cx.cli.zone {
        return Err(Error::usage(format!("--zone {zone}: this is a zone, and there are no others in it"))
            .hint("leave --zone out for the boot environments of this one"));
    }
    let dry_run = Some(cx.cli.dry_run);
    match verb {
        None | Some(Verb::Status) => {
            let told = Client::connect()?.call(varlink::Status {})?;
            status::show(cx, &told, !told["running"].is_null());
            Ok(())
        }
        Some(Verb::List(args)) => {
            args.name.as_deref().map(BeName::parse).transpose()?;
            let told = Client::connect()?.call(varlink::List {})?;
            list::show(cx, &args, read_back(told)?, &[])
        }
        Some(Verb::Create(args::Create { made, source, properties, name, no_zones: _ })) => {
            if !properties.is_empty() {
                return Err(Error::refused("the properties of datasets are the host's to set")
                    .hint("leave -o out, or ask the administrator of the host"));
            }
            let activate = match (made.activate, made.once) {
                (true, _) => Some(Activation::Default),
                (_, true) => Some(Activation::Once),
                _ => None,
            };
            made_there(cx, varlink::Create { name, source, description: made.description, activate, dry_run })
        }
        Some(Verb::Activate(args::Activate { once, clear, name })) => {
            made_there(cx, varlink::Activate { name, once: Some(once), clear: Some(clear), dry_run })
        }
        Some(Verb::Destroy(args::Destroy { force, yes, snapshots, origin, names })) => {
            if force {
                return Err(Error::refused("what is mounted is mounted by the host").hint("leave -f out"));
            }
            if !yes && !cx.cli.dry_run {
                cx.out.confirm(&format!("Destroy {}?", names.join(", ")))?;
            }
            let (snapshots, origin) = (Some(snapshots), Some(origin));
            made_there(cx, varlink::Destroy { names, snapshots, origin, dry_run })
        }
        Some(Verb::Rename(args::Rename { old, new })) => made_there(cx, varlink::Rename { old, new, dry_run }),
        Some(Verb::Describe(args::Describe { name, text })) => {
            made_there(cx, varlink::Describe { name, text, dry_run })
        }
        Some(Verb::Pin(args::Pin { names })) => made_there(cx, varlink::Pin { names, pinned: true, dry_run }),
        Some(Verb::Unpin(args::Pin { names })) => made_there(cx, varlink::Pin { names, pinned: false, dry_run }),
        Some(Verb::Rollback(args::Rollback { yes, snapshot })) => {
            if !yes
                && !cx.cli.dry_run
                && let Some((be, _)) = snapshot.split_once('@')
            {
                cx.out.confirm(&format!("Give up what {be} became after {snapshot}?"))?;
            }
            made_there(cx, varlink::Rollback { snapshot, dry_run })
        }
        Some(Verb::Diff(args::Diff { packages: true, old, new })) => {
            let mut told = Client::connect()?.call(varlink::DiffPackages { old, new })?;
            varlink::list_packages(&mut told);
            diff::show_packages(cx, &told);
            Ok(())
        }
        Some(Verb::Diff(args::Diff { old, new, .. })) => differences(cx, old, new),
        Some(other) => Err(not_here(&other)),
    }
}

fn made_there(cx: &Context, request: impl Request) -> Result<()> {
    cx.out.made_elsewhere(&Client::connect()?.call(request)?);
    Ok(())
}

fn differences(cx: &mut Context, old: String, new: Option<String>) -> Result<()> {
    // What is refused is not paged.
    let mut replies = Vec::new();
    Client::connect()?.call_more(varlink::Diff { old, new }, &mut |told| replies.push(told))?;
    cx.out.page();
    let Some(first) = replies.first() else { return Ok(()) };
    let mut shown = diff::Shown::begin(cx, &first["old"], &first["new"]);
    replies.iter().flat_map(|told| told["files"].as_array()).flatten().for_each(|file| shown.one(file));
    shown.end();
    Ok(())
}

/// The refusal of a verb that needs what only the host has.
fn not_here(verb: &Verb) -> Error {
    let (verb, instead) = match verb {
        Verb::Mount(_) => ("mount", "`bootenv diff` shows what is in another one; start the zone with it to change it"),
        Verb::Unmount(_) => ("unmount", "what is mounted is mounted by the host"),
        Verb::Run(_) => ("run", "`bootenv create -a` one, start the zone with that, and change it from inside"),
        Verb::Upgrade(_) => ("upgrade", "`bootenv create` one first, as it is now: it can be gone back to"),
        Verb::Pending(_) => ("pending", "`bootenv pending` alone shows what waits in the one that runs"),
        Verb::Prune(_) => ("prune", "`bootenv destroy` those that have had their time"),
        Verb::Init(_) => ("init", "the host has made what there is"),
        Verb::Zone(_) => ("zone", "zones are the host's to make"),
        _ => ("check", "`bootenv` tells what needs attention"),
    };
    Error::refused(format!("`{verb}` cannot be done from inside a zone"))
        .hint(format!("{instead}; else ask the administrator of the host"))
}

/// What the host tells of the BEs, as far as it is shown.
#[derive(Deserialize)]
struct Listed {
    store: ListedStore,
    #[serde(default)]
    host: Option<BeName>,
    boot_environments: Vec<ListedBe>,
}

#[derive(Deserialize)]
struct ListedStore {
    kind: String,
    name: String,
    uuid: String,
}

#[derive(Deserialize)]
struct ListedBe {
    name: BeName,
    uuid: Uuid,
    active_now: bool,
    active_on_reboot: bool,
    active_once: bool,
    mountpoint: Option<PathBuf>,
    used_bytes: Option<u64>,
    created: String,
    description: Option<String>,
    origin: Option<Target>,
    policy: String,
    datasets: Vec<String>,
    snapshots: Vec<ListedSnapshot>,
    boot: ListedBoot,
    belongs_to: Option<BeName>,
    would_run_with: Option<BeName>,
    can_run: Option<bool>,
}

#[derive(Deserialize)]
struct ListedSnapshot {
    name: Target,
    created: String,
    description: Option<String>,
}

#[derive(Deserialize)]
struct ListedBoot {
    kernel: Option<String>,
    entry: Option<String>,
}

/// What a list is made from. Where the host tells names, identities stand for them here that are made up.
fn read_back(told: Value) -> Result<Inventory> {
    let not_understood = |why: String| {
        Error::failed(format!("the host's list cannot be understood: {why}"))
            .hint("the bootenv of the host and this one are not of an age")
    };
    let Listed { store, host, boot_environments } =
        serde_json::from_value(told).map_err(|e| not_understood(e.to_string()))?;
    let seconds = |text: &str| {
        DateTime::parse_from_rfc3339(text).map(|time| time.timestamp()).map_err(|e| not_understood(e.to_string()))
    };
    let mut hosts: BTreeMap<BeName, Uuid> = BTreeMap::new();
    let mut identity = |name: &BeName| *hosts.entry(name.clone()).or_insert_with(Uuid::new_v4);
    let owner = host.map(|name| Owner { uuid: identity(&name), name, path: String::new() });
    let mut view = ZoneView::new(ZoneName::parse(&store.name)?, owner);
    let (mut next, mut menu) = (NextBoot::default(), MenuState::default());
    let mut bes = Vec::new();
    let mut named: HashMap<Target, Uuid> = HashMap::new();
    let mut origins = Vec::new();
    for be in boot_environments {
        named.insert(Target::Be(be.name.clone()), be.uuid);
        let mut snapshots = Vec::new();
        for snapshot in be.snapshots {
            let Target::Snapshot(_, name) = &snapshot.name else {
                return Err(not_understood(format!("{} is no snapshot", snapshot.name)));
            };
            let (name, uuid): (SnapName, Uuid) = (name.clone(), Uuid::new_v4());
            named.insert(snapshot.name, uuid);
            let facts = Facts { description: snapshot.description, ..Facts::default() };
            snapshots.push(Snapshot { name, uuid, created: seconds(&snapshot.created)?, facts });
        }
        let due = |is: bool| is.then(|| be.name.to_string());
        next.default = next.default.or_else(|| due(be.active_on_reboot));
        next.once = next.once.or_else(|| due(be.active_once));
        if let Some(host) = &be.would_run_with {
            let asked: &mut Asked = view.runs.entry(identity(host)).or_default();
            let free = if asked.default.is_none() { &mut asked.default } else { &mut asked.once };
            *free = Some(be.name.to_string());
        }
        if be.can_run == Some(false) {
            view.cannot_run.insert(be.name.clone());
        }
        menu.entries.extend(be.boot.entry.map(|entry| (entry, be.boot.kernel.unwrap_or_default())));
        let path = be.datasets.first().cloned().unwrap_or_default();
        let below = be.datasets.iter().skip(1);
        let nested = below.filter_map(|d| Some(d.strip_prefix(&path)?.strip_prefix('/')?.to_string())).collect();
        origins.push(be.origin);
        bes.push(BootEnv {
            uuid: be.uuid,
            parent_uuid: None,
            path,
            adopted: false,
            created: seconds(&be.created)?,
            readonly: false,
            nested,
            mountpoints: be.mountpoint.into_iter().collect(),
            running: be.active_now,
            used: be.used_bytes,
            facts: Facts {
                description: be.description,
                pinned: be.policy == "pinned",
                automatic: (be.policy == "automatic").then(String::new),
                parent: be.belongs_to.as_ref().map(&mut identity),
                ..Facts::default()
            },
            snapshots,
            name: be.name,
        });
    }
    for (be, origin) in bes.iter_mut().zip(origins) {
        be.parent_uuid = origin.and_then(|origin| named.get(&origin).copied());
    }
    view.hosts = hosts.into_iter().collect();
    let kind = if store.kind == "zfs" { "zfs" } else { "btrfs" };
    Ok(Inventory {
        store: StoreInfo {
            kind,
            name: store.name,
            uuid: store.uuid,
            rollback_takes_later: false,
            properties: false,
            clones_stand_alone: true,
            grub_reads: false,
            room: Room { whole: 0, own: 0, aside: 0, nested: false },
        },
        bes,
        shared: true,
        next,
        menu,
        attention: Vec::new(),
        zone: Some(view),
        zones: Vec::new(),
    })
}
