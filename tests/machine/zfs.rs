//! The zfs lane: the store lane's test program on real OpenZFS, in a machine that QEMU boots without firmware. Arguments
//! go to that program: `cargo test --test zfs -- create` runs the cases that have "create" in their name.
//!
//! At the end a table says what became of every case here and, by the same program, on the host's Btrfs.
//!
//! The machine's root is thrown away; pools go onto `/dev/disk/by-id/virtio-scratch0` and `1`, or into files.

mod agent;
#[allow(dead_code)] // these machines have no firmware and no ESP
mod disk;
#[allow(dead_code)]
mod harness;
mod openzfs;
#[allow(dead_code)]
mod qemu;
mod recipe;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use openzfs::{HOUR, MANIFEST, Parts};
use table::Outcomes;

/// That the module is there and does what the store needs of it.
const SMOKE: &str = r#"
set -eu
modprobe zfs
echo "OpenZFS $(cat /sys/module/zfs/version), Linux $(uname -r)"
zpool create -O mountpoint=none smoke mirror /dev/disk/by-id/virtio-scratch0 /dev/disk/by-id/virtio-scratch1
zfs create -p -o mountpoint=legacy smoke/ROOT/a
mount -t zfs smoke/ROOT/a /mnt
echo before > /mnt/file
zfs snapshot smoke/ROOT/a@s
echo after > /mnt/file
zfs clone -o mountpoint=legacy smoke/ROOT/a@s smoke/ROOT/b
umount /mnt
mount -t zfs smoke/ROOT/b /mnt
[ "$(cat /mnt/file)" = before ]
umount /mnt
zpool destroy smoke
"#;

fn main() -> ExitCode {
    let program = openzfs::program("store");
    let script = Path::new(MANIFEST).join("tests/store/attack.py");
    let passed = Parts::new(&[&program, &script]).is_none_or(|parts| lane(&parts, &program));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether everything passed.
fn lane(parts: &Parts, program: &Path) -> bool {
    let scratch = ["scratch0", "scratch1"].map(|name| (name, parts.blank(name, 4 << 30)));
    let mut machine = parts.power_on(&scratch.each_ref().map(|(name, path)| (*name, path.as_path())));

    let began = Instant::now();
    let smoke = machine.follow(SMOKE, HOUR, |line| println!("{line}"));
    let verdict = if smoke == 0 { "ok. 1 passed; 0 failed" } else { "FAILED. 0 passed; 1 failed" };
    println!("test result: {verdict} (a pool, a snapshot and a clone in {:.1?})", began.elapsed());
    if smoke != 0 {
        return false;
    }

    // The store that the cases run on; to compare, `btrfs` runs them here on the guest's Btrfs.
    let store = std::env::var("BOOTENV_TEST_STORE").unwrap_or_else(|_| "zfs".into());
    let command = openzfs::command(program, &store, &arguments());
    if store != "zfs" {
        return machine.follow(&command, 3 * HOUR, |line| println!("{line}")) == 0;
    }
    // Beside the machine, which has use for one CPU only. Run anew rather than taken from the store lane, so that the table is
    // about one program and the same cases, also where this lane is run alone or on some of them.
    let here = program.to_path_buf();
    let beside = std::thread::spawn(move || on_btrfs(&here));
    let mut outcomes = Outcomes::default();
    let follow = AssertUnwindSafe(|| {
        machine.follow(&command, 3 * HOUR, |line| {
            outcomes.read(line);
            println!("{line}");
        })
    });
    // A machine that went down has a table too, with what is missing.
    let status = catch_unwind(follow);
    let (btrfs, passed) = beside.join().unwrap();
    let (table, whole) = table::table(&btrfs, &outcomes);
    println!("\n{table}");
    let status = status.unwrap_or_else(|panic| resume_unwind(panic));
    machine.power_off_hard();
    status == 0 && passed && whole
}

/// The same cases by the same program on this host, and whether it passed.
fn on_btrfs(program: &Path) -> (Outcomes, bool) {
    let mut command = Command::new(program);
    command.args(arguments()).env("BOOTENV_TEST_STORE", "btrfs").current_dir(MANIFEST);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // Not in the words that lanes are counted by: the store lane has counted these.
        said.lines().for_each(|line| println!("on Btrfs: {line}"));
    }
    (Outcomes::of(&said), output.status.success())
}

/// What both are told. One case waits for its disk while another runs.
fn arguments() -> Vec<String> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|a| a.starts_with("--test-threads")) {
        arguments.push("--test-threads=2".into());
    }
    arguments
}
