//! Zones on a machine: real containers that are started, stopped and switched, by bootenv and by others, and that follow the BE of
//! the host.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Machine, Options};
use crate::qemu::{Boot, Drive};
use crate::stores::{Btrfs, Store, Zfs};
use crate::switching::flags;
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

#[test]
fn a_machine_runs_zones_of_lxc() {
    let Some(setting) = Setting::new(&Btrfs, "grub") else { return };
    let mut machine = setting.boot();
    let root_of = |machine: &mut Machine<'_>| machine.ok("findmnt -N $(lxc-info -n web -pH) -no FSROOT /");
    let inside = |command: &str| format!("lxc-attach -n web -- sh -c '{command}'");
    // The kernel has AppArmor, and what loads its profiles is not installed.
    machine.ok("printf 'lxc.net.0.type = empty\\nlxc.apparmor.profile = unconfined\\n' > /etc/lxc/default.conf");
    machine.ok("bootenv zone create --brand lxc --from /opt/web.tar web");
    assert_eq!(machine.ok("lxc-ls"), "web");
    let began = Instant::now();
    assert_eq!(drive(&mut machine, "bootenv zone start --wait web"), "web runs default");
    println!("the container has booted within {:.1?}", began.elapsed());
    assert_eq!(root_of(&mut machine), "/zones/web/ROOT/default");
    assert_eq!(machine.ok(&inside("systemctl is-active nginx; readlink /var/log")), "active\nshared/log");
    machine.ok(&inside("echo said > /var/log/said"));
    assert_eq!(
        machine
            .ok(&inside("findmnt -no FSROOT,OPTIONS /var/shared | cut -d, -f1"))
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["/zones/web/SHARED", "rw"]
    );
    machine.ok("bootenv --zone web create -a blue && bootenv --zone web activate -t default");
    assert_eq!(flags_in(&mut machine, "web"), "default=NT blue=R");
    // By those who know nothing of bootenv.
    machine.ok("lxc-stop -n web && lxc-start -n web");
    assert_eq!(flags_in(&mut machine, "web"), "default=N blue=R");
    assert_eq!(drive(&mut machine, "bootenv zone switch web"), "web runs blue");
    assert_eq!(root_of(&mut machine), "/zones/web/ROOT/blue");
    assert_eq!(machine.ok(&inside("cat /var/log/said")), "said");
    let refused = machine.run("bootenv --zone web destroy -F blue 2>&1");
    assert!(refused.status == 3 && refused.text().contains("blue is running"), "{}", refused.text());
    assert_eq!(drive(&mut machine, "bootenv zone stop web; ls -A /var/lib/lxc/web/rootfs"), "web does not run");
    machine.ok("bootenv zone destroy -F web");
    assert_eq!(machine.ok("lxc-ls; bootenv zone list -H"), "");
    machine.power_off();
}

#[test]
fn a_machine_runs_zones() {
    runs_zones(&Btrfs, "grub");
}

#[test]
fn a_machine_on_a_pool_runs_zones() {
    runs_zones(&Zfs, "systemd-boot");
}

fn runs_zones(store: &dyn Store, loader: &str) {
    let Some(setting) = Setting::new(store, loader) else { return };
    let mut machine = setting.boot();
    let of_web = |be: &str| store.named(&format!("zones/web/ROOT/{be}"));
    machine.ok("bootenv zone create --from /opt/web.tar web");
    // As machinectl finds it, before it has ever run.
    assert_eq!(machine.ok("machinectl list-images --no-legend | cut -d' ' -f1"), "web");
    assert_eq!(flags_in(&mut machine, "web"), "default=R");
    let shown = machine.ok("bootenv --dry-run zone start web");
    assert!(shown.contains("systemctl start systemd-nspawn@web.service"), "{shown}");
    assert_eq!(machine.ok("machinectl list --no-legend; ls -A /var/lib/machines/web"), "");

    let began = Instant::now();
    assert_eq!(drive(&mut machine, "bootenv zone start --wait web"), "web runs default");
    println!("the zone has booted within {:.1?}", began.elapsed());
    assert_eq!(root_of(&mut machine, store, "web"), of_web("default"));
    assert_eq!(flags_in(&mut machine, "web"), "default=NR");
    assert_eq!(
        machine.ok("machinectl list --no-legend | cut -d' ' -f1; bootenv zone start web"),
        "web\nweb runs already: default"
    );
    assert_eq!(machine.ok("bootenv zone switch web"), "web runs already what is due: default");
    // In a user namespace, by Debian's own unit; what it writes to its shared dataset is its own.
    let told = machine.ok(&inside("web", "systemctl is-active nginx; cut -c1-20 /proc/self/uid_map; id -u; readlink /var/log; \
         echo said in default > /var/log/said; stat -c %u:%g /var/log/said; echo letter > /var/mail/root; ls /var/shared"));
    let lines: Vec<&str> = told.lines().map(str::trim).collect();
    assert_eq!(lines[0], "active", "{told}");
    assert!(lines[1].starts_with('0') && !lines[1].ends_with(" 0"), "{told}");
    assert_eq!(&lines[2..], ["0", "shared/log", "0:0", "adm", "log", "mail", "spool"], "{told}");
    let mounted =
        machine.ok(&format!("findmnt -N $(machinectl show -P Leader web) -no {},OPTIONS /var/shared", store.column()));
    assert!(mounted.starts_with(&store.named("zones/web/SHARED")) && mounted.contains(" rw,"), "{mounted}");
    assert_eq!(
        machine.ok(&format!("{}; cat /mnt/log/said; umount /mnt", store.mounting("zones/web/SHARED"))),
        "said in default"
    );

    // What runs is protected, as it is on the host.
    machine.ok("bootenv --zone web create default@before && bootenv --zone web create -a blue");
    for (args, words) in [
        ("--zone web destroy -F default", "bootenv zone switch web"),
        ("--zone web rollback -F default@before", "under its own feet"),
        ("--zone web unmount default", "is running"),
        ("zone destroy -F web", "bootenv zone stop web"),
    ] {
        let refused = machine.run(&format!("bootenv {args} 2>&1"));
        assert!([3, 5].contains(&refused.status) && refused.text().contains(words), "{args}: {refused:?}");
    }
    assert_eq!(flags_in(&mut machine, "web"), "default=N blue=R");

    // By its own administrator, who sees no device and has no privilege, by the socket that is bound into it.
    machine.ok("machinectl copy-to web $(command -v bootenv) /usr/bin/bootenv");
    let listed = "bootenv list -H | cut -f1,2 | tr \\\\t =";
    assert_eq!(drive(&mut machine, &inside("web", listed)), "default=N\nblue=R");
    drive(&mut machine, &inside("web", "bootenv create -a own && bootenv create own@kept"));
    assert_eq!(flags_in(&mut machine, "web"), "default=N blue=- own=R");
    for (args, status, words) in [
        ("destroy -F default", 3, "is running"),
        ("destroy -F ../../ROOT/default", 2, "name"),
        ("mount own", 3, "host"),
        ("activate none", 4, "none"),
    ] {
        let refused = machine.run(&inside("web", &format!("bootenv {args} 2>&1")));
        assert!(refused.status == status && refused.text().contains(words), "{args}: {refused:?}");
    }
    // Nobody but root of it.
    let refused = machine.run(&inside("web", "setpriv --reuid 65534 --clear-groups bootenv list 2>&1"));
    assert!(refused.status == 3 && refused.text().contains("only root"), "{refused:?}");
    drive(&mut machine, &inside("web", "bootenv activate blue && bootenv destroy -sF own"));
    assert_eq!(flags_in(&mut machine, "web"), "default=N blue=R");

    let boot = machine.boot_id().to_string();
    let began = Instant::now();
    assert_eq!(drive(&mut machine, "bootenv zone switch web"), "web runs blue");
    println!("the zone was switched in {:.1?}", began.elapsed());
    assert_eq!(root_of(&mut machine, store, "web"), of_web("blue"));
    assert_eq!(flags_in(&mut machine, "web"), "default=- blue=NR");
    assert_eq!(machine.ok("cat /proc/sys/kernel/random/boot_id"), boot, "the host was booted");
    assert_eq!(flags(&mut machine), "default=NR");
    // Others drive it: what is for once is used up by them too.
    machine.ok("bootenv --zone web activate -t default");
    assert_eq!(flags_in(&mut machine, "web"), "default=T blue=NR");
    let reboots = |machine: &mut Machine<'_>, be: &str| {
        let told = machine.ok(&format!(
            "set -e; was=$(machinectl show -P Leader web); until systemctl -M web is-active -q default.target; do sleep 0.3; done
             machinectl reboot web; until now=$(machinectl show -P Leader web 2>/dev/null) && [ \"$now\" != $was ]; do sleep 0.3; done
             findmnt -N $now -no {} /", store.column()));
        assert_eq!(told, of_web(be));
    };
    reboots(&mut machine, "default");
    assert_eq!(flags_in(&mut machine, "web"), "default=N blue=R");
    reboots(&mut machine, "blue");
    let told = machine.ok(&inside("web", "cat /var/log/said /var/mail/root"));
    assert_eq!(told, "said in default\nletter");
    machine.ok("machinectl poweroff web; while machinectl show web >/dev/null 2>&1; do sleep 0.3; done");
    machine.ok("until ! mountpoint -q /var/lib/machines/web; do sleep 0.2; done");
    assert_eq!(machine.ok("bootenv zone stop web; ls -A /var/lib/machines/web"), "web does not run");
    machine.ok("machinectl start web");
    assert_eq!(flags_in(&mut machine, "web"), "default=- blue=NR");
    // What is told to stop while it boots may miss that, and is killed in the end.
    machine.ok(&inside("web", "true"));
    assert_eq!(machine.ok("bootenv zone stop web; ls -A /var/lib/machines/web"), "web does not run");
    machine.ok("bootenv --zone web rollback -F default@before");

    // Another BE of the host has its own zone roots, and nothing in its /etc to say so.
    machine.ok("bootenv zone enable web && bootenv create -a green && bootenv check");
    machine.expect_reset_by("systemctl reboot");
    println!("the other one: {:.1?}", machine.boot_time);
    assert_eq!(flags(&mut machine), "default=- green=NR");
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    machine.ok(&inside("web", "true"));
    drive(
        &mut machine,
        "bootenv --zone web create -a -e blue other && bootenv zone stop web && bootenv zone start --wait web",
    );
    assert_eq!(root_of(&mut machine, store, "web"), of_web("other"));
    let flags_now = flags_in(&mut machine, "web");
    assert!(["blue=xb", "other=NR"].iter().all(|flags| flags_now.contains(flags)), "{flags_now}");
    assert_eq!(machine.ok(&inside("web", "cat /var/log/said /var/mail/root")), "said in default\nletter");
    machine.ok("bootenv activate default && sync");
    machine.expect_reset_by("systemctl reboot");
    println!("and back: {:.1?}", machine.boot_time);
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    assert_eq!(root_of(&mut machine, store, "web"), of_web("blue"));
    let flags_now = flags_in(&mut machine, "web");
    assert!(["blue=NR", "other=xb"].iter().all(|flags| flags_now.contains(flags)), "{flags_now}");
    assert_eq!(machine.ok(&inside("web", "cat /var/log/said")), "said in default");
    machine.power_off();
}
