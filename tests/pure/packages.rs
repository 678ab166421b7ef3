//! Package databases, read from files as their programs have left them, and from files that nobody should have.
//!
//! Those in `rpm/` are of rpm 4.20: a database in SQLite that was closed, in pages small enough for a tree of them; one whose last package is only
//! in the log, as a process leaves it that is killed; one of the backend ndb.

use bootenv::error::Kind;
use bootenv::package::{Changes, changes};
use bootenv::sys::tree::Tree;
use proptest::prelude::*;

const CLOSED: &[u8] = include_bytes!("rpm/closed.sqlite");
const KILLED: &[u8] = include_bytes!("rpm/killed.sqlite");
const KILLED_LOG: &[u8] = include_bytes!("rpm/killed.sqlite-wal");
const NDB: &[u8] = include_bytes!("rpm/Packages.db");

const SQLITE: &str = "var/lib/rpm/rpmdb.sqlite";

/// What is installed in a root with these files.
fn installed(files: &[(&str, &[u8])]) -> bootenv::error::Result<Changes> {
    let [empty, root] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    for (path, bytes) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    changes(&Tree::at(empty.path()).unwrap(), &Tree::at(root.path()).unwrap())
}

fn names(changes: &Changes) -> Vec<String> {
    changes.added.iter().map(|(name, version)| format!("{name} {version}")).collect()
}

#[test]
fn each_database_of_rpm_says_the_same() {
    let cases: [&[(&str, &[u8])]; 4] = [
        &[(SQLITE, CLOSED)],
        &[("usr/lib/sysimage/rpm/rpmdb.sqlite", CLOSED), ("usr/lib/sysimage/rpm/rpmdb.sqlite-wal", b"")],
        &[(SQLITE, KILLED), ("var/lib/rpm/rpmdb.sqlite-wal", KILLED_LOG)],
        &[("usr/lib/sysimage/rpm/Packages.db", NDB)],
    ];
    for files in cases {
        let told = installed(files).unwrap();
        assert_eq!(names(&told), ["logger.noarch 1-1", "tool.noarch 1-1"], "{}", files[0].0);
        assert_eq!(told.services, ["logger.service"], "{}", files[0].0);
    }
    // Without its log, or with one that is cut off, the last package has never been installed.
    let cut = &KILLED_LOG[..KILLED_LOG.len() - 1];
    for files in [&[(SQLITE, KILLED)][..], &[(SQLITE, KILLED), ("var/lib/rpm/rpmdb.sqlite-wal", cut)]] {
        assert_eq!(names(&installed(files).unwrap()), ["logger.noarch 1-1"]);
    }
}

#[test]
fn a_root_with_two_package_managers_tells_both() {
    let dpkg = "Package: dpkg\nStatus: install ok installed\nVersion: 1.22\n";
    let told = installed(&[("var/lib/dpkg/status", dpkg.as_bytes()), (SQLITE, CLOSED)]).unwrap();
    assert_eq!(names(&told), ["dpkg 1.22", "logger.noarch 1-1", "tool.noarch 1-1"]);
    // A tool that has never installed anything has an empty one.
    let told = installed(&[("var/lib/dpkg/status", dpkg.as_bytes()), (SQLITE, b"")]).unwrap();
    assert_eq!(names(&told), ["dpkg 1.22"]);
}

#[test]
fn what_is_no_database_is_told_with_its_file() {
    for (path, bytes, words) in [
        (SQLITE, &b"SQLite format 3 and then something else, long enough to be a head of a hundred bytes and more, which it is not at all"[..], "rpmdb.sqlite"),
        (SQLITE, &CLOSED[..600], "rpmdb.sqlite"),
        ("var/lib/rpm/Packages.db", b"RpmP", "Packages.db"),
        ("var/lib/pacman/local/tool-1-1/desc", b"%NAME%\ntool\n", "local/tool-1-1/desc"),
        ("var/lib/pacman/local/tool-1-1/files", b"", "local/tool-1-1/desc"),
        ("lib/apk/db/installed", b"P:tool\n\n", "lib/apk/db/installed"),
        ("lib/apk/db/installed", b"P:tool\nV:1\n\nwhat is this\n", "line 4"),
    ] {
        let e = installed(&[(path, bytes)]).unwrap_err();
        assert!(e.kind == Kind::Failed && e.message.contains("is damaged") && e.message.contains(words), "{path}: {e}");
    }
    let e = installed(&[("var/lib/rpm/Packages", b"")]).unwrap_err();
    assert!(e.kind == Kind::Refused && e.message.contains("Berkeley DB") && e.hint.is_some(), "{e}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever is written over a database, it is read or told to be damaged, and soon.
    #[test]
    fn a_damaged_database_is_never_more_than_an_error(
        which in 0..4usize,
        written in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut files = vec![
            vec![(SQLITE, CLOSED.to_vec())],
            vec![(SQLITE, KILLED.to_vec()), ("var/lib/rpm/rpmdb.sqlite-wal", KILLED_LOG.to_vec())],
            vec![("var/lib/rpm/rpmdb.sqlite-wal", KILLED_LOG.to_vec()), (SQLITE, KILLED.to_vec())],
            vec![("var/lib/rpm/Packages.db", NDB.to_vec())],
        ].swap_remove(which);
        let bytes = &mut files[0].1;
        for (at, byte) in written {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
        if let Err(e) = installed(&files) {
            prop_assert!(e.message.contains("is damaged"), "{}", e);
        }
    }
}
