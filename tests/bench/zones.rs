//! `create` and `destroy` where zones follow the BEs of the host: how much longer they take, and how much room a BE takes.

use super::measure::{Series, output, run, words};
use super::rig::Rig;
use std::path::Path;

/// How many zones there are at a time.
const LEVELS: [usize; 3] = [1, 10, 100];
/// The BE of the host that is made with them.
const BE: &str = "with-zones";

/// What was measured with some zones.
struct Level {
    zones: usize,
    create: Series,
    destroy: Series,
    /// Bytes that one such BE takes, with what it has of the zones.
    bytes: f64,
}

/// Makes zones, and returns a table of how long a BE of the host takes with them, in ms and in times what it takes with one.
pub fn table(rig: &Rig, tool: &Path, rounds: usize) -> Result<String, String> {
    let bootenv = |rest: &[&str]| {
        let words = words([&tool, &"--store", &rig.top]);
        words.into_iter().chain(rest.iter().map(Into::into)).collect()
    };
    let root = rig.scratch.join("zone");
    for dir in ["etc", "usr/sbin", "var/log"] {
        std::fs::create_dir_all(root.join(dir)).map_err(|e| format!("{}: {e}", root.display()))?;
    }
    std::fs::write(root.join("usr/sbin/init"), "#!/bin/sh\n").map_err(|e| format!("{}: {e}", root.display()))?;
    let from = root.to_string_lossy().into_owned();
    let mut measured: Vec<Level> = Vec::new();
    let mut there = 0;
    for zones in LEVELS {
        for zone in there..zones {
            let name = format!("z{zone}");
            let origin = if zone == 0 { ["--from", &from] } else { ["--clone", "z0"] };
            rig.prepare(&bootenv(&["zone", "create", origin[0], origin[1], &name]))?;
        }
        there = zones;
        let mut level = Level { zones, create: Series::default(), destroy: Series::default(), bytes: 0.0 };
        for round in 0..=rounds {
            rig.quiet()?;
            let before = used(rig)?;
            let create = run(&bootenv(&["create", "-e", "default", BE]), &rig.scratch)?;
            rig.quiet()?;
            let bytes = used(rig)? - before;
            let destroy = run(&bootenv(&["destroy", "-F", BE]), &rig.scratch)?;
            rig.cleaned()?;
            // The first time only warms up.
            if round > 0 {
                level.create.push(create);
                level.destroy.push(destroy);
                level.bytes += bytes / rounds as f64;
            }
        }
        measured.push(level);
    }
    for zone in 0..there {
        rig.prepare(&bootenv(&["zone", "destroy", "-F", &format!("z{zone}")]))?;
    }
    Ok(lines(&measured))
}

fn lines(measured: &[Level]) -> String {
    let mut table = "| zones | create, ms | destroy, ms | KiB |\n| --: | --: | --: | --: |\n".to_string();
    for level in measured {
        let against =
            |of: &dyn Fn(&Level) -> f64| format!("**{:.1}** ({:.2}x)", of(level), of(level) / of(&measured[0]));
        table += &format!(
            "| {} | {} | {} | {} |\n",
            level.zones,
            against(&|l| l.create.median()),
            against(&|l| l.destroy.median()),
            against(&|l| l.bytes / 1024.0),
        );
    }
    table
}

/// Bytes that the Btrfs has in use, of whatever kind.
fn used(rig: &Rig) -> Result<f64, String> {
    let said = output(&words([&"btrfs", &"filesystem", &"df", &"--raw", &rig.top]))?;
    let numbers = said.lines().filter(|line| !line.starts_with("GlobalReserve"));
    Ok(numbers.filter_map(|line| line.rsplit_once("used=")?.1.trim().parse::<f64>().ok()).sum())
}
