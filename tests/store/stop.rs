//! Ctrl-C and SIGKILL in the middle of things, at many instants.
//!
//! The crash lane stops at every system call of every plan; here the clock decides, and children (`cp`, `tar`, `mkfs`) die
//! or live on as they do in a terminal.

use crate::lab::{Kind, Lab, Ran, foreign, mounts, only_on, rounds, sh};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Whom a signal reaches.
#[derive(Clone, Copy, PartialEq)]
enum Reaches {
    /// The process alone.
    Alone,
    /// Its whole group, as from a terminal.
    Group,
}

/// Runs the command and sends it a signal after `delay`. Gives what it said, and whether the signal came in time.
fn stopped(command: &mut Command, signal: &str, reaches: Reaches, delay: Duration) -> (Ran, bool) {
    let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(delay);
    let in_time = child.try_wait().unwrap().is_none();
    if in_time {
        let group = if reaches == Reaches::Group { "-" } else { "" };
        crate::lab::try_sh(&format!("kill -s {signal} -- {group}{}", child.id()));
    }
    (child.wait_with_output().unwrap().into(), in_time)
}

/// Instants spread over as long as the command takes when nobody stops it.
fn instants(whole: Duration, count: usize) -> impl Iterator<Item = Duration> {
    let count = rounds(count) as u32;
    (0..count).map(move |n| whole * n / count)
}

fn timed(command: &mut Command) -> Duration {
    let started = Instant::now();
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    started.elapsed()
}

/// Demands that the store is in order and holds `names` only.
#[track_caller]
fn in_order(lab: &Lab, names: &[&str]) -> bool {
    let list = lab.names();
    let done = list == names;
    assert!(done || list == names[..names.len() - 1], "{list:?}");
    let mut menu: Vec<String> = lab.menu().into_iter().map(|e| e.id).collect();
    menu.sort();
    let mut sorted = list.clone();
    sorted.sort();
    assert_eq!(menu, sorted, "the menu is not what the store holds");
    let root = lab.in_root();
    assert_eq!(root, sorted, "something half-made is left");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    assert!(!lab.home().join("journal.toml").exists());
    done
}

const NESTED: usize = 20;

/// A store whose BE takes a while to copy: with many nested datasets.
fn slow() -> Lab {
    let lab = Lab::new();
    for n in 0..rounds(NESTED) {
        lab.nest("default", &format!("srv{n}"));
    }
    lab.top();
    lab
}

#[test]
fn create_killed_at_any_instant_is_undone_or_finished_by_the_next_command() {
    let lab = slow();
    let whole = timed(&mut lab.command(&["create", "new"]));
    lab.bootenv(&["destroy", "new"]).ok();
    let (mut undone, mut told) = (0, 0);
    for delay in instants(whole, 30) {
        stopped(&mut lab.command(&["create", "-d", "text", "new"]), "KILL", Reaches::Alone, delay);
        let next = lab.bootenv(&["list"]).ok();
        told += usize::from(next.stderr.contains("begun"));
        if in_order(&lab, &["default", "new"]) {
            assert_eq!(
                lab.be("new")["datasets"].as_array().unwrap().len(),
                1 + rounds(NESTED),
                "it was finished by half"
            );
            lab.bootenv(&["destroy", "new"]).ok();
        } else {
            undone += 1;
        }
    }
    assert!(undone > 0, "no signal came in time");
    assert!(told > 0, "nothing was ever recovered, or nothing was said about it");
}

#[test]
fn create_interrupted_at_any_instant_is_over_when_it_ends() {
    let lab = slow();
    let whole = timed(&mut lab.command(&["create", "new"]));
    lab.bootenv(&["destroy", "new"]).ok();
    let mut interrupted = 0;
    for (n, delay) in instants(whole, 30).enumerate() {
        let reaches = if n % 2 == 0 { Reaches::Alone } else { Reaches::Group };
        let signal = if n % 3 == 0 { "TERM" } else { "INT" };
        let (ran, in_time) = stopped(&mut lab.command(&["--json", "create", "new"]), signal, reaches, delay);
        // Before there is anything to undo, the signal simply ends it.
        let ended = [-2, -15].contains(&ran.status);
        assert!(
            !lab.home().join("journal.toml").exists(),
            "it ended ({}) and left its journal: {}",
            ran.status,
            ran.stderr
        );
        let done = in_order(&lab, &["default", "new"]);
        match ran.status {
            0 => assert!(done),
            1 => {
                interrupted += 1;
                assert!(!done && in_time);
                ran.refused(1, &["interrupted"]);
            }
            _ => assert!(!done && ended, "{} {}", ran.status, ran.stderr),
        }
        if done {
            lab.bootenv(&["destroy", "new"]).ok();
        }
    }
    assert!(interrupted > 0, "no signal came in time");
}

/// Stops `init` at many instants. Afterwards there is a whole store, or none; and `init` works.
fn init_stopped(signal: &str, reaches: Reaches, tar: bool) {
    if !only_on(Kind::Btrfs, "images are whole or not there; a pool is there before") {
        return;
    }
    let lab = Lab::empty();
    let mut from =
        lab.root("mkdir usr/share usr/share/many; for n in $(seq 1500); do echo $n > usr/share/many/$n; done");
    if tar {
        sh(&format!("tar -czf '{0}.tar.gz' -C '{0}' .", from.display()));
        from.set_extension("tar.gz");
    }
    let args = ["--json", "init", "--size", "256M", "--from", from.to_str().unwrap()];
    // `top` is where this test mounts the store to look at it.
    let beside = || sh(&format!("ls -A '{}' | grep -vx top", lab.path("").display()));
    let before = beside();
    let table = mounts();
    let whole = timed(&mut lab.command(&args));
    std::fs::remove_file(&lab.image).unwrap();
    let mut none = 0;
    for delay in instants(whole, 15) {
        let (ran, _) = stopped(&mut lab.command(&args), signal, reaches, delay);
        if lab.image.exists() {
            assert_eq!(lab.names(), ["default"]);
            assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
            assert_eq!(
                sh(&format!("ls '{}' | wc -l", lab.files("default").join("usr/share/many").display())),
                "1500\n"
            );
            lab.leave_top();
            std::fs::remove_file(&lab.image).unwrap();
        } else {
            none += 1;
            assert_ne!(ran.status, 0);
            assert_eq!(beside(), before, "something is left beside");
        }
        assert_eq!(mounts(), table);
        // Nobody goes on copying for longer than the kernel takes to tell them.
        let until = Instant::now() + Duration::from_secs(5);
        while sh("ps -eo args").lines().any(|l| l.starts_with("cp ") && l.contains(from.to_str().unwrap())) {
            assert!(Instant::now() < until, "a copy goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(none > 0, "no signal came in time");
    lab.bootenv(&args).ok();
}

#[test]
fn init_from_a_folder_killed_at_any_instant_leaves_a_whole_store_or_none() {
    init_stopped("KILL", Reaches::Alone, false);
}

#[test]
fn init_from_a_tar_killed_at_any_instant_leaves_a_whole_store_or_none() {
    init_stopped("KILL", Reaches::Alone, true);
}

#[test]
fn init_from_a_folder_interrupted_from_the_terminal_leaves_a_whole_store_or_none() {
    init_stopped("INT", Reaches::Group, false);
}

#[test]
fn init_from_a_tar_interrupted_leaves_a_whole_store_or_none() {
    init_stopped("INT", Reaches::Alone, true);
}

#[test]
fn adoption_killed_at_any_instant_leaves_the_root_as_it_was() {
    let (path, name) = foreign();
    let new = || {
        let lab = Lab::empty();
        let root = lab.foreign(path, "for n in $(seq 300); do echo $n > var/log/file$n; done");
        (lab, root)
    };
    let whole = timed(&mut new().0.command(&["init"]));
    for delay in instants(whole, 15) {
        let (lab, root) = new();
        let before = crate::lab::Print::of(&root);
        stopped(&mut lab.command(&["init"]), "KILL", Reaches::Alone, delay);
        // The same command again ends it, whatever became of the first.
        lab.bootenv(&["init"]).ok();
        assert_eq!(lab.names(), [name, "default"]);
        let root = lab.top().join(path);
        before.assert_same(&crate::lab::Print::of(&root), "the adopted root was changed");
        let names = ["log", "mail", "spool"];
        let was = crate::lab::Print::of_copy(&root.join("var")).only(&names);
        was.assert_same(&crate::lab::Print::of_copy(&lab.shared()).only(&names), "shared data is not what was there");
        assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    }
}

#[test]
fn mount_killed_at_any_instant_leaves_it_whole_or_not_at_all() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.top();
    let table = mounts();
    let whole = timed(&mut lab.command(&["mount", "blue"]));
    lab.bootenv(&["unmount", "blue"]).ok();
    for delay in instants(whole, 20) {
        stopped(&mut lab.command(&["mount", "blue"]), "KILL", Reaches::Alone, delay);
        let added = mounts().len() - table.len();
        assert!(added == 0 || added == 2, "half of it is mounted: {:?}", mounts());
        if added == 2 {
            assert!(lab.be("blue")["mountpoint"].is_string());
            lab.bootenv(&["unmount", "blue"]).ok();
        }
        // Whatever directory was left, it is in nobody's way.
        let at = lab.bootenv(&["mount", "blue"]).ok().stdout;
        assert_eq!(at, "/run/bootenv/blue\n");
        lab.bootenv(&["unmount", "blue"]).ok();
        assert_eq!(mounts(), table);
    }
}
