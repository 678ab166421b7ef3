//! The part that runs in the machine.

use crate::measure::{self, Run, Series, Words, output, words};
use bootenv::sys::zfs::{Canmount, Lzc, Property};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const TEXT: &str = "before the upgrade, kept as a way back";
const POOL: &str = "bench";
/// What is copied. It is mounted, as a root that runs is.
const SOURCE: &str = "bench/ROOT/default";
/// What the names of the BEs begin with that are only there.
const KEPT: &str = "bench/ROOT/kept-";
/// Where those put what they make who make no BE.
const OTHERS: &str = "bench/OTHERS";
/// From how many BEs on a round takes minutes, and how many rounds there are then.
const MANY: usize = 300;
const FEW: usize = 2;
/// How many clones are made at once: those that wait together are in one transaction group.
const TOGETHER: usize = 50;

/// A small root with the machine's own kernel, and a pool to keep it in.
const MAKE: &str = r"
set -eu
modprobe zfs
mkdir -p /tmp/root/etc /tmp/root/usr/bin /tmp/root/var/log /tmp/root/boot /tmp/root/bin /tmp/root/lib /tmp/source
cp -a /etc/. /tmp/root/etc/
cp -a /boot/. /tmp/root/boot/
echo '# made for the bench' > /tmp/root/etc/fstab
tar -C /tmp/root -cf /tmp/root.tar .
zpool create -O mountpoint=none -O canmount=off -O acltype=posix -O xattr=sa bench /dev/disk/by-id/virtio-scratch0
";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Op {
    Create,
    List,
    Snapshots,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    Bare,
    /// With a journal's file before and after.
    Journalled,
    Zfs,
    Bootenv,
}

/// The rows of the report: what, by whom, and in words.
const ROWS: [(Op, Peer, &str); 9] = [
    (Op::Create, Peer::Bare, "create: bare libzfs_core, snapshot and clone"),
    (Op::Create, Peer::Journalled, "create: the same, and a journal"),
    (Op::Create, Peer::Zfs, "create: `zfs snapshot`, `zfs clone`"),
    (Op::Create, Peer::Bootenv, "create: bootenv"),
    (Op::List, Peer::Bare, "list: bare libzfs; name, space, time"),
    (Op::List, Peer::Zfs, "list: `zfs list -d 1`, the same"),
    (Op::List, Peer::Bootenv, "list: bootenv"),
    (Op::Snapshots, Peer::Zfs, "with snapshots: `zfs list -r`, the same"),
    (Op::Snapshots, Peer::Bootenv, "with snapshots: bootenv"),
];

struct Guest {
    tool: PathBuf,
    own: PathBuf,
    lzc: Lzc,
    series: BTreeMap<(Op, Peer, usize), Series>,
}

/// `BOOTENV [--levels N,...] [--rounds N]`
pub fn main(arguments: &[String]) -> ExitCode {
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let [tool, options @ ..] = arguments else { return Err("where is bootenv?".into()) };
    let (mut levels, mut rounds) = (vec![10, 100, 1000], 11);
    for pair in options.chunks(2) {
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text:?} is no number"));
        match pair {
            [name, value] if name == "--levels" => levels = value.split(',').map(number).collect::<Result<_, _>>()?,
            [name, value] if name == "--rounds" => rounds = number(value)?,
            _ => return Err("on_zfs [--levels N,...] [--rounds N]".into()),
        }
    }
    output(&words([&"sh", &"-c", &MAKE]))?;
    let tool = PathBuf::from(tool);
    let init = [&POOL as &dyn AsRef<std::ffi::OsStr>, &"init", &"--from", &"/tmp/root.tar", &"--name", &"default"];
    output(&words([&tool, &"--store"]).into_iter().chain(words(init)).collect())?;
    output(&words([&"zfs", &"create", &"-o", &"mountpoint=none", &OTHERS]))?;
    output(&words([&"mount", &"-i", &"-t", &"zfs", &SOURCE, &"/tmp/source"]))?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut guest = Guest { tool, own, lzc: Lzc::open().map_err(|e| e.message)?, series: BTreeMap::new() };
    let mut there = 1;
    for level in &levels {
        guest.populate(there, *level)?;
        there = *level;
        println!("bench: {level} boot environments, {:.0} s after power on", uptime());
        guest.rounds(*level, rounds)?;
    }
    println!("\n{}\n\n{}", circumstances(rounds), guest.table(&levels));
    Ok(())
}

fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0.0)
}

fn circumstances(rounds: usize) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
    format!(
        "Whole processes in ms: median of {rounds} runs ({FEW} with a thousand), and how much of the bare program's time that is. OpenZFS {}, Linux {}, \
         one emulated CPU.",
        read("/sys/module/zfs/version"),
        read("/proc/sys/kernel/osrelease"),
    )
}

impl Guest {
    /// Brings the number of BEs from one to another. They are made as bootenv makes them; the menu gets them all at once.
    fn populate(&self, from: usize, to: usize) -> Result<(), String> {
        let names = |numbers: &[usize], before: &str, after: &str| -> Vec<String> {
            numbers.iter().map(|number| format!("{before}{number}{after}")).collect()
        };
        let properties = [
            Property::Canmount(Canmount::Noauto),
            Property::Mountpoint("/"),
            Property::User("org.bootenv:description", TEXT),
            Property::User("org.bootenv:version", "1"),
        ];
        for numbers in (from..to).collect::<Vec<_>>().chunks(TOGETHER) {
            let (origins, new) = (names(numbers, &format!("{SOURCE}@.bootenv-"), "-0"), names(numbers, KEPT, ""));
            let (lzc, properties) = (&self.lzc, &properties);
            // Two snapshots of one dataset are never of one transaction group.
            let made = origins.iter().try_for_each(|origin| lzc.snapshot(&[origin], &[])).and_then(|()| {
                std::thread::scope(|scope| {
                    let pairs = origins.iter().zip(&new);
                    let clones = pairs.map(|(from, to)| scope.spawn(move || lzc.clone(from, to, properties)));
                    let clones: Vec<_> = clones.collect();
                    clones.into_iter().try_for_each(|clone| clone.join().expect("a clone is made or not"))
                })
            });
            // A snapshot for people to see, too.
            let seen = if to > MANY { Vec::new() } else { names(numbers, KEPT, "@before") };
            made.and_then(|()| lzc.snapshot(&refs(&seen), &[])).map_err(|e| e.message)?;
        }
        output(&words([&self.tool, &"--store", &POOL, &"check", &"--repair"])).map(drop)
    }

    /// The commands of one run.
    fn commands(&self, op: Op, peer: Peer, name: &str) -> Vec<Words> {
        let root = format!("{POOL}/ROOT");
        let (snapshot, new) = (format!("{SOURCE}@{name}"), format!("{OTHERS}/{name}"));
        let home = format!("{POOL}/BOOTENV");
        let bootenv = words([&self.tool, &"--store", &POOL]);
        let bootenv = |rest: Words| vec![[bootenv, rest].concat()];
        match (op, peer) {
            (Op::Create, Peer::Bare) => vec![words([&self.own, &"bare", &"create", &SOURCE, &new])],
            (Op::Create, Peer::Journalled) => vec![words([&self.own, &"bare", &"journalled", &home, &SOURCE, &new])],
            (Op::Create, Peer::Zfs) => vec![
                words([&"zfs", &"snapshot", &snapshot]),
                words([&"zfs", &"clone", &"-o", &"canmount=noauto", &"-o", &"mountpoint=/", &snapshot, &new]),
            ],
            (Op::Create, Peer::Bootenv) => bootenv(words([&"create", &"-d", &TEXT, &name])),
            (Op::List, Peer::Bootenv) => bootenv(words([&"list"])),
            (Op::Snapshots, Peer::Bootenv) => bootenv(words([&"list", &"-s"])),
            (Op::List, Peer::Zfs) => {
                vec![words([&"zfs", &"list", &"-Hp", &"-d", &"1", &"-o", &"name,used,creation", &root])]
            }
            (Op::Snapshots, Peer::Zfs) => {
                let kinds = "filesystem,snapshot";
                vec![words([&"zfs", &"list", &"-Hpr", &"-t", &kinds, &"-o", &"name,used,creation", &root])]
            }
            (Op::List | Op::Snapshots, _) => vec![words([&self.own, &"bare", &"list", &root])],
        }
    }

    /// Takes away what a run has made.
    fn unmake(&self, peer: Peer, name: &str) -> Result<(), String> {
        if peer == Peer::Bootenv {
            return output(&words([&self.tool, &"--store", &POOL, &"destroy", &name])).map(drop);
        }
        let destroyed = self.lzc.destroy(&format!("{OTHERS}/{name}"));
        destroyed.and_then(|()| self.lzc.destroy_snaps(&[&format!("{SOURCE}@{name}")])).map_err(|e| e.message)
    }

    /// Everybody in turn, as often as asked; the first time only warms up, and shows that the whole answer is given.
    fn rounds(&mut self, level: usize, rounds: usize) -> Result<(), String> {
        let many = level > MANY;
        let rows: Vec<_> = ROWS.iter().filter(|(op, ..)| *op == Op::List || !many).collect();
        for round in 0..=if many { rounds.min(FEW) } else { rounds } {
            for turn in 0..rows.len() {
                let (op, peer, _) = *rows[(round + turn) % rows.len()];
                let name = format!("bench-{turn}-{round}");
                let commands = self.commands(op, peer, &name);
                if round == 0 && op != Op::Create {
                    let lines = output(&commands[0])?.lines().count();
                    // bootenv does not show the snapshots that are there only because a BE came from another.
                    let each = if op == Op::List { 1 } else { 2 + usize::from(peer == Peer::Zfs) };
                    if !(each * level - 2..each * level + 3).contains(&lines) {
                        return Err(format!("{peer:?} lists {lines} lines for {level}"));
                    }
                }
                output(&words([&"zpool", &"sync", &POOL]))?;
                let mut took = Duration::ZERO;
                for command in &commands {
                    took += measure::run(command, "/tmp".as_ref())?.took;
                }
                if op == Op::Create {
                    self.unmake(peer, &name)?;
                }
                if round > 0 {
                    self.series.entry((op, peer, level)).or_default().push(Run { took, peak_kib: 0 });
                }
            }
        }
        Ok(())
    }

    /// Medians, each with its ratio to the bare program.
    fn table(&self, levels: &[usize]) -> String {
        let mut text = String::from("| |");
        levels.iter().for_each(|level| text += &format!(" {level} BEs |"));
        text += &format!("\n|---|{}\n", "--:|".repeat(levels.len()));
        for (op, peer, what) in ROWS {
            let _ = write!(text, "| {what} |");
            for level in levels {
                let median = |op, peer| self.series.get(&(op, peer, *level)).map(Series::median);
                let bare = median(if op == Op::Create { Op::Create } else { Op::List }, Peer::Bare);
                let _ = match (median(op, peer), bare) {
                    (Some(own), Some(bare)) => write!(text, " {own:.0} ({:.2}x) |", own / bare),
                    _ => write!(text, " - |"),
                };
            }
            text.push('\n');
        }
        text
    }
}

fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
