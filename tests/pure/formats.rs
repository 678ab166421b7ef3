//! What is written to disk is read back as it was, with what a later bootenv may have added.

use crate::rig::{described, id};
use bootenv::domain::{Asked, Facts, Heir, Zone, ZoneName};
use bootenv::plan::{MenuLine, Pair, Plan, Step, journal};
use bootenv::sys::tree::Tree;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// One step of every kind. The match makes the compiler ask for a new one here.
fn every_step() -> Vec<Step> {
    let asked = |default: &str| Asked { default: Some(default.into()), ..Asked::default() };
    let path = || "ROOT/blue".to_string();
    let be = || "blue".to_string();
    let web = || ZoneName::parse("web").unwrap();
    let steps = vec![
        Step::Layout,
        Step::Loader,
        Step::Adopt { be: "rootfs".into(), path: "@rootfs".into() },
        Step::Adopt { be: "toplevel".into(), path: String::new() },
        Step::Forget { be: "rootfs".into() },
        Step::Import { from: "/srv/a root.tar".into(), to: path() },
        Step::Clone { from: "ROOT/default".into(), to: path(), readonly: false },
        Step::Clone { from: path(), to: "ROOT/blue@one".into(), readonly: true },
        Step::Properties { path: path(), set: [("compression".to_string(), "zstd".to_string())].into() },
        Step::Share { path: path(), be: be() },
        Step::Run {
            be: "blue".into(),
            path: path(),
            command: vec!["apt-get".into(), OsString::from_vec(vec![0xff, b'\n'])],
        },
        Step::Examine { be: "blue".into(), path: path() },
        Step::Fill { path: path() },
        Step::PutAside { file: "store.toml".into() },
        Step::Menu { entries: vec![MenuLine { be: be(), path: path(), title: "blue: it's \"new\"\n".into() }] },
        Step::Entry { be: be(), path: path(), read: None, title: be(), fresh: true },
        Step::Entry { be: be(), path: path(), read: Some("ROOT/old".into()), title: "x".into(), fresh: false },
        Step::EntryBeside { be: be(), path: path(), read: "ROOT/.rollback-1".into(), title: be() },
        Step::EntryByIdentity { be: be(), path: path(), title: be() },
        Step::DropEntry { be: be(), path: path() },
        Step::Ask { to: asked("blue"), was: Asked::default() },
        Step::Ask { to: Asked { once: Some(be()), ..asked("default") }, was: asked("default") },
        Step::Ask { to: asked("default"), was: Asked { once: Some(be()), ..asked("default") } },
        Step::Ask { to: Asked { previous: Some(be()), ..asked("default") }, was: asked("default") },
        Step::Facts { path: path(), to: described("a 'test' \\ \"x\""), was: Facts::default() },
        Step::Facts { path: path(), to: Facts::default(), was: described("x") },
        Step::Facts { path: path(), to: Facts { pinned: true, ..described("x") }, was: described("x") },
        Step::Facts { path: path(), to: described("x"), was: Facts { automatic: Some("y".into()), ..described("x") } },
        Step::Rename { from: path(), to: "ROOT/red".into() },
        Step::Exchange { place: path(), with: "ROOT/.rollback-1".into(), was: id(2) },
        Step::Destroy { path: path(), identity: id(2), heirs: Vec::new() },
        Step::Destroy {
            path: path(),
            identity: id(2),
            heirs: vec![
                Heir { to: "ROOT/red".into(), snapshot: Some("monday".into()) },
                Heir { to: "ROOT/green".into(), snapshot: None },
            ],
        },
        Step::DropFacts { identity: id(2) },
        Step::Facts { path: path(), to: Facts { parent: Some(id(3)), ..described("x") }, was: described("x") },
        Step::Copy { from: "zones/db/ROOT/default".into(), to: "zones/web/ROOT/default".into() },
        Step::MakeZone { zone: web() },
        Step::DropZone { zone: web() },
        Step::Zone { zone: web(), to: Some(Zone::new("nspawn", true)), was: None },
        Step::Zone { zone: web(), to: Some(Zone::new("nspawn", true)), was: Some(Zone::new("nspawn", false)) },
        Step::Zone { zone: web(), to: Some(Zone::new("nspawn", false)), was: Some(Zone::new("nspawn", true)) },
        Step::Zone { zone: web(), to: None, was: Some(Zone::new("nspawn", true)) },
        Step::Assign { zone: web(), be: be(), owner: "ROOT/default".into(), was: Some(id(4)) },
        Step::Inherit { zone: web(), was: id(2), owner: path() },
        Step::CloneTogether {
            clones: vec![
                Pair { from: "ROOT/default".into(), to: path(), zone: None },
                Pair { from: "zones/web/ROOT/default".into(), to: "zones/web/ROOT/blue".into(), zone: Some(web()) },
            ],
            readonly: false,
        },
        Step::Belong { zone: web(), path: "ROOT/default@one".into(), owner: "ROOT/default@one".into() },
        Step::Release { zone: web(), was: id(2) },
        Step::Destroy { path: path(), identity: id(2), heirs: Vec::new() }.within(&web()),
        Step::Clone { from: path(), to: "ROOT/red".into(), readonly: false }.within(&web()),
    ];
    for step in &steps {
        match step {
            Step::Layout
            | Step::Loader
            | Step::Adopt { .. }
            | Step::Forget { .. }
            | Step::Import { .. }
            | Step::Clone { .. }
            | Step::Properties { .. }
            | Step::Share { .. }
            | Step::Run { .. }
            | Step::Examine { .. }
            | Step::Fill { .. }
            | Step::PutAside { .. }
            | Step::Menu { .. }
            | Step::Entry { .. }
            | Step::EntryBeside { .. }
            | Step::EntryByIdentity { .. }
            | Step::DropEntry { .. }
            | Step::Ask { .. }
            | Step::Facts { .. }
            | Step::Rename { .. }
            | Step::Exchange { .. }
            | Step::Destroy { .. }
            | Step::DropFacts { .. }
            | Step::Copy { .. }
            | Step::MakeZone { .. }
            | Step::DropZone { .. }
            | Step::Zone { .. }
            | Step::Assign { .. }
            | Step::Inherit { .. }
            | Step::CloneTogether { .. }
            | Step::Belong { .. }
            | Step::Release { .. }
            | Step::In { .. } => {}
        }
    }
    steps
}

fn directory() -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::at(dir.path()).unwrap();
    (dir, tree)
}

#[test]
fn every_step_comes_back_from_the_journal() {
    let (_dir, home) = directory();
    for step in every_step() {
        let plan = Plan::new("create blue", step.clone()).noting("a note");
        journal::write(&home, &plan).unwrap();
        assert_eq!(journal::read(&home).unwrap(), Some(plan), "{step:?} as the commit");
    }
    let mut plan = Plan::new("everything at once", Step::Layout);
    (plan.add, plan.remove) = (every_step(), every_step());
    journal::write(&home, &plan).unwrap();
    assert_eq!(journal::read(&home).unwrap(), Some(plan));
    journal::clear(&home).unwrap();
    assert_eq!(journal::read(&home).unwrap(), None);
    journal::clear(&home).unwrap();
}

/// The text on disk: an older or newer bootenv reads it, so it changes only together with `plan::FORMAT`.
#[test]
fn the_text_of_the_journal() {
    let mut plan = Plan::new("everything at once", Step::Layout).noting("a note");
    plan.id = id(1);
    plan.add = every_step();
    crate::snapshot!("journal", toml::to_string(&plan).unwrap());
}

/// What `--dry-run` and `-v` call each step.
#[test]
fn steps_in_words() {
    let words: Vec<String> = every_step().iter().map(Step::to_string).collect();
    assert!(words.iter().all(|w| !w.is_empty() && !w.contains('\n')));
    crate::snapshot!("steps", words.join("\n"));
}

#[test]
fn a_damaged_or_newer_journal_is_told_and_stays() {
    let (dir, home) = directory();
    let file = dir.path().join(journal::FILE);
    for (text, word) in [
        ("version = 1\nrequest = \"half a", "damaged"),
        ("version = 1\n", "damaged"),
        ("\0\0\0\0", "damaged"),
        ("version = 2\nlater = true\n", "newer bootenv"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = journal::read(&home).unwrap_err();
        assert!(error.message.contains(word), "{text:?}: {}", error.message);
        assert!(error.hint.is_some(), "{text:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    // What a file is that was made and not yet written when the power went.
    std::fs::write(&file, "").unwrap();
    assert_eq!(journal::read(&home).unwrap(), None);
}

#[test]
fn a_journal_put_aside_is_out_of_the_way_and_not_lost() {
    let (dir, home) = directory();
    std::fs::write(dir.path().join(journal::FILE), "rubbish").unwrap();
    journal::put_aside(&home).unwrap();
    assert_eq!(journal::read(&home).unwrap(), None);
    assert_eq!(std::fs::read_to_string(dir.path().join("journal.damaged.toml")).unwrap(), "rubbish");
}

#[test]
fn facts_keep_what_they_do_not_know() {
    let text = "version = 7\ndescription = \"a test\"\ncolour = \"blue\"\n\n[policy]\nkeep = 3\n";
    let facts: Facts = toml::from_str(text).unwrap();
    assert_eq!((facts.version, facts.description.as_deref()), (7, Some("a test")));
    let again: toml::Table = toml::from_str(&toml::to_string(&facts).unwrap()).unwrap();
    assert_eq!(again, toml::from_str::<toml::Table>(text).unwrap());
    // In a journal too: what was known before must come back when a plan is undone.
    let (_dir, home) = directory();
    let plan = Plan::new("describe blue", Step::Facts { path: "ROOT/blue".into(), to: facts.clone(), was: facts });
    journal::write(&home, &plan).unwrap();
    assert_eq!(journal::read(&home).unwrap(), Some(plan));
}

#[test]
fn facts_without_anything_are_facts() {
    let facts: Facts = toml::from_str("").unwrap();
    assert_eq!((facts.version, facts.description), (0, None));
    assert!(facts.rest.is_empty());
    assert!(toml::from_str::<Facts>("description = 3").is_err());
}
