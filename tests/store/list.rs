//! `list` in all its forms, and the status that `bootenv` alone shows.

use crate::lab::{Kind, Lab, kind, sh};
use serde_json::Value;

/// Three BEs, one made from a snapshot of another, with descriptions, snapshots and something nested.
fn family() -> Lab {
    let lab = Lab::new();
    lab.nest("default", "var/lib/machines");
    lab.bootenv(&["create", "-d", "second thoughts", "zebra"]).ok();
    lab.bootenv(&["create", "-d", "as shipped", "zebra@base"]).ok();
    lab.bootenv(&["create", "zebra@late"]).ok();
    lab.bootenv(&["create", "-e", "zebra@base", "ant"]).ok();
    lab.bootenv(&["activate", "zebra"]).ok();
    lab.bootenv(&["activate", "-t", "ant"]).ok();
    lab
}

/// The lines of `list -H` as fields.
fn script(lab: &Lab, args: &[&str]) -> Vec<Vec<String>> {
    let out = lab.bootenv(&[&["list", "-H"], args].concat()).ok().stdout;
    out.lines().map(|l| l.split('\t').map(str::to_string).collect()).collect()
}

fn names(lab: &Lab, args: &[&str]) -> Vec<String> {
    script(lab, args).into_iter().map(|f| f[0].clone()).collect()
}

#[test]
fn the_table_shows_what_boots_next() {
    let lab = family();
    let out = lab.bootenv(&["list"]).ok().stdout;
    let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["BE", "Active", "Mountpoint", "Space", "Policy", "Created", "Description"]);
    assert_eq!(lines[1][..3], ["default", "-", "-"]);
    assert_eq!((&lines[2][..3], &lines[2][7..]), (&["zebra", "R", "-"][..], &["second", "thoughts"][..]));
    assert_eq!(lines[3][..3], ["ant", "T", "-"]);
    assert_eq!(lines.len(), 4);
    // Columns are aligned: every one begins where its heading does.
    for (line, word) in out.lines().skip(1).zip(["-", "R", "T"]) {
        assert_eq!(line.find(&format!(" {word} ")).map(|at| at + 1), out.find("Active"), "{line}");
    }
}

#[test]
fn for_scripts_there_are_seven_fields_between_tabs_and_no_heading() {
    let lab = family();
    for args in [&[][..], &["-a"], &["-d"], &["-s"], &["zebra"], &["-a", "zebra"]] {
        for fields in script(&lab, args) {
            assert_eq!(fields.len(), 7, "{args:?} {fields:?}");
            assert!(fields.iter().all(|f| !f.is_empty() && f.trim() == f), "{args:?} {fields:?}");
        }
    }
    let fields = &script(&lab, &["zebra"])[0];
    assert_eq!(
        (fields[0].as_str(), fields[1].as_str(), fields[4].as_str(), fields[6].as_str()),
        ("zebra", "R", "static", "second thoughts")
    );
    chrono::DateTime::parse_from_rfc3339(&fields[5]).unwrap();
}

#[test]
fn datasets_snapshots_or_all() {
    let lab = family();
    assert_eq!(names(&lab, &[]), ["default", "zebra", "ant"]);
    assert_eq!(
        names(&lab, &["-d"]),
        [
            "default",
            "ROOT/default",
            "ROOT/default/var/lib/machines",
            "zebra",
            "ROOT/zebra",
            "ROOT/zebra/var/lib/machines",
            "ant",
            "ROOT/ant",
            "ROOT/ant/var/lib/machines"
        ]
    );
    assert_eq!(names(&lab, &["-s"]), ["default", "zebra", "zebra@base", "zebra@late", "ant"]);
    assert_eq!(
        names(&lab, &["-a", "zebra"]),
        ["zebra", "ROOT/zebra", "ROOT/zebra/var/lib/machines", "zebra@base", "zebra@late"]
    );
    assert_eq!(names(&lab, &["-d", "-s", "zebra"]), names(&lab, &["-a", "zebra"]));
    assert_eq!(script(&lab, &["-s", "zebra"])[1][6], "as shipped");
}

#[test]
fn sorted_by_a_key_up_or_down() {
    let lab = family();
    assert_eq!(names(&lab, &["-k", "name"]), ["ant", "default", "zebra"]);
    assert_eq!(names(&lab, &["-K", "name"]), ["zebra", "default", "ant"]);
    assert_eq!(names(&lab, &["-k", "date"]), ["default", "zebra", "ant"]);
    assert_eq!(names(&lab, &["-K", "date"]), ["ant", "zebra", "default"]);
    assert_eq!(names(&lab, &["-k", "space"]).len(), 3);
    lab.json(&["list", "-k", "colour"]).fails(2, &["colour"]);
    lab.json(&["list", "-k", "name", "-K", "name"]).fails(2, &[]);
    let json = lab.bootenv(&["list", "--json", "-K", "name"]).ok().json();
    assert_eq!(json["boot_environments"][0]["name"], "zebra");
}

#[test]
fn space_is_told_and_sorted_by_where_the_store_keeps_count() {
    let lab = family();
    let top = lab.top();
    sh(&format!(
        "head -c 9M /dev/urandom > '{0}/ROOT/ant/etc/large'; head -c 5M /dev/urandom > '{0}/ROOT/default/etc/large'; sync",
        top.display()
    ));
    // A pool always counts.
    if kind() == Kind::Btrfs {
        assert_eq!(lab.be("ant")["used_bytes"], Value::Null);
        sh(&format!("btrfs quota enable '{0}'; btrfs quota rescan -w '{0}'", top.display()));
    }
    let used = |name: &str| lab.be(name)["used_bytes"].as_u64().unwrap();
    assert!((9 << 20..10 << 20).contains(&used("ant")), "{}", used("ant"));
    assert!((5 << 20..6 << 20).contains(&used("default")), "{}", used("default"));
    assert_eq!(names(&lab, &["-k", "space"]), ["zebra", "default", "ant"]);
    assert_eq!(names(&lab, &["-K", "space"]), ["ant", "default", "zebra"]);
    let space = script(&lab, &["ant"])[0][3].clone();
    assert!(space.starts_with("9.") && space.ends_with('M'), "{space}");
}

#[test]
fn the_tree_shows_what_came_from_what() {
    let lab = family();
    let out = lab.bootenv(&["list", "--tree"]).ok().stdout;
    let lines: Vec<&str> = out
        .lines()
        .skip(1)
        .map(|l| l.split("  ").take_while(|w| w.is_empty()).count())
        .zip(out.lines().skip(1))
        .map(|(depth, l)| {
            assert_eq!(
                depth,
                ["default", "zebra", "ant"].iter().position(|n| l.trim_start().starts_with(n)).unwrap(),
                "{out}"
            );
            l
        })
        .collect();
    assert_eq!(lines.len(), 3);
    // With a name, what came from it and nothing else.
    let out = lab.bootenv(&["list", "--tree", "zebra"]).ok().stdout;
    let shown: Vec<&str> = out.lines().skip(1).map(|l| l.split_whitespace().next().unwrap()).collect();
    assert_eq!(shown, ["zebra", "ant"], "{out}");
}

#[test]
fn one_be_alone() {
    let lab = family();
    assert_eq!(names(&lab, &["ant"]), ["ant"]);
    let json = lab.bootenv(&["list", "--json", "ant"]).ok().json();
    assert_eq!(json["boot_environments"].as_array().unwrap().len(), 1);
    lab.refuses(&["list", "none"], 4, &["none"]);
}

/// Checks a value against a schema made of example values: null in the schema means anything.
#[track_caller]
fn fits(value: &Value, schema: &Value, at: &str) {
    match (value, schema) {
        (_, Value::Null) => {}
        (Value::Object(have), Value::Object(want)) => {
            for (key, want) in want {
                fits(have.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing")), want, &format!("{at}.{key}"));
            }
            for key in have.keys() {
                assert!(want.contains_key(key), "{at}.{key} is not in the schema");
            }
        }
        (Value::Array(have), Value::Array(want)) => have.iter().for_each(|v| fits(v, &want[0], at)),
        (Value::String(_), Value::String(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Number(_), Value::Number(_)) => {}
        _ => panic!("{at} is {value}, which is not like {schema}"),
    }
}

/// Seconds since this program began, rounded up: what a lab begins with may be a copy of what another case has made before
/// (proc_pid_stat(5), field 22, in hundredths of a second).
fn age_of_this_program() -> i64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let (stat, uptime) = (read("/proc/self/stat"), read("/proc/uptime"));
    let started: i64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
    let up: i64 = uptime.split('.').next().unwrap().parse().unwrap();
    up - started / 100 + 1
}

#[test]
fn the_document_has_the_schema_of_the_design() {
    let lab = family();
    let json = lab.bootenv(&["list", "--json"]).ok().json();
    // DESIGN, section 5, and the store's identity.
    let schema = serde_json::json!({"version": 1, "store": {"kind": "", "name": "", "uuid": ""}, "boot_environments": [
        {"name": "", "uuid": "", "active_now": true, "active_on_reboot": true, "active_once": true, "mountpoint": null,
         "used_bytes": null, "created": "", "description": null, "origin": null, "policy": "", "datasets": [""],
         "snapshots": [{"name": "", "created": "", "description": null}], "zones": [""],
         "boot": {"kernel": "", "entry": ""}}]});
    fits(&json, &schema, "list");
    assert_eq!(json["version"], 1);
    let bes = json["boot_environments"].as_array().unwrap();
    assert_eq!(bes.len(), 3);
    let zebra = &bes[1];
    assert_eq!(
        (&zebra["name"], &zebra["active_on_reboot"], &zebra["active_once"]),
        (&"zebra".into(), &true.into(), &false.into())
    );
    assert_eq!(
        (&bes[2]["name"], &bes[2]["active_once"], &bes[2]["origin"]),
        (&"ant".into(), &true.into(), &"zebra@base".into())
    );
    assert_eq!(zebra["snapshots"][0]["name"], "zebra@base");
    assert_eq!(zebra["snapshots"][0]["description"], "as shipped");
    assert_eq!(zebra["datasets"], serde_json::json!(["ROOT/zebra", "ROOT/zebra/var/lib/machines"]));
    assert_eq!(zebra["boot"], serde_json::json!({"kernel": "ROOT/zebra/boot/vmlinuz-6.12.1-amd64", "entry": "zebra"}));
    for be in bes {
        let created = be["created"].as_str().unwrap();
        let age = chrono::Utc::now() - chrono::DateTime::parse_from_rfc3339(created).unwrap().to_utc();
        let oldest = if be["name"] == "default" { age_of_this_program() } else { 600 };
        assert!((0..oldest).contains(&age.num_seconds()), "{created}");
        assert!(created.ends_with('Z'));
        uuid::Uuid::parse_str(be["uuid"].as_str().unwrap()).unwrap();
    }
}

#[test]
fn a_mounted_be_shows_where() {
    let lab = family();
    let dir = lab.path("a dir");
    std::fs::create_dir(&dir).unwrap();
    lab.bootenv(&["mount", "ant", dir.to_str().unwrap()]).ok();
    assert_eq!(lab.be("ant")["mountpoint"], dir.to_str().unwrap());
    assert_eq!(script(&lab, &["ant"])[0][2], dir.to_str().unwrap());
    assert_eq!(lab.be("zebra")["mountpoint"], Value::Null);
}

#[test]
fn a_be_mounted_where_no_text_can_say_is_listed_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let dir = lab.path("").join(std::ffi::OsStr::from_bytes(b"odd\xff"));
    std::fs::create_dir(&dir).unwrap();
    let mut command = lab.command(&["mount", "blue"]);
    assert!(command.arg(&dir).status().unwrap().success());
    assert_eq!(lab.names(), ["default", "blue"]);
    assert!(lab.be("blue")["mountpoint"].as_str().unwrap().contains("odd"));
    lab.bootenv(&["list"]).ok();
    lab.bootenv(&["unmount", "blue"]).ok();
}

#[test]
fn descriptions_cannot_draw_on_the_terminal_nor_break_lines() {
    let lab = Lab::new();
    let text = "one\ttwo\nthree \u{1b}[2J\u{7f} \u{9b}31m ü 日本";
    lab.bootenv(&["describe", "default", text]).ok();
    assert_eq!(lab.be("default")["description"], text);
    for args in [&["list"][..], &["list", "-H"], &["list", "-a"]] {
        let out = lab.bootenv(args).ok().stdout;
        assert!(!out.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{out:?}");
        assert!(out.contains("ü 日本"));
    }
    assert_eq!(script(&lab, &[]).len(), 1);
    assert_eq!(script(&lab, &[])[0].len(), 7);
    assert_eq!(lab.menu().len(), 1);
    let title = lab.entry("default").unwrap().title;
    assert!(title.contains("ü 日本") && !title.chars().any(char::is_control), "{title:?}");
}

#[test]
fn alone_it_shows_what_runs_and_what_boots_next() {
    let lab = family();
    let json = lab.json(&[]).ok().json();
    assert_eq!((&json["running"], &json["on_reboot"], &json["once"]), (&Value::Null, &"zebra".into(), &"ant".into()));
    assert_eq!((&json["boot_environments"], &json["attention"]), (&3.into(), &serde_json::json!([])));
    let out = lab.bootenv(&[]).ok().stdout;
    assert!(out.contains("ant (once; then zebra)"), "{out}");
    assert_eq!(lab.bootenv(&["status"]).ok().stdout, out);
    assert_eq!(lab.bootenv(&["-q"]).ok().stdout, "");
}

#[test]
fn listing_changes_nothing() {
    let lab = family();
    let before = lab.print();
    for args in [&["list", "-a"][..], &["list", "--json"], &["list", "--tree"], &[], &["status", "--json"], &["check"]]
    {
        lab.bootenv(args).ok();
        before.assert_same(&lab.print(), &format!("{args:?}"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let lab = family();
    let binary = env!("CARGO_BIN_EXE_bootenv");
    let script = format!("set -o pipefail; '{binary}' --store '{}' list -a | true", lab.store().display());
    assert_eq!(crate::lab::try_sh(&script).stderr, "");
}
