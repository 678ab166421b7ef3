//! Automatic BEs: made before a package manager changes what runs, and destroyed when they have had their time.

use crate::lab::chroot::Inside;
use crate::lab::{Kind, Lab, Ran, kind, only_on, run, sh};
use serde_json::Value;

/// A store whose BE `default` runs and has these settings.
fn machine(settings: &str) -> (Lab, Inside) {
    let lab = Lab::new();
    std::fs::write(lab.files("default").join("etc/bootenv.toml"), settings).unwrap();
    let running = lab.running("default");
    (lab, running)
}

/// Why a case that makes automatic BEs by their verb does not run on a pool.
const NO_ESP: &str = "where kernels are copied to the ESP, this machine, which has none, makes no BE";

/// Makes an automatic one of `default`, as if a package manager had been about to change it.
fn automatic(lab: &Lab, name: &str) {
    lab.bootenv(&["create", name]).ok();
    match kind() {
        Kind::Btrfs => {
            let uuid = lab.be(name)["uuid"].as_str().unwrap().to_string();
            let facts = lab.top().join("BOOTENV/facts");
            std::fs::create_dir_all(&facts).unwrap();
            std::fs::write(facts.join(format!("{uuid}.toml")), "version = 1\nautomatic = \"x\"\n").unwrap();
            lab.leave_top();
        }
        Kind::Zfs => {
            let dataset = format!("{}/ROOT/{name}", lab.store().display());
            run("zfs", &["set", "org.bootenv:rest=automatic = \"x\"", &dataset]);
        }
    }
    assert_eq!(lab.be(name)["policy"], "automatic");
}

const ENABLED: &str = "[automatic]\nenabled = true\n";

/// Told the image, so that what boots next can be seen inside.
fn auto(running: &Inside, args: &[&str]) -> Ran {
    running.bootenv_on_image(&[&["auto", "--before", "apt"], args].concat())
}

fn today() -> String {
    sh("TZ=UTC date +apt-%F").trim().to_string()
}

fn policies(lab: &Lab) -> Vec<(String, String)> {
    let list = lab.bootenv(&["list", "--json"]).ok().json();
    let text = |be: &Value, key: &str| be[key].as_str().unwrap().to_string();
    list["boot_environments"].as_array().unwrap().iter().map(|be| (text(be, "name"), text(be, "policy"))).collect()
}

fn names(lab: &Lab) -> Vec<String> {
    policies(lab).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn what_runs_is_kept_once_for_each_transaction() {
    if !only_on(Kind::Btrfs, NO_ESP) {
        return;
    }
    let (lab, running) = machine(ENABLED);
    let day = today();
    let mut manager = running.command("/usr/bin/sleep").arg("100").spawn().unwrap();
    // nsenter has become sleep by the time that its command line says so.
    while !std::fs::read_to_string(format!("/proc/{}/cmdline", manager.id())).unwrap().starts_with("/usr/bin/sleep") {}
    let pid = manager.id().to_string();
    let said = auto(&running, &["--process", &pid]).ok().stdout;
    assert!(said.contains(&format!("{day} is made from default")), "{said}");
    assert_eq!(auto(&running, &["--process", &pid]).ok().stdout, "");
    manager.kill().unwrap();
    manager.wait().unwrap();
    auto(&running, &[]).ok();
    drop(running);
    let automatic = |name: String| (name, "automatic".to_string());
    let expected = [("default".into(), "static".into()), automatic(day.clone()), automatic(format!("{day}-2"))];
    assert_eq!(policies(&lab), expected);
    assert_eq!(lab.be(&day)["description"], "before /usr/bin/sleep 100");
    assert_eq!(lab.be(&day)["origin"], "default");
}

#[test]
fn nothing_is_kept_unless_it_is_wanted() {
    let (lab, running) = machine("");
    assert_eq!(auto(&running, &[]).ok().stdout, "");
    drop(running);
    assert_eq!(names(&lab), ["default"]);
}

#[test]
fn a_transaction_fails_only_where_it_is_told_to() {
    for (settings, status) in
        [("[automatic]\nenabled = true\nrequired = true\n", 2), (ENABLED, 0), ("[automatic]\nenable = true\n", 0)]
    {
        let (lab, running) = machine(settings);
        let ran = running.bootenv_on_image(&["auto", "--before", "no/name"]);
        assert_eq!(ran.status, status, "{settings}: {}{}", ran.stdout, ran.stderr);
        assert!(
            ran.stderr.contains(if status == 0 { "no boot environment was kept" } else { "no/name" }),
            "{}",
            ran.stderr
        );
        drop(running);
        assert_eq!(names(&lab), ["default"]);
    }
}

#[test]
fn what_was_booted_or_taken_in_hand_is_no_automatic_one() {
    let lab = Lab::new();
    ["a", "b", "c", "d"].iter().for_each(|name| automatic(&lab, name));
    let booted = lab.running("a");
    booted.bootenv_on_image(&["auto", "--booted"]).ok();
    drop(booted);
    lab.bootenv(&["describe", "b", "mine"]).ok();
    lab.bootenv(&["rename", "c", "mine"]).ok();
    lab.bootenv(&["activate", "-t", "d"]).ok();
    assert_eq!(policies(&lab).iter().map(|(_, policy)| policy.as_str()).collect::<Vec<_>>(), ["static"; 5]);
    lab.bootenv(&["prune", "--keep", "0"]).ok();
    assert_eq!(names(&lab).len(), 5);
}

#[test]
fn the_newest_stay_and_so_does_what_is_in_use() {
    let lab = Lab::new();
    let number = |n: u32| format!("auto-{n}");
    (1..=6).for_each(|n| automatic(&lab, &number(n)));
    lab.bootenv(&["pin", &number(1)]).ok();
    lab.bootenv(&["create", &format!("{}@kept", number(2))]).ok();
    lab.bootenv(&["mount", &number(3)]).ok();
    lab.bootenv(&["create", "-e", &number(4), "from-one-that-goes"]).ok();
    // What would be done is shown, and is what is done.
    let before = lab.print();
    let shown = lab.json(&["prune", "--keep", "1", "--dry-run"]).ok().json();
    before.assert_same(&lab.print(), "--dry-run has changed the store");
    assert_eq!(shown["destroyed"], serde_json::json!([number(4), number(5)]));
    lab.refuses(&["destroy", "-s", &number(1)], 3, &["is pinned"]);
    let said = lab.bootenv(&["prune", "--keep", "1"]).ok().stdout;
    for (be, why) in [(1, "it is pinned"), (2, "it has snapshots"), (3, "it is mounted")] {
        assert!(said.contains(&format!("{} stays: {why}", number(be))), "{said}");
    }
    lab.bootenv(&["unmount", &number(3)]).ok();
    assert_eq!(names(&lab), ["default", &number(1), &number(2), &number(3), &number(6), "from-one-that-goes"]);
    assert!(!lab.holds(&number(4)) && lab.files("from-one-that-goes").join("etc/fstab").exists());
    // Unpinned it is an automatic one again, and of age.
    lab.bootenv(&["unpin", &number(1)]).ok();
    assert_eq!(lab.bootenv(&["unpin", &number(1)]).ok().stdout.trim(), format!("{} is not pinned", number(1)));
    lab.bootenv(&["prune", "--keep", "0", "--keep-days", "1"]).ok();
    assert!(names(&lab).contains(&number(1)), "it is younger than a day");
    lab.bootenv(&["prune", "--keep", "0"]).ok();
    assert_eq!(names(&lab), ["default", &number(2), "from-one-that-goes"]);
    lab.refuses(&["prune", "--keep-free", "150%"], 2, &["150%"]);
}

#[test]
fn while_space_is_short_more_go_but_never_the_newest() {
    let lab = Lab::new();
    let big = || lab.files("default").join("root/big");
    for n in 1..=4 {
        sh(&format!("rm -f '{0}'; head -c 12M /dev/urandom > '{0}'; sync", big().display()));
        automatic(&lab, &format!("auto-{n}"));
    }
    std::fs::remove_file(big()).unwrap();
    // That much is free without any of it.
    let all = lab.bootenv(&["prune", "--dry-run", "--keep-free", "1M"]).ok().stdout;
    assert!(all.contains("no automatic boot environment has had its time"), "{all}");
    let would = lab.json(&["prune", "--dry-run", "--keep-free", "100%"]).ok().json();
    assert_eq!(would["while_space_is_short"].as_array().unwrap().len(), 3, "{would}");
    assert_eq!(names(&lab).len(), 5);
    let said = lab.bootenv(&["prune", "--keep-free", "100%"]).ok().stdout;
    assert!(said.contains("no other automatic boot environment may go"), "{said}");
    assert_eq!(names(&lab), ["default", "auto-4"]);
}
