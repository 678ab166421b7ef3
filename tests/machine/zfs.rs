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
#[allow(dead_code)]
mod qemu;
mod recipe;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use harness::{Machine, Options};
use qemu::{Boot, Drive};
use table::Outcomes;

/// Where the tests look for things: compiled in, so the guest has them in the same places.
const BINARY: &str = env!("CARGO_BIN_EXE_bootenv");
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

const HOUR: Duration = Duration::from_secs(3600);

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
    let passed = recipe::lacks(&["qemu-system-x86_64", "setpriv", "mkfs.ext4", "unshare", "tar"])
        .map_or_else(|| recipe::made_by("build-vm.sh", "zfs"), |why| skip(&why))
        .is_none_or(|vm| lane(&vm));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn skip(why: &str) -> Option<PathBuf> {
    eprintln!("skipped: {why}");
    None
}

/// Whether everything passed.
fn lane(vm: &Path) -> bool {
    let program = store_program();
    let dir = tempfile::Builder::new().prefix("bootenv-zfs-").tempdir_in("/var/tmp").unwrap();
    let parcel = dir.path().join("parcel.tar");
    let script = Path::new(MANIFEST).join("tests/store/attack.py");
    run!("tar", "-cPf", &parcel, BINARY, &program, script);
    let scratch = ["scratch0", "scratch1"].map(|name| dir.path().join(name));
    for path in &scratch {
        std::fs::File::create(path).unwrap().set_len(4 << 30).unwrap();
    }

    let boot = Boot::Kernel {
        kernel: vm.join("vmlinuz"),
        initrd: vm.join("initrd"),
        arguments: "root=/dev/vda rw quiet console=ttyS0 mitigations=off audit=0".into(),
    };
    let image = vm.join("root.img");
    let drive = |name: &str, path, throw_away| Drive { name: name.into(), path, throw_away };
    let drives = vec![
        drive("root", image.as_path(), true),
        drive("parcel", &parcel, true),
        drive("scratch0", &scratch[0], false),
        drive("scratch1", &scratch[1], false),
    ];
    let options = Options { memory_mib: 2048, command: HOUR / 6, total: 3 * HOUR, ..Options::default() };
    let mut machine = Machine::power_on(boot, drives, options);
    println!("booted in {:.0?}", machine.boot_time);
    machine.ok(&format!("tar -xPf /dev/disk/by-id/virtio-parcel && mkdir -p '{SCRATCH}' && touch '{BINARY}'"));

    let began = Instant::now();
    let smoke = machine.follow(SMOKE, HOUR, |line| println!("{line}"));
    let verdict = if smoke == 0 { "ok. 1 passed; 0 failed" } else { "FAILED. 0 passed; 1 failed" };
    println!("test result: {verdict} (a pool, a snapshot and a clone in {:.1?})", began.elapsed());
    if smoke != 0 {
        return false;
    }

    // The store that the cases run on; to compare, `btrfs` runs them here on the guest's Btrfs.
    let store = std::env::var("BOOTENV_TEST_STORE").unwrap_or_else(|_| "zfs".into());
    let mut command = format!("cd '{MANIFEST}' && BOOTENV_TEST_STORE={} '{}'", quoted(&store), program.display());
    for argument in arguments() {
        command += &format!(" {}", quoted(&argument));
    }
    if store != "zfs" {
        return machine.follow(&command, 3 * HOUR, |line| println!("{line}")) == 0;
    }
    // Beside the machine, which has use for one CPU only. Run anew rather than taken from the store lane, so that the table is
    // about one program and the same cases, also where this lane is run alone or on some of them.
    let beside = std::thread::spawn(move || on_btrfs(&program));
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

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The store lane's test program, built if need be, in the profile this one has been built in.
fn store_program() -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--no-run", "--test", "store", "--message-format=json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let messages = disk::sh(cargo.current_dir(MANIFEST));
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "store").then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages.lines().find_map(executable).expect("cargo says where the test program is")
}
