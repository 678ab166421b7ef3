//! On Btrfs the processes of a container stand still while it is cloned, and go on however bootenv ends.

use super::inside;
use crate::harness::Machine;
use crate::stores::Store;

/// Counts, in its root and in a subvolume in that, which is a snapshot of its own in every clone.
const COUNTER: &str = r#"#!/usr/bin/perl
open(my $one, '>', '/srv/count') or die; open(my $other, '>', '/srv/nested/count') or die;
for (my $n = 1; ; $n++) { for my $file ($one, $other) { sysseek($file, 0, 0); syswrite($file, sprintf("%012d\n", $n)); } }
"#;

/// Where the processes of `web` are, and how far the counter is.
const TOOLS: &str = r#"
set -e
group=/sys/fs/cgroup/machine.slice/systemd-nspawn@web.service/payload
count() { cat /var/lib/machines/web/srv/count; }
goes_on() { was=$(count); for n in $(seq 50); do [ "$(count)" = "$was" ] || return 0; sleep 0.1; done; echo "stands still"; cat $group/cgroup.events; exit 1; }
thawed() { for n in $(seq 50); do [ "$(cat $group/cgroup.freeze)" = 1 ] || return 0; sleep 0.1; done; echo "is frozen"; exit 1; }
"#;

/// bootenv is killed at the instant at which the zone has been told to stand still.
const KILL: &str = r#"
frozen=0
for n in 1 2 3 4 5 6; do
    bootenv create killed > /dev/null 2>&1 & p=$!
    while kill -0 $p 2>/dev/null; do
        read -r state < $group/cgroup.freeze
        if [ $state = 1 ]; then frozen=$((frozen + 1)); break; fi
    done
    kill -KILL $p 2>/dev/null || true
    wait $p 2>/dev/null || true
    thawed; goes_on
    # What was begun is finished or undone.
    if bootenv list -H 2>/dev/null | grep -q ^killed; then bootenv destroy -F killed > /dev/null; fi
done
echo $frozen
"#;

/// Of the zone `web`, which runs.
pub fn stand_still(machine: &mut Machine<'_>, store: &dyn Store) {
    machine.ok(&format!(
        "set -e; btrfs -q subvolume create /var/lib/machines/web/srv/nested; cat > /run/counter <<'END'\n{COUNTER}\nEND
         machinectl copy-to web /run/counter /opt/counter; {}",
        inside("web", "systemd-run -q --unit=counter perl /opt/counter")
    ));
    machine.ok("until [ -s /var/lib/machines/web/srv/nested/count ]; do sleep 0.1; done");
    for number in 0..4 {
        let be = format!("at-{number}");
        machine.ok(&format!("{TOOLS} goes_on; bootenv create {be}; thawed; goes_on"));
        let mount = store.mounting(&format!("zones/web/ROOT/{be}"));
        let told = machine.ok(&format!("{mount} && cat /mnt/srv/count /mnt/srv/nested/count; umount /mnt"));
        let counts: Vec<u64> = told.lines().map(|line| line.parse().unwrap()).collect();
        // The one in the root is written first.
        assert!(counts[0] > 0 && (counts[0] == counts[1] || counts[0] == counts[1] + 1), "{be}: {counts:?}");
        println!("a clone of a zone that counts: {} and {}", counts[0], counts[1]);
    }
    let frozen: u32 = machine.ok(&format!("{TOOLS} {KILL}")).parse().unwrap();
    assert!(frozen >= 3, "bootenv was killed only {frozen} times while the zone stood still");
    machine.ok(&inside("web", "systemctl stop counter"));
    machine.ok("bootenv destroy -F at-0 at-1 at-2 at-3; btrfs -q subvolume delete /var/lib/machines/web/srv/nested");
}
