//! `make bench` on OpenZFS: bootenv beside bare programs and zfs(8), in one run on one pool of one machine.
//!
//! ```text
//! cargo bench --bench on_zfs -- [--levels 10,100,1000] [--rounds N]
//! ```
//!
//! The machine is QEMU's, emulated where there is no hardware for it: what took how long there says nothing, but what took how
//! much longer than something else does. In every round everybody runs once, in another order each time.

#[path = "../../machine/agent.rs"]
mod agent;
mod bare;
#[allow(dead_code)] // this machine has no firmware and no ESP
#[path = "../../machine/disk.rs"]
mod disk;
mod guest;
#[allow(dead_code)]
#[path = "../../machine/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../measure.rs"]
mod measure;
#[allow(dead_code)]
#[path = "../../machine/openzfs.rs"]
mod openzfs;
#[allow(dead_code)]
#[path = "../../machine/qemu.rs"]
mod qemu;
#[allow(dead_code)]
#[path = "../../machine/recipe.rs"]
mod recipe;

use openzfs::Parts;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("bare") => bare::main(&arguments[1..]),
        Some("guest") => guest::main(&arguments[1..]),
        _ => host(&arguments),
    }
}

/// Sends this program and bootenv into the machine and shows what it prints there.
fn host(arguments: &[String]) -> ExitCode {
    let tool = Path::new(env!("CARGO_BIN_EXE_bootenv"));
    let own = std::env::current_exe().expect("a program knows where it is");
    let Some(parts) = Parts::new(&[&own]) else { return ExitCode::SUCCESS };
    let disk = parts.blank("scratch0", 4 << 30);
    let mut machine = parts.power_on(&[("scratch0", &disk)]);
    let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let command = format!("'{}' guest '{}' {} 2>&1", own.display(), tool.display(), words.join(" "));
    let status = machine.follow(&command, Duration::from_secs(2 * 3600), |line| println!("{line}"));
    machine.power_off_hard();
    if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
