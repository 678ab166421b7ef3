//! `bootenv answer`: does what one call asks for, with the verbs as they are, and replies with the document that each writes.

use super::output::Output;
use super::{Context, activate, args, create, describe, destroy, diff, list, pin, rename, rollback, status};
use crate::error::{Doing, Error, Result};
use crate::varlink::{self, Activation, Call, INTERFACE, Reply, Request};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read};

/// How many files there are in one reply.
const FILES: usize = 500;

pub(super) fn run(cx: &mut Context, peer: u32) -> Result<()> {
    let mut message = Vec::new();
    std::io::stdin().lock().read_to_end(&mut message).doing("cannot read the call")?;
    let store = cx.cli.store.clone();
    let zone = cx.cli.zone.clone();
    let cli = args::Global { store, zone: zone.clone(), json: true, dry_run: false, verbose: false, quiet: true };
    let guest = zone.is_some().then_some(peer);
    let mut answer = Answer { cx: Context { cli, out: Output::kept(zone.clone()), guest }, zone, broken: None };
    let reply = answer.to(&message);
    let sent = answer.broken.take().map_or_else(|| reply.send(&mut std::io::stdout()), Err);
    match sent {
        // Who has gone is told nothing.
        Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(()),
        sent => sent.doing("cannot reply"),
    }
}

struct Answer {
    cx: Context,
    zone: Option<String>,
    /// Why nothing more can be said.
    broken: Option<std::io::Error>,
}

impl Answer {
    fn to(&mut self, message: &[u8]) -> Reply {
        let replied = Call::<IgnoredAny>::parse(message).and_then(|call| {
            match call.method.strip_prefix(INTERFACE).and_then(|rest| rest.strip_prefix('.')) {
                Some(varlink::Diff::METHOD) if !call.more => Ok(Reply::expected_more()),
                Some(method) => self.answered(method, message),
                None => Ok(Reply::no_such_method(&call.method)),
            }
        });
        match replied {
            Ok(reply) => reply,
            Err(e) => (&self.as_told_inside(e)).into(),
        }
    }

    /// Commands that are named are meant for whoever is inside.
    fn inside(&self, text: &str) -> String {
        match &self.zone {
            Some(zone) => text.replace(&format!("`bootenv --zone {zone} "), "`bootenv "),
            None => text.to_string(),
        }
    }

    fn as_told_inside(&self, e: Error) -> Error {
        Error { message: self.inside(&e.message), hint: e.hint.as_deref().map(|hint| self.inside(hint)), ..e }
    }

    fn answered(&mut self, method: &str, message: &[u8]) -> Result<Reply> {
        use varlink::{Activate, Create, Describe, Destroy, Diff, DiffPackages, List, Pin, Rename, Rollback, Status};
        let cx = &mut self.cx;
        match method {
            Status::METHOD => {
                told::<Status>(message)?;
                status::run(cx)?;
                self.told_inside(&["attention"])
            }
            List::METHOD => {
                told::<List>(message)?;
                list::run(cx, &args::List::default())?;
                let mut document = self.document()?;
                if self.zone.is_some() {
                    // Where else something is mounted on the host is none of a zone's business.
                    for be in document["boot_environments"].as_array_mut().into_iter().flatten() {
                        be["mountpoint"] = if be["active_now"] == true { "/".into() } else { Value::Null };
                    }
                }
                Ok(Reply::of(document))
            }
            Create::METHOD => {
                let asked = told::<Create>(message)?;
                let made = args::Made {
                    activate: asked.activate == Some(Activation::Default),
                    once: asked.activate == Some(Activation::Once),
                    description: asked.description,
                };
                let (source, name) = (asked.source, asked.name);
                let args = args::Create { made, source, properties: Vec::new(), name, no_zones: false };
                self.changed(asked.dry_run, |cx| create::run(cx, &args))
            }
            Activate::METHOD => {
                let asked = told::<Activate>(message)?;
                let (once, clear) = (asked.once.unwrap_or(false), asked.clear.unwrap_or(false));
                if once && clear {
                    return Err(Error::usage("`once` and `clear` cannot both be").hint("leave one of them out"));
                }
                let args = args::Activate { once, clear, name: asked.name };
                self.changed(asked.dry_run, |cx| activate::run(cx, &args))
            }
            Destroy::METHOD => {
                let asked = told::<Destroy>(message)?;
                if asked.names.is_empty() {
                    return Err(Error::usage("nothing is named that could be destroyed").hint("name what is to go"));
                }
                let (snapshots, origin) = (asked.snapshots.unwrap_or(false), asked.origin.unwrap_or(false));
                let args = args::Destroy { force: false, yes: true, snapshots, origin, names: asked.names };
                self.changed(asked.dry_run, |cx| destroy::run(cx, &args))
            }
            Rename::METHOD => {
                let asked = told::<Rename>(message)?;
                let args = args::Rename { old: asked.old, new: asked.new };
                self.changed(asked.dry_run, |cx| rename::run(cx, &args))
            }
            Describe::METHOD => {
                let asked = told::<Describe>(message)?;
                let args = args::Describe { name: asked.name, text: asked.text };
                self.changed(asked.dry_run, |cx| describe::run(cx, &args))
            }
            Pin::METHOD => {
                let asked = told::<Pin>(message)?;
                if asked.names.is_empty() {
                    return Err(Error::usage("nothing is named that could be pinned").hint("name a boot environment"));
                }
                let args = args::Pin { names: asked.names };
                self.changed(asked.dry_run, |cx| pin::run(cx, &args, asked.pinned))
            }
            Rollback::METHOD => {
                let asked = told::<Rollback>(message)?;
                let args = args::Rollback { yes: true, snapshot: asked.snapshot };
                self.changed(asked.dry_run, |cx| rollback::run(cx, &args))
            }
            Diff::METHOD => {
                let asked = told::<Diff>(message)?;
                self.differences(&asked.old, asked.new.as_deref())
            }
            DiffPackages::METHOD => {
                let asked = told::<DiffPackages>(message)?;
                diff::run(cx, &args::Diff { packages: true, old: asked.old, new: asked.new })?;
                let mut document = self.document()?;
                varlink::name_packages(&mut document);
                Ok(Reply::of(document))
            }
            _ => Ok(Reply::no_such_method(&format!("{INTERFACE}.{method}"))),
        }
    }

    fn changed(&mut self, dry_run: Option<bool>, run: impl FnOnce(&mut Context) -> Result<()>) -> Result<Reply> {
        self.cx.cli.dry_run = dry_run.unwrap_or(false);
        run(&mut self.cx)?;
        self.told_inside(&["steps", "notes"])
    }

    /// The document, with these lists of texts as they are told inside.
    fn told_inside(&self, fields: &[&str]) -> Result<Reply> {
        let mut document = self.document()?;
        for field in fields {
            for text in document[*field].as_array_mut().into_iter().flatten() {
                *text = self.inside(text.as_str().unwrap_or_default()).into();
            }
        }
        Ok(Reply::of(document))
    }

    fn document(&self) -> Result<Value> {
        self.cx.out.take_document()
    }

    /// Files, as many in a reply as one can hold, and the last of them.
    fn differences(&mut self, old: &str, new: Option<&str>) -> Result<Reply> {
        let (session, [old, new]) = diff::sides(&mut self.cx, old, new)?;
        let reply = |files: Vec<Value>, continues: bool| {
            let told = json!({"version": 1, "old": old.target, "new": new.target, "files": files});
            Reply { continues, ..Reply::of(told) }
        };
        let mut files = Vec::new();
        diff::files(&session, &old, &new, &mut |file| {
            files.push(file);
            if files.len() == FILES && self.broken.is_none() {
                let full = reply(std::mem::take(&mut files), true);
                self.broken = full.send(&mut std::io::stdout()).err();
            }
        })?;
        Ok(reply(files, false))
    }
}

/// What a call tells. Nothing told is nothing to tell.
fn told<R: Request>(message: &[u8]) -> Result<R> {
    match Call::<R>::parse(message)?.parameters {
        Some(told) => Ok(told),
        None => serde_json::from_value(json!({})).map_err(|e| {
            Error::usage(format!("{}: {e}", R::METHOD)).hint("`varlinkctl introspect` tells what has to be told")
        }),
    }
}
