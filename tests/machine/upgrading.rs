//! A machine that is upgraded for real: packages and a kernel are installed into a new boot environment, the machine is reset, comes
//! up in it, what waits is merged before the services that need it, and the old one is as it was.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::harness::{Machine, Options};
use crate::qemu::{Boot, Drive};
use crate::stores::{Btrfs, Store, Zfs};
use crate::switching::flags;
use crate::{rig, run};

/// The packages, as files of the root that tests of package managers have; `kernel*` is made here.
const PACKAGES: &str = "adduser cron cron-daemon-common libestr0 libfastjson4 libgcrypt20 libgpg-error0 liblognorm5 rsyslog sensible-utils";

/// Debian's other kernel, packed anew with only the modules that such machines have a use for: unpacking 4000 of them takes minutes
/// in emulation.
const OTHER_KERNEL: &str = r#"
dpkg-deb -R archives/linux-image-[0-9]*-amd64_*.deb kernel
(cd kernel/usr/lib/modules/*/kernel && find . -name '*.ko*' | grep -vE \
    '^\./(drivers/(virtio|block|char)|fs/(autofs|btrfs|fat|nls|efivarfs|overlayfs)|lib|crypto|arch)/' | xargs rm)
rm kernel/DEBIAN/md5sums
dpkg-deb --root-owner-group -Znone -b kernel debs/kernel.deb
"#;

/// The same kernel under another name, made in the machine: there is no zfs module for another one. Its file is longer, so that a
/// loader that boots copies has another one.
const SAME_KERNEL: &str = r#"
old=$(uname -r) && mkdir -p kernel/DEBIAN kernel/boot kernel/usr/lib/modules && cd kernel
printf 'Package: linux-image-9.9-test\nVersion: 9.9\nArchitecture: amd64\nMaintainer: a <a@b>\nDescription: x\n' > DEBIAN/control
printf '#!/bin/sh -e\ncp /boot/initrd.img-%s /boot/initrd.img-9.9-test\nrun-parts --arg=9.9-test --arg=/boot/vmlinuz-9.9-test --regex=zz-bootenv /etc/kernel/postinst.d\n' $old > DEBIAN/postinst
chmod 755 DEBIAN/postinst
cp /boot/vmlinuz-$old boot/vmlinuz-9.9-test && head -c 4096 /dev/zero >> boot/vmlinuz-9.9-test
ln -s $old usr/lib/modules/9.9-test
dpkg-deb --root-owner-group -Znone -b . /opt/debs/kernel.deb
"#;

/// Everything of a root that nothing writes to by itself, below the directory `$1`, with what is in the files.
const FINGERPRINT: &str = "fingerprint() { (cd \"$1\" && find etc usr boot var/lib/dpkg -xdev -path boot/efi -prune -o \
     -printf '%P %y %m %U %G %T@ %s %l\\n' | LC_ALL=C sort; find etc usr boot var/lib/dpkg -xdev -path boot/efi -prune -o -type f -print0 | \
     LC_ALL=C sort -z | xargs -0 cksum) | sha256sum; }";

/// The shared data but for the journal, which is written to all the time.
const SHARED: &str = "(cd /var/shared && find . -path ./log/journal -prune -o -printf '%P %y %m %U %G %T@ %C@ %s %l\\n' | LC_ALL=C sort; \
     find . -path ./log/journal -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 cksum)";

/// A tar with the packages in it, for a disk of the machine. `None`, with a word on why, where they cannot be had.
fn debs(dir: &Path, kernel: &str) -> Option<PathBuf> {
    let root = rig::made_by("build-root.sh", "packages")?;
    run!("tar", "-xf", &root, "-C", dir, "--strip-components=3", "./opt/apt/archives");
    let script = format!(
        "set -e; cd '{}'; mkdir debs; for p in {PACKAGES}; do cp archives/${{p}}_*.deb debs/; done; {kernel}
         tar -cf debs.tar debs; rm -r archives debs",
        dir.display()
    );
    run!("sh", "-c", script);
    Some(dir.join("debs.tar"))
}

/// The kernel among the packages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Other,
    Renamed,
}

#[test]
fn r2_the_running_namespace_is_protected_while_another_kernel_is_installed() {
    upgrades(&Btrfs, "grub", Kernel::Other);
}

#[test]
fn r2_the_running_namespace_is_protected_on_a_pool_while_another_is_upgraded() {
    upgrades(&Zfs, "systemd-boot", Kernel::Renamed);
}

fn upgrades(store: &dyn Store, loader: &str, kernel: Kernel) {
    let dir = rig::scratch();
    let other = if kernel == Kernel::Other { OTHER_KERNEL } else { "" };
    let Some(debs) = debs(dir.path(), other) else { return };
    let Some(disk) = store.disk(dir.path(), loader) else { return };
    let drive = |name: &str, path, throw_away| Drive { name: name.into(), path, throw_away };
    let drives = vec![drive("disk", disk.path(), false), drive("debs", &*debs, true)];
    let mut machine = Machine::power_on(Boot::Firmware, drives, Options::default());
    println!("first boot: {:?}", machine.boot_time);
    prepare(&mut machine, kernel);
    let old_kernel = machine.ok("uname -r");
    let began = Instant::now();
    let before = machine.ok(&format!("{FINGERPRINT}; fingerprint /"));
    println!("the fingerprint took {:.1?}", began.elapsed());
    let shared = machine.ok(SHARED);

    let began = Instant::now();
    // The kernel that runs goes from the new BE, as its admin has said that it may.
    let instead = if kernel == Kernel::Other { format!("linux-image-{old_kernel}-") } else { String::new() };
    let upgrade = format!(
        "DEBIAN_FRONTEND=noninteractive bootenv upgrade -a -n new -- \
         apt-get install -y --no-install-recommends /opt/debs/*.deb {instead} 2>&1"
    );
    let ran = machine.run_for(&upgrade, Duration::from_secs(600));
    assert_eq!(ran.status, 0, "{}", ran.text());
    println!("the upgrade took {:.1?}", began.elapsed());
    for words in ["  cron ", "  rsyslog ", "  linux-image-", "  rsyslog.service", "new boots next"] {
        assert!(ran.text().contains(words), "{words:?}: {}", ran.text());
    }
    assert_eq!(flags(&mut machine), "default=N new=R");
    assert_eq!(machine.ok(SHARED), shared, "shared data was changed");
    assert_ne!(machine.run("test -e /usr/sbin/cron").status, 0);
    assert!(machine.ok("bootenv pending new").contains("/var/shared/log/dpkg.log"));
    let old_boot = machine.boot_id().replace('-', "");

    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    println!("after the reset: {:?}", machine.boot_time);
    assert_eq!(machine.ok(&format!("findmnt -no {} /", store.column())), store.named("ROOT/new"));
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    assert_eq!(flags(&mut machine), "default=- new=NR");
    assert_eq!(machine.ok("uname -r") == old_kernel, kernel == Kernel::Renamed);
    let kernels = machine.ok("bootenv list --json | grep -o '\"kernel\": *\"[^\"]*\"' | sed 's/.*vmlinuz-//; s/\"//'");
    let kernels: Vec<&str> = kernels.lines().collect();
    assert!(kernels.len() == 2 && kernels[0] == old_kernel && kernels[1] != old_kernel, "{kernels:?}");
    was_merged(&mut machine);
    assert_eq!(machine.ok("systemctl is-active cron rsyslog"), "active\nactive");
    machine.ok("logger -t bootenv-test said in new; until grep -q 'said in new' /var/log/syslog; do sleep 0.2; done");
    machine.ok("apt-get check && dpkg -s cron && test -z \"$(dpkg --audit)\"");
    assert_eq!(machine.ok("cat /var/mail/root"), "letter");
    assert_eq!(machine.ok(&format!("journalctl -b {old_boot} -t bootenv-test -o cat")), "said in default");
    let new_boot = machine.boot_id().replace('-', "");

    machine.ok("bootenv activate default; sync");
    machine.expect_reset_by("echo b > /proc/sysrq-trigger");
    println!("and back: {:?}", machine.boot_time);
    assert_eq!(
        machine.ok(&format!("findmnt -no {} /; uname -r", store.column())),
        store.named("ROOT/default") + "\n" + &old_kernel
    );
    assert_eq!(machine.ok("systemctl is-system-running --wait"), "running");
    assert_eq!(flags(&mut machine), "default=NR new=-");
    assert_eq!(machine.ok(&format!("{FINGERPRINT}; fingerprint /")), before, "default changed");
    machine.ok(
        "apt-get check && ! dpkg -s cron 2>/dev/null && test -z \"$(dpkg --audit)\" && test -z \"$(bootenv pending)\"",
    );
    assert_eq!(machine.ok("grep -o 'said in new' /var/log/syslog; cat /var/mail/root"), "said in new\nletter");
    assert!(machine.ok(&format!("journalctl -b {new_boot} -u bootenv-pending -o cat")).contains("spool/cron: made"));
    assert_eq!(machine.ok("bootenv check"), "nothing is wrong");
    machine.power_off();
}

/// The packages in `/opt/debs`, the kernel hook, something in the shared data, and leave to remove the kernel that runs.
fn prepare(machine: &mut Machine<'_>, kernel: Kernel) {
    let kernel_hook = include_str!("../../src/loader/kernel-hook");
    machine.ok(&format!(
        "set -e; tar -xf /dev/disk/by-id/virtio-debs -C /opt; mkdir -p /etc/kernel/postinst.d
         cat > /etc/kernel/postinst.d/zz-bootenv <<'HOOK'\n{kernel_hook}\nHOOK\nchmod 755 /etc/kernel/postinst.d/zz-bootenv
         echo linux-base linux-base/removing-running-kernel boolean false | debconf-set-selections
         echo live > /var/log/dpkg.log; echo letter > /var/mail/root; sync
         systemd-cat -t bootenv-test echo said in default; journalctl --sync"
    ));
    if kernel == Kernel::Renamed {
        machine.ok(&format!("set -e; cd /opt; {SAME_KERNEL}"));
    }
}

/// What the packages had made below the shared directories is there, came before what needs it, and does not wait any more.
fn was_merged(machine: &mut Machine<'_>) {
    let told = machine.ok("journalctl -b -u bootenv-pending -o cat");
    let beside = "log/dpkg.log: was there and stays; what arrived is beside it as dpkg.log.bootenv-new";
    for line in ["spool/cron: made", "spool/rsyslog: made", beside] {
        assert!(told.contains(&format!("/var/shared/{line}")), "{line}: {told}");
    }
    let at = |machine: &mut Machine<'_>, what: &str, unit: &str| -> u64 {
        machine.ok(&format!("systemctl show -P ExecMain{what}TimestampMonotonic {unit}")).parse().unwrap()
    };
    let merged = at(machine, "Exit", "bootenv-pending.service");
    for unit in ["systemd-journal-flush", "systemd-tmpfiles-setup", "cron", "rsyslog"] {
        let started = at(machine, "Start", &format!("{unit}.service"));
        assert!(0 < merged && merged < started, "{unit} started at {started} us, the merge ended at {merged}");
    }
    assert_eq!(machine.ok("stat -c '%U:%G %a' /var/spool/cron/crontabs"), "root:crontab 1730");
    assert_eq!(machine.ok("cat /var/log/dpkg.log; grep -c ' install cron:' /var/log/dpkg.log.bootenv-new"), "live\n1");
    assert_eq!(machine.ok("bootenv pending; ls -A /var/lib/bootenv"), "");
}
