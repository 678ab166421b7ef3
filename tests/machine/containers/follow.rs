//! R3: zones follow the BEs of the host, each with its own shared dataset. A web server and a database are started, stopped and switched by
//! bootenv, by others, by their own administrators, and with the host.

use std::time::Instant;

use super::{Setting, drive, flags_in, frozen, inside, root_of};
use crate::harness::Machine;
use crate::stores::{Btrfs, Store, Zfs};
use crate::switching::flags;

const ZONES: [&str; 2] = ["db", "web"];

/// A package that ships something for the shared directories too, made in the machine and put where it is found in every root.
const PACKAGE: &str = r#"
set -e
mkdir -p /run/demo/DEBIAN /run/demo/usr/share/demo /run/demo/var/log/demo && cd /run/demo
printf 'Package: demo\nVersion: 2\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n' > DEBIAN/control
echo 2 > usr/share/demo/version
echo shipped > var/log/demo/first
dpkg-deb --root-owner-group -Znone -b . /opt/demo.deb
for zone in db web; do machinectl copy-to $zone /opt/demo.deb /opt/demo.deb; done
"#;

#[test]
fn r3_zones() {
    zones_follow(&Btrfs, "grub");
}

#[test]
fn r3_zones_on_a_pool() {
    zones_follow(&Zfs, "systemd-boot");
}

fn zones_follow(store: &dyn Store, loader: &str) {
    let Some(setting) = Setting::new(store, loader) else { return };
    let mut machine = setting.boot();
    start(&mut machine, store);
    for zone in ZONES {
        administer(&mut machine, store, zone);
    }
    let boot = machine.boot_id().to_string();
    drive_by_others(&mut machine, store);
    assert_eq!(machine.ok("cat /proc/sys/kernel/random/boot_id"), boot, "the host was booted");
    assert_eq!(flags(&mut machine), "default=NR");
    if store.kind() == "btrfs" {
        frozen::stand_still(&mut machine, store);
    }
    upgrade(&mut machine, store);
    machine.power_off();
}

/// Fails the test unless the daemon of a zone does what it is for.
#[track_caller]
fn works(machine: &mut Machine<'_>, zone: &str) {
    match zone {
        "web" => assert_eq!(machine.ok(&inside(zone, "systemctl is-active nginx")), "active"),
        _ => drop(drive(machine, &inside(zone, "until pg_isready -q; do sleep 0.2; done"))),
    }
}

/// Asks the database.
fn query(machine: &mut Machine<'_>, sql: &str) -> String {
    works(machine, "db");
    drive(machine, &inside("db", &format!("runuser -u postgres -- psql -Atqc \"{sql}\"")))
}

/// Fails the test unless a zone runs this zone BE, and its daemon works.
#[track_caller]
fn runs(machine: &mut Machine<'_>, store: &dyn Store, zone: &str, be: &str) {
    works(machine, zone);
    assert_eq!(root_of(machine, store, zone), store.named(&format!("zones/{zone}/ROOT/{be}")));
}

fn start(machine: &mut Machine<'_>, store: &dyn Store) {
    for zone in ZONES {
        machine.ok(&format!("bootenv zone create --from /opt/{zone}.tar {zone}"));
    }
    // As machinectl finds them, before they have ever run.
    assert_eq!(machine.ok("machinectl list-images --no-legend | cut -d' ' -f1"), "db\nweb");
    assert_eq!(flags_in(machine, "web"), "default=R");
    let shown = machine.ok("bootenv --dry-run zone start web");
    assert!(shown.contains("systemctl start systemd-nspawn@web.service"), "{shown}");
    assert_eq!(machine.ok("machinectl list --no-legend; ls -A /var/lib/machines/web"), "");
    for zone in ZONES {
        let began = Instant::now();
        assert_eq!(drive(machine, &format!("bootenv zone start --wait {zone}")), format!("{zone} runs default"));
        println!("{zone} has booted within {:.1?}", began.elapsed());
        runs(machine, store, zone, "default");
        assert_eq!(flags_in(machine, zone), "default=NR");
        // In a user namespace, by Debian's own unit; what it writes to its shared dataset is its own.
        let told = machine.ok(&inside(
            zone,
            "cut -c1-20 /proc/self/uid_map; id -u; readlink /var/log; echo first >> /var/log/said; stat -c %u:%g /var/log/said
             echo letter > /var/mail/root; ls /var/shared",
        ));
        let lines: Vec<&str> = told.lines().map(str::trim).collect();
        assert!(lines[0].starts_with('0') && !lines[0].ends_with(" 0"), "{told}");
        assert_eq!(&lines[1..], ["0", "shared/log", "0:0", "adm", "log", "mail", "spool"], "{told}");
        let shared = format!("zones/{zone}/SHARED");
        let column = store.column();
        let mounted =
            machine.ok(&format!("findmnt -N $(machinectl show -P Leader {zone}) -no {column},OPTIONS /var/shared"));
        assert!(mounted.starts_with(&store.named(&shared)) && mounted.contains(" rw,"), "{mounted}");
        assert_eq!(machine.ok(&format!("{}; cat /mnt/log/said; umount /mnt", store.mounting(&shared))), "first");
    }
    assert_eq!(
        machine.ok("machinectl list --no-legend | cut -d' ' -f1; bootenv zone start web"),
        "db\nweb\nweb runs already: default"
    );
    assert_eq!(machine.ok("bootenv zone switch web"), "web runs already what is due: default");
    query(machine, "create table said as select 'in default' as word");
}

/// By a zone's own administrator, who sees no device and has no privilege: a zone BE of its own is made, activated and run, and what it had
/// before is rolled back and run again. Only the zone is restarted, by the host.
fn administer(machine: &mut Machine<'_>, store: &dyn Store, zone: &str) {
    machine.ok(&format!("machinectl copy-to {zone} $(command -v bootenv) /usr/bin/bootenv"));
    let listed = "bootenv list -H | cut -f1,2 | tr \\\\t =";
    let asks = |machine: &mut Machine<'_>, command: &str| drive(machine, &inside(zone, command));
    asks(machine, "bootenv create default@before && touch /etc/after && bootenv create -a own");
    assert_eq!(asks(machine, listed), "default=N\nown=R");
    let began = Instant::now();
    assert_eq!(drive(machine, &format!("bootenv zone switch {zone}")), format!("{zone} runs own"));
    println!("{zone} was switched in {:.1?}", began.elapsed());
    runs(machine, store, zone, "own");
    assert_eq!(asks(machine, listed), "default=-\nown=NR");
    asks(machine, "echo second >> /var/log/said; bootenv rollback -F default@before && bootenv activate default");
    // It is a new one.
    assert_eq!(flags_in(machine, zone), "own=N default=R");
    assert_eq!(drive(machine, &format!("bootenv zone switch {zone}")), format!("{zone} runs default"));
    runs(machine, store, zone, "default");
    assert_eq!(
        asks(machine, "ls /etc/after 2>/dev/null; cat /var/log/said /var/mail/root"),
        "first\nsecond\nletter",
        "{zone} is not as it was before, or what it shares is not as it is now"
    );
    asks(machine, "bootenv destroy -F own && bootenv destroy -F default@before");
    assert_eq!(flags_in(machine, zone), "default=NR");
}

/// By those who know nothing of bootenv: what is for once is used up by them too.
fn drive_by_others(machine: &mut Machine<'_>, store: &dyn Store) {
    machine.ok("bootenv --zone web create -a tuned && bootenv --zone web activate -t default");
    assert_eq!(flags_in(machine, "web"), "default=NT tuned=R");
    let reboots = |machine: &mut Machine<'_>, be: &str| {
        machine.ok(
            "set -e; was=$(machinectl show -P Leader web); until systemctl -M web is-active -q default.target; do sleep 0.3; done
             machinectl reboot web; until now=$(machinectl show -P Leader web 2>/dev/null) && [ \"$now\" != $was ]; do sleep 0.3; done",
        );
        runs(machine, store, "web", be);
    };
    reboots(machine, "default");
    assert_eq!(flags_in(machine, "web"), "default=N tuned=R");
    reboots(machine, "tuned");
    machine.ok("machinectl poweroff web; while machinectl show web >/dev/null 2>&1; do sleep 0.3; done");
    machine.ok("until ! mountpoint -q /var/lib/machines/web; do sleep 0.2; done");
    assert_eq!(machine.ok("bootenv zone stop web; ls -A /var/lib/machines/web"), "web does not run");
    machine.ok("machinectl start web");
    assert_eq!(flags_in(machine, "web"), "default=- tuned=NR");
    // What is told to stop while it boots may miss that, and is killed in the end.
    works(machine, "web");
    assert_eq!(machine.ok("bootenv zone stop web; ls -A /var/lib/machines/web"), "web does not run");
    machine.ok("bootenv --zone web activate default && bootenv zone start --wait web");
}

/// A package is installed into a new BE of the host and of both zones; the host comes up in it, without a shutdown, and goes back.
fn upgrade(machine: &mut Machine<'_>, store: &dyn Store) {
    machine.ok(PACKAGE);
    for zone in ZONES {
        let say = "echo in default >> /var/log/said; systemd-cat -t said echo in default; journalctl --sync";
        machine.ok(&format!("bootenv zone enable {zone}; {}", inside(zone, say)));
    }
    let began = Instant::now();
    let told = drive(machine, "bootenv upgrade -n blue -a --zones -- dpkg -i /opt/demo.deb");
    println!("the upgrade with both zones took {:.1?}", began.elapsed());
    assert!(told.contains("  demo 2") && told.contains("blue boots next"), "{told}");
    assert_eq!(flags(machine), "default=N blue=R");
    assert_eq!(flags_in(machine, "db"), "default=NR blue=xb");
    for zone in ZONES {
        assert_eq!(machine.ok(&inside(zone, "ls -d /usr/share/demo /var/log/demo 2>/dev/null || true")), "", "{zone}");
    }
    assert_eq!(machine.ok("echo in default > /var/log/said; bootenv check; sync"), "nothing is wrong");

    machine.expect_reset_by("reboot -f");
    println!("blue: {:.1?}", machine.boot_time);
    assert_eq!(flags(machine), "default=- blue=NR");
    assert_eq!(machine.ok("systemctl is-system-running --wait; cat /usr/share/demo/version"), "running\n2");
    for zone in ZONES {
        runs(machine, store, zone, "blue");
        // What the package has for the shared directories has been merged, by the bootenv in the zone.
        let told = machine.ok(&inside(
            zone,
            "systemctl is-system-running --wait; cat /usr/share/demo/version /var/log/demo/first /var/log/said /var/mail/root
             journalctl -t said -o cat; echo in blue >> /var/log/said",
        ));
        let expected = "running\n2\nshipped\nfirst\nsecond\nin default\nletter\nin default";
        assert_eq!(told, expected, "{zone}");
        let flags = flags_in(machine, zone);
        assert!(flags.contains("default=xb") && flags.contains("blue=NR"), "{zone}: {flags}");
    }
    assert_eq!(query(machine, "select word from said"), "in default");
    query(machine, "insert into said values ('in blue')");
    machine.ok("echo in blue >> /var/log/said; bootenv activate default");

    machine.expect_reset_by("init 6");
    println!("and back: {:.1?}", machine.boot_time);
    assert_eq!(flags(machine), "default=NR blue=-");
    assert_eq!(
        machine.ok("systemctl is-system-running --wait; ls /usr/share/demo 2>/dev/null; cat /var/log/said"),
        "running\nin default\nin blue"
    );
    for zone in ZONES {
        runs(machine, store, zone, "default");
        let told = "ls /usr/share/demo 2>/dev/null; cat /var/log/demo/first /var/log/said /var/mail/root; journalctl -t said -o cat";
        let expected = "shipped\nfirst\nsecond\nin default\nin blue\nletter\nin default";
        assert_eq!(machine.ok(&inside(zone, told)), expected, "{zone}");
    }
    // Data is the zone BE's own, as programs are.
    assert_eq!(query(machine, "select word from said"), "in default");
    // What belongs to a BE of the host goes with it.
    machine.ok("bootenv destroy -F blue");
    assert_eq!((flags_in(machine, "db"), flags_in(machine, "web")), ("default=NR".into(), "default=NR tuned=-".into()));
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
}
