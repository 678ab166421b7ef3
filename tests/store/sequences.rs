//! Random sequences of verbs, sensible and not, against a model: `list` says what the model says, the menu has an entry for
//! every BE and for nothing else, what boots is what was asked for, and an operation on one BE changes no other and no
//! shared data. Some of the verbs are killed on the way; then the store must be as before or as after.

use crate::lab::{Kind, Lab, Print, kind, mounts, pace, rounds, sh};
use crate::model::{Boot, Model, Verb};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::Value;
use std::collections::BTreeMap;

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["default", "default", "a", "a", "a", "b", "b", "c", "default-1", "nobody"])
        .prop_map(str::to_string)
}

fn snap() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["s", "t"]).prop_map(str::to_string)
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "text", "it's \"quoted\" $x", "ü\u{1b}[2J"]).prop_map(str::to_string)
}

fn verb() -> impl Strategy<Value = Verb> {
    let boot = prop::sample::select(vec![Boot::No, Boot::No, Boot::Default, Boot::Once]);
    let asks = prop::sample::select(vec![Boot::Default, Boot::Once, Boot::NotOnce]);
    let some_text = text().prop_filter("a description is none or says something", |t| !t.is_empty());
    let source = prop::option::of((name(), prop::option::weighted(0.4, snap())));
    prop_oneof![
        6 => (prop::option::weighted(0.8, name()), source, boot, prop::option::weighted(0.3, some_text))
            .prop_map(|(name, source, boot, description)| Verb::Create { name, source, boot, description }),
        4 => (name(), snap()).prop_map(|(be, snap)| Verb::Snapshot { be, snap }),
        3 => (name(), asks).prop_map(|(be, boot)| Verb::Activate { be, boot }),
        3 => (name(), name()).prop_map(|(from, to)| Verb::Rename { from, to }),
        2 => (name(), prop::option::of(snap()), text()).prop_map(|(be, snap, text)| Verb::Describe { be, snap, text }),
        2 => (name(), snap()).prop_map(|(be, snap)| Verb::Rollback { be, snap }),
        4 => (name(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(be, snapshots, origin, force)| Verb::Destroy { be, snapshots, origin, force }),
        2 => (name(), snap()).prop_map(|(be, snap)| Verb::DestroySnapshot { be, snap }),
        2 => name().prop_map(|be| Verb::Mount { be }),
        2 => name().prop_map(|be| Verb::Unmount { be }),
        4 => name().prop_map(|be| Verb::Write { be }),
        1 => Just(Verb::WriteShared),
        1 => Just(Verb::Repair),
    ]
}

/// A verb, and for some after how many milliseconds it is killed.
#[derive(Clone)]
struct Step(Verb, Option<u64>);

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let killed = self.1.map_or(String::new(), |ms| format!(" (killed after {ms} ms)"));
        write!(f, "{}{killed}", self.0)
    }
}

fn step() -> impl Strategy<Value = Step> {
    (verb(), prop::option::weighted(0.1, 0..40 * pace())).prop_map(|(verb, killed)| Step(verb, killed))
}

/// Every BE and snapshot with what is in it.
fn contents(lab: &Lab) -> BTreeMap<String, Print> {
    let entries = std::fs::read_dir(lab.top().join("ROOT")).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    // A dataset's own directory has a new change time when it is renamed, and nothing else does.
    names.map(|n| (n.clone(), Print::of(&lab.files(&n)).without(|p| p.as_os_str().is_empty()))).collect()
}

fn marker(lab: &Lab, name: &str) -> u32 {
    std::fs::read_to_string(lab.files(name).join("etc/marker")).map_or(0, |t| t.parse().unwrap())
}

/// Compares everything that can be seen of the store with the model.
fn agrees(lab: &Lab, model: &Model) -> Result<(), TestCaseError> {
    let list = lab.bootenv(&["list", "--json"]).ok().json();
    let text = |v: &Option<String>| v.clone().map_or(Value::Null, Value::String);
    let listed = list["boot_environments"].as_array().unwrap();
    let seen: Vec<&str> = listed.iter().map(|b| b["name"].as_str().unwrap()).collect();
    let expected: Vec<&str> = model.bes.iter().map(|b| b.name.as_str()).collect();
    prop_assert_eq!(&seen, &expected);
    let menu = lab.menu();
    prop_assert_eq!(menu.len(), model.bes.len(), "{:?}", menu);
    for (be, seen) in model.bes.iter().zip(listed) {
        let name = &be.name;
        prop_assert_eq!(&seen["active_on_reboot"], &Value::Bool(model.default == *name), "R of {}", name);
        prop_assert_eq!(&seen["active_once"], &Value::Bool(model.once.as_ref() == Some(name)), "T of {}", name);
        prop_assert_eq!(&seen["description"], &text(&be.description), "description of {}", name);
        prop_assert_eq!(seen["mountpoint"].is_string(), be.mounted, "mount of {}", name);
        let snapshots: Vec<(Value, Value)> =
            be.snapshots.iter().map(|s| (format!("{name}@{}", s.name).into(), text(&s.description))).collect();
        let listed: Vec<(Value, Value)> = seen["snapshots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["name"].clone(), s["description"].clone()))
            .collect();
        prop_assert_eq!(listed, snapshots);
        prop_assert_eq!(marker(lab, name), be.content, "what is in {}", name);
        for snap in &be.snapshots {
            prop_assert_eq!(
                marker(lab, &format!("{name}@{}", snap.name)),
                snap.content,
                "what is in {}@{}",
                name,
                &snap.name
            );
        }
        let entry = menu.iter().find(|e| e.id == *name);
        prop_assert_eq!(entry.map(|e| e.path.clone()), Some(format!("ROOT/{name}")));
        let title = match &be.description {
            Some(text) => format!("{name}: {}", text.replace(char::is_control, " ")),
            None => name.clone(),
        };
        prop_assert_eq!(entry.map(|e| e.title.clone()), Some(title));
    }
    prop_assert_eq!(&lab.asked("default"), &Some(model.default.clone()));
    prop_assert_eq!(&lab.asked("once"), &model.once);
    let mut datasets: Vec<String> = contents(lab).into_keys().collect();
    let mut expected: Vec<String> = Vec::new();
    for be in &model.bes {
        expected.push(be.name.clone());
        expected.extend(be.snapshots.iter().map(|s| format!("{}@{}", be.name, s.name)));
    }
    datasets.sort();
    expected.sort();
    prop_assert_eq!(datasets, expected, "something is in the store that nobody made, or missing");
    prop_assert!(!lab.home().join("journal.toml").exists());
    let mounted = mounts().iter().filter(|l| l.contains(" /run/bootenv/")).count();
    prop_assert_eq!(mounted, 2 * model.bes.iter().filter(|b| b.mounted).count());
    Ok(())
}

/// The name a BE or snapshot has after the verb was carried out, if it is one that the verb must not touch.
fn untouched(dataset: &str, verb: &Verb) -> Option<String> {
    let (be, snap) = dataset.split_once('@').map_or((dataset, None), |(b, s)| (b, Some(s)));
    match verb {
        Verb::Rename { from, to } if be == from => Some(snap.map_or(to.clone(), |s| format!("{to}@{s}"))),
        Verb::Rollback { be: target, .. } | Verb::Write { be: target } if dataset == target => None,
        _ => Some(dataset.to_string()),
    }
}

/// What every sequence begins with, so that most of what comes has something to work on.
fn beginning() -> Vec<Step> {
    let [a, b, s] = ["a", "b", "s"].map(str::to_string);
    let create =
        |name: &String, source| Verb::Create { name: Some(name.clone()), source, boot: Boot::No, description: None };
    let verbs = [
        create(&a, None),
        Verb::Write { be: a.clone() },
        Verb::Snapshot { be: a.clone(), snap: s.clone() },
        create(&b, Some((a, Some(s)))),
    ];
    verbs.map(|verb| Step(verb, None)).into()
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let lab = Lab::new();
    lab.top();
    let mut model = Model::new();
    for (number, step) in beginning().iter().chain(steps).enumerate() {
        let Step(verb, killed) = step;
        if kind() == Kind::Zfs && model.hands_over(verb) {
            continue;
        }
        let (before, shared) = (contents(&lab), Print::of(&lab.shared()));
        let (was, outcome) = (model.clone(), model.after(verb));
        let told = format!("step {number}: {step:?}");
        let arguments = verb.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match (verb, killed) {
            (Verb::Write { be }, _) => {
                if let Ok(new) = outcome {
                    if let Some(found) = new.be(be) {
                        std::fs::write(lab.files(be).join("etc/marker"), found.content.to_string()).unwrap();
                    }
                    model = new;
                }
            }
            (Verb::WriteShared, _) => {
                sh(&format!("echo {number} >> '{}/log/syslog'", lab.shared().display()));
                continue;
            }
            // What is mounted cannot be told from what the journal finishes: mounts are no part of a plan.
            (_, Some(ms))
                if !matches!(verb, Verb::Mount { .. } | Verb::Unmount { .. } | Verb::Destroy { force: true, .. }) =>
            {
                let mut command = lab.command(&arguments);
                let mut child =
                    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(*ms));
                let _ = child.kill();
                child.wait().unwrap();
                if let Ok(new) = outcome {
                    // The next command makes it one or the other.
                    if agrees(&lab, &model).is_err() {
                        model = new;
                    }
                }
            }
            _ => {
                let ran = lab.json(&arguments);
                match outcome {
                    Ok(new) => {
                        prop_assert_eq!(ran.status, 0, "{}: {}", told, ran.stderr);
                        model = new;
                    }
                    Err(statuses) => {
                        prop_assert!(
                            statuses.contains(&ran.status),
                            "{}: {} is none of {:?}: {}{}",
                            told,
                            ran.status,
                            statuses,
                            ran.stdout,
                            ran.stderr
                        );
                        ran.refused(statuses[0], &[]);
                    }
                }
            }
        }
        agrees(&lab, &model).map_err(|e| TestCaseError::fail(format!("{told}: {e}")))?;
        let after = contents(&lab);
        for (dataset, print) in &before {
            // What was refused, or undone, has touched nothing at all.
            let name = if model == was { Some(dataset.clone()) } else { untouched(dataset, verb) };
            let Some(now) = name.and_then(|n| after.get(&n)) else { continue };
            let changes = print.changes(now);
            prop_assert!(changes.is_empty(), "{}: {} was changed: {:?}", told, dataset, changes);
        }
        let changes = shared.changes(&Print::of(&lab.shared()));
        prop_assert!(changes.is_empty(), "{}: shared data was changed: {:?}", told, changes);
    }
    prop_assert_eq!(lab.bootenv(&["check"]).stdout, "nothing is wrong\n".to_string());
    for be in model.bes.iter().filter(|b| b.mounted) {
        lab.bootenv(&["unmount", &be.name]).ok();
    }
    let left: Vec<_> = std::fs::read_dir("/run/bootenv").into_iter().flatten().map(|e| e.unwrap().path()).collect();
    prop_assert!(left.is_empty(), "left behind: {:?}", left);
    Ok(())
}

#[test]
fn random_sequences_of_verbs_do_what_the_model_does() {
    crate::lab::isolate();
    let mut config = ProptestConfig { failure_persistence: None, max_shrink_time: 60_000, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = rounds(8) as u32;
    }
    proptest!(config, |(steps in prop::collection::vec(step(), 1..45))| play(&steps)?);
}
