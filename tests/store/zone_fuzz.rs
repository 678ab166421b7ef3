//! Calls put together by chance, at a zone's socket. After each run, other zones and the host are as they were, to the byte, the zone itself is
//! whole, and nothing that answers has fallen over.
//!
//! A run is made from its seed alone. Those in `fuzz.seeds` are run each time, and new ones for as many seconds as
//! `BOOTENV_FUZZ_SECONDS` says (`make fuzz TIME=600`), from `BOOTENV_FUZZ_SEED` on.

use crate::lab::inside::{Service, become_a_process_of};
use crate::lab::{Lab, Print};
use crate::zone_verbs::two_zones;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// Connections in a run.
const CONNECTIONS: usize = 20;

/// Methods with the keys that they know.
const METHODS: &[(&str, &[&str])] = &[
    ("Status", &[]),
    ("List", &[]),
    ("Create", &["name", "source", "description", "activate", "dry_run"]),
    ("Activate", &["name", "once", "clear", "dry_run"]),
    ("Destroy", &["names", "snapshots", "origin", "dry_run"]),
    ("Rename", &["old", "new", "dry_run"]),
    ("Describe", &["name", "text", "dry_run"]),
    ("Pin", &["names", "pinned", "dry_run"]),
    ("Rollback", &["snapshot", "dry_run"]),
    ("Diff", &["old", "new"]),
    ("DiffPackages", &["old", "new"]),
];

const NAMES: &[&str] = &[
    "default",
    "blue",
    "red",
    "green",
    "default@one",
    "blue@one",
    "red@two",
    "data",
    "host",
    "",
    ".",
    "..",
    "@",
    "a@b@c",
    "blue@",
    "@one",
    "../db",
    "../../ROOT/default",
    "../../db/ROOT/data",
    "/etc/passwd",
    "web@x/..",
    "ROOT/blue",
    "db:default",
    "-x",
    "--store=/",
    "--zone=db",
    "a\0b",
    "a\nb",
    "\u{1b}[2J",
    "\u{202e}eulb",
    "ü",
    "$(id)",
    "`id`",
    "*",
    "a b",
    ".rollback-x",
    "BOOTENV",
];

/// SplitMix64: the same numbers from the same seed, everywhere and always.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in so many times.
    fn once_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn name(&mut self) -> String {
        match self.below(12) {
            0 => "n".repeat(self.below(400)),
            1 => format!("b{}", self.below(8)),
            // Most are names of something, or what is asked for would never be done.
            2..9 => NAMES[self.below(8)].to_string(),
            _ => self.of(NAMES).to_string(),
        }
    }

    /// What fits a key, mostly.
    fn value(&mut self, key: &str) -> Value {
        if self.once_in(25) {
            return match self.below(7) {
                0 => Value::Null,
                1 => json!(self.next()),
                2 => json!(-1.5e300),
                3 => json!([self.name(), 1, [[]]]),
                4 => json!({self.name(): {"a": {}}}),
                5 => json!("t".repeat(self.below(70_000))),
                _ => json!(self.once_in(2)),
            };
        }
        match key {
            "names" => json!((0..self.below(4)).map(|_| self.name()).collect::<Vec<_>>()),
            "dry_run" | "once" | "clear" | "snapshots" | "origin" | "pinned" => json!(self.once_in(3)),
            "activate" => json!(self.of(&["default", "once", "now"])),
            "description" | "text" => json!(format!("{}\u{7}\0{}", self.name(), "é".repeat(self.below(700)))),
            _ => json!(self.name()),
        }
    }

    fn call(&mut self) -> String {
        let (method, keys) = *self.of(METHODS);
        let mut pairs: Vec<(String, Value)> = Vec::new();
        for key in keys {
            if !self.once_in(6) {
                pairs.push((key.to_string(), self.value(key)));
            }
        }
        if self.once_in(15) {
            let key = self.of(&["zone", "store", "force", "properties", "peer", "names", "name"]).to_string();
            let value = self.value(&key);
            pairs.push((key, value));
        }
        // Written by hand: a key may be there twice.
        let inner: Vec<String> = pairs.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
        let method = match self.below(25) {
            0 => self.of(&["org.varlink.service.GetInfo", "org.varlink.service.GetInterfaceDescription"]).to_string(),
            1 => format!("io.bootenv.{}", self.name()),
            2 => self.name(),
            _ => format!("io.bootenv.{method}"),
        };
        let mut call = format!("{{\"method\":{},\"parameters\":{{{}}}", json!(method), inner.join(","));
        for flag in ["more", "oneway", "upgrade"] {
            let often = if flag == "upgrade" { 40 } else { 6 };
            if self.once_in(often) {
                call += &format!(",\"{flag}\":{}", self.of(&["true", "false", "1", "null"]));
            }
        }
        if self.once_in(40) {
            let deep = self.below(5000);
            call += &format!(",\"x\":{}{}", "[".repeat(deep), "]".repeat(deep));
        }
        call + "}"
    }

    /// What is sent on one connection.
    fn sent(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.below(3) {
            bytes.extend(self.call().into_bytes());
            bytes.push(0);
        }
        let spoilt = if self.once_in(3) { self.below(6) } else { 0 };
        for _ in 0..spoilt {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 => bytes.insert(at, self.next() as u8),
                2 => bytes.insert(at, *self.of(b"\0{}[]\",:\\")),
                3 => bytes.truncate(at),
                4 => {
                    let end = (at + self.below(30)).min(bytes.len());
                    bytes.drain(at..end);
                }
                _ => {
                    let end = (at + self.below(30)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy);
                }
            }
        }
        bytes
    }
}

/// How often there was what kind of answer.
type Counted = BTreeMap<String, usize>;

/// One connection: everything that is sent, in pieces, and everything that is told.
fn connection(web: &Service, chance: &mut Chance, seed: u64, counted: &mut Counted) {
    let sent = chance.sent();
    let mut connection = web.connect();
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let piece = (1 + chance.below(2000)).min(rest.len());
        // Who is not listened to any more has been told why.
        if connection.send_bytes(&rest[..piece]).is_err() {
            break;
        }
        rest = &rest[piece..];
    }
    if chance.once_in(20) {
        *counted.entry("gone without listening".into()).or_default() += 1;
        return;
    }
    let _ = connection.stream.shutdown(Shutdown::Write);
    let mut answered = 0;
    while let Some(reply) = connection.reply() {
        answered += 1;
        let error = reply["error"].as_str().unwrap_or("done").to_string();
        let known = ["Failed", "Usage", "Refused", "NotFound", "Busy"].map(|kind| format!("io.bootenv.{kind}"));
        assert!(
            error == "done" || known.contains(&error) || error.starts_with("org.varlink.service."),
            "seed {seed}: {reply}"
        );
        let told = reply.to_string();
        assert!(!told.contains("could not answer"), "seed {seed}: {told}");
        for others in ["of the host", "of db", "bootenv-lab"] {
            assert!(!told.contains(others), "seed {seed} tells what is not the zone's: {told}");
        }
        *counted.entry(error).or_default() += 1;
    }
    *counted.entry(if answered == 0 { "no answer" } else { "connections with an answer" }.into()).or_default() += 1;
}

fn run(lab: &Lab, seed: u64, counted: &mut Counted) {
    let before = lab.print_without_zone("web");
    let web = lab.serve("web");
    let mut chance = Chance(seed);
    (0..CONNECTIONS).for_each(|_| connection(&web, &mut chance, seed, counted));
    let last = web.call("io.bootenv.Create", json!({"dry_run": true}));
    assert!(last["error"].as_str().is_none_or(|e| e == "io.bootenv.Refused"), "seed {seed}: {last}");
    let journal = web.journal.clone();
    // What has been begun goes on without the service.
    drop(web);
    wait_for_the_end(seed);
    let journal = std::fs::read_to_string(journal).unwrap();
    assert!(!journal.contains("panicked") && !journal.contains("has ended"), "seed {seed}: {journal}");
    before.assert_same(&lab.print_without_zone("web"), &format!("seed {seed} has changed more than the zone"));
    assert_eq!(lab.in_zone("web", &["check"]).ok().stdout, "nothing is wrong\n", "seed {seed}");
    tidy(lab);
}

/// Waits until no process answers any more.
fn wait_for_the_end(seed: u64) {
    let answering = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = all.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        lines.any(|line| {
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.contains(&&b"answer"[..]) && words.contains(&std::process::id().to_string().as_bytes())
        })
    };
    let until = Instant::now() + Duration::from_secs(60);
    while answering() {
        assert!(Instant::now() < until, "seed {seed}: a call is still being answered");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Puts the zone back to where a run begins.
fn tidy(lab: &Lab) {
    let list = lab.in_zone("web", &["list", "--json"]).ok().json();
    let bes = list["boot_environments"].as_array().unwrap();
    if bes.len() < 12 {
        return;
    }
    let due = |be: &&Value| be["active_on_reboot"] == true || be["active_once"] == true;
    let names: Vec<&str> = bes.iter().filter(|be| !due(be)).filter_map(|be| be["name"].as_str()).collect();
    lab.in_zone("web", &[&["unpin"], &names[..]].concat()).ok();
    // What something that stays came from stays too.
    for name in names.iter().rev() {
        let ran = lab.in_zone("web", &["destroy", "-F", "-s", name]);
        assert!([0, 3].contains(&ran.status), "{ran:?}");
    }
}

#[test]
fn whatever_comes_over_a_zones_socket_changes_that_zone_alone() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("BOOTENV_FUZZ_SECONDS").unwrap_or(5);
    let first = number("BOOTENV_FUZZ_SEED").unwrap_or(1);
    let kept = include_str!("fuzz.seeds").lines().filter(|line| !line.starts_with('#'));
    let kept = kept.map(|line| line.split_whitespace().next().unwrap_or_default().parse().expect("a seed"));
    let lab = two_zones();
    lab.bootenv(&["describe", "default", "of the host"]).ok();
    lab.in_zone("db", &["create", "-d", "of db", "data"]).ok();
    become_a_process_of("web");
    let (mut counted, mut runs) = (Counted::new(), 0);
    for seed in kept {
        run(&lab, seed, &mut counted);
        runs += 1;
    }
    let begun = Instant::now();
    let mut seed = first;
    while begun.elapsed() < Duration::from_secs(seconds) {
        run(&lab, seed, &mut counted);
        (seed, runs) = (seed + 1, runs + 1);
    }
    println!("{runs} runs of {CONNECTIONS} connections, seeds {first} to {}, in {:?}", seed - 1, begun.elapsed());
    counted.iter().for_each(|(what, times)| println!("{times:8} {what}"));
    assert!(counted.get("done").is_some_and(|times| *times > runs), "hardly anything was asked for: {counted:?}");
    assert!(Print::of(&lab.top()).has("zones/db/ROOT/data"));
}
