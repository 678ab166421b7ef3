//! `run` beside other ways to run a command in another root: how long it takes until `true` has ended.

use super::measure::{Series, Words, output, run, words};
use super::rig::Rig;
use std::path::Path;

/// The BE that it is run in.
const BE: &str = "commands";

/// A way to run a command in a root.
struct Way {
    name: &'static str,
    /// What comes before the command.
    enter: Words,
}

/// Makes a BE, and returns a table of who takes how long in it. Who is not installed, or cannot run here, is told below it.
pub fn table(rig: &Rig, tool: &Path, rounds: usize) -> Result<String, String> {
    rig.prepare(&words([&tool, &"--store", &rig.top, &"create", &"-e", &"default", &BE]))?;
    let root = rig.top.join("ROOT").join(BE);
    let (mut ways, mut left_out) = (Vec::new(), String::new());
    for way in all(&root, rig, tool) {
        // Each has to say who is root inside: of the BE, which has a file that nobody else has.
        let asked = |program: &str| [way.enter.clone(), words([&"cat", &program])].concat();
        std::fs::write(root.join("root/whose"), "the BE's").map_err(|e| format!("{}: {e}", root.display()))?;
        match output(&asked("/root/whose")) {
            Ok(said) if said.trim() == "the BE's" => ways.push(way),
            Ok(said) => return Err(format!("{} ran a command elsewhere: {said}", way.name)),
            Err(why) => left_out += &format!("\n{} was not measured: {why}.", way.name),
        }
    }
    let mut all: Vec<Series> = ways.iter().map(|_| Series::default()).collect();
    for round in 0..=rounds {
        for turn in 0..ways.len() {
            let which = (round + turn) % ways.len();
            rig.quiet()?;
            let took = run(&[ways[which].enter.clone(), words([&"true"])].concat(), &rig.scratch)?;
            if round > 0 {
                all[which].push(took);
            }
        }
    }
    let mut table = "| `true` in another root | ms | MiB |\n| --- | --: | --: |\n".to_string();
    for (way, series) in ways.iter().zip(&all) {
        let (low, high) = series.middle();
        let (median, peak) = (series.median(), series.peak_mib());
        table += &format!("| {} | **{median:.1}** ({low:.1} to {high:.1}) | {peak:.1} |\n", way.name);
    }
    rig.prepare(&words([&tool, &"--store", &rig.top, &"destroy", &"-F", &BE]))?;
    Ok(table + &left_out)
}

fn all(root: &Path, rig: &Rig, tool: &Path) -> [Way; 4] {
    let unshared =
        words([&"unshare", &"--mount", &"--pid", &"--uts", &"--ipc", &"--fork", &"--kill-child", &"chroot", &root]);
    // Not made known to a service manager, which may not be there, nor given a unit of its own, nor a place for its journal, which
    // would lie in the shared dataset.
    let container = words([
        &"systemd-nspawn",
        &"--quiet",
        &"--register=no",
        &"--keep-unit",
        &"--link-journal=no",
        &"--pipe",
        &"--directory",
        &root,
    ]);
    [
        Way { name: "bootenv run", enter: words([&tool, &"--store", &rig.top, &"run", &BE, &"--"]) },
        Way { name: "chroot", enter: words([&"chroot", &root]) },
        Way { name: "unshare, chroot", enter: unshared },
        Way { name: "systemd-nspawn", enter: container },
    ]
}
