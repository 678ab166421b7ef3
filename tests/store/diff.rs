//! `diff`: every difference, once, whatever the history.

use crate::lab::{Kind, Lab, only_on, sh};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What `diff` tells of paths, as it prints it.
fn told(lab: &Lab, args: &[&str]) -> Vec<String> {
    lab.bootenv(&[&["diff"], args].concat()).ok().stdout.lines().map(str::to_string).collect()
}

/// Runs a script in the files of a BE.
fn inside(lab: &Lab, be: &str, script: &str) {
    sh(&format!("set -e; cd '{}'; {script}", lab.files(be).display()));
}

/// `default`, with some files, and `blue`, made from it.
fn two() -> Lab {
    let lab = Lab::new();
    inside(
        &lab,
        "default",
        "mkdir -p srv/a/b srv/c; for f in one two three srv/a/b/x srv/c/y; do echo $f > $f; done; ln one uno; ln -s one link",
    );
    lab.bootenv(&["create", "blue"]).ok();
    lab
}

#[test]
fn each_kind_of_difference_is_told_in_the_order_of_the_paths() {
    let lab = two();
    assert_eq!(told(&lab, &["default", "blue"]), [""; 0]);
    inside(
        &lab,
        "blue",
        "echo more >> two; chmod 600 three; chown 5:6 srv/c/y; setfattr -n user.x -v 1 one; ln -sf two link; rm -r srv/a
         mkdir new; echo 1 > new/file; mkfifo new/pipe; rm etc/fstab; mkdir etc/fstab; touch etc/fstab/in; mv srv/c srv/d",
    );
    let expected = "M /etc/fstab (type)
+ /etc/fstab/in
M /link
+ /new
+ /new/file
+ /new/pipe
M /one (attributes)
- /srv/a
- /srv/a/b
- /srv/a/b/x
- /srv/c
- /srv/c/y
+ /srv/d
+ /srv/d/y
M /three (mode)
M /two
M /uno (attributes)";
    assert_eq!(told(&lab, &["default", "blue"]).join("\n"), expected);
    let back: Vec<String> = told(&lab, &["blue", "default"]);
    assert!(back.contains(&"- /new/file".into()) && back.contains(&"+ /srv/a/b/x".into()), "{back:?}");
    let document = lab.json(&["diff", "default", "blue"]).ok().json();
    assert_eq!((&document["old"], &document["new"]), (&"default".into(), &"blue".into()));
    assert_eq!(document["files"].as_array().unwrap().len(), expected.lines().count());
    assert_eq!(document["files"][0], serde_json::json!({"path": "/etc/fstab", "change": "changed", "what": ["type"]}));
}

#[test]
fn a_time_alone_is_no_difference_and_content_is_one_without_it() {
    let lab = two();
    inside(
        &lab,
        "blue",
        "touch two; chmod 600 three; chmod 644 three; touch -r one stamp; echo eno > one; touch -r stamp one; rm stamp",
    );
    assert_eq!(told(&lab, &["default", "blue"]), ["M /one", "M /uno"]);
}

#[test]
fn odd_names_stay_on_their_line() {
    let lab = two();
    inside(
        &lab,
        "blue",
        r#"touch "$(printf 'a\nb')" "$(printf 'c\\d')" "$(printf '\377e')" "$(printf '\033[1mf')" 'ü g'"#,
    );
    let all = [r"+ /\x1b[1mf", r"+ /a\x0ab", r"+ /c\\d", "+ /ü g", r"+ /\xffe"];
    assert_eq!(told(&lab, &["default", "blue"]), all);
    let document = lab.json(&["diff", "default", "blue"]).ok().json();
    assert_eq!(document["files"][1]["path"], "/a\nb");
    assert_eq!(document["files"][4]["path_bytes"], serde_json::json!([b'/', 0xff, b'e']));
}

#[test]
fn on_a_terminal_a_pager_shows_it() {
    let lab = two();
    inside(&lab, "blue", "echo more >> two");
    lab.leave_top();
    let command = format!("{} --store '{}' diff default blue", env!("CARGO_BIN_EXE_bootenv"), lab.store().display());
    let shown = |pager: &str| sh(&format!("{pager} script -qec \"{command}\" /dev/null </dev/null"));
    assert_eq!(shown("PAGER='tr a-z A-Z'").trim_end(), "M /TWO");
    assert_eq!(shown("PAGER=").trim_end(), "M /two");
    assert_eq!(sh(&format!("PAGER=false {command}")), "M /two\n", "nobody looks");
}

#[test]
fn no_symlink_is_followed() {
    let lab = two();
    // What was a directory leads to the host's now, and what was a file to one that cannot be read to its end.
    inside(&lab, "blue", "rm -r srv/a; ln -s /etc srv/a; rm two; mkfifo two; rm three; ln -s /dev/zero three");
    let expected = ["M /srv/a (type)", "- /srv/a/b", "- /srv/a/b/x", "M /three (type)", "M /two (type)"];
    assert_eq!(told(&lab, &["default", "blue"]), expected);
}

#[test]
fn snapshots_siblings_and_what_was_rolled_back() {
    let lab = two();
    lab.bootenv(&["create", "blue@then"]).ok();
    lab.bootenv(&["create", "-e", "default", "green"]).ok();
    inside(&lab, "blue", "echo b > two");
    inside(&lab, "green", "echo g > three");
    assert_eq!(told(&lab, &["blue@then", "blue"]), ["M /two"]);
    assert_eq!(told(&lab, &["green", "blue"]), ["M /three", "M /two"]);
    assert_eq!(told(&lab, &["default", "blue@then"]), [""; 0]);
    lab.bootenv(&["rollback", "-F", "blue@then"]).ok();
    inside(&lab, "blue", "echo 2 > new");
    assert_eq!(told(&lab, &["green", "blue"]), ["+ /new", "M /three"]);
    // What it all came from goes.
    lab.bootenv(&["activate", "green"]).ok();
    lab.bootenv(&["destroy", "-F", "default"]).ok();
    assert_eq!(told(&lab, &["green", "blue"]), ["+ /new", "M /three"]);
    inside(&lab, "green", "echo and later > two");
    assert_eq!(told(&lab, &["green", "blue"]), ["+ /new", "M /three", "M /two"]);
}

#[test]
fn what_is_nested_is_compared_too() {
    let lab = two();
    inside(&lab, "default", "echo n > var/lib/machines/note");
    lab.bootenv(&["create", "green"]).ok();
    inside(&lab, "green", "echo more >> var/lib/machines/note; touch var/lib/machines/new");
    assert_eq!(told(&lab, &["default", "green"]), ["+ /var/lib/machines/new", "M /var/lib/machines/note"]);
}

#[test]
fn roots_without_a_common_past_are_compared_as_a_whole() {
    let lab = Lab::new();
    let other = lab.files("other");
    lab.nest_at(&other, "mkdir -p etc usr srv/a; echo same > srv/a/same; echo other > srv/one; touch srv/only");
    inside(&lab, "default", "mkdir -p srv/a; echo same > srv/a/same; echo here > srv/one");
    let mut told = told(&lab, &["default", "other"]);
    told.retain(|line| line.contains("/srv/"));
    assert_eq!(told, ["M /srv/one", "+ /srv/only"]);
}

#[test]
fn a_root_at_the_top_of_the_store_is_compared_without_the_store() {
    if !only_on(Kind::Btrfs, "no root lies at the top of a pool") {
        return;
    }
    let lab = Lab::empty();
    lab.foreign("", "echo here > etc/marker");
    lab.bootenv(&["init"]).ok();
    let name = lab.names()[0].clone();
    let inside_it = lab.top().join("etc/marker");
    std::fs::write(&inside_it, "and now\n").unwrap();
    let told = told(&lab, &["default", &name]);
    assert!(told.contains(&"M /etc/marker".into()), "{told:?}");
    assert!(!told.iter().any(|line| line.contains("BOOTENV") || line.contains("/ROOT")), "{told:?}");
    // As `init` has made it: nothing but that.
    let kept = told.iter().filter(|line| !["/var", "/etc", "/usr/share"].iter().any(|dir| line[2..].starts_with(dir)));
    assert_eq!(kept.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn packages_are_told_by_name_and_version() {
    let lab = two();
    inside(
        &lab,
        "default",
        "mkdir -p var/lib/dpkg; printf 'Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: install ok installed\nVersion: 1\n' > var/lib/dpkg/status",
    );
    lab.bootenv(&["create", "green"]).ok();
    inside(&lab, "green", "sed -i 's/: b/: c/; s/: 1/: 2/' var/lib/dpkg/status");
    assert_eq!(told(&lab, &["--packages", "default", "green"]), ["+ c 2", "- b 1", "M a 1 -> 2"]);
    let document = lab.json(&["diff", "--packages", "default", "green"]).ok().json();
    assert_eq!(document["packages"]["changed"], serde_json::json!([["a", "1", "2"]]));
}

#[test]
fn what_is_not_there_is_refused() {
    let lab = two();
    lab.refuses(&["diff", "default", "no"], 4, &["no"]);
    lab.refuses(&["diff", "blue@no"], 4, &["no"]);
    lab.refuses(&["diff", "blue"], 2, &["runs"]);
    lab.refuses(&["diff", "../x", "blue"], 2, &["name"]);
}

/// What is at every path of a tree, as far as `diff` looks at it.
fn walk(dir: &Path, at: &Path, all: &mut BTreeMap<Vec<u8>, String>) {
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, at) = (entry.path(), at.join(entry.file_name()));
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = match () {
            _ if kind.is_file() => format!("{:?}", std::fs::read(&path).unwrap()),
            _ if kind.is_symlink() => format!("{:?}", std::fs::read_link(&path).unwrap()),
            _ => format!("{} {}", kind.is_dir(), kind.is_fifo()),
        };
        all.insert(
            at.as_os_str().as_bytes().to_vec(),
            format!("{:o} {} {} {content}", meta.mode(), meta.uid(), meta.gid()),
        );
        if kind.is_dir() {
            walk(&path, &at, all);
        }
    }
}

/// A change to the files of a BE, on a few names in a few directories.
fn change() -> impl Strategy<Value = String> {
    let path = || (0..3u8, 0..3u8, 0..4u8).prop_map(|(a, b, c)| format!("d{a}/d{b}/f{c}"));
    let dir = || (0..3u8, 0..3u8).prop_map(|(a, b)| format!("d{a}/d{b}"));
    prop_oneof![
        4 => (path(), 0..3u8).prop_map(|(p, n)| format!("mkdir -p $(dirname {p}); rm -rf {p}; echo {n} > {p}")),
        2 => path().prop_map(|p| format!("rm -rf {p}")),
        2 => (path(), path()).prop_map(|(p, q)| format!("mkdir -p $(dirname {q}); mv -T {p} {q}")),
        2 => (dir(), dir()).prop_map(|(p, q)| format!("rm -rf {q}; mv -T {p} {q}")),
        1 => dir().prop_map(|p| format!("rm -rf {p}; ln -s / {p}")),
        1 => (path(), path()).prop_map(|(p, q)| format!("ln {p} {q}")),
        1 => path().prop_map(|p| format!("chmod u+x {p}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: crate::lab::rounds(10) as u32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn it_finds_what_a_walk_finds(
        before in prop::collection::vec(change(), 0..12),
        old in prop::collection::vec(change(), 0..6),
        new in prop::collection::vec(change(), 0..12),
    ) {
        let lab = Lab::new();
        // A change that cannot be made is none.
        let run = |be: &str, changes: &[String]| inside(&lab, be, &format!("cd srv; set +e; exec 2>/dev/null\n{}\ntrue", changes.join("\n")));
        inside(&lab, "default", "mkdir -p srv");
        run("default", &before);
        lab.bootenv(&["create", "blue"]).ok();
        run("default", &old);
        run("blue", &new);
        let [was, is] = ["default", "blue"].map(|be| {
            let mut all = BTreeMap::new();
            walk(&lab.files(be).join("srv"), Path::new("/srv"), &mut all);
            all
        });
        let mut expected: Vec<String> = was.keys().chain(is.keys()).filter(|path| was.get(*path) != is.get(*path))
            .map(|path| String::from_utf8(path.clone()).unwrap()).collect();
        expected.sort();
        expected.dedup();
        let document = lab.json(&["diff", "default", "blue"]).ok().json();
        let mut found: Vec<String> =
            document["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap().to_string()).collect();
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
