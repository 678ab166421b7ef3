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
mod verbs;

use lab::{Lab, Loader, Ran, sh, try_sh};
use std::path::Path;

/// The calls that change something on disk.
const CALLS: &[&str] = &[
    "ioctl",
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
    lab.leave_top();
    lines.join("\n")
}

/// What GRUB would boot from the image as it lies on disk: `(default, the paths of the kernels it would find for it)`.
fn grub_default(image: &Path) -> (String, Vec<String>) {
    let read = |file: &str| try_sh(&format!("grub-fstest '{}' cat '{file}'", image.display()));
    let env = read("/BOOTENV/esp/EFI/bootenv/grubenv").stdout;
    let default = env.lines().find_map(|l| l.strip_prefix("bootenv_default=")).unwrap_or("").to_string();
    let menu = read("/BOOTENV/grub/menu.cfg").stdout;
    let mut found = Vec::new();
    for line in menu.lines().filter(|l| l.starts_with(&format!("be '{default}' "))) {
        let words: Vec<&str> = line.split('\'').collect();
        let kernel = format!("/{}/boot/{}", words[3], words[5]);
        if try_sh(&format!("grub-fstest '{}' cat '{kernel}'", image.display())).status == 0 {
            found.push(kernel);
        }
    }
    (default, found)
}

/// What systemd-boot would boot: `(default, the paths of what it would find for it)`. The image stands for two filesystems. Of
/// the ESP everything counts that is durable. Of the store only what was committed: it is another filesystem, and what
/// makes the ESP durable does nothing for it.
fn systemd_boot_default(lab: &Lab, image: &Path) -> (String, Vec<String>) {
    let at = lab.path("cut");
    std::fs::create_dir_all(&at).unwrap();
    // Mounting replays the log, so this comes first.
    let committed =
        |path: &str| try_sh(&format!("grub-fstest '{}' cat '/{path}/etc/os-release'", image.display())).status == 0;
    let roots: Vec<String> = try_sh(&format!("grub-fstest '{}' ls '/ROOT/'", image.display()))
        .stdout
        .split_whitespace()
        .map(|name| format!("ROOT/{}", name.trim_end_matches('/')))
        .filter(|path| committed(path))
        .collect();
    let copy = lab.path("cut-copy.img");
    sh(&format!(
        "cp --sparse=always '{0}' '{1}' && mount -o loop,subvolid=5 '{1}' '{2}'",
        image.display(),
        copy.display(),
        at.display()
    ));
    let first = lab::systemd_boot::listed(&at.join("BOOTENV/esp")).into_iter().next();
    let found = first.map_or((String::new(), Vec::new()), |first| {
        let root =
            |flag: &str| first.entry.arguments.split(['=', ' ']).skip_while(|w| *w != flag).nth(1).map(str::to_string);
        let there = match (root("subvol"), root("subvolid")) {
            (Some(path), _) => roots.contains(&path),
            // Wherever it lies.
            (_, Some(id)) => {
                try_sh(&format!("btrfs inspect-internal subvolid-resolve {id} '{}'", at.display())).status == 0
            }
            _ => false,
        };
        let files = first.loads.iter().filter(|f| f.exists()).map(|f| f.display().to_string()).collect::<Vec<_>>();
        let whole = there && files.len() == first.loads.len();
        (first.entry.id, if whole { files } else { Vec::new() })
    });
    sh(&format!("umount '{}'", at.display()));
    found
}

/// What the loader would boot from the image as it lies on disk, with what it would find for it.
fn default_of(lab: &Lab, image: &Path) -> (String, Vec<String>) {
    match lab.loader {
        Loader::Grub => grub_default(image),
        Loader::SystemdBoot => systemd_boot_default(lab, image),
    }
}

/// One verb with its preparation.
pub struct Case {
    pub name: &'static str,
    pub loader: Loader,
    pub prepare: &'static [&'static [&'static str]],
    /// Shell commands run in the top of the store after the preparation.
    pub script: &'static str,
    pub verb: &'static [&'static str],
}

fn prepared(case: &Case) -> Lab {
    let lab = Lab::booted_by(case.loader);
    let top = lab.top();
    // A nested subvolume and a marker, so that halves can be told from wholes.
    sh(&format!(
        "cd '{}/ROOT/default' && rmdir var/lib/machines && btrfs -q subvolume create var/lib/machines && echo inner > var/lib/machines/marker && echo one > marker",
        top.display()
    ));
    lab.leave_top();
    for args in case.prepare {
        lab.bootenv(args).ok();
    }
    if !case.script.is_empty() {
        let top = lab.top();
        sh(&format!("cd '{}' && {}", top.display(), case.script));
        lab.leave_top();
    }
    lab
}

/// Runs the verb so that it dies on entering the `nth` call of the kind `call`.
fn killed_at(lab: &Lab, verb: &[&str], call: &str, nth: u32) -> Ran {
    let command = lab.command(verb);
    let mut strace = std::process::Command::new("strace");
    strace.args([
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={call}:signal=KILL:when={nth}"),
        "--",
    ]);
    strace.arg(command.get_program()).args(command.get_args());
    strace.output().expect("strace is installed").into()
}

fn check(case: &Case) {
    let lab = prepared(case);
    let pristine = lab.path("pristine.img");
    let copy = |from: &Path, to: &Path| {
        sh(&format!("cp --sparse=always '{}' '{}'", from.display(), to.display()));
    };
    let before = state(&lab);
    // `check --repair` begins with something to repair.
    let healthy = lab.bootenv(&["check"]).status == 0;
    copy(&lab.image, &pristine);
    lab.bootenv(case.verb).ok();
    let after = state(&lab);
    assert_ne!(before, after, "{} changes nothing, so this case could not fail", case.name);
    let (default_before, _) = default_of(&lab, &pristine);
    let (default_after, kernels) = default_of(&lab, &lab.image);
    assert!(!kernels.is_empty(), "{}: the default cannot be booted afterwards", case.name);

    let (mut instants, mut undone, mut finished) = (0, 0, 0);
    for call in CALLS {
        for nth in 1.. {
            assert!(nth < 200, "{}: {call} never ends", case.name);
            copy(&pristine, &lab.image);
            let at = format!("{} at {call} {nth}", case.name);
            // Held mounted, so that the end of the process is not a clean unmount.
            lab.top();
            let ran = killed_at(&lab, case.verb, call, nth);
            let cut = lab.path("cut.img");
            copy(&lab.image, &cut);
            lab.leave_top();
            if ran.status == 0 {
                break;
            }
            assert_eq!(ran.status, -9, "{at}: {}", ran.stderr);
            instants += 1;

            let (default, kernels) = default_of(&lab, &cut);
            assert!(default == default_before || default == default_after, "{at}: the loader's default is {default:?}");
            assert!(!kernels.is_empty(), "{at}: after a power cut the loader finds no kernel or root for {default:?}");

            for (how, image) in [("killed", None), ("cut", Some(&cut))] {
                if let Some(image) = image {
                    copy(image, &lab.image);
                }
                let told = lab.bootenv(&["status"]).ok();
                let now = state(&lab);
                assert!(
                    now == before || now == after,
                    "{at}, {how}: neither before nor after\n{told:?}\nbefore:\n{before}\nnow:\n{now}\nafter:\n{after}"
                );
                let check = lab.bootenv(&["check"]);
                let well = healthy || now == after;
                // What was wrong before may have been mended on the way.
                assert!(check.status == 0 || !well, "{at}, {how}: {}{}", check.stdout, check.stderr);
                if now == before {
                    undone += 1;
                    lab.bootenv(case.verb).ok();
                    assert_eq!(state(&lab), after, "{at}, {how}: run again");
                } else {
                    finished += 1;
                }
            }
        }
    }
    println!("{}: {instants} instants, each killed and cut: {undone} as before, {finished} as after", case.name);
    assert!(instants > 5 && undone > 0 && finished > 0, "{}: {instants} {undone} {finished}", case.name);
}
