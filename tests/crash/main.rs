//! The crash lane: every verb that changes something is stopped at every system call that changes something.
//!
//! The built binary runs under strace, which kills it on entering the Nth call of a kind; N counts up until the verb
//! survives. Each instant is looked at in two ways:
//!
//! - **killed**: the process died, the kernel did not. The next command must finish or undo what was begun.
//! - **cut**: power was lost. The filesystem stays mounted by the test while the image is copied, so the copy holds what
//!   had reached the disk and nothing else. What GRUB would then boot is read with GRUB's own Btrfs code (`grub-fstest`,
//!   which, like GRUB, never replays the log), what systemd-boot would from the stand-in for an ESP; then the copy is mounted, recovered and compared.
//!
//! Either way the store must be as before or as after, `list` must agree with the menu, and the verb must run again.

#[path = "../lab/mod.rs"]
mod lab;

mod btrfs;
mod merge;
#[cfg(feature = "zfs")]
mod recorded;
mod verbs;
#[cfg(feature = "zfs")]
mod zfs;

use lab::{Kind, Lab, Loader, Ran, sh};

/// The calls that change something on disk, and that which begins a thread or a process that may: what those do is not followed.
const CALLS: &[&str] = &[
    "ioctl",
    "clone3",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "symlinkat",
    "fsync",
    "fdatasync",
    "syncfs",
    "write",
    "ftruncate",
];

/// What people would call the same store: names, flags, descriptions, snapshots, menu, the content of a marker file.
fn state(lab: &Lab) -> String {
    let list = lab.bootenv(&["list", "--json"]).ok().json();
    let mut lines = Vec::new();
    for be in list["boot_environments"].as_array().unwrap() {
        let name = be["name"].as_str().unwrap();
        let snapshots: Vec<String> =
            be["snapshots"].as_array().unwrap().iter().map(|s| format!("{}={}", s["name"], s["description"])).collect();
        lines.push(format!(
            "{name} R={} T={} {} {snapshots:?} {} {}",
            be["active_on_reboot"], be["active_once"], be["description"], be["datasets"], be["boot"]["entry"]
        ));
    }
    zones(lab, &mut lines);
    let top = lab.top();
    for be in list["boot_environments"].as_array().unwrap() {
        let path = be["datasets"][0].as_str().unwrap();
        let marker = std::fs::read_to_string(top.join(path).join("marker")).unwrap_or_default();
        let nested = std::fs::read_to_string(top.join(path).join("var/lib/machines/marker")).unwrap_or_default();
        lines.push(format!("{path}: {marker:?} {nested:?}"));
    }
    let staging: Vec<String> =
        sh(&format!("cd '{}/ROOT' && ls -A", top.display())).lines().map(str::to_string).collect();
    lines.push(format!("{staging:?}"));
    lines.push(sh(&format!("cd '{}' && find . -type f | sort | tr '\\n' ' '; cat log/syslog", lab.shared().display())));
    lab.leave_top();
    lines.join("\n")
}

/// What people would call the same zones.
fn zones(lab: &Lab, lines: &mut Vec<String>) {
    let list = lab.bootenv(&["zone", "list", "--json"]).ok().json();
    lines.push(list.to_string());
    for zone in list["zones"].as_array().unwrap() {
        let name = zone["name"].as_str().unwrap();
        let inside = lab.in_zone(name, &["list", "--json"]).ok().json();
        for be in inside["boot_environments"].as_array().unwrap() {
            let told = ["name", "active_on_reboot", "active_once", "description", "datasets", "belongs_to"]
                .map(|key| &be[key]);
            let snapshots = be["snapshots"].as_array().unwrap().iter().map(|s| s["name"].to_string());
            let path = format!("zones/{name}/{}", be["datasets"][0].as_str().unwrap());
            let marker = std::fs::read_to_string(lab.top().join(&path).join("marker")).unwrap_or_default();
            lines.push(format!("{name}: {told:?} {:?} {marker:?}", snapshots.collect::<Vec<_>>()));
            lab.leave_top();
        }
        lines.push(lab.in_zone(name, &["check"]).stdout);
    }
    let shown = "find zones BOOTENV/zones -mindepth 1 -maxdepth 3 -not -name lock -not -name '*.new' -not -name facts -not -path '*/facts/*' | sort";
    lines.push(sh(&format!("cd '{}' && ({shown}) 2>/dev/null || true", lab.top().display())));
    lab.leave_top();
}

/// One verb with its preparation.
pub struct Case {
    pub name: &'static str,
    /// The only store it is for, and why.
    pub only: Option<(Kind, &'static str)>,
    pub loader: Loader,
    pub prepare: &'static [&'static [&'static str]],
    /// Shell commands run in the top of the store after the preparation.
    pub script: &'static str,
    pub verb: Vec<&'static str>,
}

fn prepare(lab: &Lab, case: &Case) {
    // A nested dataset and a marker, so that halves can be told from wholes.
    let nested = lab.nest("default", "var/lib/machines");
    sh(&format!("echo inner > '{}/marker'; echo one > '{}/marker'", nested.display(), lab.files("default").display()));
    lab.leave_top();
    for args in case.prepare {
        lab.bootenv(&with_root(args)).ok();
    }
    if !case.script.is_empty() {
        sh(&format!("cd '{}' && {}", lab.top().display(), case.script));
        lab.leave_top();
    }
}

/// Arguments in which `ROOT` stands for the small root of a container.
pub fn with_root(args: &'static [&'static str]) -> Vec<&'static str> {
    static KEPT: std::sync::OnceLock<(tempfile::TempDir, String)> = std::sync::OnceLock::new();
    let make = || {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = dir.path().join("root");
        lab::root::small(&root);
        sh(&format!("cd '{}'; {}", root.display(), lab::zone::STARTS));
        (dir, root.into_os_string().into_string().unwrap())
    };
    let root = || KEPT.get_or_init(make).1.as_str();
    args.iter().map(|arg| if *arg == "ROOT" { root() } else { *arg }).collect()
}

fn check(case: &Case) {
    match (lab::kind(), case.only) {
        (kind, Some((only, why))) if kind != only => drop(lab::only_on(only, why)),
        (Kind::Btrfs, _) => btrfs::check(case),
        #[cfg(feature = "zfs")]
        (Kind::Zfs, _) => zfs::check(case),
        #[cfg(not(feature = "zfs"))]
        (Kind::Zfs, _) => panic!("{}: built without the feature `zfs`", case.name),
    }
}
