//! The table, and what it says about the targets.

use super::measure::Series;
use super::peers::{Op, Peer};
use std::collections::BTreeMap;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    series: BTreeMap<(Peer, Op, usize), Series>,
}

impl Results {
    pub fn series(&mut self, peer: &Peer, op: Op, level: usize) -> &mut Series {
        self.series.entry((peer.clone(), op, level)).or_default()
    }

    fn get(&self, peer: &Peer, op: Op, level: usize) -> Option<&Series> {
        self.series.get(&(peer.clone(), op, level))
    }

    /// Medians, then peak memory, as a markdown table.
    pub fn table(&self, peers: &[Peer], levels: &[usize]) -> String {
        let mut rows = vec![
            ["".to_string(), "BEs".to_string()].into_iter().chain(peers.iter().map(|p| p.name().into())).collect(),
            vec!["---".to_string(); peers.len() + 2],
        ];
        let mut add = |what: String, op: Op, level: usize, cell: &dyn Fn(&Series) -> String| {
            let cells = peers.iter().map(|p| self.get(p, op, level).map_or("-".into(), cell));
            rows.push([what, level.to_string()].into_iter().chain(cells).collect());
        };
        for op in Op::ALL {
            for level in levels {
                add(format!("{}, ms", op.name()), op, *level, &|s| {
                    let (low, high) = s.middle();
                    format!("**{:.1}** ({low:.1} to {high:.1})", s.median())
                });
            }
        }
        for op in [Op::Create, Op::List] {
            for level in levels {
                let what = format!("peak memory of {}, MiB", op.name());
                add(what, op, *level, &|s| format!("{:.1}", s.peak_mib()));
            }
        }
        rows.iter().map(|row: &Vec<String>| format!("| {} |\n", row.join(" | "))).collect()
    }

    /// A line per target: met or not, with the numbers.
    pub fn targets(&self, bootenv: &Peer, levels: &[usize]) -> Vec<String> {
        let (Some(few), Some(many)) = (levels.first().copied(), levels.last().copied()) else { return Vec::new() };
        let time = |peer: &Peer, op, level| self.get(peer, op, level).map(Series::median);
        let peak = |peer: &Peer, op, level| self.get(peer, op, level).map(Series::peak_mib);
        let (bare, progs, snapper) = (&Peer::Bare, &Peer::BtrfsProgs, &Peer::Snapper);
        let list = time(bootenv, Op::List, many);
        let mut lines = vec![
            judge(format!("list at {many} no slower than btrfs-progs"), "ms", list, time(progs, Op::List, many), 1.0),
            judge(format!("list at {many} within 2x of the bare program"), "ms", list, time(bare, Op::List, many), 2.0),
        ];
        for level in levels {
            let (own, bare) = (time(bootenv, Op::Create, *level), time(bare, Op::Create, *level));
            lines.push(judge(format!("create at {level} within 3x of the bare program"), "ms", own, bare, 3.0));
        }
        let create = |level| time(bootenv, Op::Create, level);
        let what = format!("create at {many} no slower than 1.3x its own time at {few}");
        lines.push(judge(what, "ms", create(many), create(few), 1.3));
        for op in [Op::Create, Op::List] {
            let what = format!("peak memory of {} at {many} below snapper's", op.name());
            lines.push(judge(what, "MiB", peak(bootenv, op, many), peak(snapper, op, many), 1.0));
        }
        lines
    }
}

fn judge(what: String, unit: &str, own: Option<f64>, other: Option<f64>, factor: f64) -> String {
    let (Some(own), Some(other)) = (own, other) else { return format!("- not measured: {what}") };
    let verdict = if own <= other * factor { "met" } else { "not met" };
    format!("- {verdict}: {what}: {own:.1} {unit} against {other:.1} {unit}, {:.2}x", own / other)
}
