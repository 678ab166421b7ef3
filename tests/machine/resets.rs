//! The machine is reset in the middle of a verb, or loses power, and then what its disk was not told to keep is lost.
//!
//! QEMU writes down what the guest writes to the disk, and when it flushes. The disk is then made anew of what it was before
//! and what had been flushed, and the machine comes up on it. (A QEMU that ends because of a reset flushes; one that is killed
//! does not.)

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::Machine;
use crate::openzfs::Parts;
use crate::writes::Log;

const SIZE: u64 = 256 << 20;
const BINARY: &str = env!("CARGO_BIN_EXE_bootenv");

/// The pool, with a BE that a kernel and a root can be told by.
const PREPARE: &str = r#"
set -e
zpool create -O mountpoint=none -O acltype=posix -O xattr=sa tank /dev/disk/by-id/virtio-lossy
mkdir -p /tree/etc /tree/usr /tree/boot /tree/var/log
echo ID=debian > /tree/etc/os-release
echo kernel > /tree/boot/vmlinuz-6.12.1-amd64
echo initrd > /tree/boot/initrd.img-6.12.1-amd64
echo kept > /tree/var/log/kept
echo one > /tree/marker
be init --from /tree --loader systemd-boot
"#;

/// What can be seen: BEs, what boots next, what is in them, what is shared. Whether what boots is there is seen too.
const LOOK: &str = r#"
set -e
be list -H | awk -F'\t' '{ print $1 "=" $2 }'
on() { mount -i -t zfs "tank/$1" /mnt; shift; "$@"; umount /mnt; }
for name in $(be list -H | cut -f1); do on "ROOT/$name" cat /mnt/marker; done
on SHARED cat /mnt/log/kept
first() {
    cd /mnt/esp
    entry=$(grep -H '^sort-key' loader/entries/*.conf | sort -t: -k2 | head -n 1 | cut -d: -f1)
    for file in $(sed -n 's/^\(linux\|initrd\) //p' "$entry"); do test -s ".$file"; done
    sed -n 's/.*root=ZFS=\([^ ]*\).*/\1/p' "$entry" > /run/due
    cd /
}
on BOOTENV first
zfs list -H -o name "$(cat /run/due)"
"#;

/// What is done one after the other, each with what it makes of the list.
const VERBS: [(&str, &str); 6] = [
    ("create -a -d text blue", "default=- blue=R"),
    ("destroy -F default", "blue=R"),
    ("create -o atime=off green", "blue=R green=-"),
    ("rename green olive", "blue=R olive=-"),
    ("activate olive", "blue=- olive=R"),
    ("create -e blue red", "blue=- olive=R red=-"),
];

/// As many of them are enough for every day.
const ENOUGH: usize = 4;

/// A disk that keeps what was flushed, and nothing else, when the power is cut.
struct Lossy {
    disk: PathBuf,
    /// What is on it for sure.
    kept: PathBuf,
    log: PathBuf,
    /// What QEMU is told to open.
    spec: PathBuf,
}

impl Lossy {
    fn new(parts: &Parts) -> Lossy {
        let [disk, kept] = ["lossy", "lossy.kept"].map(|name| parts.blank(name, SIZE));
        let log = parts.blank("lossy.log", 4 * SIZE);
        // It is opened as a raw disk whose flushes may be ignored; not so by what writes them down.
        let file = |path: &Path| serde_json::json!({"driver": "file", "filename": path, "cache": {"no-flush": true}, "discard": "unmap"});
        let writes = serde_json::json!({
            "driver": "blklogwrites", "cache": {"no-flush": false}, "file": file(&disk), "log": file(&log),
        });
        let spec = serde_json::json!({"driver": "raw", "file": writes});
        // A comma ends an option.
        let spec = PathBuf::from(format!("json:{spec}").replace(',', ",,"));
        Lossy { disk, kept, log, spec }
    }

    /// The power is cut. Gives how many KiB were lost.
    fn cut(&self) -> u64 {
        let log = Log::read(&self.log);
        let kept = File::options().write(true).open(&self.kept).unwrap();
        log.replay(&kept, 0, log.instants.last().expect("something was flushed"));
        let lost = differing(&self.kept, &self.disk);
        std::fs::copy(&self.kept, &self.disk).unwrap();
        File::create(&self.log).unwrap().set_len(4 * SIZE).unwrap();
        lost
    }
}

/// How many KiB two files of a size differ in.
fn differing(a: &Path, b: &Path) -> u64 {
    let (mut a, mut b) = (File::open(a).unwrap(), File::open(b).unwrap());
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut count = 0;
    for _ in 0..SIZE >> 20 {
        a.read_exact(&mut one).unwrap();
        b.read_exact(&mut other).unwrap();
        if one != other {
            count += one.chunks(1024).zip(other.chunks(1024)).filter(|(x, y)| x != y).count() as u64;
        }
    }
    count
}

/// Power on, with the pool if there is one.
fn up<'parts>(parts: &'parts Parts, disk: &'parts Lossy, import: bool) -> Machine<'parts> {
    let mut machine = parts.power_on(&[("lossy", &disk.spec)]);
    machine.ok(&format!(
        "printf '#!/bin/sh\\nexec {BINARY} --store tank \"$@\"\\n' > /usr/local/bin/be; chmod 755 /usr/local/bin/be; modprobe zfs"
    ));
    if import {
        machine.ok("zpool import -N -d /dev/disk/by-id tank");
    }
    machine
}

/// What can be seen: the list first, on one line, then the rest.
fn look(machine: &mut Machine<'_>) -> (String, String) {
    let text = machine.ok(LOOK);
    let (flags, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains('='));
    (flags.join(" "), rest.join(" "))
}

/// A number below one, another each time.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f64 / (1u64 << 24) as f64
}

pub fn lane(parts: &Parts) {
    let all = std::env::var("BOOTENV_TEST_CRASH").is_ok_and(|v| v == "all");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut seed = std::env::var("BOOTENV_TEST_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
    println!("resets: BOOTENV_TEST_SEED={seed}");

    let disk = Lossy::new(parts);
    let mut machine = up(parts, &disk, false);
    machine.ok(PREPARE);
    let mut before = look(&mut machine);
    assert_eq!(before.0, "default=R");
    for (round, (verb, list)) in VERBS.iter().take(if all { VERBS.len() } else { ENOUGH }).enumerate() {
        let began = Instant::now();
        machine.ok(&format!("be --dry-run {verb}"));
        // What is shown takes half as long as what is done, more or less.
        let after = Duration::from_secs_f64(began.elapsed().as_secs_f64() * (0.5 + 1.5 * random(&mut seed)));
        let (verb_begins, how) =
            (format!("be {verb} > /dev/null 2>&1 &"), if round % 2 == 0 { "power cut" } else { "reset" });
        if how == "reset" {
            machine.off_by_reset(&format!("{verb_begins} sleep {}; echo b > /proc/sysrq-trigger", after.as_secs_f64()));
        } else {
            machine.ok(&verb_begins);
            std::thread::sleep(after);
            machine.power_off_hard();
        }
        let lost = disk.cut();

        machine = up(parts, &disk, true);
        let told = machine.run("be status > /dev/null");
        let told = String::from_utf8_lossy(&told.stderr).trim().to_string();
        let found = look(&mut machine);
        let what = if found.0 == *list { "as after" } else { "as before" };
        println!("{how} {after:.1?} into `{verb}`, {lost} KiB lost: {what}. {told}");
        assert!(found == before || found.0 == *list, "{verb}: {found:?} is neither {before:?} nor {list:?}");
        assert_eq!(machine.ok("be check"), "nothing is wrong");
        if found.0 != *list {
            machine.ok(&format!("be {verb}"));
        }
        before = look(&mut machine);
        assert_eq!(before.0, *list, "{verb}, again");
    }
    machine.power_off_hard();
}
