//! The command line: help, completions, errors, and that the manual and the command line say the same.

use bootenv::cli::args::Cli;
use clap::CommandFactory;
use std::process::{Command, Output};

const VERBS: [&str; 24] = [
    "status",
    "list",
    "create",
    "activate",
    "destroy",
    "prune",
    "pin",
    "unpin",
    "auto",
    "rename",
    "describe",
    "mount",
    "unmount",
    "run",
    "upgrade",
    "pending",
    "rollback",
    "diff",
    "init",
    "zone",
    "check",
    "serve",
    "answer",
    "completions",
];

/// Runs the binary as a program would: no terminal, no colour, a hundred columns.
fn bootenv(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootenv"));
    command.args(args).env("COLUMNS", "100").env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE");
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    // A blank at the end of a line is nothing to keep in a file.
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn help() {
    let out = bootenv(&["--help"]);
    assert!(out.status.success() && out.stderr.is_empty());
    crate::snapshot!("help", text(&out.stdout));
    for verb in VERBS {
        let out = bootenv(&[verb, "--help"]);
        assert!(out.status.success() && out.stderr.is_empty());
        crate::snapshot!(format!("help_{verb}"), text(&out.stdout));
    }
    let mut told = String::new();
    for (verb, inner) in nested() {
        let out = bootenv(&[&verb, &inner, "--help"]);
        assert!(out.status.success() && out.stderr.is_empty());
        told += &format!("## {verb} {inner}\n{}\n\n", text(&out.stdout));
    }
    crate::snapshot!("help_of_verbs_of_verbs", told.trim_end());
}

/// Verbs that have verbs of their own, with each of these.
fn nested() -> Vec<(String, String)> {
    let command = Cli::command();
    let inner = |verb: &clap::Command| {
        let outer = verb.get_name().to_string();
        verb.get_subcommands().map(|inner| (outer.clone(), inner.get_name().to_string())).collect::<Vec<_>>()
    };
    command.get_subcommands().flat_map(inner).collect()
}

#[test]
fn the_verbs_are_all_listed_here() {
    let command = Cli::command();
    assert_eq!(command.get_subcommands().map(clap::Command::get_name).collect::<Vec<_>>(), VERBS);
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let out = bootenv(&["completions", shell]);
        let script = text(&out.stdout);
        assert!(out.status.success() && out.stderr.is_empty(), "{shell}");
        for word in VERBS.iter().chain(&["dry-run", "json", "store"]) {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn the_version_is_told() {
    let out = bootenv(&["--version"]);
    assert_eq!(text(&out.stdout), concat!("bootenv ", env!("CARGO_PKG_VERSION")));
}

/// Errors that come before any store is looked for, for people and for programs.
#[test]
fn errors() {
    let long = "n".repeat(256);
    let cases: &[&[&str]] = &[
        &["create", ""],
        &["create", "a/b"],
        &["create", "a b"],
        &["create", "-a", "--", "-x"],
        &["create", ".x"],
        &["create", ".."],
        &["create", "a@b@c"],
        &["create", "a@"],
        &["create", "ü"],
        &["create", "a\u{1b}[2J"],
        &["create", &long],
        &["create", "-e", "a b", "x"],
        &["create", "-a", "-t", "x"],
        &["activate", "-t", "-T", "x"],
        &["activate"],
        &["rename", "a"],
        &["rename", "a", "b/c"],
        &["rollback", "a"],
        &["mount", "-s", "rw", "a"],
        &["mount", "-s", "xx", "a"],
        &["list", "-k", "size"],
        &["list", "--tree", "-H"],
        &["-q", "-v", "list"],
        &["frobnicate"],
        &["--zone", "../web", "list"],
        &["--zone", "web", "zone", "list"],
        &["--zone", "web", "init"],
        &["zone"],
        &["zone", "create", "--from", "/nosuch", "web_2"],
        &["zone", "create", "--from", "/nosuch", "--clone", "db", "web"],
        &["zone", "create", "--brand", "bsd", "--clone", "db", "web"],
        &["init", "--from", "/nosuch", "--store", "/nosuch/x.img"],
        &["completions", "csh"],
    ];
    let mut told = String::new();
    for args in cases {
        let (plain, json) = (bootenv(args), bootenv(&[&["--json"], *args].concat()));
        assert_eq!(plain.stdout, b"", "{args:?}");
        assert_eq!(json.stdout, b"", "{args:?}");
        assert_eq!(plain.status, json.status, "{args:?}");
        let document: serde_json::Value =
            serde_json::from_slice(&json.stderr).unwrap_or_else(|e| panic!("{args:?}: {e}"));
        let kind = document["error"]["kind"].as_str().unwrap();
        let statuses = [("failed", 1), ("usage", 2), ("refused", 3), ("not_found", 4), ("busy", 5)];
        assert!(statuses.contains(&(kind, plain.status.code().unwrap())), "{args:?}: {kind}");
        assert!(document["error"]["hint"].is_string(), "{args:?} has no hint");
        let shown: Vec<String> =
            args.iter().map(|a| if a.len() > 60 { format!("{:?}...", &a[..3]) } else { format!("{a:?}") }).collect();
        told +=
            &format!("$ bootenv {}\n{}\n[{}]\n\n", shown.join(" "), text(&plain.stderr), plain.status.code().unwrap());
    }
    crate::snapshot!("errors", told.trim_end());
}

/// What clap knows and bootenv(8), or a verb's own page, does not say, or the other way round.
#[test]
fn the_manual_names_every_verb_and_option() {
    let manual = include_str!("../../man/bootenv.8");
    let command = Cli::command();
    let mut missing = Vec::new();
    for verb in command.get_subcommands() {
        let title = format!(".Ss bootenv {}\n", verb.get_name());
        let Some((_, section)) = manual.split_once(&title) else {
            missing.push(title);
            continue;
        };
        let section = section.split("\n.Ss ").next().unwrap().split("\n.Sh ").next().unwrap();
        let page = format!("{}/man/bootenv-{}.8", env!("CARGO_MANIFEST_DIR"), verb.get_name());
        let section = section.to_string() + &std::fs::read_to_string(page).unwrap_or_default();
        missing.extend(absent(&section, verb, verb.get_name()));
        for inner in verb.get_subcommands() {
            missing.extend(absent(&section, inner, inner.get_name()));
        }
        if !verb.has_subcommands() {
            missing.extend(invented(&section, verb));
        }
    }
    let global = manual.split_once(".Sh GLOBAL OPTIONS").unwrap().1.split("\n.Sh ").next().unwrap();
    missing.extend(absent(global, &command, "GLOBAL OPTIONS"));
    assert!(missing.is_empty(), "man/bootenv.8:\n{}", missing.join("\n"));
}

/// How mdoc writes an option: `Fl k`, `Fl -tree`.
fn flags(argument: &clap::Arg) -> Vec<String> {
    let short = argument.get_short().map(|c| format!("Fl {c}"));
    short.into_iter().chain(argument.get_long().map(|l| format!("Fl -{l}"))).collect()
}

fn own(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
}

fn absent(section: &str, command: &clap::Command, called: &str) -> Vec<String> {
    let items: Vec<&str> = section.lines().filter(|l| l.starts_with(".It ")).collect();
    let documented = |flag: &String| items.iter().any(|l| format!("{l} ").contains(&format!("{flag} ")));
    own(command).flat_map(flags).filter(|f| !documented(f)).map(|f| format!("{called}: no .It for {f}")).collect()
}

fn invented(section: &str, command: &clap::Command) -> Vec<String> {
    let known: Vec<String> = own(command).flat_map(flags).collect();
    let items = section.lines().filter(|l| l.starts_with(".It Fl "));
    let named = items.map(|l| format!("Fl {}", l.split_whitespace().nth(2).unwrap_or("")));
    named.filter(|f| !known.contains(f)).map(|f| format!("{}: {f} is no option", command.get_name())).collect()
}

/// The exit statuses of the manual's table.
#[test]
fn the_manual_has_the_exit_statuses() {
    use bootenv::error::Kind;
    let manual = include_str!("../../man/bootenv.8");
    let section = manual.split_once(".Sh EXIT STATUS").unwrap().1.split("\n.Sh ").next().unwrap();
    for kind in [Kind::Failed, Kind::Usage, Kind::Refused, Kind::NotFound, Kind::Busy] {
        let item = format!(".It {} Pq Ql {}\n", kind.exit_status(), kind.as_str());
        assert!(section.contains(&item), "{item}");
    }
}

#[test]
fn the_binary_starts_where_there_is_no_openzfs() {
    let linked = Command::new("ldd").arg(env!("CARGO_BIN_EXE_bootenv")).output().unwrap();
    let linked = text(&linked.stdout);
    assert!(linked.contains("libc.so") && !linked.contains("zfs") && !linked.contains("nvpair"), "{linked}");
}
