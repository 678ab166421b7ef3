//! Nothing is left behind: no mount in the namespace that the lane was started in, no loop device, no file; not even when a
//! test fails or is killed.

use crate::lab::{Kind, Lab, kind, only_on, pace, sh};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const HOW: &str = "BOOTENV_TEST_ENDS";

/// Not a test of its own: run by those below, in a process of its own, so that it may end as it likes.
#[test]
#[ignore = "run by the other tests of this module"]
fn a_test_that_ends_as_it_is_told() {
    let Ok(how) = std::env::var(HOW) else { return };
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "green"]).ok();
    lab.bootenv(&["mount", "blue"]).ok();
    std::fs::create_dir(lab.path("at")).unwrap();
    lab.bootenv(&["mount", "green", lab.path("at").to_str().unwrap()]).ok();
    let _running = lab.running("default");
    lab.json(&["create", "blue"]).refused(3, &[]);
    println!("lab at {}", lab.path("").display());
    match how.as_str() {
        "well" => {}
        "failing" => panic!("as it was told"),
        "killed" => drop(sh(&format!("kill -KILL {}", std::process::id()))),
        other => unreachable!("{other}"),
    }
}

/// The loop devices that are attached, with their files.
fn loop_devices() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/block").unwrap().flatten();
    entries.filter_map(|e| std::fs::read_to_string(e.path().join("loop/backing_file")).ok()).collect()
}

/// The mount table of the process that started this one: nothing in here has isolated that.
fn host_mounts() -> String {
    std::fs::read_to_string(format!("/proc/{}/mountinfo", std::os::unix::process::parent_id())).unwrap()
}

#[track_caller]
fn nothing_is_left_of(dir: &Path) {
    let dir = dir.to_str().unwrap();
    assert!(!host_mounts().contains(dir), "a mount is left: {}", host_mounts());
    // The kernel detaches a device when the last one who used it is gone, a moment after that.
    let until = Instant::now() + Duration::from_secs(10);
    while loop_devices().iter().any(|f| f.contains(dir)) {
        assert!(Instant::now() < until, "a loop device is left: {:?}", loop_devices());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn no_pool_is_left_of(dir: &Path) {
    if kind() == Kind::Zfs {
        let pools = sh("zpool list -HPv");
        assert!(!pools.contains(dir.to_str().unwrap()), "a pool is left: {pools}");
    }
}

/// Runs the test above in a process of its own and gives the directory of its laboratory.
fn run(how: &str) -> (std::process::ExitStatus, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "leftovers::a_test_that_ends_as_it_is_told", "--nocapture"]).env(HOW, how);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let dir =
        text.split("lab at ").nth(1).unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status, PathBuf::from(dir.lines().next().unwrap()))
}

#[test]
fn by_a_test_that_passes() {
    let (status, dir) = run("well");
    assert!(status.success());
    nothing_is_left_of(&dir);
    no_pool_is_left_of(&dir);
    assert!(!dir.exists());
}

#[test]
fn by_a_test_that_fails() {
    let (status, dir) = run("failing");
    assert_eq!(status.code(), Some(101));
    nothing_is_left_of(&dir);
    no_pool_is_left_of(&dir);
    assert!(!dir.exists());
}

#[test]
fn by_a_test_that_is_killed() {
    if !only_on(Kind::Btrfs, "a pool outlives whoever has imported it") {
        return;
    }
    use std::os::unix::process::ExitStatusExt;
    let (status, dir) = run("killed");
    assert_eq!(status.signal(), Some(9));
    // Who kept the namespace of what ran is told by the kernel that its parent is gone.
    nothing_is_left_of(&dir);
    // Files alone can be left by what was killed, in the directory for that.
    assert!(dir.starts_with(env!("CARGO_TARGET_TMPDIR")));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn by_the_binary_when_it_is_refused_or_killed() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let table = crate::lab::mounts();
    let damages = [
        "",
        "head -c 4M /dev/urandom > \"$image\"",
        "truncate -s 100M \"$image\"",
        "truncate -s 0 \"$image\"; truncate -s 64M \"$image\"",
    ];
    // The file of a pool is nothing that bootenv opens.
    for script in damages.iter().filter(|script| script.is_empty() || kind() == Kind::Btrfs) {
        sh(&format!("image='{}'; {script}", lab.image.display()));
        for args in
            [&["list"][..], &["create", "blue"], &["mount", "none"], &["destroy", "default"], &["rollback", "blue@x"]]
        {
            let _ = lab.bootenv(args);
        }
        let mut child = lab.command(&["create"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(8 * pace()));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(crate::lab::mounts(), table);
        nothing_is_left_of(&lab.path(""));
    }
}
