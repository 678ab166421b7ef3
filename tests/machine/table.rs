//! What became of every case on both stores, read from what test programs print.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Case to `ok`, `FAILED`, `ignored` or `skipped: WHY`.
#[derive(Default)]
pub struct Outcomes {
    cases: BTreeMap<String, String>,
    /// The case whose end has not been read yet.
    open: Option<String>,
}

impl Outcomes {
    pub fn of(text: &str) -> Outcomes {
        let mut outcomes = Outcomes::default();
        text.lines().for_each(|line| outcomes.read(line));
        outcomes
    }

    /// Reads a line. What a case prints stands between its name and its end.
    pub fn read(&mut self, line: &str) {
        let mut rest = line;
        if let Some((name, said)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            self.open = Some(name.to_string());
            rest = said;
        }
        let Some(name) = &self.open else { return };
        let ends = ["ok", "FAILED", "ignored"].into_iter().find(|end| rest == *end || rest.starts_with("ignored,"));
        if rest.starts_with("skipped: ") {
            self.cases.insert(name.clone(), rest.to_string());
        } else if let Some(end) = ends {
            // A case that was skipped ends well.
            let skipped = end == "ok" && self.cases.get(name).is_some_and(|o| o.starts_with("skipped"));
            if !skipped {
                self.cases.insert(name.clone(), end.to_string());
            }
            self.open = None;
        }
    }
}

/// A line for every case: its name, and what became of it on Btrfs and on ZFS.
pub fn table(btrfs: &Outcomes, zfs: &Outcomes) -> String {
    let width = zfs.cases.keys().map(String::len).max().unwrap_or(0).max(4);
    let mut text = format!("{:width$}  {:8}  ZFS\n", "case", "Btrfs");
    let said = |outcomes: &Outcomes, case: &String| outcomes.cases.get(case).cloned().unwrap_or("-".into());
    for (case, outcome) in &zfs.cases {
        writeln!(text, "{case:width$}  {:8}  {outcome}", said(btrfs, case)).unwrap();
    }
    let count = |what: &str| zfs.cases.values().filter(|o| o.starts_with(what)).count();
    let (ok, skipped, failed) = (count("ok"), count("skipped"), count("FAILED"));
    writeln!(text, "on ZFS: {ok} passed, {skipped} skipped, {failed} failed").unwrap();
    text
}
