//! Whole processes, from fork to exit.

use nix::libc;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A command line.
pub type Words = Vec<OsString>;

/// One run of a process.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub took: Duration,
    /// Peak resident memory.
    pub peak_kib: i64,
}

/// All runs of one thing.
#[derive(Debug, Default)]
pub struct Series {
    ms: Vec<f64>,
    peak_kib: i64,
}

impl Series {
    pub fn push(&mut self, run: Run) {
        self.ms.push(run.took.as_secs_f64() * 1000.0);
        self.ms.sort_by(f64::total_cmp);
        self.peak_kib = self.peak_kib.max(run.peak_kib);
    }

    /// The median, in milliseconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Between which times the middle half of the runs lies.
    pub fn middle(&self) -> (f64, f64) {
        (self.quantile(0.25), self.quantile(0.75))
    }

    /// The highest peak of resident memory, in MiB.
    pub fn peak_mib(&self) -> f64 {
        self.peak_kib as f64 / 1024.0
    }

    fn quantile(&self, part: f64) -> f64 {
        let Some(last) = self.ms.len().checked_sub(1) else { return f64::NAN };
        let at = part * last as f64;
        let (low, high) = (self.ms[at.floor() as usize], self.ms[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }
}

/// Runs a command with its output thrown away and measures it. A command that fails is an error with its words.
#[allow(unsafe_code)]
pub fn run(words: &Words, scratch: &Path) -> Result<Run, String> {
    let told = scratch.join("stderr");
    let mut command = command(words);
    command.stdout(Stdio::null()).stderr(File::create(&told).map_err(|e| format!("{}: {e}", told.display()))?);
    let mut status = 0;
    // SAFETY: rusage is numbers only, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let began = Instant::now();
    let child = command.spawn().map_err(|e| format!("{}: {e}", shown(words)))?;
    // SAFETY: both pointers are to locals that outlive the call; the child is waited for here and nowhere else.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    let took = began.elapsed();
    if waited < 0 || status != 0 {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        return Err(format!("{} ended with wait status {status}: {}", shown(words), text.trim()));
    }
    Ok(Run { took, peak_kib: usage.ru_maxrss })
}

/// Runs a command and returns its standard output.
pub fn output(words: &Words) -> Result<String, String> {
    let output = command(words).output().map_err(|e| format!("{}: {e}", shown(words)))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{}: {}: {}", shown(words), output.status, text.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The words of a command line.
pub fn words<const N: usize>(list: [&dyn AsRef<std::ffi::OsStr>; N]) -> Words {
    list.iter().map(|w| w.as_ref().to_os_string()).collect()
}

fn command(words: &Words) -> Command {
    let mut command = Command::new(words.first().cloned().unwrap_or_default());
    command.args(words.iter().skip(1)).stdin(Stdio::null());
    command
}

fn shown(words: &Words) -> String {
    words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The highest resident memory of this very process: a child's peak cannot be told below it, because the kernel
/// counts what a process was before it became another program.
pub fn own_peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}
