//! `diff` beside snapper and rsync: a thousand files changed among half a million, told by each.

use super::measure::{Series, Words, output, run, words};
use super::peers::{self, SNAPPED, SOURCE};
use super::rig::Rig;
use std::path::{Path, PathBuf};

const DIRECTORIES: usize = 500;
const FILES: usize = 1000;
/// Every so-manieth is changed.
const STEP: usize = 500;
const CHANGED: usize = DIRECTORIES * FILES / STEP;
/// Where they lie in a root.
const AT: &str = "srv/many";
/// What the root is kept as before they are changed.
const BEFORE: &str = "before";

/// Somebody who tells what differs.
struct Teller {
    name: &'static str,
    command: Words,
    /// Whether a line of its output tells of one of them.
    tells: fn(&str) -> bool,
}

/// Makes the files, changes some, and returns a table of who takes how long to find them.
pub fn table(rig: &Rig, tool: &Path, snapper: bool, rounds: usize) -> Result<String, String> {
    let source = rig.top.join(SOURCE);
    make(&source)?;
    rig.prepare(&words([&tool, &"--store", &rig.top, &"create", &"-e", &"default", &BEFORE]))?;
    change(&source)?;
    let (old, new) = (rig.top.join("ROOT").join(BEFORE), source);
    let mut tellers = vec![Teller {
        name: "bootenv diff",
        command: words([&tool, &"--store", &rig.top, &"diff", &BEFORE, &"default"]),
        tells: |line| line.starts_with("M /srv/many/"),
    }];
    if snapper {
        let root = rig.top.join(SNAPPED);
        rig.prepare(&words([&"btrfs", &"subvolume", &"snapshot", &old, &root]))?;
        rig.prepare(&peers::snapper(["create-config"]).into_iter().chain([root.clone().into()]).collect())?;
        rig.prepare(&peers::snapper(["create"]))?;
        change(&root)?;
        rig.prepare(&peers::snapper(["create"]))?;
        tellers.push(Teller {
            name: "snapper status",
            command: peers::snapper(["status", "1..2"]),
            tells: |line| line.starts_with('c') && line.contains("/srv/many/"),
        });
    }
    if output(&words([&"rsync", &"--version"])).is_ok() {
        let slash = |path: &Path| format!("{}/", path.display());
        tellers.push(Teller {
            name: "rsync -an --delete",
            command: words([&"rsync", &"-ani", &"--delete", &slash(&new), &slash(&old)]),
            tells: |line| line.starts_with(">f") && line.contains("srv/many/"),
        });
    }
    let mut all: Vec<Series> = tellers.iter().map(|_| Series::default()).collect();
    for round in 0..=rounds {
        for (teller, series) in tellers.iter().zip(&mut all) {
            forget(&rig.top.join(SNAPPED).join(".snapshots/2"))?;
            if round == 0 {
                let told = output(&teller.command)?.lines().filter(|line| (teller.tells)(line)).count();
                if told != CHANGED {
                    return Err(format!("{} tells {told} of {CHANGED} changed files", teller.name));
                }
                continue;
            }
            rig.quiet()?;
            series.push(run(&teller.command, &rig.scratch)?);
        }
    }
    let mut table = format!("| {CHANGED} changed of {} files | ms | MiB |\n| --- | --: | --: |\n", DIRECTORIES * FILES);
    for (teller, series) in tellers.iter().zip(&all) {
        let (low, high) = series.middle();
        let (median, peak) = (series.median(), series.peak_mib());
        table += &format!("| {} | **{median:.1}** ({low:.1} to {high:.1}) | {peak:.1} |\n", teller.name);
    }
    Ok(table)
}

/// Takes away what snapper has found once and keeps.
fn forget(dir: &Path) -> Result<(), String> {
    let kept = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in kept.filter(|e| e.file_name().to_string_lossy().starts_with("filelist")) {
        std::fs::remove_file(entry.path()).map_err(|e| format!("{}: {e}", entry.path().display()))?;
    }
    Ok(())
}

fn file(root: &Path, number: usize) -> PathBuf {
    root.join(AT).join(format!("{}/file-{}", number / FILES, number % FILES))
}

fn make(root: &Path) -> Result<(), String> {
    for number in 0..DIRECTORIES * FILES {
        let path = file(root, number);
        if number % FILES == 0 {
            let dir = path.parent().unwrap_or(root);
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        std::fs::write(&path, "as it was\n").map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn change(root: &Path) -> Result<(), String> {
    (0..DIRECTORIES * FILES).step_by(STEP).try_for_each(|number| {
        let path = file(root, number);
        std::fs::write(&path, "and what it is now\n").map_err(|e| format!("{}: {e}", path.display()))
    })
}
