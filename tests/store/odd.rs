//! What people and other tools leave in a store: told, left alone, and never in the way of what is in order.

use crate::lab::{Kind, Lab, Print, kind, only_on, sh};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn attention(lab: &Lab) -> String {
    lab.json(&[]).ok().json()["attention"].to_string()
}

#[test]
fn datasets_with_odd_names_are_told_and_left_alone() {
    if !only_on(Kind::Btrfs, "a pool has no such names, and no files among its datasets") {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let odd: &[&[u8]] = &[
        b"with space",
        b"\xff\xfe",
        b"ghost@snap",
        b"a@b@c",
        b"@",
        b"blue@",
        b"@blue",
        b"blue@bad name",
        b"blue@\xff",
        b"quote'd",
        b"$HOME",
        b"new\nline",
        b"\x1b[2J",
        b"-rf",
    ];
    for name in odd {
        let at = lab.top().join("ROOT").join(OsStr::from_bytes(name));
        assert!(
            std::process::Command::new("btrfs")
                .args(["-q", "subvolume", "create"])
                .arg("--")
                .arg(&at)
                .status()
                .unwrap()
                .success(),
            "{name:?}"
        );
        std::fs::write(at.join("file"), "somebody's").unwrap();
    }
    sh(&format!(
        "cd '{}/ROOT'; mkdir plain plain@snap; ln -s blue linked; echo x > file; mkfifo fifo",
        lab.top().display()
    ));
    let before = lab.print();

    assert_eq!(lab.names(), ["default", "blue"]);
    assert_eq!(lab.be("blue")["snapshots"], serde_json::json!([]));
    let told = attention(&lab);
    for name in ["with space", "ghost@snap", "a@b@c", "quote'd"] {
        assert!(told.contains(name), "{name} is not told: {told}");
    }
    let table =
        lab.bootenv(&["list", "-a"]).ok().stdout + &lab.bootenv(&[]).ok().stdout + &lab.bootenv(&["check"]).stdout;
    assert!(!table.contains('\u{1b}') && !table.contains("new\nline"), "names draw on the terminal: {table:?}");

    // They are in nobody's way.
    lab.bootenv(&["create", "blue@then"]).ok();
    lab.bootenv(&["create", "green"]).ok();
    lab.bootenv(&["rename", "green", "olive"]).ok();
    lab.bootenv(&["rollback", "blue@then"]).ok();
    lab.bootenv(&["destroy", "-s", "blue"]).ok();
    lab.bootenv(&["destroy", "olive"]).ok();
    let _ = lab.bootenv(&["check", "--repair"]);
    let own = |p: &std::path::Path| {
        p.as_os_str().is_empty()
            || p == std::path::Path::new("ROOT")
            || p.starts_with("ROOT/blue")
            || p.starts_with("BOOTENV")
    };
    before.without(own).assert_same(&lab.print().without(own), "what is nobody's was changed");
    // Where they do stand in the way, that is said.
    for name in ["plain", "linked", "file", "fifo"] {
        lab.refuses(&["create", name], 3, &[name]);
        lab.refuses(&["rename", "default", name], 3, &[name]);
    }
    lab.refuses(&["create", "default@snap", "-e", "default"], 2, &[]);
    lab.bootenv(&["create", "plain2"]).ok();
}

#[test]
fn a_name_that_is_not_text_inside_a_be_hides_nothing() {
    if !only_on(Kind::Btrfs, "names of datasets are ASCII in a pool") {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    let at = lab.files("blue").join(OsStr::from_bytes(b"var/lib/odd\xff"));
    assert!(
        std::process::Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&at).status().unwrap().success()
    );
    assert_eq!(lab.names(), ["default", "blue"]);
    lab.bootenv(&["create", "-e", "default", "green"]).ok();
    lab.bootenv(&["activate", "green"]).ok();
    // It could not be taken along whole, so it is not taken along at all.
    lab.refuses(&["create", "-e", "blue", "new"], 3, &["UTF-8"]);
    lab.refuses(&["create", "blue@now"], 3, &["UTF-8"]);
}

#[test]
fn files_with_names_that_are_not_text_come_along() {
    let lab = Lab::new();
    sh(&format!(
        "cd '{}'; touch \"$(printf 'boot/vmlinuz-\\377')\" \"$(printf 'etc/odd\\377')\"",
        lab.files("default").display()
    ));
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["activate", "blue"]).ok();
    assert!(lab.files("blue").join(OsStr::from_bytes(b"etc/odd\xff")).exists());
    assert_eq!(lab.entry("blue").unwrap().kernel, "vmlinuz-6.12.1-amd64");
}

#[test]
fn a_be_that_was_deleted_behind_our_back() {
    let lab = Lab::new();
    for name in ["blue", "green"] {
        lab.bootenv(&["create", "-d", "text", name]).ok();
    }
    lab.bootenv(&["create", "blue@then"]).ok();
    lab.bootenv(&["activate", "blue"]).ok();
    lab.bootenv(&["activate", "-t", "green"]).ok();
    lab.destroy_behind(&lab.files("blue"));
    lab.destroy_behind(&lab.files("green"));
    assert_eq!(lab.names(), ["default"]);
    // `list` shows what the next boot will do: the entry of what is gone is passed over, by a loader that can see that.
    let passed_over = lab.loader_sees();
    assert_eq!(
        (&lab.be("default")["active_on_reboot"], &lab.be("default")["active_once"]),
        (&passed_over.into(), &false.into())
    );
    let told = attention(&lab);
    // In a pool the snapshots of what is gone are gone too.
    assert!(told.contains("the menu names blue") && told.contains("blue@then") == (kind() == Kind::Btrfs), "{told}");
    for args in [
        &["activate", "blue"][..],
        &["destroy", "blue"],
        &["mount", "green"],
        &["rename", "green", "x"],
        &["rollback", "blue@then"],
        &["destroy", "blue@then"],
    ] {
        lab.refuses(args, 4, &[]);
    }
    lab.bootenv(&["check", "--repair"]);
    assert_eq!(lab.menu().iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["default"]);
    lab.bootenv(&["activate", "default"]).ok();
    lab.bootenv(&["create", "green"]).ok();
    assert_eq!(
        lab.be("green")["description"],
        serde_json::Value::Null,
        "what was known of the one that is gone is not the new one's"
    );
    assert_eq!(lab.asked("once"), None, "what was asked for the one that is gone is not asked for the new one");
}

#[test]
fn a_be_that_was_made_behind_our_back_is_one_after_a_repair() {
    let lab = Lab::new();
    lab.clone_behind(&lab.files("default"), &lab.files("made"));
    assert_eq!(lab.names(), ["default", "made"]);
    assert!(attention(&lab).contains("made has no menu entry"));
    assert_eq!(lab.bootenv(&["check"]).status, 1);
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(lab.entry("made").unwrap().path, "ROOT/made");
    lab.bootenv(&["activate", "made"]).ok();
    // Another one, that is used or unmade without a repair.
    lab.clone_behind(&lab.files("default"), &lab.files("used"));
    lab.bootenv(&["activate", "used"]).ok();
    assert_eq!(lab.be("used")["active_on_reboot"], true);
    lab.clone_behind(&lab.files("default"), &lab.files("unmade"));
    lab.bootenv(&["destroy", "unmade"]).ok();
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_be_that_was_renamed_behind_our_back_is_found_by_its_new_name() {
    let lab = Lab::new();
    lab.bootenv(&["create", "-d", "text", "blue"]).ok();
    lab.rename_behind("blue", "azure");
    assert_eq!(lab.be("azure")["description"], "text");
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(lab.entry("azure").unwrap().path, "ROOT/azure");
    assert_eq!(lab.entry("blue"), None);
}

#[test]
fn a_be_that_is_read_only_is_listed_and_can_go() {
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.nest("blue", "var/lib/machines");
    lab.make_readonly(&lab.files("blue"));
    assert_eq!(lab.names(), ["default", "blue"]);
    lab.bootenv(&["create", "-e", "blue", "green"]).ok();
    std::fs::write(lab.files("green").join("etc/new"), "a clone can be written to").unwrap();
    lab.bootenv(&["destroy", "blue"]).ok();
    assert_eq!(lab.names(), ["default", "green"]);
}

#[test]
fn the_default_subvolume_of_the_filesystem_makes_no_difference() {
    if !only_on(Kind::Btrfs, "a default subvolume") {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    sh(&format!("btrfs subvolume set-default '{}'", lab.files("blue").display()));
    let before = Print::of(&lab.files("blue"));
    assert_eq!(lab.names(), ["default", "blue"]);
    lab.bootenv(&["create", "green"]).ok();
    lab.bootenv(&["rollback", "none@x"]).fails(4, &[]);
    before.assert_same(&Print::of(&lab.files("blue")), "the default subvolume was taken for the top");
}

#[test]
fn other_things_at_the_top_are_left_alone() {
    let lab = Lab::new();
    let top = lab.top();
    lab.nest_at(&top.join("home"), "echo x > file");
    lab.nest_at(&top.join("ROOTS"), "");
    if kind() == Kind::Btrfs {
        sh(&format!("cd '{}'; mkdir zones STATE; echo x > note", top.display()));
    }
    let others = |p: &std::path::Path| ["ROOT", "SHARED", "BOOTENV"].iter().any(|o| p.starts_with(o));
    let before = lab.print().without(others);
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@then"]).ok();
    lab.bootenv(&["rollback", "blue@then"]).ok();
    lab.bootenv(&["destroy", "-s", "blue"]).ok();
    lab.bootenv(&["check", "--repair"]).ok();
    before.assert_same(&lab.print().without(others), "something beside ROOT, SHARED and BOOTENV was changed");
}
