//! The contenders, and how each makes, lists and destroys.

use super::measure::{Words, output, words};
use super::rig::Rig;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// What every BE and snapshot is described as, by those that describe.
const TEXT: &str = "before the upgrade, kept as a way back";
/// What is copied.
pub const SOURCE: &str = "ROOT/default";
/// Where those that have no place of their own put what they make.
const OTHERS: &str = "OTHERS";
/// What snapper manages: a copy of the same root.
pub const SNAPPED: &str = "SNAPPED";
const CONFIG: &str = "bench";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Create,
    List,
    Destroy,
}

impl Op {
    /// In the order they are shown.
    pub const ALL: [Op; 3] = [Op::Create, Op::List, Op::Destroy];

    pub fn name(self) -> &'static str {
        match self {
            Op::Create => "create",
            Op::List => "list",
            Op::Destroy => "destroy",
        }
    }
}

/// Who is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// A bootenv, and what the report calls it.
    Bootenv(&'static str, PathBuf),
    /// The bare-ioctl program.
    Bare,
    /// The bare-ioctl program again, while snapper's snapshots are there: a control.
    BareBesideSnapper,
    BtrfsProgs,
    Snapper,
}

impl Peer {
    pub fn name(&self) -> &'static str {
        match self {
            Peer::Bootenv(name, _) => name,
            Peer::Bare => "bare ioctl",
            Peer::BareBesideSnapper => "bare, beside snapper",
            Peer::BtrfsProgs => "btrfs-progs",
            Peer::Snapper => "snapper",
        }
    }

    /// The command line of one run. `name` names what is made or destroyed.
    pub fn command(&self, op: Op, rig: &Rig, name: &str) -> Result<Words, String> {
        let top = &rig.top;
        let (source, others) = (top.join(SOURCE), top.join(OTHERS));
        Ok(match (self, op) {
            (Peer::Bootenv(_, tool), Op::Create) => words([tool, &"--store", top, &"create", &"-d", &TEXT, &name]),
            (Peer::Bootenv(_, tool), Op::List) => words([tool, &"--store", top, &"list"]),
            (Peer::Bootenv(_, tool), Op::Destroy) => words([tool, &"--store", top, &"destroy", &name]),
            (Peer::Bare | Peer::BareBesideSnapper, op) => {
                let own = std::env::current_exe().map_err(|e| format!("cannot find the bench itself: {e}"))?;
                match op {
                    Op::Create => words([&own, &"bare", &"create", &source, &others, &name]),
                    Op::List => words([&own, &"bare", &"list", top]),
                    Op::Destroy => words([&own, &"bare", &"delete", &others, &name]),
                }
            }
            (Peer::BtrfsProgs, Op::Create) => words([&"btrfs", &"subvolume", &"snapshot", &source, &others.join(name)]),
            (Peer::BtrfsProgs, Op::List) => words([&"btrfs", &"subvolume", &"list", top]),
            (Peer::BtrfsProgs, Op::Destroy) => words([&"btrfs", &"subvolume", &"delete", &others.join(name)]),
            (Peer::Snapper, Op::Create) => snapper(["create", "-d", TEXT]),
            (Peer::Snapper, Op::List) => snapper(["list"]),
            (Peer::Snapper, Op::Destroy) => snapper(["delete", &newest(rig)?.to_string()]),
        })
    }

    /// How many subvolumes of its own kind there are to be seen where it puts them.
    pub fn population(&self, rig: &Rig) -> usize {
        let dir = match self {
            Peer::Bootenv(..) => rig.top.join("ROOT"),
            Peer::Snapper => rig.top.join(SNAPPED).join(".snapshots"),
            _ => rig.top.join(OTHERS),
        };
        std::fs::read_dir(dir).map_or(0, Iterator::count)
    }

    /// Looks whether `list` shows what it should: what is timed must be the whole answer.
    pub fn check_list(&self, rig: &Rig, level: usize) -> Result<(), String> {
        let text = output(&self.command(Op::List, rig, "")?)?;
        let lines = text.lines().count();
        let right = match self {
            // A header; every BE but the first is described; the default is what boots next.
            Peer::Bootenv(..) => {
                lines == level + 1
                    && text.matches(TEXT).count() == level - 1
                    && text.lines().any(|l| l.split_whitespace().take(2).eq(["default", "R"]))
            }
            // Two lines of header, and the root itself.
            Peer::Snapper => lines == level + 3 && text.matches(TEXT).count() == level,
            // A few others are there: the shared dataset, snapper's own.
            _ => (level..level + 5).contains(&lines),
        };
        if right { Ok(()) } else { Err(format!("{} lists {lines} lines for {level}:\n{text}", self.name())) }
    }
}

/// Makes the root large enough to stand for a real one, and says what was done.
///
/// A snapshot writes one reference for each child of its tree's top node. In a tree of one level those are all the leaves, up
/// to some 400, and with 1000 snapshots about they lie in as many places of the extent tree: 50 ms a snapshot, whoever makes
/// it. An installed system has a level more, and the top node a handful of children. The copies are reflinks.
pub fn grow(rig: &Rig) -> Result<String, String> {
    let root = rig.top.join(SOURCE);
    let levels = || {
        rig.quiet()?;
        let dir = std::fs::File::open(&root).map_err(|e| format!("{}: {e}", root.display()))?;
        super::bare::levels(dir.as_fd()).map_err(|e| format!("{}: {e}", root.display()))
    };
    let mut copies = 0;
    while levels()? < 2 {
        copies += 1;
        let to = root.join(format!("opt/usr-{copies}"));
        rig.prepare(&words([&"cp", &"-a", &"--reflink=always", &root.join("usr"), &to]))?;
    }
    Ok(if copies == 0 { String::new() } else { format!(" with {} copies of its /usr", copies + 1) })
}

/// The place of those that have none of their own.
pub fn make_others(rig: &Rig) -> Result<(), String> {
    std::fs::create_dir(rig.top.join(OTHERS)).map_err(|e| format!("cannot make {OTHERS}: {e}"))
}

/// Brings the number of BEs to `level`, with bootenv itself.
pub fn populate_bes(tool: &Path, rig: &Rig, level: usize) -> Result<(), String> {
    let peer = Peer::Bootenv("", tool.to_path_buf());
    let there = peer.population(rig);
    for number in there..level {
        rig.prepare(&peer.command(Op::Create, rig, &format!("kept-{number}"))?)?;
    }
    for number in level..there {
        rig.prepare(&peer.command(Op::Destroy, rig, &format!("kept-{number}"))?)?;
    }
    rig.cleaned()
}

/// Sets snapper up with a configuration of its own, which the system's does not see. Says why where it cannot be.
pub fn set_up_snapper(rig: &Rig) -> Result<(), String> {
    if output(&words([&"snapper", &"--version"])).is_err() {
        return Err("snapper is not installed".into());
    }
    let list = ["/etc/default/snapper", "/etc/sysconfig/snapper", "/etc/conf.d/snapper"].map(Path::new);
    let list = list.iter().find(|p| p.is_file()).ok_or("no list of snapper's configurations is there")?;
    let covered = rig.cover(list)?;
    std::fs::write(&covered, "SNAPPER_CONFIGS=\"\"\n").map_err(|e| format!("{}: {e}", covered.display()))?;
    let configs = rig.cover(Path::new("/etc/snapper"))?.join("configs");
    std::fs::create_dir(&configs).map_err(|e| format!("{}: {e}", configs.display()))
}

/// Gives snapper a root with `level` snapshots, made by snapper itself.
pub fn populate_snapper(rig: &Rig, level: usize) -> Result<(), String> {
    let root = rig.top.join(SNAPPED);
    rig.prepare(&words([&"btrfs", &"subvolume", &"snapshot", &rig.top.join(SOURCE), &root]))?;
    let mut create = snapper(["create-config"]);
    create.push(root.into());
    rig.prepare(&create)?;
    for _ in 0..level {
        rig.prepare(&Peer::Snapper.command(Op::Create, rig, "")?)?;
    }
    rig.cleaned()
}

/// Takes snapper's root away with all its snapshots.
pub fn clear_snapper(rig: &Rig) -> Result<(), String> {
    let range = format!("1-{}", newest(rig)?);
    rig.prepare(&snapper(["delete", range.as_str()]))?;
    rig.prepare(&snapper(["delete-config"]))?;
    rig.prepare(&words([&"btrfs", &"subvolume", &"delete", &rig.top.join(SNAPPED)]))?;
    rig.cleaned()
}

/// A command of snapper's.
pub fn snapper<const N: usize>(rest: [&str; N]) -> Words {
    ["snapper", "--no-dbus", "-c", CONFIG].iter().chain(&rest).map(Into::into).collect()
}

/// snapper numbers its snapshots, and makes the next one more than the highest there is.
fn newest(rig: &Rig) -> Result<u32, String> {
    let dir = rig.top.join(SNAPPED).join(".snapshots");
    let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    numbers.max().ok_or_else(|| format!("{} is empty", dir.display()))
}
