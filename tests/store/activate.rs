//! `activate`, `describe` and `rename`: what boots next, and what things are called.

use crate::lab::{Kind, Lab, Loader, Print, kind, only_on};

fn asked(lab: &Lab) -> [Option<String>; 2] {
    [lab.asked("default"), lab.asked("once")]
}

fn some(name: &str) -> Option<String> {
    Some(name.to_string())
}

fn three() -> Lab {
    three_booted_by(Loader::Grub)
}

fn three_booted_by(loader: Loader) -> Lab {
    let lab = Lab::booted_by(loader);
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "green"]).ok();
    lab
}

with_every_loader! {
    for_good
    a_new_kernel_is_what_boots_after_activate
    arguments_for_the_kernel_come_from_the_be_itself
    describe_a_be_or_a_snapshot
    rename_moves_a_be_with_its_snapshots_facts_and_entry
    rename_there_and_back
    a_mounted_be_can_be_renamed_and_stays_mounted
}

fn for_good(loader: Loader) {
    let lab = three_booted_by(loader);
    lab.bootenv(&["activate", "blue"]).ok();
    assert_eq!(asked(&lab), [some("blue"), None]);
    assert_eq!(
        (&lab.be("blue")["active_on_reboot"], &lab.be("default")["active_on_reboot"]),
        (&true.into(), &false.into())
    );
    // What was the default is fallen back to when the new one cannot be loaded.
    assert_eq!(lab.asked("previous"), some("default"));
}

#[test]
fn for_one_boot_and_back() {
    let lab = three();
    lab.bootenv(&["activate", "-t", "blue"]).ok();
    assert_eq!(asked(&lab), [some("default"), some("blue")]);
    assert_eq!((&lab.be("blue")["active_once"], &lab.be("default")["active_on_reboot"]), (&true.into(), &true.into()));
    lab.bootenv(&["activate", "-t", "green"]).ok();
    assert_eq!(asked(&lab), [some("default"), some("green")]);
    lab.bootenv(&["activate", "-T", "green"]).ok();
    assert_eq!(asked(&lab), [some("default"), None]);
}

#[test]
fn for_good_takes_a_one_shot_back() {
    let lab = three();
    lab.bootenv(&["activate", "-t", "blue"]).ok();
    lab.bootenv(&["activate", "green"]).ok();
    assert_eq!(asked(&lab), [some("green"), None]);
    // Also when it is the default already: asking for it means asking for the next boot too.
    lab.bootenv(&["activate", "-t", "blue"]).ok();
    lab.bootenv(&["activate", "green"]).ok();
    assert_eq!(asked(&lab), [some("green"), None]);
}

#[test]
fn a_second_time_it_says_already_and_changes_nothing() {
    let lab = three();
    let all = [&["activate", "blue"][..], &["activate", "-t", "green"], &["activate", "-T", "green"]];
    for args in all {
        assert_eq!(lab.json(args).ok().json()["changed"], true, "{args:?}");
        let before = lab.print();
        let again = lab.json(args).ok().json();
        assert_eq!(again["changed"], false, "{args:?}");
        assert!(!again["notes"][0].as_str().unwrap().is_empty());
        before.assert_same(&lab.print(), &format!("{args:?} the second time"));
    }
    assert!(lab.bootenv(&["activate", "blue"]).ok().stdout.contains("already"));
}

#[test]
fn taking_back_the_one_shot_of_another_changes_nothing() {
    let lab = three();
    lab.bootenv(&["activate", "-t", "blue"]).ok();
    let ran = lab.json(&["activate", "-T", "green"]).ok().json();
    assert_eq!(ran["changed"], false);
    assert_eq!(asked(&lab), [some("default"), some("blue")]);
    lab.json(&["activate", "-t", "-T", "blue"]).fails(2, &[]);
}

#[test]
fn nothing_but_the_loaders_state_changes() {
    let lab = three();
    let before = lab.print().without(|p| p.starts_with("BOOTENV"));
    lab.bootenv(&["activate", "blue"]).ok();
    lab.bootenv(&["activate", "-t", "green"]).ok();
    before.assert_same(&lab.print().without(|p| p.starts_with("BOOTENV")), "activate changed a dataset");
}

#[test]
fn other_variables_of_the_loader_stay() {
    let lab = three();
    crate::lab::sh(&format!("grub-editenv '{}' set saved_entry=mine bootenv_timeout=7", lab.grubenv().display()));
    lab.bootenv(&["activate", "blue"]).ok();
    let list = crate::lab::sh(&format!("grub-editenv '{}' list", lab.grubenv().display()));
    assert!(list.contains("saved_entry=mine\n") && list.contains("bootenv_timeout=7\n"), "{list}");
    assert_eq!(std::fs::metadata(lab.grubenv()).unwrap().len(), 1024);
}

fn a_new_kernel_is_what_boots_after_activate(loader: Loader) {
    let lab = three_booted_by(loader);
    let boot = lab.files("blue").join("boot");
    std::fs::write(boot.join("vmlinuz-6.13.0-amd64"), "new").unwrap();
    std::fs::write(boot.join("initrd.img-6.13.0-amd64"), "new").unwrap();
    lab.bootenv(&["activate", "blue"]).ok();
    let entry = lab.entry("blue").unwrap();
    assert_eq!((entry.kernel.as_str(), entry.initrd.as_str()), ("vmlinuz-6.13.0-amd64", "initrd.img-6.13.0-amd64"));
}

#[test]
fn what_cannot_be_loaded_is_not_shown_as_due() {
    if !only_on(Kind::Btrfs, "loads what lies in the BE; where it loads copies, see `on_esp`") {
        return;
    }
    let lab = three();
    lab.bootenv(&["activate", "blue"]).ok();
    lab.bootenv(&["activate", "-t", "green"]).ok();
    std::fs::remove_dir_all(lab.files("green").join("boot")).unwrap();
    assert_eq!(lab.be("green")["active_once"], false);
    std::fs::remove_file(lab.files("blue").join("boot/initrd.img-6.12.1-amd64")).unwrap();
    // The loader falls back to the default before it.
    assert_eq!(
        (&lab.be("blue")["active_on_reboot"], &lab.be("default")["active_on_reboot"]),
        (&false.into(), &true.into())
    );
    let status = lab.json(&[]).ok().json();
    assert!(status["attention"].to_string().contains("blue"), "{status}");
    lab.refuses(&["activate", "green"], 3, &["kernel"]);
}

fn arguments_for_the_kernel_come_from_the_be_itself(loader: Loader) {
    let lab = three_booted_by(loader);
    let set = |file: &str, text: &str| {
        std::fs::create_dir_all(lab.files("blue").join(file).parent().unwrap()).unwrap();
        std::fs::write(lab.files("blue").join(file), text).unwrap();
        std::fs::write(lab.files("blue").join("boot/vmlinuz-7"), text).unwrap();
        lab.bootenv(&["activate", "default"]).ok();
        lab.bootenv(&["activate", "blue"]).ok();
        lab.entry("blue").unwrap().arguments
    };
    let own = lab.root_arguments("ROOT/blue");
    let arguments = set(
        "etc/default/grub",
        "GRUB_CMDLINE_LINUX=\"console=ttyS0 root=/dev/sda\"\nGRUB_CMDLINE_LINUX_DEFAULT='quiet'\n",
    );
    assert!(arguments.ends_with(&format!("{own} rw console=ttyS0 quiet")), "{arguments}");
    let arguments = set("etc/kernel/cmdline", "rootflags=subvol=@ panic=9\n");
    assert!(arguments.ends_with(&format!("{own} rw panic=9")), "{arguments}");
    let arguments = set("etc/bootenv.toml", "[boot]\ncmdline = 'it=mine'\n");
    assert!(arguments.ends_with(&format!("{own} rw it=mine")), "{arguments}");
}

fn describe_a_be_or_a_snapshot(loader: Loader) {
    let lab = three_booted_by(loader);
    lab.bootenv(&["create", "blue@now"]).ok();
    let before = lab.print().without(|p| p.starts_with("BOOTENV"));
    lab.bootenv(&["describe", "blue", "-n is no option here"]).ok();
    lab.bootenv(&["describe", "blue@now", "the snapshot"]).ok();
    before.assert_same(&lab.print().without(|p| p.starts_with("BOOTENV")), "a description is kept outside every BE");
    let be = lab.be("blue");
    assert_eq!(
        (&be["description"], &be["snapshots"][0]["description"]),
        (&"-n is no option here".into(), &"the snapshot".into())
    );
    assert_eq!(lab.entry("blue").unwrap().title, "blue: -n is no option here");
    lab.bootenv(&["describe", "blue", ""]).ok();
    assert_eq!(lab.be("blue")["description"], serde_json::Value::Null);
    assert_eq!(lab.entry("blue").unwrap().title, "blue");
    lab.bootenv(&["describe", "blue", &"x".repeat(1024)]).ok();
    lab.refuses(&["describe", "blue", &"x".repeat(1025)], 2, &["1025"]);
}

#[test]
fn a_description_with_control_characters_is_in_order() {
    let lab = three();
    lab.bootenv(&["describe", "blue", "one\ttwo \u{1b}[2J\u{7f}"]).ok();
    assert_eq!(lab.entry("blue").unwrap().title, "blue: one two  [2J ");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    // A file that is written is another file afterwards.
    let inode = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(lab.entry_of("blue")).unwrap());
    let before = inode();
    lab.bootenv(&["mount", "blue"]).ok();
    lab.bootenv(&["unmount", "blue"]).ok();
    assert_eq!(before, inode(), "the entry was renewed although nothing had changed");
}

fn rename_moves_a_be_with_its_snapshots_facts_and_entry(loader: Loader) {
    let lab = three_booted_by(loader);
    lab.nest("blue", "var/lib/machines");
    lab.bootenv(&["describe", "blue", "text"]).ok();
    lab.bootenv(&["create", "-d", "then", "blue@a"]).ok();
    lab.bootenv(&["create", "blue@b"]).ok();
    lab.bootenv(&["create", "-e", "blue@a", "clone"]).ok();
    let files = Print::of(&lab.files("blue"));
    let others = lab
        .print_without("blue")
        .without(|p| p.to_string_lossy().contains("blue@") || p.to_string_lossy().contains("azure@"));
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    // The directory itself has a new change time.
    let ok = |p: &std::path::Path| p.as_os_str().is_empty();
    files.without(ok).assert_same(&Print::of(&lab.files("azure")).without(ok), "the files were changed");
    let now = lab
        .print_without("azure")
        .without(|p| p.to_string_lossy().contains("blue@") || p.to_string_lossy().contains("azure@"));
    others.assert_same(&now, "something else was changed");
    let be = lab.be("azure");
    assert_eq!((&be["description"], &be["snapshots"][0]["description"]), (&"text".into(), &"then".into()));
    assert_eq!(be["snapshots"][1]["name"], "azure@b");
    assert_eq!(lab.be("clone")["origin"], "azure@a");
    let entry = lab.entry("azure").unwrap();
    assert_eq!((entry.path.as_str(), entry.title.as_str()), ("ROOT/azure", "azure: text"));
    assert!(entry.arguments.contains(&format!("{} ", lab.root_arguments("ROOT/azure"))));
    assert_eq!((lab.entry("blue"), lab.holds("blue"), lab.holds("blue@a")), (None, false, false));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn what_boots_next_follows_a_rename() {
    let lab = three();
    lab.bootenv(&["activate", "blue"]).ok();
    lab.bootenv(&["activate", "-t", "green"]).ok();
    if kind() == Kind::Zfs {
        // A loader that sees neither names nor identities cannot be led through it.
        for due in ["blue", "green"] {
            lab.refuses(&["rename", due, "azure"], 3, &["boots next"]);
        }
        lab.bootenv(&["rename", "default", "first"]).ok();
        assert_eq!((asked(&lab), lab.asked("previous")), ([some("blue"), some("green")], some("first")));
        return;
    }
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    assert_eq!(asked(&lab), [some("azure"), some("green")]);
    lab.bootenv(&["rename", "green", "olive"]).ok();
    assert_eq!(asked(&lab), [some("azure"), some("olive")]);
    lab.bootenv(&["rename", "default", "first"]).ok();
    assert_eq!((asked(&lab), lab.asked("previous")), ([some("azure"), some("olive")], some("first")));
    assert_eq!((&lab.be("azure")["active_on_reboot"], &lab.be("olive")["active_once"]), (&true.into(), &true.into()));
}

fn rename_there_and_back(loader: Loader) {
    let lab = three_booted_by(loader);
    let before = lab.print().without(|p| p.starts_with("BOOTENV"));
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    lab.bootenv(&["rename", "azure", "blue"]).ok();
    let names = ["ROOT", "ROOT/blue"].map(std::path::PathBuf::from);
    let after = lab.print().without(|p| p.starts_with("BOOTENV") || names.iter().any(|n| p == n));
    before.without(|p| names.iter().any(|n| p == n)).assert_same(&after, "rename there and back");
    assert_eq!(lab.menu().len(), 3);
}

fn a_mounted_be_can_be_renamed_and_stays_mounted(loader: Loader) {
    let lab = three_booted_by(loader);
    let at = lab.bootenv(&["mount", "blue"]).ok().stdout.trim().to_string();
    lab.bootenv(&["rename", "blue", "azure"]).ok();
    assert_eq!(lab.be("azure")["mountpoint"], at);
    lab.bootenv(&["unmount", "azure"]).ok();
}
