//! The command line: one file per verb, arguments in, report out. `output.rs` is the only printer.

mod activate;
mod answer;
pub mod args;
mod auto;
mod check;
mod create;
mod describe;
mod destroy;
mod diff;
mod init;
mod inside;
mod list;
mod mount;
mod output;
mod pending;
mod pin;
mod prune;
mod rename;
mod rollback;
mod run;
mod serve;
mod status;
mod unmount;
mod upgrade;
mod zone;
mod zone_list;
mod zone_run;

use crate::domain::ZoneName;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::session::{Locks, Session, Which};
use crate::store::Lock;
use args::{Cli, Verb};
use clap::{CommandFactory, Parser};
use output::Output;
use std::process::ExitCode;

/// What every verb gets.
struct Context {
    cli: args::Global,
    out: Output,
    /// The process in the zone that asks, if it is its own administrator.
    guest: Option<u32>,
}

impl Context {
    fn session(&self) -> Result<Session> {
        let zone = self.cli.zone.as_deref().map(ZoneName::parse).transpose()?;
        let session = Session::open(self.cli.store.as_deref())?;
        let Some(zone) = zone else { return Ok(session) };
        let mut session = session.enter(&zone)?;
        if let Some(pid) = self.guest {
            session.ask_from_inside(pid)?;
        }
        Ok(session)
    }

    /// Opens the store for a change: locked, with what was begun finished or undone.
    fn begin(&mut self) -> Result<(Session, Lock)> {
        let session = self.session()?;
        let lock = session.begin(&mut self.out)?;
        Ok((session, lock))
    }

    /// The same for a verb that takes zones along.
    fn begin_along(&mut self, which: Which) -> Result<(Session, Locks)> {
        let session = self.session()?;
        let locks = session.begin_along(which, &mut self.out)?;
        Ok((session, locks))
    }

    /// Opens the store for reading.
    fn look(&mut self) -> Result<Session> {
        let session = self.session()?;
        session.settle(&mut self.out)?;
        Ok(session)
    }

    /// Runs a plan, or only shows it.
    fn carry_out(&mut self, session: &Session, lock: &Lock, plan: &Plan) -> Result<()> {
        match self.cli.dry_run {
            true => session.preflight(plan)?,
            false => {
                self.out.follow(plan);
                session.run(lock, plan, &mut self.out)?;
            }
        }
        self.out.plan(plan, self.cli.dry_run)
    }
}

/// Parses the command line, runs the verb, and gives the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.use_stderr() && std::env::args_os().any(|a| a == "--json") => {
            let text = e.to_string();
            let first: Vec<&str> = text.lines().take_while(|l| !l.is_empty()).map(str::trim).collect();
            let error = Error::usage(first.join(" ").trim_start_matches("error: ")).hint("see `bootenv --help`");
            output::error_document(&error);
            return ExitCode::from(error.kind.exit_status());
        }
        Err(e) => {
            let status = if e.use_stderr() { Error::usage("").kind.exit_status() } else { 0 };
            let _ = e.print();
            return ExitCode::from(status);
        }
    };
    let Cli { global, verb } = cli;
    let mut context = Context { out: Output::new(&global), cli: global, guest: None };
    match run(&mut context, verb) {
        Ok(status) => status,
        Err(error) => {
            context.out.error(&error);
            ExitCode::from(error.kind.exit_status())
        }
    }
}

fn run(cx: &mut Context, verb: Option<Verb>) -> Result<ExitCode> {
    if inside::is_meant(cx, verb.as_ref()) {
        inside::run(cx, verb)?;
        return Ok(ExitCode::SUCCESS);
    }
    match verb {
        None | Some(Verb::Status) => status::run(cx)?,
        Some(Verb::List(args)) => list::run(cx, &args)?,
        Some(Verb::Create(args)) => create::run(cx, &args)?,
        Some(Verb::Activate(args)) => activate::run(cx, &args)?,
        Some(Verb::Destroy(args)) => destroy::run(cx, &args)?,
        Some(Verb::Prune(args)) => prune::run(cx, &args)?,
        Some(Verb::Pin(args)) => pin::run(cx, &args, true)?,
        Some(Verb::Unpin(args)) => pin::run(cx, &args, false)?,
        Some(Verb::Auto(args)) => auto::run(cx, &args)?,
        Some(Verb::Rename(args)) => rename::run(cx, &args)?,
        Some(Verb::Describe(args)) => describe::run(cx, &args)?,
        Some(Verb::Mount(args)) => mount::run(cx, &args)?,
        Some(Verb::Unmount(args)) => unmount::run(cx, &args)?,
        Some(Verb::Run(args)) => return run::run(cx, &args),
        Some(Verb::Upgrade(args)) => upgrade::run(cx, &args)?,
        Some(Verb::Pending(args)) => pending::run(cx, &args)?,
        Some(Verb::Rollback(args)) => rollback::run(cx, &args)?,
        Some(Verb::Diff(args)) => diff::run(cx, &args)?,
        Some(Verb::Init(args)) => init::run(cx, &args)?,
        Some(Verb::Zone(args)) => zone::run(cx, &args)?,
        Some(Verb::Serve) => serve::run(cx)?,
        Some(Verb::Answer { peer }) => answer::run(cx, peer)?,
        Some(Verb::Check(args)) => return check::run(cx, &args),
        Some(Verb::Completions { shell }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "bootenv", &mut text);
            cx.out.raw(String::from_utf8_lossy(&text).trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}
