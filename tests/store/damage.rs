//! The tool's own files damaged, missing or from a newer version: told with the repair, never a reason to hide a BE.

use crate::lab::{Kind, Lab, foreign, only_on, sh};
use std::path::{Path, PathBuf};

/// `default`, and `blue` with a description, a snapshot and a one-shot.
fn two() -> Lab {
    let lab = Lab::new();
    lab.bootenv(&["create", "-d", "text", "blue"]).ok();
    lab.bootenv(&["create", "-d", "then", "blue@then"]).ok();
    lab.bootenv(&["activate", "-t", "blue"]).ok();
    lab
}

/// Why a case is skipped where facts are in no files.
const FACTS: &str = "facts in files; in a pool they are properties of the datasets";

fn facts(lab: &Lab, be: &str) -> PathBuf {
    lab.home().join(format!("facts/{}.toml", lab.be(be)["uuid"].as_str().unwrap()))
}

/// What `bootenv` alone says needs attention.
fn attention(lab: &Lab) -> String {
    lab.json(&[]).ok().json()["attention"].to_string()
}

/// `check` finds something that says `word`; `check --repair` mends it, and after that nothing is wrong.
#[track_caller]
fn is_mended(lab: &Lab, word: &str) {
    let found = lab.bootenv(&["check"]);
    assert_eq!(found.status, 1, "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains(word), "{word} is not in: {}{}", found.stdout, found.stderr);
    let mended = lab.bootenv(&["check", "--repair"]);
    assert_eq!(mended.status, 0, "{}{}", mended.stdout, mended.stderr);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    assert_eq!(lab.json(&["check"]).ok().json()["healthy"], true);
}

const RUBBISH: [&[u8]; 5] =
    [b"", b"\0\0\0\0", b"not [ toml = ", b"\xff\xfe\xfd", b"version = \"one\"\ndescription = 7\n"];

#[test]
fn damaged_facts_hide_no_be_and_keep_none_from_being_destroyed() {
    if !only_on(Kind::Btrfs, FACTS) {
        return;
    }
    for rubbish in RUBBISH {
        let lab = two();
        lab.bootenv(&["activate", "-T", "blue"]).ok();
        std::fs::write(facts(&lab, "blue"), rubbish).unwrap();
        assert_eq!(lab.names(), ["default", "blue"]);
        if !rubbish.is_empty() {
            assert!(attention(&lab).contains("facts/"), "{rubbish:?}: {}", attention(&lab));
        }
        lab.bootenv(&["create", "-e", "blue", "green"]).ok();
        lab.bootenv(&["rename", "blue", "azure"]).ok();
        lab.bootenv(&["activate", "azure"]).ok();
        lab.bootenv(&["activate", "default"]).ok();
        lab.bootenv(&["destroy", "-s", "azure"]).ok();
        assert_eq!(lab.names(), ["default", "green"]);
        assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    }
}

#[test]
fn damaged_facts_are_put_aside_by_a_repair_and_can_be_written_anew() {
    if !only_on(Kind::Btrfs, FACTS) {
        return;
    }
    let lab = two();
    let file = facts(&lab, "blue");
    std::fs::write(&file, "not [ toml").unwrap();
    is_mended(&lab, "facts/");
    assert_eq!(std::fs::read_to_string(file.with_extension("toml.damaged")).unwrap(), "not [ toml");
    lab.bootenv(&["describe", "blue", "again"]).ok();
    assert_eq!(lab.be("blue")["description"], "again");
}

#[test]
fn facts_of_a_newer_version_are_shown_and_kept_whole() {
    if !only_on(Kind::Btrfs, FACTS) {
        return;
    }
    let lab = two();
    let newer = "version = 2\ndescription = 'from the future'\nflavour = 'sweet'\n\n[more]\nthings = [1, 2]\n";
    let file = facts(&lab, "blue");
    std::fs::write(&file, newer).unwrap();
    assert_eq!(lab.be("blue")["description"], "from the future");
    lab.refuses(&["describe", "blue", "x"], 3, &["newer"]);
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    lab.bootenv(&["check"]).ok();
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
}

#[test]
fn facts_whose_newer_version_cannot_be_read_are_told_and_left_alone() {
    if !only_on(Kind::Btrfs, FACTS) {
        return;
    }
    let lab = two();
    let newer = "version = 7\ndescription = { en = 'hello', de = 'hallo' }\n";
    let file = facts(&lab, "blue");
    std::fs::write(&file, newer).unwrap();
    assert_eq!(lab.names(), ["default", "blue"]);
    assert!(attention(&lab).contains("newer"), "{}", attention(&lab));
    lab.refuses(&["describe", "blue", "x"], 3, &["newer"]);
    let _ = lab.bootenv(&["check", "--repair"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer, "a newer version's file was taken for damage");
}

#[test]
fn fields_that_nobody_knows_are_kept() {
    if !only_on(Kind::Btrfs, FACTS) {
        return;
    }
    let lab = two();
    let file = facts(&lab, "blue");
    std::fs::write(&file, "version = 1\ndescription = 'text'\nflavour = 'sweet'\n[more]\nthings = [1, 2]\n").unwrap();
    lab.bootenv(&["describe", "blue", "changed"]).ok();
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    lab.bootenv(&["rollback", "azure@then"]).ok();
    let text = std::fs::read_to_string(facts(&lab, "azure")).unwrap();
    for kept in ["changed", "flavour", "sweet", "[more]", "things"] {
        assert!(text.contains(kept), "{kept} is gone: {text}");
    }
}

#[test]
fn missing_facts_are_no_facts() {
    if !only_on(Kind::Btrfs, FACTS) {
        return;
    }
    let lab = two();
    std::fs::remove_dir_all(lab.home().join("facts")).unwrap();
    assert_eq!(lab.be("blue")["description"], serde_json::Value::Null);
    lab.bootenv(&["describe", "blue", "again"]).ok();
    assert_eq!(lab.be("blue")["description"], "again");
}

/// A store with an adopted root, so that `store.toml` says something.
fn adopted() -> Lab {
    let lab = Lab::empty();
    lab.foreign(foreign().0, "");
    lab.bootenv(&["init"]).ok();
    lab
}

#[test]
fn a_damaged_list_of_adopted_roots_hides_nothing_else() {
    for rubbish in &RUBBISH[1..4] {
        let lab = adopted();
        std::fs::write(lab.home().join("store.toml"), rubbish).unwrap();
        assert!(lab.names().contains(&"default".to_string()));
        assert!(attention(&lab).contains("store.toml"), "{}", attention(&lab));
        lab.bootenv(&["create", "blue"]).ok();
        is_mended(&lab, "store.toml");
        assert!(lab.home().join("store.toml.damaged").exists());
        assert!(lab.top().join(foreign().0).join("etc/fstab").exists(), "the root itself is never touched");
        // Adopted anew.
        sh(&format!("rm '{}/store.toml.damaged'", lab.home().display()));
    }
}

#[test]
fn a_newer_list_of_adopted_roots_is_used_and_kept() {
    let lab = adopted();
    let (path, name) = foreign();
    let newer = format!("version = 9\nmood = 'good'\n\n[adopted]\n{name} = '{path}'\n");
    let file = lab.home().join("store.toml");
    std::fs::write(&file, &newer).unwrap();
    assert_eq!(lab.names(), [name, "default"]);
    lab.refuses(&["destroy", name], 3, &["newer"]);
    let _ = lab.bootenv(&["check", "--repair"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
}

#[test]
fn an_adopted_root_that_is_gone_is_forgotten_by_a_repair() {
    let lab = adopted();
    let (path, _) = foreign();
    lab.destroy_behind(&lab.top().join(path));
    assert_eq!(lab.names(), ["default"]);
    assert!(attention(&lab).contains(path));
    is_mended(&lab, path);
}

#[test]
fn a_damaged_journal_stops_changes_until_it_is_put_aside() {
    for rubbish in [
        &b"not [ toml"[..],
        b"\xff\xfe",
        b"\0\0\0",
        b"version = 1\n",
        b"version = 'x'\n",
        b"version = 1\nid = 'x'\nrequest = 7\n",
    ] {
        let lab = two();
        let file = lab.home().join("journal.toml");
        std::fs::write(&file, rubbish).unwrap();
        assert_eq!(lab.names(), ["default", "blue"], "{rubbish:?}");
        for args in [
            &["create", "new"][..],
            &["activate", "blue"],
            &["destroy", "blue"],
            &["mount", "blue"],
            &["rename", "blue", "new"],
        ] {
            lab.refuses(args, 1, &["journal.toml"]);
        }
        assert!(lab.json(&["create", "new"]).stderr.contains("check --repair"));
        is_mended(&lab, "journal.toml");
        lab.bootenv(&["create", "new"]).ok();
        assert!(sh(&format!("ls '{}'", lab.home().display())).contains("damaged"), "it is kept for people to look at");
    }
}

#[test]
fn an_empty_journal_is_none() {
    let lab = two();
    std::fs::write(lab.home().join("journal.toml"), "").unwrap();
    lab.bootenv(&["create", "new"]).ok();
}

#[test]
fn a_newer_journal_is_left_to_the_newer_bootenv() {
    let lab = two();
    let file = lab.home().join("journal.toml");
    let newer = "version = 2\nshape = 'another'\n";
    std::fs::write(&file, newer).unwrap();
    assert_eq!(lab.names(), ["default", "blue"]);
    for args in [&["create", "new"][..], &["activate", "blue"], &["destroy", "blue"], &["mount", "blue"]] {
        lab.refuses(args, 3, &["newer"]);
    }
    let before = lab.print();
    assert_ne!(lab.bootenv(&["check", "--repair"]).status, 0);
    before.assert_same(&lab.print(), "a repair worked around what a newer bootenv has begun");
}

#[test]
fn a_damaged_or_missing_menu_is_told_and_made_anew() {
    let rubbish: [Option<&[u8]>; 7] = [
        None,
        Some(b""),
        Some(b"rm -rf\n"),
        Some(b"# bootenv menu 1\nbe 'default'\n"),
        Some(b"# bootenv menu 1\nbe 'a' 'b' 'c' 'd' 'e' 'f"),
        Some(b"\xff\xfe\0"),
        Some(b"# bootenv menu x\n"),
    ];
    for rubbish in rubbish {
        let lab = two();
        lab.bootenv(&["activate", "blue"]).ok();
        let menu = lab.menu();
        match rubbish {
            Some(bytes) => std::fs::write(lab.menu_file(), bytes).unwrap(),
            None => std::fs::remove_file(lab.menu_file()).unwrap(),
        }
        // The BEs are there, and nothing boots next.
        assert_eq!(lab.names(), ["default", "blue"], "{rubbish:?}");
        assert_eq!(lab.be("blue")["active_on_reboot"], false, "no loader boots from this: {rubbish:?}");
        assert!(
            attention(&lab).contains("menu.cfg") && attention(&lab).contains("check --repair"),
            "{}",
            attention(&lab)
        );
        for args in [
            &["create", "-e", "default", "new"][..],
            &["activate", "default"],
            &["describe", "blue", "x"],
            &["rename", "blue", "new"],
            &["destroy", "-s", "blue"],
        ] {
            let own = |p: &std::path::Path| p == std::path::Path::new("BOOTENV") || p == std::path::Path::new("ROOT");
            let before = lab.print().without(own);
            lab.json(args).refused(1, &["menu.cfg"]);
            before.assert_same(&lab.print().without(own), &format!("{args:?} failed and has changed something"));
        }
        is_mended(&lab, "menu.cfg");
        let sorted = |mut menu: Vec<crate::lab::store::Entry>| {
            menu.sort_by(|a, b| a.id.cmp(&b.id));
            menu
        };
        assert_eq!(sorted(lab.menu()), sorted(menu), "the new menu is not what the old one was");
        assert_eq!(lab.be("blue")["active_on_reboot"], true);
    }
}

#[test]
fn a_menu_of_a_newer_version_is_left_to_the_newer_bootenv() {
    let lab = two();
    let newer = "# bootenv menu 2\nsubmenu 'something else'\n";
    std::fs::write(lab.menu_file(), newer).unwrap();
    assert_eq!(lab.names(), ["default", "blue"]);
    assert!(attention(&lab).contains("newer"), "{}", attention(&lab));
    for args in [&["create", "-e", "default", "new"][..], &["activate", "default"], &["rename", "blue", "new"]] {
        lab.json(args).refused(3, &["newer"]);
    }
    let _ = lab.bootenv(&["check", "--repair"]);
    assert_eq!(
        std::fs::read_to_string(lab.menu_file()).unwrap(),
        newer,
        "a repair has dropped what a newer bootenv wrote"
    );
}

#[test]
fn a_damaged_or_missing_loader_state_is_told_and_made_anew() {
    let rubbish: [Option<Vec<u8>>; 5] = [
        None,
        Some(Vec::new()),
        Some(vec![0; 1024]),
        Some(b"# GRUB Environment Block\nx=y\n".to_vec()),
        Some(vec![0xff; 1024]),
    ];
    for rubbish in rubbish {
        let lab = two();
        match &rubbish {
            Some(bytes) => std::fs::write(lab.grubenv(), bytes).unwrap(),
            None => std::fs::remove_file(lab.grubenv()).unwrap(),
        }
        assert_eq!(lab.names(), ["default", "blue"]);
        assert!(
            attention(&lab).contains("grubenv") && attention(&lab).contains("check --repair"),
            "{}",
            attention(&lab)
        );
        for args in [&["activate", "blue"][..], &["create", "-a", "-e", "default", "new"], &["activate", "-T", "blue"]]
        {
            lab.refuses(args, 1, &["grubenv"]);
        }
        lab.bootenv(&["create", "-e", "default", "needs-no-default"]).ok();
        let _ = lab.bootenv(&["check", "--repair"]);
        lab.bootenv(&["activate", "blue"]).ok();
        assert_eq!(lab.asked("default").as_deref(), Some("blue"));
        assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    }
}

#[test]
fn without_a_default_list_says_what_the_loader_falls_back_to() {
    let lab = two();
    sh(&format!("grub-editenv '{}' unset bootenv_default bootenv_once bootenv_previous", lab.grubenv().display()));
    // GRUB's own rule here: the first entry of the menu whose files are there.
    let first = lab.menu()[0].id.clone();
    assert_eq!(lab.be(&first)["active_on_reboot"], true);
    sh(&format!(
        "grub-editenv '{}' set bootenv_default=gone bootenv_previous=default bootenv_once=gone",
        lab.grubenv().display()
    ));
    assert_eq!(lab.be("default")["active_on_reboot"], true);
    assert!(attention(&lab).contains("gone"), "{}", attention(&lab));
}

#[test]
fn the_loaders_own_files_are_made_anew() {
    let lab = two();
    for path in [lab.menu_file().with_file_name("grub.cfg"), lab.esp().join("EFI/bootenv/grub.cfg")] {
        let file = path.display();
        let was = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lab.bootenv(&["check"]).status, 1, "{file} is missing and nothing is said");
        lab.bootenv(&["check", "--repair"]).ok();
        assert_eq!(std::fs::read(&path).unwrap(), was, "{file}");
    }
}

#[test]
fn the_lock_may_be_missing_or_hold_anything() {
    let lab = two();
    for content in [None, Some("rubbish\n"), Some("99999999999999999999")] {
        match content {
            Some(text) => std::fs::write(lab.home().join("lock"), text).unwrap(),
            None => std::fs::remove_file(lab.home().join("lock")).unwrap(),
        }
        lab.bootenv(&["create"]).ok();
    }
    // It is not followed out of the store.
    let outside = lab.path("outside");
    std::fs::write(&outside, "precious").unwrap();
    sh(&format!("ln -sf '{}' '{}/lock'", outside.display(), lab.home().display()));
    let ran = lab.json(&["create", "new"]);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "precious");
    ran.refused(1, &["lock"]);
}

#[test]
fn an_fstab_that_does_not_parse_stops_init_with_its_line_and_leaves_no_image() {
    let lab = Lab::empty();
    for (line, words) in [
        ("broken", "fewer than three"),
        ("a / b c d e f g", "more than six"),
        ("a / btrfs defaults x y", "not numbers"),
        (r"a\\9 / btrfs", "escape"),
        (r"a\\777 / btrfs", "escape"),
    ] {
        let root = lab.root(&format!("printf '# first\\n{line}\\n' > etc/fstab"));
        lab.json(&lab.init_args(&root, &[])).refused(3, &["/etc/fstab", "line 2", words]);
        assert!(!lab.image.exists(), "{line}");
    }
    let root = lab.root("printf '\\377\\376' > etc/fstab");
    lab.json(&lab.init_args(&root, &[])).refused(1, &["fstab"]);
}

#[test]
fn a_place_for_the_shared_dataset_that_is_gone_is_made_anew() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let at = lab.files("blue").join("var/shared");
    sh(&format!("chattr -i '{0}' && rmdir '{0}'", at.display()));
    lab.refuses(&["mount", "blue"], 3, &["no /var/shared", "check --repair"]);
    lab.bootenv(&["run", "blue", "--", "true"]).fails(3, &["no /var/shared"]);
    let found = lab.bootenv(&["check"]).fails(1, &[]).stdout;
    assert!(found.contains("blue has no /var/shared") && !found.contains("default"), "{found}");
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    lab.bootenv(&["mount", "blue"]).ok();
    lab.bootenv(&["unmount", "blue"]).ok();
    // A root of somebody else's has its own logs, and needs none.
    let other = lab.files("blue");
    sh(&format!(
        "cd '{}' && chattr -i var/shared && rmdir var/shared && rm var/log var/mail var/spool var/adm",
        other.display()
    ));
    sh(&format!("mkdir '{}/var/log'", other.display()));
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout;
    std::fs::write(Path::new(at.trim()).join("var/log/own"), "").unwrap();
    lab.bootenv(&["unmount", "blue"]).ok();
}
