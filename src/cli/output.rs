//! The only printer: reports, notes, progress bars, errors.

use super::args::Global;
use crate::domain::policy::size;
use crate::domain::{ZoneName, told_of};
use crate::error::{Error, Result};
use crate::plan::execute::Observer;
use crate::plan::{Plan, Step};
use crate::sys::copy::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where everything the user sees goes through.
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    colour: bool,
    bar: Option<ProgressBar>,
    interrupted: Arc<AtomicBool>,
    notes: Vec<String>,
    zone: Option<ZoneName>,
    pager: Option<Child>,
    /// What would have been printed, if nothing is to be.
    kept: Option<RefCell<String>>,
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(mut pager) = self.pager.take() {
            // It shows the last of it, and waits for its user, once nothing more can come.
            let _ = std::io::stdout().flush();
            let _ = rustix::stdio::dup2_stdout(rustix::stdio::stderr());
            let _ = pager.wait();
        }
    }
}

impl Output {
    /// Follows the global options, and the terminal.
    pub fn new(global: &Global) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        Output {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            bar: None,
            interrupted,
            notes: Vec::new(),
            // One that is no name is refused before anything is told of it.
            zone: global.zone.as_deref().and_then(|zone| ZoneName::parse(zone).ok()),
            pager: None,
            kept: None,
        }
    }

    /// Prints nothing, and keeps documents for whoever passes them on.
    pub fn kept(zone: Option<String>) -> Self {
        let global = Global { store: None, zone, json: true, dry_run: false, verbose: false, quiet: true };
        let mut out = Output::new(&global);
        out.kept = Some(RefCell::default());
        out
    }

    /// The document that was kept.
    pub fn take_document(&self) -> Result<Value> {
        let text = self.kept.as_ref().map(RefCell::take).unwrap_or_default();
        serde_json::from_str(&text).map_err(|e| Error::failed(format!("there is no document: {e}")))
    }

    /// A line for people; nothing with `--json` or `-q`.
    pub fn line(&self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            self.raw(self.told(text.as_ref()));
        }
    }

    /// What is told, with the commands it names told the zone.
    fn told<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.zone.as_ref().map_or(text.into(), |zone| told_of(zone, text).into())
    }

    /// A line of data: printed even with `-q`.
    pub fn raw(&self, text: impl AsRef<str>) {
        self.text(&format!("{}\n", text.as_ref()));
    }

    /// Lines of data, each with its end.
    pub fn text(&self, text: &str) {
        if let Some(kept) = &self.kept {
            kept.borrow_mut().push_str(text);
            return;
        }
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => {}
            // A reader that went away (`bootenv list | head`) is no error of ours.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(e) => {
                let why = crate::error::plain(&e);
                self.error(&Error::failed(format!("cannot write to standard output: {why}")));
                std::process::exit(i32::from(crate::error::Kind::Failed.exit_status()));
            }
        }
    }

    /// From now on what is printed goes through a pager, if somebody looks at it.
    pub fn page(&mut self) {
        if self.json || !std::io::stdout().is_terminal() {
            return;
        }
        let mut command = match std::env::var("PAGER") {
            Ok(none) if none.is_empty() => return,
            Ok(pager) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &pager]);
                shell
            }
            Err(_) => Command::new("less"),
        };
        // As git does: what fits on the screen stays there, colours are shown.
        command.env("LESS", std::env::var_os("LESS").unwrap_or_else(|| "FRX".into()));
        // Where there is none, the lines are printed.
        let Ok(mut pager) = command.stdin(Stdio::piped()).spawn() else { return };
        if let Some(input) = pager.stdin.take()
            && rustix::stdio::dup2_stdout(&input).is_ok()
        {
            self.pager = Some(pager);
            // Ctrl-C is for the pager, which is left by its own key; its user would find it beside the shell.
            let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&self.interrupted));
        }
    }

    /// Whether a JSON document is wanted.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// The one JSON document.
    pub fn document(&self, value: &Value) {
        self.raw(serde_json::to_string_pretty(value).unwrap_or_default());
    }

    /// Text in bold, on a terminal.
    pub fn bold(&self, text: &str) -> String {
        let (on, off) = self.bold_marks();
        format!("{on}{text}{off}")
    }

    /// What makes text bold, on a terminal, and what ends that.
    pub fn bold_marks(&self) -> (&'static str, &'static str) {
        if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") }
    }

    /// What makes text green, on a terminal, and what ends that.
    pub fn green_marks(&self) -> (&'static str, &'static str) {
        if self.colour { ("\x1b[32m", "\x1b[0m") } else { ("", "") }
    }

    /// From now on Ctrl-C is a wish to stop between two steps, not a kill.
    pub fn follow(&mut self, _plan: &Plan) {
        let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&self.interrupted));
        let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&self.interrupted));
    }

    /// What takes its time, on a terminal.
    pub fn working(&mut self, what: impl Into<String>) {
        if self.json || self.quiet {
            return;
        }
        self.idle();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.into());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        self.bar = Some(bar);
    }

    /// Nothing does any more.
    pub fn idle(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// What was done, or would be.
    pub fn plan(&mut self, plan: &Plan, dry_run: bool) -> Result<()> {
        if self.json {
            self.document(&self.plan_document(plan, dry_run));
        } else {
            let steps: Vec<String> = plan.steps().map(Step::to_string).collect();
            self.told_of_plan(dry_run, &plan.request, &steps, &plan.notes, plan.frees);
        }
        Ok(())
    }

    fn told_of_plan(&self, dry_run: bool, request: &str, steps: &[String], notes: &[String], frees: Option<u64>) {
        if !dry_run {
            return notes.iter().for_each(|n| self.line(n));
        }
        self.line(format!("{request} would:"));
        steps.iter().for_each(|s| self.line(format!("  {s}")));
        notes.iter().for_each(|n| self.line(format!("note: {n}")));
        frees.iter().for_each(|bytes| self.line(format!("{} would be free", size(*bytes))));
    }

    /// The document of a change that was made, or would be, elsewhere.
    pub fn made_elsewhere(&self, document: &Value) {
        if self.json {
            return self.document(document);
        }
        let texts = |field: &str| {
            let all = document[field].as_array().into_iter().flatten();
            all.filter_map(|text| text.as_str().map(str::to_string)).collect::<Vec<_>>()
        };
        let dry_run = document["dry_run"].as_bool().unwrap_or(false);
        let request = document["request"].as_str().unwrap_or_default();
        self.told_of_plan(dry_run, request, &texts("steps"), &texts("notes"), document["frees_bytes"].as_u64());
    }

    /// The same for programs.
    pub fn plan_document(&self, plan: &Plan, dry_run: bool) -> Value {
        let notes: Vec<_> = plan.notes.iter().chain(&self.notes).map(|note| self.told(note)).collect();
        let steps: Vec<String> = plan.steps().map(|step| self.told(&step.to_string()).into_owned()).collect();
        let mut document = json!({"version": 1, "request": plan.request, "dry_run": dry_run, "changed": !dry_run, "steps": steps, "notes": notes});
        if dry_run && plan.steps().any(|s| s.destroys().is_some()) {
            document["frees_bytes"] = plan.frees.into();
        }
        document
    }

    /// A change that is no plan of the store's: `at` says where it was done; without it, it would be.
    pub fn change(&self, request: &str, steps: &[String], at: Option<&std::path::Path>) -> Result<()> {
        if self.json {
            let done = at.is_some();
            let at = at.map(|p| p.to_string_lossy());
            self.document(&json!({"version": 1, "request": request, "dry_run": !done, "changed": done, "steps": steps,
                "notes": self.notes, "mountpoint": at}));
        } else {
            self.line(format!("{request} would:"));
            steps.iter().for_each(|s| self.line(format!("  {s}")));
        }
        Ok(())
    }

    /// What is so already.
    pub fn already(&self, request: &str, text: &str) {
        if self.json {
            self.document(&json!({"version": 1, "request": request, "changed": false, "steps": [], "notes": [text]}));
        } else {
            self.line(text);
        }
    }

    /// Asks before something is destroyed, if somebody is there to answer.
    pub fn confirm(&self, question: &str) -> Result<()> {
        if self.json || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Ok(());
        }
        let _ = write!(std::io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Error::refused("nothing changed").hint("answer y, or use -F to be asked nothing")),
        }
    }

    /// An error, for people or for programs.
    pub fn error(&self, error: &Error) {
        let told = |text: &String| self.told(text).into_owned();
        let error = &Error {
            kind: error.kind,
            message: told(&error.message),
            hint: error.hint.as_ref().map(told),
            errno: error.errno,
        };
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.json {
            return error_document(error);
        }
        let mut stderr = std::io::stderr().lock();
        let _ = writeln!(stderr, "bootenv: {}", error.message);
        if let Some(hint) = &error.hint {
            let _ = writeln!(stderr, "         {hint}");
        }
    }
}

/// Tells the administrator of the host what a service has met with, in the journal.
pub fn in_journal(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An error as the one JSON document on standard error.
pub fn error_document(error: &Error) {
    let document = json!({"error": {"kind": error.kind.as_str(), "message": error.message, "hint": error.hint}});
    let _ = writeln!(std::io::stderr(), "{document}");
}

impl Progress for Output {
    fn begin(&mut self, what: &str, total: u64) {
        if self.json || self.quiet {
            return;
        }
        // A few files are there before a bar could be read.
        if total < 2000 {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent:>3}% {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_string());
        self.bar = Some(bar);
    }

    fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    fn end(&mut self) {
        self.idle();
    }
}

impl Observer for Output {
    fn before(&mut self, step: &Step) {
        if self.verbose && !self.json {
            let _ = writeln!(std::io::stderr(), "- {step}");
        }
    }

    fn note(&mut self, note: &str) {
        let note = &*self.told(note).into_owned();
        if self.notes.iter().any(|told| told == note) {
            return;
        }
        self.notes.push(note.to_string());
        if !self.json && !self.quiet {
            let _ = writeln!(std::io::stderr(), "note: {note}");
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Bytes that may be anything, so that they stay on their line and do nothing to a terminal: what is no printable text as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                c if c.is_control() => c.to_string().bytes().for_each(|b| shown += &format!("\\x{b:02x}")),
                c => shown.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| shown += &format!("\\x{b:02x}"));
    }
    shown
}
