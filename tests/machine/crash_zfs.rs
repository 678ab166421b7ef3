//! The crash lane on ZFS: the crash lane's test program in a machine with OpenZFS, then resets of such a machine.
//!
//! Arguments go to that program; what is about resets is called `resets`.

mod agent;
#[allow(dead_code)] // these machines have no firmware and no ESP
mod disk;
#[allow(dead_code)]
mod harness;
mod openzfs;
#[allow(dead_code)]
mod qemu;
mod recipe;
mod resets;
#[path = "../lab/writes.rs"]
mod writes;

use std::process::ExitCode;

use openzfs::{HOUR, Parts};

fn main() -> ExitCode {
    let program = openzfs::program("crash");
    let passed = Parts::new(&[&program]).is_none_or(|parts| {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let names: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
        let only_resets = names == ["resets"];
        let mut passed = true;
        if !only_resets {
            let mut machine = parts.power_on(&[]);
            passed = machine
                .follow(&openzfs::command(&program, "zfs", &arguments), 3 * HOUR, |line| println!("{line}"))
                == 0;
            machine.power_off_hard();
        }
        if only_resets || names.is_empty() {
            resets::lane(&parts);
            println!("test result: ok. 1 passed; 0 failed (resets)");
        }
        passed
    });
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
