//! The merge of what waits in a BE, while it boots: stopped at every call that changes something, once with the kernel alive and
//! once with only what had reached the disk. The next boot comes to the same, and what was there before is never touched.

use super::CALLS;
use crate::lab::chroot::Inside;
use crate::lab::{Kind, Lab, Print, only_on, sh};
use std::path::Path;

/// More calls that change something: owners, modes and attributes.
const MORE: &[&str] = &["lchown", "fchownat", "chmod", "fchmodat", "lremovexattr", "rename"];

const UPPER: &str = "var/lib/bootenv/pending/upper";

/// What waits: things that are missing, that are there and differ, that are there and do not; owners who have other numbers by now;
/// marks of an overlay; a deletion, a device, a setuid bit.
const WAITING: &str = "mkdir -p log/new/deep log/apt spool/q mail; echo 1 > log/new/deep/1; echo 2 > log/new/2; chown -R 71:71 log/new
    echo other > log/syslog; echo packaged > log/apt/README; echo more > log/apt/more; ln -s ../x spool/q/link
    setfattr -n trusted.overlay.opaque -v y spool/q; mknod log/gone c 0 0; mknod log/disk b 8 0; echo s > log/tool; chmod 4755 log/tool
    printf '[users]\n71 = \"news\"\n[groups]\n71 = \"news\"\n' > ../owners.toml";

/// The live data as people see it, without the times of directories in which things were made.
fn seen(lab: &Lab) -> Print {
    Print::of_copy(&lab.shared())
}

/// What was there before, which no merge may touch.
fn there(print: &Print, before: &Print) -> Print {
    print.clone().without(|path| !before.has(&path.to_string_lossy()))
}

/// Unmounts the store, in whatever namespace it is still mounted.
fn leave(lab: &Lab, inside: Option<Inside>) {
    drop(inside);
    lab.leave_top();
    // What keeps a namespace goes a moment after the process that kept it.
    let attached = || sh(&format!("losetup -j '{}'", lab.image.display()));
    while !attached().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Boots `blue` as far as the merge, under strace with these options.
fn merge(lab: &Lab, options: &[String]) -> (Inside, Option<i32>) {
    let inside = lab.running("blue");
    let command = inside.command("/run/bootenv-binary");
    let mut strace = std::process::Command::new("strace");
    strace.args(["-o", "/dev/null"]).args(options).arg("--").arg(command.get_program()).args(command.get_args());
    let status = strace.args(["pending", "--merge"]).output().expect("strace is installed").status;
    let ended = super::Ran::from(std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() }).status;
    (inside, (ended != 0).then_some(ended))
}

#[test]
fn pending_merge() {
    if !only_on(Kind::Btrfs, "copies the image; the calls are the same on a pool, and reach its disk in order") {
        return;
    }
    let lab = Lab::with(
        "printf 'root:x:0:0:root:/root:/bin/sh\nnews:x:93:94::/:/bin/sh\n' > etc/passwd; printf 'news:x:94:\n' > etc/group",
    );
    lab.bootenv(&["create", "blue"]).ok();
    sh(&format!("set -e; mkdir -p '{0}/{UPPER}'; cd '{0}/{UPPER}'; {WAITING}", lab.files("blue").display()));
    let before = seen(&lab);
    lab.leave_top();
    let pristine = lab.path("pristine.img");
    let copy = |from: &Path, to: &Path| {
        sh(&format!("cp --sparse=always '{}' '{}'", from.display(), to.display()));
    };
    copy(&lab.image, &pristine);
    let (inside, failed) = merge(&lab, &["-e".into(), "trace=none".into()]);
    assert_eq!(failed, None);
    drop(inside);
    // Directories and links have the time at which they came, or something into them.
    let timeless = |print: Print| print.without(|path| !lab.shared().join(path).is_file());
    let after = timeless(seen(&lab));
    let old = timeless(there(&after, &before));
    timeless(before.clone()).assert_same(&old, "what was there");
    let names = sh(&format!("cd '{}'; find . | sort", lab.shared().display()));
    assert!(names.contains("./log/syslog.bootenv-new\n") && names.contains("./log/new/deep/1\n"), "{names}");
    leave(&lab, None);

    let mut instants = 0;
    for call in CALLS.iter().chain(MORE) {
        for nth in [1, 2, 3, 5, 8, 13, 21, 34, 55] {
            copy(&pristine, &lab.image);
            let at = format!("at {call} {nth}");
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let (inside, failed) = merge(&lab, &["-e".into(), format!("trace={call}"), "-e".into(), inject]);
            // Still mounted, so it holds what had reached the disk.
            let cut = lab.path("cut.img");
            copy(&lab.image, &cut);
            leave(&lab, Some(inside));
            let Some(status) = failed else { break };
            assert_eq!(status, -9, "{at}");
            instants += 1;
            for (how, image) in [("killed", None), ("cut", Some(&cut))] {
                if let Some(image) = image {
                    copy(image, &lab.image);
                }
                let half = timeless(there(&seen(&lab), &before));
                old.assert_same(&half, &format!("{at}, {how}: what was there"));
                leave(&lab, None);
                let (inside, failed) = merge(&lab, &["-e".into(), "trace=none".into()]);
                assert_eq!(failed, None, "{at}, {how}: again");
                drop(inside);
                after.assert_same(&timeless(seen(&lab)), &format!("{at}, {how}: merged again"));
                assert!(!lab.files("blue").join("var/lib/bootenv/pending").exists(), "{at}, {how}");
                leave(&lab, None);
            }
        }
    }
    println!("the merge of what waits: {instants} instants, each killed and cut");
    assert!(instants > 20, "{instants}");
}
