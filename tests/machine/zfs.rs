//! The zfs lane: the store lane's test program on real OpenZFS, in machines that QEMU boots without firmware. Arguments
//! go to that program: `cargo test --test zfs -- create` runs the cases that have "create" in their name.
//!
//! An emulated machine has use for one processor only, so two of them share the cases, or as many as `BOOTENV_TEST_MACHINES` says. At the end a table says what became of every
//! case here and, by the same program, on the host's Btrfs.
//!
//! The machines' roots are thrown away, with the files in them that pools are made on.

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
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

use openzfs::{HOUR, MANIFEST, Parts};
use table::Outcomes;

/// That the module is there and does what the store needs of it. On files, as the cases are: on a whole disk zpool makes partitions
/// and waits for udev to name them, which a busy host keeps it from doing in time.
const SMOKE: &str = r#"
set -eu
modprobe zfs
echo "OpenZFS $(cat /sys/module/zfs/version), Linux $(uname -r)"
truncate -s 256M /var/tmp/smoke0 /var/tmp/smoke1
zpool create -O mountpoint=none smoke mirror /var/tmp/smoke0 /var/tmp/smoke1
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
rm /var/tmp/smoke0 /var/tmp/smoke1
"#;

/// How many machines share the cases.
fn machines() -> usize {
    let wanted = std::env::var("BOOTENV_TEST_MACHINES").ok().and_then(|n| n.parse().ok());
    wanted.unwrap_or(2).max(1)
}

fn main() -> ExitCode {
    let program = openzfs::program("store");
    let script = Path::new(MANIFEST).join("tests/store/attack.py");
    let passed = Parts::new(&[&program, &script]).is_none_or(|parts| lane(&parts, &program));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether everything passed.
fn lane(parts: &Parts, program: &Path) -> bool {
    let cases = cases(program);
    let count = machines().min(cases.len());
    let shares: Vec<Vec<String>> = (0..count).map(|n| cases.iter().skip(n).step_by(count).cloned().collect()).collect();
    let outcomes: Vec<Mutex<Outcomes>> = shares.iter().map(|_| Mutex::default()).collect();
    let (btrfs, beside, passed) = std::thread::scope(|scope| {
        let of_machines = shares.iter().zip(&outcomes).enumerate();
        let machines: Vec<_> = of_machines
            .map(|(n, (share, outcomes))| scope.spawn(move || machines_for(parts, program, n, share, outcomes)))
            .collect();
        // Run anew rather than taken from the store lane, so that the table is about one program and the same cases, also where
        // this lane is run alone or on some of them.
        let (btrfs, beside) = on_btrfs(program);
        // A machine that went down has a table too, with what is missing.
        let passed: Vec<bool> = machines.into_iter().map(|m| m.join().unwrap_or(false)).collect();
        (btrfs, beside, passed.into_iter().all(|passed| passed))
    });
    let of_machine = |outcomes: Mutex<Outcomes>| outcomes.into_inner().unwrap_or_default();
    let zfs = outcomes.into_iter().map(of_machine).fold(Outcomes::default(), Outcomes::and);
    let (table, whole) = table::table(&btrfs, &zfs);
    println!("\n{table}");
    beside && passed && whole
}

/// Runs some cases in a machine of their own, and in another one those that are left if it goes down: now and then the emulator
/// makes its kernel or a program fail. Whether all of them passed; what has failed is in the table too.
fn machines_for(parts: &Parts, program: &Path, n: usize, cases: &[String], outcomes: &Mutex<Outcomes>) -> bool {
    let first = catch_unwind(AssertUnwindSafe(|| machine(parts, program, cases, outcomes)));
    first.unwrap_or_else(|_| {
        let left: Vec<String> = cases.iter().filter(|case| !outcomes.lock().unwrap().has(case)).cloned().collect();
        println!("machine {n} went down: {} of its {} cases go on in another", left.len(), cases.len());
        machine(parts, program, &left, outcomes)
    })
}

/// Runs some cases in a machine. Whether all of them passed.
fn machine(parts: &Parts, program: &Path, cases: &[String], outcomes: &Mutex<Outcomes>) -> bool {
    let mut machine = parts.power_on(&[]);
    let began = Instant::now();
    let smoke = machine.follow(SMOKE, HOUR, |line| println!("{line}"));
    assert_eq!(smoke, 0, "no pool can be made");
    println!("test result: ok. 1 passed; 0 failed (a pool, a snapshot and a clone in {:.1?})", began.elapsed());
    // One case at a time: an emulated processor forgets all that it knows of a process when it turns to another.
    let given = [&["--test-threads=1".to_string(), "--exact".to_string()], cases].concat();
    let arguments: Vec<String> = flags().into_iter().chain(given).collect();
    let status = machine.follow(&openzfs::command(program, "zfs", &arguments), 3 * HOUR, |line| {
        outcomes.lock().unwrap().read(line);
        println!("{line}");
    });
    machine.power_off_hard();
    status == 0
}

/// The same cases by the same program on this host, and whether it passed.
fn on_btrfs(program: &Path) -> (Outcomes, bool) {
    let mut command = Command::new(program);
    command
        .arg("--test-threads=2")
        .args(flags())
        .args(filters())
        .env("BOOTENV_TEST_STORE", "btrfs")
        .current_dir(MANIFEST);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // Not in the words that lanes are counted by: the store lane has counted these.
        said.lines().for_each(|line| println!("on Btrfs: {line}"));
    }
    (Outcomes::of(&said), output.status.success())
}

/// The names of the cases that were asked for.
fn cases(program: &Path) -> Vec<String> {
    let listed = disk::sh(Command::new(program).arg("--list").args(flags()).args(filters()));
    listed.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_string)).collect()
}

fn filters() -> Vec<String> {
    std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect()
}

/// How many threads there are is this lane's business.
fn flags() -> Vec<String> {
    std::env::args().skip(1).filter(|a| a.starts_with('-') && !a.starts_with("--test-threads")).collect()
}
