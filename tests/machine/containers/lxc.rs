//! The second brand: a container that LXC starts and stops.

use std::time::Instant;

use super::{Setting, drive, flags_in};
use crate::harness::Machine;
use crate::stores::Btrfs;

#[test]
fn r3_zones_of_lxc() {
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
    // By its own administrator, by the socket that its settings bind into it.
    machine.ok("cp $(command -v bootenv) /var/lib/lxc/web/rootfs/usr/bin/bootenv");
    machine.ok(&inside("bootenv create -a blue && bootenv activate -t default"));
    assert_eq!(machine.ok(&inside("bootenv list -H | cut -f1,2 | tr \\\\t =")), "default=NT\nblue=R");
    let refused = machine.run(&inside("setpriv --reuid 65534 --clear-groups bootenv list 2>&1"));
    assert!(refused.status == 3 && refused.text().contains("only root"), "{refused:?}");
    assert_eq!(machine.ok(&inside("ls -A /run/bootenv-host; touch /run/bootenv-host/x || echo no")), "io.bootenv\nno");
    assert_eq!(flags_in(&mut machine, "web"), "default=NT blue=R");
    // By those who know nothing of bootenv.
    machine.ok("lxc-stop -n web && lxc-start -n web");
    assert_eq!(flags_in(&mut machine, "web"), "default=N blue=R");
    assert_eq!(drive(&mut machine, "bootenv zone switch web"), "web runs blue");
    assert_eq!(root_of(&mut machine), "/zones/web/ROOT/blue");
    assert_eq!(machine.ok(&inside("cat /var/log/said; bootenv list -H blue | cut -f2")), "said\nNR");
    let refused = machine.run("bootenv --zone web destroy -F blue 2>&1");
    assert!(refused.status == 3 && refused.text().contains("blue is running"), "{}", refused.text());
    assert_eq!(drive(&mut machine, "bootenv zone stop web; ls -A /var/lib/lxc/web/rootfs"), "web does not run");
    machine.ok("bootenv zone destroy -F web");
    assert_eq!(machine.ok("lxc-ls; bootenv zone list -H"), "");
    machine.power_off();
}
