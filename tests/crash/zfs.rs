//! On ZFS the pool lies on a disk that records what is written to it. The verb runs once: what a power cut can leave are the
//! instants at which something new was whole on the disk, and the disk at each of them is made from the log, imported, and
//! looked at. Then it runs anew for each call it is killed at.
//!
//! All of that is emulated and slow. So only the cases of `ALWAYS` run, each at a few instants that are spread over it, unless
//! `BOOTENV_TEST_CRASH` says `cases`, for all cases, or `all`, for all cases at all instants.

use super::recorded::{Recorded, SIZE};
use super::{CALLS, Case, prepare, state};
use crate::lab::strace::{killed_at, under_strace};
use crate::lab::writes::Log;
use crate::lab::{self, Lab, Ran, attach, sh, try_sh};
use std::fs::File;
use std::path::{Path, PathBuf};

const ALWAYS: &[&str] = &["create_and_activate", "destroy_promoting", "rollback_another", "zone_create"];

/// How many instants of a kind are enough for every day.
const ENOUGH: usize = 6;

/// How many calls fewer a verb may make than when it was traced: libzfs asks again when an answer does not fit, and how often that is hangs
/// on the order in which a pool tells what lies below a dataset, another one in each pool.
const FEWER: u32 = 2;

fn asked_for(what: &[&str]) -> bool {
    std::env::var("BOOTENV_TEST_CRASH").is_ok_and(|v| what.contains(&v.as_str()))
}

fn all() -> bool {
    asked_for(&["all"])
}

/// Some of them, the first and the last among them.
fn some<T>(of: Vec<T>) -> Vec<T> {
    let count = of.len();
    let wanted = if all() { count } else { ENOUGH.min(count) };
    let picked = |at: &usize| (0..wanted).any(|n| n * (count - 1) / (wanted - 1).max(1) == *at);
    of.into_iter().enumerate().filter(|(at, _)| picked(at)).map(|(_, one)| one).collect()
}

/// The calls at which a verb can be killed: the name, and which one of that name. Those that change nothing are left out.
fn calls(trace: &str) -> Vec<(String, u32)> {
    const IDLE: [&str; 8] = [
        "ZFS_IOC_OBJSET_STATS",
        "_LIST_NEXT",
        "ZFS_IOC_POOL_STATS",
        "_GET_PROPS",
        "FIONBIO",
        "TCGETS",
        "write(1<",
        "write(2<",
    ];
    let mut seen = std::collections::HashMap::new();
    let (mut found, mut begun) = (Vec::new(), false);
    for line in trace.lines() {
        let Some((call, _)) = line.split_once('(') else { continue };
        let nth = seen.entry(call.to_string()).or_insert(0);
        *nth += 1;
        // Before the journal nothing is changed.
        begun |= line.contains("journal.toml");
        if begun && !line.contains("= -1 ") && !IDLE.iter().any(|idle| line.contains(idle)) {
            found.push((call.to_string(), *nth));
        }
    }
    found
}

/// A disk with the pool, in place of the one that was recorded.
struct Inserted<'lab> {
    lab: &'lab Lab,
    device: String,
}

impl Inserted<'_> {
    fn new<'lab>(lab: &'lab Lab, image: &Path) -> Inserted<'lab> {
        let disk = Inserted { lab, device: attach(image) };
        sh(&format!("zpool import -N -o cachefile=none -d {} {}", disk.device, lab.store().display()));
        disk
    }
}

impl Drop for Inserted<'_> {
    fn drop(&mut self) {
        self.lab.leave_top();
        try_sh(&format!("zpool export {}; losetup -d {}", self.lab.store().display(), self.device));
    }
}

/// The same, with what people do not see: snapshots that BEs come from, properties, what the pool says boots.
fn whole_state(lab: &Lab) -> String {
    let pool = lab.store();
    let what = "name,origin,canmount,mountpoint,readonly,atime,compression,org.bootenv:description";
    let seen = state(lab);
    let hidden = format!("zfs list -Hr -t all -o {what} {0}; zpool get -H -o value bootfs {0}", pool.display());
    // What only holds zones is layout, which stays when a plan is undone.
    let layout = format!("{}/zones\t", pool.display());
    let hidden: String = sh(&hidden).lines().filter(|l| !l.starts_with(&layout)).map(|l| format!("{l}\n")).collect();
    format!("{seen}\n{hidden}")
}

/// Whether there is what holds zones, be it with none in it.
fn holds_zones(lab: &Lab) -> bool {
    try_sh(&format!("zfs list {}/zones", lab.store().display())).status == 0
}

/// What systemd-boot boots, which has to be there: the kernel, the initrd, and the root.
fn due(lab: &Lab, at: &str) -> String {
    let first = lab.menu_of_systemd_boot().into_iter().next().unwrap_or_else(|| panic!("{at}: nothing boots"));
    let missing: Vec<&PathBuf> = first.loads.iter().filter(|file| !file.exists()).collect();
    assert!(missing.is_empty(), "{at}: {} boots, without {missing:?}", first.entry.id);
    let root = first.entry.arguments.split(' ').find_map(|a| a.strip_prefix("root=ZFS=")).unwrap();
    let path = Path::new(root).strip_prefix(lab.store()).unwrap();
    assert!(
        lab.top().join(path).join("etc/os-release").exists(),
        "{at}: {} boots, whose root {root} is not there",
        first.entry.id
    );
    first.entry.id
}

/// What is to be seen of a case before and after, and its disk before.
struct Bounds<'case> {
    case: &'case Case,
    lab: &'case Lab,
    before: String,
    after: String,
    due: [String; 2],
    /// `check --repair` begins with something to repair.
    healthy: bool,
}

impl Bounds<'_> {
    /// Lets the next command recover. Whether everything is as before.
    fn recovered(&self, at: &str) -> bool {
        let now = whole_state(self.lab);
        let Bounds { before, after, .. } = self;
        assert!(
            now == *before || now == *after,
            "{at}: neither before nor after\nbefore:\n{before}\nnow:\n{now}\nafter:\n{after}"
        );
        let check = self.lab.bootenv(&["check"]);
        assert!(check.status == 0 || !(self.healthy || now == *after), "{at}: {}{}", check.stdout, check.stderr);
        now == *before
    }

    fn run_again(&self, at: &str) {
        self.lab.bootenv(&self.case.verb).ok();
        assert_eq!(whole_state(self.lab), self.after, "{at}: run again");
    }
}

pub fn check(case: &Case) {
    if !is_wanted(case.name) {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = Recorded::new(dir.path());
    let lab = Lab::on_disk(&disk.device());
    prepare(&lab, case);

    let before = whole_state(&lab);
    let due_before = due(&lab, "before");
    let healthy = lab.bootenv(&["check"]).status == 0;
    sh(&format!("zpool sync {}", lab.store().display()));
    disk.mark("before");
    let trace = dir.path().join("trace");
    traced(&lab, &case.verb, &trace).ok();
    disk.mark("after");
    let after = whole_state(&lab);
    assert_ne!(before, after, "{} changes nothing, so this case could not fail", case.name);
    let due = [due_before, due(&lab, "after")];
    lab.leave_top();
    sh(&format!("zpool export {}", lab.store().display()));
    let log = disk.end();

    let bounds = Bounds { case, lab: &lab, before, after, due, healthy };
    let start = dir.path().join("before.img");
    let cut = cuts(&bounds, &log, dir.path(), &start);
    let killed = kills(&bounds, &calls(&std::fs::read_to_string(&trace).unwrap()), dir.path(), &start);
    for (how, [instants, undone, finished]) in [("cut", cut), ("killed", killed)] {
        println!("{}: {how} at {instants} instants: {undone} as before, {finished} as after", case.name);
        assert!(instants > 3 && undone > 0 && finished > 0);
    }
}

/// `init` of an empty pool, killed: the next one makes a whole store, with what the first BE needs of the datasets it lies in.
#[test]
fn init_of_a_pool() {
    if !lab::only_on(lab::Kind::Zfs, "a pool's own") || !is_wanted("init_of_a_pool") {
        return;
    }
    let killed = |call: Option<&(String, u32)>| {
        let lab = Lab::empty();
        let root = lab.root("");
        let init = lab.init_args(&root, &["--loader", lab.loader.name()]);
        let trace = lab.path("trace");
        match call {
            Some((call, nth)) => assert_eq!(killed_at(&lab, &init, call, *nth).status, -9, "{call} {nth}"),
            None => drop(traced(&lab, &init, &trace).ok()),
        }
        if lab.bootenv(&["list", "-H"]).stdout.is_empty() {
            lab.bootenv(&init).ok();
        }
        assert_eq!(lab.names(), ["default"], "{call:?}");
        lab.bootenv(&["check"]).ok();
        let acls = sh(&format!("zfs get -H -o value acltype,xattr {0}/ROOT {0}/SHARED", lab.store().display()));
        // What is set as `sa` is read as `on`.
        assert_eq!(acls, "posix\non\nposix\non\n", "{call:?}");
        std::fs::read_to_string(trace).unwrap_or_default()
    };
    let calls = some(calls(&killed(None)));
    calls.iter().for_each(|call| drop(killed(Some(call))));
    println!("init of a pool: {} instants", calls.len());
    assert!(calls.len() > 3);
}

/// Whether a case runs now. Says so if not.
fn is_wanted(name: &str) -> bool {
    let wanted = asked_for(&["cases", "all"]) || ALWAYS.contains(&name);
    if !wanted {
        lab::skipped("it takes minutes; with BOOTENV_TEST_CRASH=cases it runs");
    }
    wanted
}

/// Runs the verb to its end, and writes down the calls that may change something.
fn traced(lab: &Lab, verb: &[&str], into: &Path) -> Ran {
    let trace = format!("trace=clone,{}", CALLS.join(","));
    under_strace(lab, verb, &["-y", "-o", into.to_str().unwrap(), "-e", &trace])
}

/// Power cuts. Leaves the disk as it was before the verb in `start`.
fn cuts(bounds: &Bounds<'_>, log: &Log, dir: &Path, start: &Path) -> [usize; 3] {
    let marked = |name: &str| log.instants.iter().position(|i| i.mark.as_deref() == Some(name)).unwrap();
    let (first, last) = (marked("before"), marked("after"));
    let file = File::create(start).unwrap();
    file.set_len(SIZE).unwrap();
    let mut held = log.replay(&file, 0, &log.instants[first]);
    let now = dir.join("now.img");
    copy(start, &now);
    let file = File::options().write(true).open(&now).unwrap();

    // What is written to a pool counts when its beginning points to it; until then it is as if it were not there.
    let counts = |at: &usize| !log.instants[at + 1].beginning;
    let instants = some((first + 1..last).filter(counts).collect());
    let (mut undone, mut finished) = (0, 0);
    for at in &instants {
        held = log.replay(&file, held, &log.instants[*at]);
        let work = dir.join("work.img");
        copy(&now, &work);
        let _disk = Inserted::new(bounds.lab, &work);
        let at = format!("{}, cut at {} of {first}..{last}", bounds.case.name, at);
        let boots = due(bounds.lab, &at);
        assert!(bounds.due.contains(&boots), "{at}: {boots} boots");
        if bounds.recovered(&at) {
            undone += 1;
            if all() || undone % 2 == 0 {
                bounds.run_again(&at);
            }
        } else {
            finished += 1;
        }
    }
    [instants.len(), undone, finished]
}

/// Kills, each from the start, or from what was undone after the one before.
fn kills(bounds: &Bounds<'_>, calls: &[(String, u32)], dir: &Path, start: &Path) -> [usize; 3] {
    let (mut undone, mut finished) = (0, 0);
    let mut disk = None;
    let calls = some(calls.to_vec());
    for (call, nth) in &calls {
        let at = format!("{}, killed at {call} {nth}", bounds.case.name);
        let mut layout = false;
        let is_killed_at = |nth: u32| {
            disk.get_or_insert_with(|| {
                let work = dir.join("work.img");
                copy(start, &work);
                Inserted::new(bounds.lab, &work)
            });
            layout = holds_zones(bounds.lab);
            let ran = killed_at(bounds.lab, &bounds.case.verb, call, nth);
            assert!(matches!(ran.status, 0 | -9), "{at}: {}", ran.stderr);
            if ran.status == 0 {
                disk = None;
            }
            ran.status == -9
        };
        assert!((nth.saturating_sub(FEWER).max(1)..=*nth).rev().any(is_killed_at), "{at}: it ends before");
        let as_before = bounds.recovered(&at);
        if as_before {
            undone += 1;
        } else {
            finished += 1;
        }
        // What is there already is not made again, so that there would be fewer calls; layout stays when a plan is undone.
        if !as_before || holds_zones(bounds.lab) != layout {
            disk = None;
        }
    }
    [calls.len(), undone, finished]
}

fn copy(from: &Path, to: &Path) {
    sh(&format!("cp --sparse=always '{}' '{}'", from.display(), to.display()));
}
