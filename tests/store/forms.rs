//! What every verb has in common: `--dry-run` shows and does nothing, `--json` is one document, `-q` is silent.

use crate::lab::{Kind, Lab, mounts, on, only_on, tool};
use serde_json::Value;

/// Every verb that changes something, on the store that `family` makes. In this order they can be run one after another.
const CHANGES: &[&[&str]] = &[
    &["create"],
    &["create", "new"],
    &["create", "-d", "text", "-e", "blue", "second"],
    &["create", "-a", "-e", "blue@base", "third"],
    &["create", "-t", "fourth"],
    &["create", "blue@more"],
    &["activate", "blue"],
    &["activate", "-t", "blue"],
    &["activate", "-T", "blue"],
    &["rename", "green", "olive"],
    &["describe", "blue", "text"],
    &["describe", "blue@base", "text"],
    &["describe", "described", ""],
    &["rollback", "red@then"],
    &["destroy", "red@then"],
    &["destroy", "-s", "red"],
    &["destroy", "-o", "clone"],
    &["mount", "described"],
    &["unmount", "described"],
    &["unmount", "mounted"],
    &["destroy", "-f", "busy"],
    &["init", "--from", "ROOT", "--name", "copied"],
];

/// Every verb that only looks.
const LOOKS: &[&[&str]] = &[&[], &["status"], &["list"], &["list", "-a", "blue"], &["list", "--tree"], &["check"]];

fn family() -> Lab {
    let lab = Lab::new();
    lab.root("");
    for args in [
        &["create", "blue"][..],
        &["create", "blue@base"],
        &["create", "green"],
        &["create", "red"],
        &["create", "red@then"],
        &["create", "-d", "text", "described"],
        &["create", "default@origin"],
        &["create", "-e", "default@origin", "clone"],
        &["create", "busy"],
        &["create", "mounted"],
        &["mount", "busy"],
        &["mount", "mounted"],
    ] {
        lab.bootenv(args).ok();
    }
    lab.top();
    lab
}

fn arguments(lab: &Lab, args: &[&str]) -> Vec<String> {
    args.iter().map(|a| if *a == "ROOT" { lab.path("root").display().to_string() } else { a.to_string() }).collect()
}

fn run(lab: &Lab, options: &[&str], args: &[String]) -> crate::lab::Ran {
    let args: Vec<&str> = options.iter().copied().chain(args.iter().map(String::as_str)).collect();
    lab.bootenv(&args)
}

/// The steps without what is made anew each time.
fn steps(document: &Value) -> Vec<String> {
    let steps = document["steps"].as_array().unwrap_or_else(|| panic!("no steps: {document}"));
    let plain = |text: &str| {
        let id = |w: &str| w.len() >= 36 && uuid::Uuid::parse_str(&w[w.len() - 36..]).is_ok();
        text.split(' ').map(|w| if id(w) { "ID" } else { w }).collect::<Vec<_>>().join(" ")
    };
    steps.iter().map(|s| plain(s.as_str().unwrap())).collect()
}

#[test]
fn a_dry_run_shows_the_steps_and_changes_nothing() {
    let lab = family();
    let before = (lab.print(), mounts());
    for args in CHANGES.iter().copied().filter(|a| *a != ["unmount", "described"] && *a != ["activate", "-T", "blue"]) {
        let args = arguments(&lab, args);
        let told = run(&lab, &["--dry-run"], &args).ok().stdout;
        assert!(told.contains("would"), "{args:?} does not tell what it would do: {told:?}");
        assert!(told.lines().count() >= 2, "{args:?} shows no step: {told:?}");
        let document = run(&lab, &["--dry-run", "--json"], &args).ok().json();
        assert_eq!((&document["dry_run"], &document["changed"]), (&true.into(), &false.into()), "{args:?} {document}");
        assert!(!steps(&document).is_empty(), "{args:?} {document}");
        before.0.assert_same(&lab.print(), &format!("{args:?} with --dry-run changed the store"));
        assert_eq!(before.1, mounts(), "{args:?} with --dry-run changed the mount table");
    }
    assert!(!std::path::Path::new("/run/bootenv/described").exists());
}

#[test]
fn what_is_done_is_what_was_shown() {
    let lab = family();
    for args in CHANGES.iter().copied() {
        let args = arguments(&lab, args);
        let shown = run(&lab, &["--dry-run", "--json"], &args).ok().json();
        let done = run(&lab, &["--json"], &args).ok().json();
        assert_eq!(
            (&done["version"], &done["request"], &done["changed"]),
            (&1.into(), &shown["request"], &true.into()),
            "{args:?}"
        );
        assert_eq!(steps(&done), steps(&shown), "{args:?}");
    }
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_dry_run_of_a_new_image_makes_none() {
    if !only_on(Kind::Btrfs, "images are Btrfs; pools are made by zpool") {
        return;
    }
    let lab = Lab::empty();
    let root = lab.root("");
    let args = ["--dry-run", "init", "--size", "256M", "--from", root.to_str().unwrap()];
    assert!(lab.bootenv(&args).ok().stdout.contains("would"));
    assert!(!steps(&lab.json(&args).ok().json()).is_empty());
    assert_eq!(std::fs::read_dir(lab.path("")).unwrap().count(), 1, "only the root is there");
}

#[test]
fn a_dry_run_of_a_repair_repairs_nothing() {
    let lab = family();
    std::fs::remove_file(lab.entry_of("blue")).unwrap();
    let before = lab.print();
    assert!(lab.bootenv(&["--dry-run", "check", "--repair"]).stdout.contains("would"));
    before.assert_same(&lab.print(), "check --repair --dry-run");
}

#[test]
fn a_dry_run_refuses_what_would_be_refused() {
    let lab = family();
    std::fs::write(lab.path("file"), "").unwrap();
    let file = lab.path("file");
    for (args, status) in [
        (&["create", "blue"][..], 3),
        (&["create", "-e", "none", "new"], 4),
        (&["destroy", "default"], 3),
        (&["destroy", "busy"], 5),
        (&["destroy", "none"], 4),
        (&["rename", "blue", "green"], 3),
        (&["mount", "blue", file.to_str().unwrap()], 3),
        (&["mount", "busy"], 5),
        (&["mount", "-s", "rw", "blue"], 3),
        (&["rollback", "busy@none"], 4),
        (&["unmount", "/"], 4),
        (&["init", "--from", "/no/such"], 2),
    ] {
        lab.refuses(args, status, &[]);
        lab.refuses(&[&["--dry-run"], args].concat(), status, &[]);
    }
    // Something in the way, which only shows when the whole tree is looked at.
    std::process::Command::new("sh")
        .args(["-c", &format!("mount -t tmpfs tmpfs '{}'/tmp", "/run/bootenv/mounted")])
        .status()
        .unwrap();
    lab.refuses(&["unmount", "mounted"], 5, &["/tmp"]);
    lab.refuses(&["--dry-run", "unmount", "mounted"], 5, &["/tmp"]);
}

#[test]
fn json_is_one_document_and_nothing_else() {
    let lab = family();
    for args in LOOKS.iter().copied().chain(CHANGES.iter().copied()) {
        let args = arguments(&lab, args);
        let ran = run(&lab, &["--json"], &args).ok();
        let document = ran.json();
        assert_eq!(document["version"], 1, "{args:?}");
        assert_eq!(ran.stderr, "", "{args:?} wrote beside its document");
    }
}

#[test]
fn errors_with_json_are_one_document_on_standard_error() {
    let lab = family();
    for (args, status, kind) in [
        (&["create", "blue"][..], 3, "refused"),
        (&["list", "none"], 4, "not_found"),
        (&["mount", "busy"], 5, "busy"),
        (&["create", "a/b"], 2, "usage"),
        (&["create", "--no-such-option"], 2, "usage"),
        (&["no-such-verb"], 2, "usage"),
        (&["rename", "only-one"], 2, "usage"),
        (&["--zone", "web", "list"], 4, "not_found"),
    ] {
        let ran = lab.json(args);
        let error: Value =
            serde_json::from_str(&ran.stderr).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", ran.stderr));
        assert_eq!((ran.status, error["error"]["kind"].as_str()), (status, Some(kind)), "{args:?}");
        let mut keys: Vec<&String> = error["error"].as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["hint", "kind", "message"]);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
}

#[test]
fn quiet_says_nothing_but_errors_and_verbose_tells_every_step() {
    let lab = family();
    let quiet = lab.bootenv(&["-q", "create", "quiet"]).ok();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let error = lab.bootenv(&["-q", "create", "quiet"]);
    assert!(error.status == 3 && error.stderr.starts_with("bootenv: "), "{}", error.stderr);
    let verbose = lab.bootenv(&["-v", "create", "verbose"]).ok();
    assert!(verbose.stderr.contains("clone ROOT/default to ROOT/verbose"), "{}", verbose.stderr);
    assert!(lab.bootenv(&["-q", "list", "-H"]).ok().stdout.contains("verbose"), "what was asked for is shown even so");
    lab.json(&["-q", "-v", "list"]).fails(2, &[]);
}

#[test]
fn help_version_and_completions_need_no_store() {
    for args in [&["--help"][..], &["--version"], &["create", "--help"], &["completions", "bash"]] {
        let out = tool().args(args).output().unwrap();
        assert!(out.status.success() && !out.stdout.is_empty() && out.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_store_that_is_not_there_is_said_to_be_so() {
    let lab = Lab::empty();
    for args in [&["list"][..], &["create", "x"], &["check", "--repair"], &[]] {
        on(&lab.image, args).refused(4, &["lab.img"]);
        on(std::path::Path::new("nopool/sys"), args).refused(4, &["nopool"]);
    }
}
