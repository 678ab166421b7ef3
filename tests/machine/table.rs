//! What became of every case on both stores, read from what test programs print.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Case to its end, in a word, and why if it was skipped.
#[derive(Default)]
pub struct Outcomes {
    cases: BTreeMap<String, (&'static str, String)>,
    /// The case whose end comes in a line of its own.
    running: Option<String>,
}

impl Outcomes {
    pub fn of(text: &str) -> Outcomes {
        let mut outcomes = Outcomes::default();
        text.lines().for_each(|line| outcomes.read(line));
        outcomes
    }

    /// Reads a line. A case that is skipped says so in a line with its name, before it ends well. With several threads lines come in
    /// any order; with one, a case is named when it begins, and its end comes behind whatever it has printed.
    pub fn read(&mut self, line: &str) {
        let end_of =
            |said: &str| ["ok", "FAILED", "ignored"].into_iter().find(|end| said.split(',').next() == Some(end));
        if let Some((name, why)) = line.strip_prefix("skipped: ").and_then(|l| l.split_once(": ")) {
            self.cases.insert(name.to_string(), ("skipped", why.to_string()));
        } else if let Some((name, said)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            match end_of(said) {
                Some(end) => self.ended(name.to_string(), end),
                None => self.running = Some(name.to_string()),
            }
        } else if let Some(end) = end_of(line)
            && let Some(name) = self.running.take()
        {
            self.ended(name, end);
        }
    }

    fn ended(&mut self, name: String, end: &'static str) {
        if end != "ok" || !self.cases.contains_key(&name) {
            self.cases.insert(name, (end, String::new()));
        }
    }

    /// Whether it is known what became of a case.
    pub fn has(&self, case: &str) -> bool {
        self.cases.contains_key(case)
    }

    /// The cases of both.
    pub fn and(mut self, other: Outcomes) -> Outcomes {
        self.cases.extend(other.cases);
        self
    }
}

/// A line for every case of either store: its name, what became of it on Btrfs and on ZFS, and why it was skipped. Then, for
/// each store, how many there are of what. And whether no case failed, and none is missing that the other store has.
pub fn table(btrfs: &Outcomes, zfs: &Outcomes) -> (String, bool) {
    let mut names: Vec<&String> = btrfs.cases.keys().chain(zfs.cases.keys()).collect();
    names.sort();
    names.dedup();
    let width = names.iter().map(|n| n.len()).max().unwrap_or(0);
    let mut text = format!("{:width$}  Btrfs    ZFS\n", "case");
    let mut counts: [BTreeMap<&str, usize>; 2] = Default::default();
    for name in names {
        let [(on_btrfs, why_not_btrfs), (on_zfs, why_not_zfs)] =
            [btrfs, zfs].map(|outcomes| outcomes.cases.get(name).cloned().unwrap_or(("missing", String::new())));
        let why = [why_not_btrfs, why_not_zfs].concat();
        let line = format!("{name:width$}  {on_btrfs:7}  {on_zfs:7}  {why}");
        writeln!(text, "{}", line.trim_end()).unwrap();
        for (count, end) in counts.iter_mut().zip([on_btrfs, on_zfs]) {
            *count.entry(end).or_default() += 1;
        }
    }
    for (store, count) in ["Btrfs", "ZFS"].iter().zip(&counts) {
        let of = |end| count.get(end).copied().unwrap_or(0);
        let ends = ["ok", "skipped", "ignored", "FAILED", "missing"].map(|end| format!("{} {end}", of(end)));
        writeln!(text, "on {store}: {}", ends.join(", ")).unwrap();
    }
    let whole = !counts.iter().any(|count| count.contains_key("FAILED") || count.contains_key("missing"));
    (text, whole)
}

#[test]
fn a_line_for_every_case_and_a_column_for_each_store() {
    let btrfs = "running 4 tests\ntest a::works ... ok\nskipped: z::low: no pool here\ntest z::low ... ok\n\
                 test a::long has been running for over 60 seconds\ntest told ... ignored, run by others\ntest a::long ... ok\n\
                 test result: ok. 4 passed; 0 failed; 1 ignored";
    let zfs = "skipped: a::works: GRUB reads no pool: ever\ntest told ... ignored, run by others\ntest z::low ... ok\n\
               test a::works ... ok\ntest a::long ... ok\n";
    let (text, whole) = table(&Outcomes::of(btrfs), &Outcomes::of(zfs));
    let expected = "case      Btrfs    ZFS\n\
                    a::long   ok       ok\n\
                    a::works  ok       skipped  GRUB reads no pool: ever\n\
                    told      ignored  ignored\n\
                    z::low    skipped  ok       no pool here\n\
                    on Btrfs: 2 ok, 1 skipped, 1 ignored, 0 FAILED, 0 missing\n\
                    on ZFS: 2 ok, 1 skipped, 1 ignored, 0 FAILED, 0 missing\n";
    assert_eq!((text.as_str(), whole), (expected, true));
}

#[test]
fn one_thread_names_a_case_before_it_prints() {
    let text = "test a ... \nskipped: a: no pool\nok\ntest b ... said by b\nok\ntest c ... ok\ntest d ... hm\nFAILED\ntest e ... \n";
    let (text, whole) = table(&Outcomes::of(text), &Outcomes::of("test e ... ok").and(Outcomes::of("test a ... ok")));
    let on_btrfs: Vec<Option<&str>> = text.lines().skip(1).map(|l| l.split_whitespace().nth(1)).take(5).collect();
    assert_eq!(on_btrfs, ["skipped", "ok", "ok", "FAILED", "missing"].map(Some));
    assert!(!whole);
}

#[test]
fn what_failed_or_was_never_run_shows() {
    let good = Outcomes::of("test a ... ok\ntest b ... ok\n");
    for (bad, word) in [("test a ... ok\ntest b ... FAILED\n", "FAILED"), ("test a ... ok\ntest b has been", "missing")]
    {
        let bad = Outcomes::of(bad);
        for (text, whole) in [table(&bad, &good), table(&good, &bad)] {
            assert!(!whole && text.contains(&format!("1 {word}")), "{text}");
        }
    }
}
