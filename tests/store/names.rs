//! Names: what is one, and what each verb makes of one that is none, or that is taken, or that is nobody's.

use crate::lab::{Kind, Lab, Ran, kind, mounts};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Verbs that take the name of something new, with the name last.
const NEW: &[&[&str]] =
    &[&["create"], &["create", "-e", "default"], &["rename", "default"], &["init", "--from", "/", "--name"]];

/// Verbs that take the name of a BE that is there, with the name last.
const OLD: &[&[&str]] = &[
    &["list"],
    &["activate"],
    &["activate", "-t"],
    &["activate", "-T"],
    &["destroy"],
    &["destroy", "-s", "-o", "-f", "-F"],
    &["mount"],
    &["unmount"],
    &["create", "new", "-e"],
];

/// What is no name, as bytes: argv may hold anything but NUL.
fn bad_names() -> Vec<Vec<u8>> {
    let text = [
        "",
        "/",
        "a/b",
        "/a",
        "a/",
        ".",
        "..",
        ".a",
        "../a",
        "-",
        "--",
        "-a",
        "--all",
        "a b",
        " a",
        "a ",
        "a\nb",
        "a\tb",
        "a\u{1}",
        "a\u{7f}",
        "ü",
        "日本",
        "a\u{200b}",
        "a'b",
        "a\"b",
        "a$b",
        "a`b`",
        "a;b",
        "a*",
        "a?",
        "a[b]",
        "{a}",
        "a\\b",
        "a%b",
        "a=b",
        "a,b",
        "a+b",
        "a!b",
        "~",
        "~a",
        "#a",
        "_a",
        ":a",
        "@",
        "@a",
        "a@",
        "a@b@c",
        "a@b/c",
        "a@.b",
        "a@-b",
    ];
    let mut all: Vec<Vec<u8>> = text.iter().map(|t| t.as_bytes().to_vec()).collect();
    all.extend([
        b"a\xff".to_vec(),
        b"\xff\xfe".to_vec(),
        b"a\xc3".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        vec![b'n'; 256],
        vec![b'n'; 5000],
        b"a@\xff".to_vec(),
    ]);
    all
}

fn run(lab: &Lab, args: &[&str], name: &[u8]) -> Ran {
    let mut command = lab.command(&[&["--json"], args].concat());
    // So that `-a` is a name, and not the option.
    if !args.last().unwrap().starts_with('-') {
        command.arg("--");
    }
    command.arg(OsStr::from_bytes(name)).output().unwrap().into()
}

#[test]
fn a_name_that_is_none_is_refused_by_every_verb_and_nothing_changes() {
    let lab = Lab::new();
    let before = (lab.print(), mounts());
    let every_name = bad_names().into_iter().map(|name| (name, &["create"][..]));
    let some_names = [&b""[..], b"..", b"-a", b"a/b", b"a b", b"a\xff", b"a@b@c", &[b'n'; 256]];
    let every_verb = NEW.iter().chain(OLD).flat_map(|args| some_names.map(|name| (name.to_vec(), *args)));
    for (name, args) in every_name.chain(every_verb) {
        // A path is what `unmount` takes too; nothing is mounted there.
        let expected = if args[0] == "unmount" && name.contains(&b'/') { 4 } else { 2 };
        let ran = run(&lab, args, &name);
        assert_eq!(ran.status, expected, "{args:?} {:?}: {}{}", String::from_utf8_lossy(&name), ran.stdout, ran.stderr);
        ran.refused(expected, &[]);
    }
    before.0.assert_same(&lab.print(), "a bad name changed something");
    assert_eq!(before.1, mounts());
}

#[test]
fn the_error_shows_the_name_and_why_without_drawing_on_the_terminal() {
    let lab = Lab::new();
    for (name, words) in [
        (&b""[..], &["empty"][..]),
        (b"a b", &["\"a b\"", "' '"]),
        (b"a\x1b[2Jb", &["\\u{1b}"]),
        (b"-a", &["\"-a\"", "begins with"]),
        (b".a", &["begins with"]),
        (&[b'n'; 300], &["300 bytes"]),
    ] {
        let ran: Ran = lab.command(&["create", "--"]).arg(OsStr::from_bytes(name)).output().unwrap().into();
        let ran = ran.fails(2, words);
        assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
        assert!(ran.stderr.len() < 600, "a name of any length is shown in full");
    }
}

#[test]
fn names_with_every_character_that_is_allowed() {
    let lab = Lab::new();
    for name in [
        "a",
        "0",
        "A_b.c:d-e",
        "6.12.1-3",
        "0-0",
        "x.new",
        "x.bootenv-new",
        "ROOT",
        "SHARED",
        "lock",
        "a..b",
        "-".repeat(9).replacen('-', "z", 1).as_str(),
    ] {
        lab.bootenv(&["create", name]).ok();
        let snapshot = format!("{name}@{name}");
        lab.bootenv(&["create", &snapshot]).ok();
        assert_eq!(lab.be(name)["snapshots"][0]["name"], snapshot);
        assert_eq!(lab.entry(name).unwrap().path, format!("ROOT/{name}"));
        lab.bootenv(&["activate", name]).ok();
        assert_eq!(lab.asked("default").as_deref(), Some(name));
    }
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn names_that_differ_by_case_are_different() {
    let lab = Lab::new();
    lab.bootenv(&["create", "Blue"]).ok();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["destroy", "Blue"]).ok();
    assert_eq!(lab.names(), ["default", "blue"]);
}

#[test]
fn what_is_nobodys_name_is_not_found() {
    let lab = Lab::new();
    lab.bootenv(&["create", "default@then"]).ok();
    for args in OLD {
        lab.refuses(&[*args, &["none"]].concat(), 4, &["none", "default"]);
    }
    for args in [
        &["rename", "none", "new"][..],
        &["describe", "none", "text"],
        &["describe", "default@none", "text"],
        &["describe", "none@then", "text"],
        &["rollback", "default@none"],
        &["rollback", "none@then"],
        &["destroy", "default@none"],
        &["create", "none@then"],
        &["create", "-e", "default@none", "new"],
        &["create", "-e", "none@then", "new"],
    ] {
        lab.refuses(args, 4, &["none"]);
    }
}

#[test]
fn what_is_taken_is_not_given_again() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@then"]).ok();
    let root = lab.root("");
    let from = root.to_str().unwrap();
    for args in [
        &["create", "blue"][..],
        &["create", "-a", "blue"],
        &["create", "-e", "blue", "default"],
        &["create", "-e", "blue", "blue"],
        &["create", "blue@then"],
        &["rename", "blue", "default"],
        &["rename", "default", "blue"],
        &["init", "--from", from, "--name", "blue"],
    ] {
        lab.refuses(args, 3, &[]);
    }
    assert_eq!(lab.json(&["rename", "blue", "blue"]).ok().json()["changed"], false, "its own name it has already");
}

#[test]
fn a_snapshot_is_no_be_and_a_be_no_snapshot() {
    let lab = Lab::new();
    lab.bootenv(&["create", "default@then"]).ok();
    for args in [
        &["rollback", "default"][..],
        &["list", "default@then"],
        &["activate", "default@then"],
        &["rename", "default@then", "new"],
        &["rename", "default", "default@new"],
        &["mount", "default@then"],
        &["create", "-a", "default@other"],
        &["create", "-t", "default@other"],
        &["create", "-e", "default", "default@other"],
        &["destroy", "-s", "default@then"],
        &["destroy", "-o", "default@then"],
        &["create", "-o", "compression", "new"],
    ] {
        lab.refuses(args, 2, &[]);
    }
    if kind() == Kind::Btrfs {
        lab.refuses(&["create", "-o", "compression=on", "new"], 2, &["propert"]);
    }
}
