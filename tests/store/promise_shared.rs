//! Promise 2: through an alternate root nobody writes to the shared dataset; not for an instant while the mount is being
//! put together, and not a root script inside it.
//!
//! What no flag of a mount can prevent is not promised, and shown here so that nobody takes the promise for more than it
//! is: root who opens the block device, or mounts it once more, or leaves the alternate root altogether, or uses a call
//! that addresses the whole filesystem by number and not by path.

use crate::lab::chroot::Inside;
use crate::lab::{Kind, Lab, Print, Ran, kind, mounts, rounds, sh};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store/attack.py");

/// What the script calls the store.
fn store() -> &'static str {
    match kind() {
        Kind::Btrfs => "btrfs",
        Kind::Zfs => "zfs",
    }
}

fn attacks(group: &str) -> Vec<String> {
    crate::lab::run("python3", &[SCRIPT, "names", group, store()]).lines().map(str::to_string).collect()
}

/// A BE `blue` to be mounted, and shared data with something to attack for every attack.
fn fixture(group: &str) -> Lab {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let dir = lab.shared().join("log/attacked");
    let nested = crate::lab::run("python3", &[SCRIPT, "prepare", group, store(), dir.to_str().unwrap()]);
    for name in nested.lines() {
        lab.nest_at(&dir.join(name).join("nested"), "");
    }
    sh(&format!("sync -f '{}'", lab.top().display()));
    lab
}

/// Runs attacks inside, a group or one of it, and returns what became of each.
fn run(inside: &Inside, which: &[&str]) -> BTreeMap<String, String> {
    std::fs::copy(SCRIPT, inside.root.join("run/attack.py")).unwrap();
    let mut command = inside.command("/usr/bin/python3");
    let (group, one) = which.split_first().unwrap();
    let ran: Ran = command.args(["/run/attack.py", "run", group, store()]).args(one).output().unwrap().into();
    let ran = ran.ok();
    let outcomes: BTreeMap<String, String> =
        ran.stdout.lines().map(|l| l.split_once('\t').unwrap()).map(|(n, o)| (n.to_string(), o.to_string())).collect();
    assert_eq!(outcomes.len(), if which.len() == 1 { attacks(which[0]).len() } else { 1 });
    outcomes
}

/// `blue` mounted by bootenv.
fn mounted(lab: &Lab) -> Inside {
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout;
    lab.enter(Path::new(at.trim()))
}

/// `blue` mounted as one would do it by hand, with `options` for the shared dataset.
fn by_hand(lab: &Lab, options: &str) -> Inside {
    let root = lab.path("by-hand");
    std::fs::create_dir(&root).unwrap();
    let shared = root.join("var/shared");
    sh(&format!(
        "{} && {} && mount -o remount,bind,{options} '{}'",
        lab.mounting("ROOT/blue", &root),
        lab.mounting("SHARED", &shared),
        shared.display()
    ));
    lab.enter(&root)
}

fn denied(group: &str) {
    let lab = fixture(group);
    let inside = mounted(&lab);
    let before = Print::of(&lab.shared());
    let table = mounts();
    let done: Vec<_> =
        run(&inside, &[group]).into_iter().filter(|(_, o)| o == "done" || o.starts_with("broken")).collect();
    assert_eq!(done, [], "these came through");
    before.assert_same(&Print::of(&lab.shared()), "shared data was changed");
    assert_eq!(mounts(), table, "an attack was not undone, so later ones may have failed for the wrong reason");
}

#[test]
fn a_root_script_inside_cannot_write() {
    denied("write");
}

#[test]
fn a_root_script_inside_cannot_make_it_writable() {
    denied("escape");
}

#[test]
fn every_write_would_come_through_where_the_shared_dataset_is_writable() {
    let lab = fixture("write");
    let failed: Vec<_> = run(&by_hand(&lab, "rw"), &["write"]).into_iter().filter(|(_, o)| o != "done").collect();
    assert_eq!(failed, [], "these attacks are none, and show nothing");
}

#[test]
fn every_escape_would_come_through_a_mount_that_is_merely_read_only() {
    let lab = fixture("escape");
    let mut failed = Vec::new();
    for name in attacks("escape") {
        // Each begins with a read-only mount again, whatever the one before did to it.
        let inside = by_hand(&lab, "ro,nosuid,nodev");
        let outcome = run(&inside, &["escape", &name]).remove(&name).unwrap();
        sh(&format!("umount -R '{0}' && rmdir '{0}'", inside.root.display()));
        if outcome != "done" {
            failed.push((name, outcome));
        }
    }
    assert_eq!(failed, [], "these attacks are none, and show nothing");
}

#[test]
fn what_no_mount_can_prevent_is_known() {
    let lab = fixture("beyond");
    let outcomes = run(&mounted(&lab), &["beyond"]);
    let done: Vec<&String> = outcomes.iter().filter(|(_, o)| *o == "done").map(|(n, _)| n).collect();
    assert_eq!(done, outcomes.keys().collect::<Vec<_>>(), "more is prevented than this file says: {outcomes:?}");
}

#[test]
fn after_unmounting_it_only_the_be_itself_can_be_written_to() {
    let lab = fixture("write");
    let inside = mounted(&lab);
    let before = Print::of(&lab.shared());
    let script = r#"
umount /var/shared || exit 1
for path in /var/log/new /var/shared/new; do touch $path 2>/dev/null && exit 2; done
mkdir -p /var/shared/log 2>/dev/null && exit 3
chattr -i /var/shared && mkdir /var/shared/log && echo mine > /var/log/new
"#;
    let ran: Ran = inside.command("/usr/bin/bash").args(["-c", script]).output().unwrap().into();
    ran.ok();
    before.assert_same(&Print::of(&lab.shared()), "it reached shared data");
    // The root of the alternate root is its own: what was written is in the BE, below the mountpoint.
    assert!(lab.files("blue").join("var/shared/log/new").exists());
}

/// Counts what comes of trying something over and over while another thread works.
struct Tries {
    before: AtomicU64,
    refused: AtomicU64,
    other: std::sync::Mutex<Vec<String>>,
}

/// Tries `act` over and over until told to stop. `before` and `refused` are the errors that are right before the mount is
/// there, and from then on.
fn spin(stop: &AtomicBool, tries: &Tries, before: &[i32], refused: i32, mut act: impl FnMut() -> std::io::Result<()>) {
    while !stop.load(Ordering::Relaxed) {
        match act() {
            Err(e) if before.contains(&e.raw_os_error().unwrap()) => tries.before.fetch_add(1, Ordering::Relaxed),
            Err(e) if e.raw_os_error() == Some(refused) => tries.refused.fetch_add(1, Ordering::Relaxed),
            other => {
                tries.other.lock().unwrap().push(format!("{other:?}"));
                return;
            }
        };
    }
}

/// Runs `act` in a thread while a BE is mounted, up to 50 times, and demands that it was tried before and after, and that it never
/// ended in any other way than `before` and `refused`.
fn at_every_instant(before: &[i32], refused: i32, act: impl Fn(&Path) -> std::io::Result<()> + Sync) {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let shared = Print::of(&lab.shared());
    let dir: PathBuf = lab.path("at");
    std::fs::create_dir(&dir).unwrap();
    for round in 0..rounds(50) {
        let (stop, tries) =
            (AtomicBool::new(false), Tries { before: 0.into(), refused: 0.into(), other: Vec::new().into() });
        std::thread::scope(|scope| {
            scope.spawn(|| spin(&stop, &tries, before, refused, || act(&dir)));
            while tries.before.load(Ordering::Relaxed) < 10 && tries.other.lock().unwrap().is_empty() {
                std::thread::yield_now();
            }
            let ran = lab.bootenv(&["mount", "blue", dir.to_str().unwrap()]);
            let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while tries.refused.load(Ordering::Relaxed) < 10
                && tries.other.lock().unwrap().is_empty()
                && std::time::Instant::now() < until
            {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            ran.ok();
        });
        assert_eq!(*tries.other.lock().unwrap(), [""; 0], "round {round}");
        assert!(tries.refused.load(Ordering::Relaxed) >= 10, "nobody looked after the mount");
        lab.bootenv(&["unmount", "blue"]).ok();
    }
    shared.assert_same(&Print::of(&lab.shared()), "shared data was changed");
}

#[test]
fn from_the_first_instant_nothing_can_be_created_in_it() {
    use nix::libc::{ENOENT, EROFS};
    // Never EPERM: that would be the BE's own immutable directory, seen without the shared dataset on it.
    at_every_instant(&[ENOENT], EROFS, |dir| std::fs::File::create_new(dir.join("var/shared/sneaked")).map(drop));
}

#[test]
fn from_the_first_instant_nothing_can_be_created_through_the_symlinks() {
    use nix::libc::{ENOENT, EROFS};
    at_every_instant(&[ENOENT], EROFS, |dir| std::fs::create_dir(dir.join("var/log/sneaked")));
}

#[test]
fn from_the_first_instant_it_cannot_be_made_writable() {
    use nix::libc::{EINVAL, ENOENT, EPERM};
    use nix::mount::{MsFlags, mount};
    at_every_instant(&[ENOENT, EINVAL], EPERM, |dir| {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
        Ok(mount(None::<&str>, &dir.join("var/shared"), None::<&str>, flags, None::<&str>)?)
    });
}

#[test]
fn the_be_and_the_shared_dataset_appear_in_one_move() {
    use nix::libc::{ENOENT, EROFS};
    // As soon as the BE can be seen, so can the shared data in it.
    at_every_instant(&[ENOENT], EROFS, |dir| {
        std::fs::metadata(dir.join("etc"))?;
        match std::fs::metadata(dir.join("var/log/syslog")) {
            Ok(_) => Err(std::io::Error::from_raw_os_error(EROFS)),
            Err(e) => panic!("the BE is there without the shared data: {e}"),
        }
    });
}
