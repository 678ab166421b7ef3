//! The machine with OpenZFS that programs run in: booted without firmware, its root thrown away, two empty disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Machine, Options};
use crate::qemu::{Boot, Drive};
use crate::{disk, recipe};

/// Where the tests look for things: compiled in, so the guest has them in the same places.
const BINARY: &str = env!("CARGO_BIN_EXE_bootenv");
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");
pub const MANIFEST: &str = env!("CARGO_MANIFEST_DIR");

pub const HOUR: Duration = Duration::from_secs(3600);

/// What such machines are made from.
pub struct Parts {
    vm: PathBuf,
    root: PathBuf,
    parcel: PathBuf,
    pub dir: tempfile::TempDir,
}

impl Parts {
    /// With these files beside the binary. `None`, with a word on why, where they cannot run.
    pub fn new(files: &[&Path]) -> Option<Parts> {
        let vm = recipe::lacks(&["qemu-system-x86_64", "setpriv", "mkfs.ext4", "unshare", "tar"])
            .map_or_else(|| recipe::made_by("build-vm.sh", "zfs"), |why| recipe::skip(&why))?;
        let dir = tempfile::Builder::new().prefix("bootenv-zfs-").tempdir_in("/var/tmp").unwrap();
        let parcel = dir.path().join("parcel.tar");
        let mut tar = Command::new("tar");
        disk::sh(tar.arg("-cPf").arg(&parcel).arg(BINARY).args(files));
        Some(Parts { root: vm.join("root.img"), vm, parcel, dir })
    }

    /// An empty disk.
    pub fn blank(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// A machine with these disks, which have names.
    pub fn power_on<'parts>(&'parts self, disks: &[(&str, &'parts Path)]) -> Machine<'parts> {
        self.power_on_with(&[], disks)
    }

    /// The same with files that it is to see as disks, and not to change.
    pub fn power_on_with<'parts>(
        &'parts self,
        files: &[(&str, &'parts Path)],
        disks: &[(&str, &'parts Path)],
    ) -> Machine<'parts> {
        let drive = |name: &str, path, throw_away| Drive { name: name.into(), path, throw_away };
        let mut drives = vec![drive("root", &*self.root, true), drive("parcel", &*self.parcel, true)];
        drives.extend(files.iter().map(|(name, path)| drive(name, path, true)));
        drives.extend(disks.iter().map(|(name, path)| drive(name, path, false)));
        let options = Options { memory_mib: 2048, boot: HOUR / 6, command: HOUR / 6, total: 3 * HOUR };
        let mut machine = Machine::power_on(Boot::vm(&self.vm), drives, options);
        println!("booted in {:.0?}", machine.boot_time);
        // Where cargo builds elsewhere, none of the parts lies in the checkout.
        let dirs = format!("mkdir -p '{SCRATCH}' '{MANIFEST}'");
        machine.ok(&format!("tar -xPf /dev/disk/by-id/virtio-parcel && {dirs} && touch '{BINARY}'"));
        machine
    }
}

/// A lane's test program, built if need be, in the profile this one has been built in.
pub fn program(name: &str) -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--no-run", "--test", name, "--message-format=json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let messages = disk::sh(cargo.current_dir(MANIFEST));
    let executable = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == name).then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages.lines().find_map(executable).expect("cargo says where the test program is")
}

/// The command that runs it on a store, with the settings of this program.
pub fn command(program: &Path, store: &str, arguments: &[String]) -> String {
    let mut command = format!("cd '{MANIFEST}' && BOOTENV_TEST_STORE={}", quoted(store));
    if let Ok(wanted) = std::env::var("BOOTENV_TEST_CRASH") {
        command += &format!(" BOOTENV_TEST_CRASH={}", quoted(&wanted));
    }
    command += &format!(" '{}'", program.display());
    for argument in arguments {
        command += &format!(" {}", quoted(argument));
    }
    command
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
