//! What must hold whatever comes in.

use bootenv::domain::shared::{SHARED_LIST, Standing, classify_link, link_target};
use bootenv::domain::{BeName, NAME_MAX, SnapName, Target, fstab, kernel};
use bootenv::error::Kind;
use proptest::prelude::*;
use std::cmp::Ordering;

fn config() -> ProptestConfig {
    // A case that fails is printed, and belongs into a test of its own; nothing is written into the checkout.
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

/// Any text, and text that is nearly a name.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-zA-Z0-9_.:@-]{0,20}", "[a-z]{250,260}", "[a-z/@ .\\-\n\u{0}-\u{1f}]{0,6}"]
}

/// A name that needs no quoting anywhere, and no step up or down in a path.
fn safe(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
        && name.as_bytes()[0].is_ascii_alphanumeric()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn names_that_are_taken_are_safe(text in texts()) {
        let parsed = [BeName::parse(&text).map(String::from), SnapName::parse(&text).map(String::from)];
        for (parsed, longest) in parsed.into_iter().zip([250, NAME_MAX]) {
            match parsed {
                Ok(name) => {
                    prop_assert!(safe(&name, longest));
                    prop_assert_eq!(&name, &text);
                }
                Err(e) => {
                    prop_assert!(!safe(&text, longest), "{:?} was not taken: {}", text, e.message);
                    prop_assert_eq!(e.kind, Kind::Usage);
                    prop_assert!(e.hint.is_some());
                    // It is shown on a terminal.
                    prop_assert!(!e.message.chars().any(char::is_control), "{:?}", e.message);
                    prop_assert!(e.message.len() < 600);
                }
            }
        }
    }

    #[test]
    fn targets_are_names_around_one_at(text in texts()) {
        match Target::parse(&text) {
            Ok(target) => {
                prop_assert_eq!(target.to_string(), text.clone());
                prop_assert!(text.len() <= NAME_MAX);
                prop_assert!(text.split('@').all(|part| safe(part, NAME_MAX)) && text.matches('@').count() <= 1);
                prop_assert_eq!(target.be().as_str(), text.split('@').next().unwrap());
            }
            Err(e) => prop_assert_eq!(e.kind, Kind::Usage),
        }
    }

    #[test]
    fn a_bad_name_in_a_file_is_refused_as_on_the_command_line(text in texts()) {
        let document = toml::to_string(&std::collections::BTreeMap::from([("name", &text)])).unwrap();
        #[derive(serde::Deserialize)]
        struct File { name: BeName }
        let read = toml::from_str::<File>(&document).map(|f| f.name.to_string()).ok();
        prop_assert_eq!(read, BeName::parse(&text).ok().map(String::from));
    }
}

/// A line of an fstab that parses, with any spacing, and any line that is none.
fn line() -> impl Strategy<Value = String> {
    let blank = "[ \t]{1,3}";
    let target = prop_oneof!["/", "/boot/efi", "/var/log", "none", "/mnt/a\\\\040b", "/var/sharedx"];
    let fstype = prop_oneof!["btrfs", "ext4", "swap"];
    let option = prop_oneof!["defaults", "subvol=@", "subvolid=5", "noatime", "compress=zstd:1", "x-y=subvol"];
    let options = proptest::collection::vec(option, 1..4).prop_map(|o| o.join(","));
    let tail = prop_oneof!["", " 0", "\t0 1", " 0 0 # why", "  "];
    let entry = ("[ \t]{0,2}", "UUID=[a-f0-9]{4}", blank, target, blank, fstype, blank, options, tail)
        .prop_map(|(a, b, c, d, e, f, g, h, i)| [a, b, c, d, e, f, g, h, i].concat());
    prop_oneof![4 => entry, 1 => "[ \t]{0,3}", 1 => "[ \t]{0,2}#[ -~\u{e9}\t]{0,30}"]
}

fn fstab_text() -> impl Strategy<Value = String> {
    (proptest::collection::vec((line(), prop_oneof![9 => Just("\n"), 1 => Just("\r\n")]), 0..8), any::<bool>())
        .prop_map(|(lines, whole)| {
            let text: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
            if whole { text } else { text.trim_end_matches(['\n', '\r']).to_string() }
        })
}

fn adapted(text: &str, add: bool) -> (String, Vec<String>) {
    fstab::adapt(text, add.then_some("UUID=1234-abcd /var/shared btrfs subvol=SHARED 0 0")).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_fstab_is_adapted_once(text in fstab_text(), add: bool) {
        let (once, _) = adapted(&text, add);
        let (twice, notes) = adapted(&once, add);
        prop_assert_eq!(&once, &twice);
        prop_assert!(notes.is_empty(), "{:?}", notes);
    }

    #[test]
    fn other_lines_of_an_fstab_stay_byte_for_byte(text in fstab_text(), add: bool) {
        let entries = fstab::parse(&text).unwrap();
        let root = entries.iter().find(|e| e.target == "/" && e.fstype == "btrfs").map(|e| e.line - 1);
        let had = entries.iter().any(|e| e.target == "/var/shared");
        let (new, notes) = adapted(&text, add);
        let (before, after): (Vec<&str>, Vec<&str>) = (text.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
        prop_assert_eq!(after.len(), before.len() + usize::from(add && !had));
        for (number, (old, new)) in before.iter().zip(&after).enumerate() {
            if Some(number) == root {
                continue;
            }
            // A last line without an end gets one when something follows it.
            let last = number + 1 == before.len() && !old.ends_with('\n') && after.len() > before.len();
            let old = if last { format!("{old}\n") } else { old.to_string() };
            prop_assert_eq!(&old, new);
        }
        prop_assert_eq!(notes.is_empty(), new == text, "notes say what changed, and only that");
    }

    #[test]
    fn an_adapted_fstab_mounts_the_same_without_naming_a_subvolume_for_the_root(text in fstab_text()) {
        let (new, _) = adapted(&text, true);
        let (before, after) = (fstab::parse(&text).unwrap(), fstab::parse(&new).unwrap());
        for (old, new) in before.iter().zip(&after) {
            prop_assert_eq!((&old.source, &old.target, &old.fstype), (&new.source, &new.target, &new.fstype));
        }
        if let Some(root) = after.iter().find(|e| e.target == "/" && e.fstype == "btrfs") {
            prop_assert!(!root.options.split(',').any(|o| o.starts_with("subvol=") || o.starts_with("subvolid=")));
        }
        let shared: Vec<_> = after.iter().filter(|e| e.target == "/var/shared").collect();
        prop_assert_eq!(shared.len(), 1);
        prop_assert_eq!((shared[0].source.as_str(), shared[0].options.as_str()), ("UUID=1234-abcd", "subvol=SHARED"));
    }

    /// Whatever stands in the file: refused with its line, or adapted so that it still parses.
    #[test]
    fn any_text_as_fstab(text in prop_oneof![any::<String>(), "[ -~\t\n\u{a0}\u{b}\u{c}]{0,80}"]) {
        match (fstab::parse(&text), fstab::adapt(&text, Some("UUID=u /var/shared btrfs subvol=SHARED 0 0"))) {
            (Err(e), Err(_)) => {
                prop_assert_eq!(e.kind, Kind::Refused);
                prop_assert!(e.message.contains("line") && e.hint.is_some());
            }
            (Ok(entries), Ok((new, _))) => prop_assert!(fstab::parse(&new).unwrap().len() >= entries.len()),
            (a, b) => prop_assert!(false, "{:?} {:?}", a, b),
        }
    }
}

/// A version as distributions write them, and anything else.
fn version() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[0-9]{1,2}(\\.[0-9]{1,3}){0,2}(~rc[0-9]|-[0-9a]{1,3}|\\+b1)?(-amd64)?", 1 => "[0-9.~a\\-]{0,6}", 1 => any::<String>()]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn versions_have_a_total_order(a in version(), b in version(), c in version()) {
        use kernel::compare;
        prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
            prop_assert_ne!(compare(&a, &c), Ordering::Greater, "{:?} <= {:?} <= {:?}", a, b, c);
        }
        if compare(&a, &b) == Ordering::Equal {
            prop_assert_eq!(compare(&a, &c), compare(&b, &c), "{:?} = {:?}, but not beside {:?}", a, b, c);
        }
    }

    #[test]
    fn a_release_is_newer_than_its_candidates_and_older_than_its_fixes(text in "[0-9]{1,2}(\\.[0-9]{1,3}){0,2}", n in 1u32..99) {
        prop_assert_eq!(kernel::compare(&format!("{text}~rc{n}"), &text), Ordering::Less);
        prop_assert_eq!(kernel::compare(&text, &format!("{text}.{n}")), Ordering::Less);
        prop_assert_eq!(kernel::compare(&format!("{text}.{n}"), &format!("{text}.{}", n + 1)), Ordering::Less);
    }

    /// The directory's order does not matter, nothing is made up, and nothing newer is passed over.
    #[test]
    fn the_newest_kernel(
        mut files in proptest::collection::vec(
            ("(vmlinuz|vmlinux|Image|initrd\\.img|initramfs|config)", "(-[1-6]\\.[0-9]{1,2}(-amd64)?)?", "(\\.img|\\.old|\\.gz)?")
                .prop_map(|(a, b, c)| format!("{a}{b}{c}")), 0..8),
        turn in 0usize..8,
    ) {
        let found = kernel::newest(&files);
        if let Some(kernel) = &found {
            prop_assert!(files.contains(&kernel.image));
            prop_assert!(kernel.initrd.as_ref().is_none_or(|i| files.contains(i)));
            let version = |f: &str| f.strip_prefix("vmlinuz-").filter(|v| !v.contains(".old") && !v.contains(".gz") && !v.contains(".img")).map(str::to_string);
            for other in files.iter().filter_map(|f| version(f)) {
                let chosen = kernel.image.split_once('-').map(|(_, v)| v).unwrap_or("");
                prop_assert_ne!(kernel::compare(chosen, &other), Ordering::Less, "{:?} over {}", kernel, other);
            }
        } else {
            prop_assert!(!files.iter().any(|f| f == "vmlinuz"));
        }
        if !files.is_empty() {
            let turn = turn % files.len();
            files.rotate_left(turn);
        }
        prop_assert_eq!(kernel::newest(&files), found);
    }

    /// A symlink that counts as leading into the shared dataset, or to a sibling that moves there too, never leads out of `/var`.
    #[test]
    fn links_are_never_mistaken_for_safe_ones(
        which in 0usize..4,
        target in prop_oneof![any::<String>(), "(\\./|/|/var/|\\.\\./)?(log|mail|spool|adm|shared|x|\\.\\.)(/(log|mail|\\.\\.|x)){0,3}/?"],
    ) {
        let name = SHARED_LIST[which];
        match classify_link(name, &target) {
            Standing::Done => prop_assert!(target.ends_with(name) || target.ends_with('/')),
            Standing::SiblingLink => {
                prop_assert!(!target.split('/').any(|part| part == ".."));
                prop_assert!(!target.starts_with('/') || target.starts_with("/var/"));
            }
            Standing::ForeignLink(to) => prop_assert_eq!(to, target),
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(classify_link(name, &link_target(name)), Standing::Done);
    }
}
