//! On Btrfs the filesystem stays mounted by the test while the image is copied, so the copy holds what had reached the
//! disk and nothing else. What GRUB would then boot is read with GRUB's own Btrfs code (`grub-fstest`, which, like GRUB, never
//! replays the log), what systemd-boot would from the stand-in for an ESP; then the copy is mounted, recovered and compared.

use super::{CALLS, Case, prepare, state};
use crate::lab::strace::killed_at;
use crate::lab::{self, Lab, Loader, sh, try_sh, unmount_below};
use std::path::Path;

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
    unmount_below(&at);
    found
}

/// What the loader would boot from the image as it lies on disk, with what it would find for it.
fn default_of(lab: &Lab, image: &Path) -> (String, Vec<String>) {
    match lab.loader {
        Loader::Grub => grub_default(image),
        Loader::SystemdBoot => systemd_boot_default(lab, image),
    }
}

pub fn check(case: &Case) {
    let lab = Lab::booted_by(case.loader);
    prepare(&lab, case);
    let pristine = lab.path("pristine.img");
    let copy = |from: &Path, to: &Path| {
        sh(&format!("cp --sparse=always '{}' '{}'", from.display(), to.display()));
    };
    let before = state(&lab);
    // `check --repair` begins with something to repair.
    let healthy = lab.bootenv(&["check"]).status == 0;
    copy(&lab.image, &pristine);
    lab.bootenv(&case.verb).ok();
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
            let ran = killed_at(&lab, &case.verb, call, nth);
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
                    lab.bootenv(&case.verb).ok();
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
