//! `make bench`: bootenv beside a bare-ioctl program, btrfs-progs and snapper, in one run on one Btrfs.
//!
//! ```text
//! cargo bench --bench side_by_side -- [ROOT.tar] [--levels 10,100,1000] [--rounds N] [--dir DIR] [--against BOOTENV]
//! ```
//!
//! What is measured is whole processes, from fork to exit, by the median. In every round everybody runs once, in another order each
//! time, after everything written before is on the disk. bootenv, the bare program and btrfs-progs
//! meet on the same BEs. snapper cannot share them, so it has as many snapshots of the same root at another
//! time on the same filesystem, with the bare program beside it once more: if that one took as long both times, the
//! conditions were the same. Numbers are told, never judged by the exit status.

mod bare;
mod commands;
mod differences;
mod measure;
mod peers;
mod report;
mod rig;
mod zones;

use measure::{output, words};
use peers::{Op, Peer};
use report::Results;
use rig::Rig;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// What the command line says.
struct Options {
    root: Option<PathBuf>,
    levels: Vec<usize>,
    rounds: usize,
    dir: PathBuf,
    against: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "bare") {
        return bare::main(&arguments[1..]);
    }
    let options = match options(&arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!(
                "{why}\nusage: side_by_side [ROOT.tar] [--levels N,...] [--rounds N] [--dir DIR] [--against BOOTENV]"
            );
            return ExitCode::from(2);
        }
    };
    let root = match able(&options) {
        Ok(root) => root,
        Err(why) => {
            println!("skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    match side_by_side(&options, &root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        root: None,
        levels: vec![10, 100, 1000],
        rounds: 21,
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        against: None,
    };
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 1).ok_or(format!("{text:?} is no number"));
    let mut rest = arguments.iter().filter(|a| *a != "--bench" && !a.is_empty());
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--levels" => options.levels = value()?.split(',').map(number).collect::<Result<_, _>>()?,
            "--rounds" => options.rounds = number(value()?)?,
            "--dir" => options.dir = PathBuf::from(value()?),
            "--against" => options.against = Some(PathBuf::from(value()?)),
            other if other.starts_with('-') => return Err(format!("{other} is no option")),
            path => options.root = Some(PathBuf::from(path)),
        }
    }
    options.levels.sort_unstable();
    Ok(options)
}

/// The Debian root to use, or why nothing can be measured here.
fn able(options: &Options) -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("measuring needs root".into());
    }
    for tool in ["mkfs.btrfs", "btrfs"] {
        output(&words([&tool, &"--version"])).map_err(|e| format!("btrfs-progs is not installed ({e})"))?;
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("there are no loop devices here".into());
    }
    match &options.root {
        Some(root) if root.is_file() => Ok(root.clone()),
        Some(root) => Err(format!("{} is not there", root.display())),
        None => built_root().or_else(|why| cached_root().ok_or(why)),
    }
}

/// The root of the machine tests, built now if it has not been.
fn built_root() -> Result<PathBuf, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/build-root.sh");
    eprintln!("bench: {script}");
    let path = output(&words([&"sh", &script, &"btrfs"]))?;
    Ok(PathBuf::from(path.trim()))
}

/// The newest Btrfs root in the cache, of whatever recipe.
fn cached_root() -> Option<PathBuf> {
    let cache = std::env::var_os("BOOTENV_CACHE").map_or_else(|| "/var/cache/bootenv-test".into(), PathBuf::from);
    let tars = std::fs::read_dir(&cache).into_iter().flatten().flatten().map(|e| e.path());
    let whole = |p: &PathBuf| {
        p.extension().is_some_and(|e| e == "tar")
            && p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("root-trixie-btrfs-"))
    };
    tars.filter(whole).max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok())
}

fn side_by_side(options: &Options, root: &Path) -> Result<(), String> {
    let began = Instant::now();
    let rig = Rig::new(&options.dir)?;
    let tool = PathBuf::from(env!("CARGO_BIN_EXE_bootenv"));
    eprintln!("bench: filling the Btrfs from {}", root.display());
    rig.prepare(&words([&tool, &"init", &"--store", &rig.top, &"--from", &root, &"--name", &"default"]))?;
    let grown = peers::grow(&rig)?;
    peers::make_others(&rig)?;
    let no_snapper = peers::set_up_snapper(&rig).err();
    let bootenv = Peer::Bootenv("bootenv", tool.clone());
    let mut on_bes = vec![bootenv.clone(), Peer::Bare, Peer::BtrfsProgs];
    on_bes.extend(options.against.clone().map(|other| Peer::Bootenv("the other bootenv", other)));
    let beside_snapper = [Peer::Snapper, Peer::BareBesideSnapper];
    let mut results = Results::default();
    for level in options.levels.iter().copied() {
        if no_snapper.is_none() {
            eprintln!("bench: {level} snapshots of snapper's, {:.0} s", began.elapsed().as_secs_f64());
            peers::populate_bes(&tool, &rig, 1)?;
            peers::populate_snapper(&rig, level)?;
            rounds(&rig, &beside_snapper, level, options.rounds, &mut results)?;
            peers::clear_snapper(&rig)?;
        }
        eprintln!("bench: {level} boot environments, {:.0} s", began.elapsed().as_secs_f64());
        peers::populate_bes(&tool, &rig, level)?;
        rounds(&rig, &on_bes, level, options.rounds, &mut results)?;
    }
    let mut columns = on_bes;
    if no_snapper.is_none() {
        columns.extend(beside_snapper);
    }
    println!("{}\n", circumstances(&rig, root, &grown, options.rounds));
    println!("{}", results.table(&columns, &options.levels));
    if let Some(why) = &no_snapper {
        println!("snapper was not measured: {why}.\n");
    }
    results.targets(&bootenv, &options.levels).iter().for_each(|line| println!("{line}"));
    peers::populate_bes(&tool, &rig, 10)?;
    eprintln!("bench: commands in a boot environment, {:.0} s", began.elapsed().as_secs_f64());
    println!("\n{}", commands::table(&rig, &tool, options.rounds)?);
    eprintln!("bench: zones, {:.0} s", began.elapsed().as_secs_f64());
    println!("\n{}", zones::table(&rig, &tool, options.rounds)?);
    eprintln!("bench: what differs, {:.0} s", began.elapsed().as_secs_f64());
    println!("\n{}", differences::table(&rig, &tool, no_snapper.is_none(), options.rounds)?);
    eprintln!("bench: done in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// Everybody lists, makes one more and destroys it again, as often as asked; the first time only warms up.
fn rounds(rig: &Rig, peers: &[Peer], level: usize, rounds: usize, results: &mut Results) -> Result<(), String> {
    peers.iter().try_for_each(|peer| peer.check_list(rig, level))?;
    for round in 0..=rounds {
        for op in [Op::List, Op::Create, Op::Destroy] {
            for turn in 0..peers.len() {
                let peer = &peers[(round + turn) % peers.len()];
                let name = format!("bench-{}-{round}", (round + turn) % peers.len());
                let command = peer.command(op, rig, &name)?;
                let before = peer.population(rig);
                rig.quiet()?;
                let run = measure::run(&command, &rig.scratch)?;
                let after = peer.population(rig);
                let right = match op {
                    Op::Create => after == before + 1,
                    Op::List => after == before,
                    Op::Destroy => after + 1 == before,
                };
                if !right {
                    return Err(format!("{} {}: {before} before, {after} after", peer.name(), op.name()));
                }
                if round > 0 {
                    results.series(peer, op, level).push(run);
                }
            }
        }
        rig.cleaned()?;
    }
    Ok(())
}

/// What a reader has to know to make sense of the numbers.
fn circumstances(rig: &Rig, root: &Path, grown: &str, rounds: usize) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let version = |words: &[&str]| {
        let text = output(&words.iter().map(Into::into).collect()).unwrap_or_default();
        text.lines().next().unwrap_or("no snapper").to_string()
    };
    format!(
        "Whole processes in ms: median of {rounds} runs (the middle half). Linux {}, {cores} cores, load {}; image on {}; root {}{grown}; {}, {}. \
         Peak memory below {:.1} MiB cannot be told.",
        kernel.trim(),
        load.split(' ').take(2).collect::<Vec<_>>().join(" and "),
        rig.image_on,
        root.file_name().unwrap_or_default().to_string_lossy(),
        version(&["btrfs", "--version"]),
        version(&["snapper", "--version"]),
        measure::own_peak_mib(),
    )
}
