//! Zones on a machine: real containers, of which each has a daemon in it.

mod attacks;
mod follow;
mod frozen;
mod lxc;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{Machine, Options};
use crate::qemu::{Boot, Drive};
use crate::stores::Store;
use crate::{rig, run};

/// What `make install` installs for zones, and the roots of containers, as two tars for disks of the machine.
fn parcels(zones: &Path, dir: &Path) -> [PathBuf; 2] {
    let (install, roots) = (dir.join("install.tar"), dir.join("roots.tar"));
    let stage = dir.join("stage");
    let repo = env!("CARGO_MANIFEST_DIR");
    run!("make", "-s", "-C", repo, "install-zones", "PREFIX=/usr", format!("DESTDIR={}", stage.display()));
    run!("tar", "-cf", &install, "-C", &stage, "--owner=0", "--group=0", ".");
    run!("tar", "-cf", &roots, "-C", zones, "web.tar", "db.tar");
    [install, roots]
}

/// A machine that can run containers, with what there is to make zones of in `/opt`.
struct Setting {
    _dir: tempfile::TempDir,
    disk: crate::disk::Disk,
    parcels: [PathBuf; 2],
}

impl Setting {
    fn new(store: &dyn Store, loader: &str) -> Option<Setting> {
        let zones = rig::made_by("build-zones.sh", store.kind())?;
        let dir = rig::scratch();
        let disk = store.disk_of(&zones.join("host.tar"), dir.path(), loader)?;
        let parcels = parcels(&zones, dir.path());
        Some(Setting { disk, parcels, _dir: dir })
    }

    fn boot(&self) -> Machine<'_> {
        let drive = |name: &str, path, throw_away| Drive { name: name.into(), path, throw_away };
        let [install, roots] = &self.parcels;
        let drives =
            vec![drive("disk", self.disk.path(), false), drive("install", install, true), drive("roots", roots, true)];
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let options = Options { memory_mib: 2048, command: minutes(5), total: minutes(40), ..Options::default() };
        let mut machine = Machine::power_on(Boot::Firmware, drives, options);
        println!("first boot: {:.1?}", machine.boot_time);
        machine.ok(
            "set -e; by=/dev/disk/by-id/virtio; tar -xf $by-install -C / --no-overwrite-dir; systemctl daemon-reload
             tar -xf $by-roots -C /opt",
        );
        machine
    }
}

/// Runs a command in a zone, as its root, once it has booted.
fn inside(zone: &str, command: &str) -> String {
    let command = command.replace('\'', "'\\''");
    format!(
        "until systemctl -M {zone} is-active -q default.target 2>/dev/null; do sleep 0.3; done; systemd-run --quiet --machine={zone} --pipe --wait sh -c '{command}'"
    )
}

/// Runs a command that drives zones, and gives what it printed; with what the journal has of them, should it fail.
fn drive(machine: &mut Machine<'_>, command: &str) -> String {
    let ran = machine.run(command);
    if ran.status != 0 {
        let journal = machine.run("journalctl -b --no-pager -o short-monotonic | grep -v audit | tail -n 60").text();
        panic!("{command}: {}{}\n{journal}", ran.text(), String::from_utf8_lossy(&ran.stderr));
    }
    ran.text()
}

/// What `list` in a zone says of its BEs: name and flags.
fn flags_in(machine: &mut Machine<'_>, zone: &str) -> String {
    machine
        .ok(&format!("set -o pipefail; bootenv --zone {zone} list -H | cut -f1,2 | tr '\\t\\n' '= '"))
        .trim_end()
        .into()
}

/// What the first process of a zone has as its root, as the kernel says.
fn root_of(machine: &mut Machine<'_>, store: &dyn Store, zone: &str) -> String {
    machine.ok(&format!("findmnt -N $(machinectl show -P Leader {zone}) -no {} /", store.column()))
}
