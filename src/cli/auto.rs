//! `bootenv auto`: called by the hooks of package managers, and when a BE has booted.

use super::{Context, args, prune};
use crate::domain::Inventory;
use crate::error::Result;
use crate::ops::{self, Transaction};
use crate::plan::execute::Observer;
use crate::plan::in_words;
use crate::session::Which;
use crate::settings::Settings;
use crate::sys::process::{self, Process};
use crate::sys::tree::Tree;
use std::path::Path;

pub(super) fn run(cx: &mut Context, args: &args::Auto) -> Result<()> {
    if args.booted {
        return claim(cx);
    }
    // In a BE that does not run, what runs is not about to change.
    if process::is_inside() {
        return nothing(cx, "this is not the running system's root");
    }
    let (required, kept) = match Tree::at(Path::new("/")).and_then(|root| Settings::read(&root)) {
        Ok(Settings { automatic, .. }) if !automatic.enabled => {
            return nothing(cx, "automatic boot environments are not enabled in /etc/bootenv.toml");
        }
        Ok(settings) => (settings.automatic.required, keep(cx, args, &settings)),
        // Whether they are wanted is not known, so nobody is held up.
        Err(e) => (false, Err(e)),
    };
    match kept {
        Err(e) if !required => {
            cx.out.note(&format!("no boot environment was kept before this: {}", e.in_a_line()));
            Ok(())
        }
        kept => kept,
    }
}

fn keep(cx: &mut Context, args: &args::Auto, settings: &Settings) -> Result<()> {
    let process = args.process.map(Process::read).transpose()?;
    let transaction = Transaction {
        by: args.before.clone().unwrap_or_default(),
        day: chrono::Local::now().format("%Y-%m-%d").to_string(),
        command: process.as_ref().map(|process| in_words(&process.command)).unwrap_or_default(),
        identity: process.map(|process| process.identity).unwrap_or_default(),
    };
    let (session, locks) = cx.begin_along(Which::All)?;
    let inventory = Inventory { zones: locks.along.clone(), ..session.inventory()? };
    let Some(plan) = ops::automatic(&inventory, &transaction)? else {
        return nothing(cx, "there is one for this transaction already");
    };
    cx.carry_out(&session, &locks.store, &plan)?;
    if cx.cli.dry_run {
        return Ok(());
    }
    // What is kept is kept, whatever becomes of the old ones.
    match prune::carry_out(cx, &session, &locks, &settings.prune) {
        Ok(gone) => gone.iter().for_each(|be| cx.out.line(format!("{be} has had its time and is destroyed"))),
        Err(e) => cx.out.note(&format!("no old boot environment was destroyed: {}", e.in_a_line())),
    }
    Ok(())
}

/// For programs that read what is said: nobody who calls a package manager needs to be told each time.
fn nothing(cx: &Context, why: &str) -> Result<()> {
    if cx.out.is_json() {
        cx.out.already("auto", why);
    }
    Ok(())
}

/// What has been booted was chosen by somebody.
fn claim(cx: &mut Context) -> Result<()> {
    let session = cx.session()?;
    // Without the lock, for there is hardly ever anything to do.
    let running = session.inventory_of(&[])?.running().map(|be| be.name.clone());
    let none = "what runs is no automatic boot environment";
    let Some(be) = running else { return nothing(cx, none) };
    if session.inventory_about(Some(&be))?.be(&be)?.facts.automatic.is_none() {
        return nothing(cx, none);
    }
    let (session, lock) = cx.begin()?;
    match ops::claim(&session.inventory_about(Some(&be))?, &be)? {
        Some(plan) => cx.carry_out(&session, &lock, &plan),
        None => nothing(cx, none),
    }
}
