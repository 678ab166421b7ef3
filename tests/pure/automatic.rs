//! Automatic BEs: what they are called, which of them go, and what takes them out of that.

use crate::rig::{be, holding, name, running, unknown};
use bootenv::domain::policy::{Amount, Policy};
use bootenv::domain::{BootEnv, Facts, Inventory};
use bootenv::error::Kind;
use bootenv::ops::{self, Destroy, Transaction};
use bootenv::plan::Step;
use proptest::prelude::*;

const DAY: i64 = 86_400;

fn automatic(called: &str, number: u128, age: i64) -> BootEnv {
    let facts = Facts { automatic: Some(format!("boot 1 {number}")), ..Facts::default() };
    BootEnv { created: -age, facts, ..be(called, number) }
}

fn policy(keep: usize, keep_days: u32, keep_free: Option<Amount>) -> Policy {
    Policy { keep, keep_days, keep_free }
}

/// `default`, and `a` to `e`, each a day younger than the one before; `e` is a day old.
fn five() -> Inventory {
    let automatic =
        ["a", "b", "c", "d", "e"].into_iter().zip(0..).map(|(n, i)| automatic(n, 10 + i as u128, (5 - i) * DAY));
    let bes = std::iter::once(BootEnv { created: -9 * DAY, ..be("default", 1) }).chain(automatic).collect();
    holding(bes, "default")
}

fn words(names: &[bootenv::domain::BeName]) -> String {
    names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_policy_decides() {
    let all = Some(Amount::Percent(50));
    for (policy, go, spare) in [
        (policy(10, 0, None), "", ""),
        (policy(2, 0, None), "a b c", ""),
        (policy(0, 0, None), "a b c d e", ""),
        (policy(0, 3, None), "a b", ""),
        (policy(4, 1, None), "a", ""),
        (policy(4, 0, all), "a", "b c d"),
        (policy(1, 0, all), "a b c d", ""),
        (policy(0, 0, all), "a b c d e", ""),
    ] {
        let pruned = ops::prune(&five(), &policy, 0).unwrap();
        assert_eq!((words(&pruned.go).as_str(), words(&pruned.spare).as_str()), (go, spare), "{policy:?}");
    }
}

#[test]
fn what_is_due_is_not_guessed() {
    let error = ops::prune(&unknown(five()), &policy(0, 0, None), 0).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    // Where nothing would go it does not matter.
    assert!(ops::prune(&unknown(five()), &policy(9, 0, None), 0).is_ok());
}

#[test]
fn there_is_one_for_each_transaction() {
    let mut inventory = running(five(), "default");
    let apt = |identity: &str| Transaction {
        by: "apt".into(),
        day: "2026-01-31".into(),
        command: "apt-get install x".into(),
        identity: identity.into(),
    };
    assert!(ops::automatic(&inventory, &apt("boot 1 10")).unwrap().is_none());
    let plan = ops::automatic(&inventory, &apt("boot 2 7")).unwrap().unwrap();
    assert!(plan.steps().any(|step| matches!(step, Step::Facts { path, to, .. }
        if path == "ROOT/apt-2026-01-31" && to.automatic.as_deref() == Some("boot 2 7")
            && to.description.as_deref() == Some("before apt-get install x"))));
    inventory.bes.push(be("apt-2026-01-31", 99));
    let second = ops::automatic(&inventory, &apt("")).unwrap().unwrap();
    assert_eq!(second.request, "create apt-2026-01-31-2");
    // Nothing of the store runs: there is nothing to keep.
    assert_eq!(ops::automatic(&five(), &apt("x")).unwrap_err().kind, Kind::Refused);
}

#[test]
fn a_pinned_one_is_not_destroyed() {
    let inventory = five();
    let plan = ops::pin(&inventory, &name("a"), true).unwrap().unwrap();
    let Step::Facts { to, .. } = plan.commit else { panic!("{plan:?}") };
    assert_eq!((to.pinned, to.policy()), (true, "pinned"));
    assert!(ops::pin(&inventory, &name("a"), false).unwrap().is_none());
    assert_eq!(ops::pin(&inventory, &name("nosuch"), true).unwrap_err().kind, Kind::NotFound);
    let mut pinned = inventory;
    pinned.bes[1].facts = to;
    let targets = vec![bootenv::domain::Target::Be(name("a"))];
    let refused = ops::destroy(&pinned, &Destroy { targets, ..Destroy::default() }).unwrap_err();
    assert_eq!((refused.kind, refused.hint.as_deref()), (Kind::Refused, Some("`bootenv unpin a` first")));
}

proptest! {
    /// Whatever the policy, what is no automatic one, or is in use, stays; nothing is both; the newest is not spare.
    #[test]
    fn what_must_stay_stays(
        kinds in prop::collection::vec(0u8..8, 1..12), keep in 0usize..6, days in 0u32..6, free in any::<bool>()
    ) {
        let bes: Vec<BootEnv> = kinds.iter().zip(1..).map(|(kind, i)| {
            let mut be = automatic(&format!("be-{i}"), i as u128, i * DAY);
            match kind {
                0 => be.facts.automatic = None,
                1 => be.facts.pinned = true,
                2 => be.mountpoints.push("/mnt".into()),
                3 => crate::rig::snapshot_of(&mut be, "s", 1000 + i as u128),
                _ => {}
            }
            be
        }).collect();
        let inventory = holding(bes, "be-1");
        let policy = policy(keep, days, free.then_some(Amount::Percent(10)));
        let pruned = ops::prune(&inventory, &policy, 0).unwrap();
        for be in &inventory.bes {
            let goes = pruned.go.contains(&be.name);
            let spare = pruned.spare.contains(&be.name);
            prop_assert!(!(goes && spare));
            let number: usize = be.name.as_str()[3..].parse().unwrap();
            if kinds[number - 1] < 4 || number == 1 {
                prop_assert!(!goes && !spare, "{} of kind {}", be.name, kinds[number - 1]);
            }
            prop_assert!(!goes || days == 0 || -be.created > i64::from(days) * DAY);
        }
        let free = inventory.bes.iter().filter(|be| kinds[be.name.as_str()[3..].parse::<usize>().unwrap() - 1] >= 4 && be.name.as_str() != "be-1");
        prop_assert!(free.count().saturating_sub(keep) >= pruned.go.len());
    }
}
