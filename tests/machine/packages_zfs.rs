//! The packages lane on ZFS: its test program in a machine with OpenZFS, with the Debian it works on as a disk.
//!
//! Arguments go to that program: `cargo test --test packages-zfs -- inside` runs the cases that have "inside" in their name.

mod agent;
#[allow(dead_code)] // these machines have no firmware and no ESP
mod disk;
#[allow(dead_code)]
mod harness;
#[allow(dead_code)]
mod openzfs;
#[allow(dead_code)]
mod qemu;
mod recipe;

use std::path::Path;
use std::process::ExitCode;

use openzfs::{HOUR, MANIFEST, Parts};

/// What the program is told: where that Debian is.
const GIVEN: &str = "modprobe zfs && export BOOTENV_TEST_DEBIAN=/dev/disk/by-id/virtio-debian";

fn main() -> ExitCode {
    let program = openzfs::program("packages");
    let files = ["tests/store/attack.py", "src/package/hooks/apt.conf"].map(|file| Path::new(MANIFEST).join(file));
    let parts = Parts::new(&[&program, &files[0], &files[1]]);
    let debian = parts.as_ref().and_then(|_| recipe::made_by("build-root.sh", "packages"));
    let (Some(parts), Some(debian)) = (parts, debian) else { return ExitCode::SUCCESS };
    let mut machine = parts.power_on_with(&[("debian", &debian)], &[]);
    let threads = "--test-threads=1".to_string();
    let given = std::env::args().skip(1).filter(|argument| !argument.starts_with("--test-threads"));
    let arguments: Vec<String> = given.chain([threads]).collect();
    let command = format!("{GIVEN} && {}", openzfs::command(&program, "zfs", &arguments));
    let status = machine.follow(&command, 3 * HOUR, |line| println!("{line}"));
    machine.power_off_hard();
    if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
