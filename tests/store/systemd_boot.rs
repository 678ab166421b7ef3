//! systemd-boot: entries and kernels on the ESP, what it falls back to, and what stands in the way.

use crate::lab::{Kind, Lab, Loader, foreign, kind};

const STORE_TAG: &str = "bootenv-";

fn new() -> Lab {
    Lab::booted_by(Loader::SystemdBoot)
}

fn ids(lab: &Lab) -> Vec<String> {
    lab.menu().into_iter().map(|e| e.id).collect()
}

fn attention(lab: &Lab) -> String {
    lab.json(&[]).ok().json()["attention"].to_string()
}

fn is_default(lab: &Lab, be: &str) -> bool {
    lab.be(be)["active_on_reboot"] == true
}

#[test]
fn an_esp_has_what_a_machine_boots() {
    let lab = new();
    assert_eq!(
        std::fs::read_to_string(lab.home().join("store.toml")).unwrap(),
        "loader = \"systemd-boot\"\nversion = 1\n"
    );
    let listed = lab.menu_of_systemd_boot();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].file.starts_with(STORE_TAG) && listed[0].file.ends_with("-default.conf"), "{}", listed[0].file);
    let entry = &listed[0].entry;
    assert_eq!((entry.title.as_str(), entry.kernel.as_str()), ("default", "vmlinuz-6.12.1-amd64"));
    assert!(entry.arguments.ends_with(&format!("{} rw", lab.root_arguments("ROOT/default"))), "{}", entry.arguments);
    let content = |at: usize| std::fs::read_to_string(&listed[0].loads[at]).unwrap();
    assert_eq!((content(0).as_str(), content(1).as_str()), ("kernel\n", "initrd\n"));
    assert!(!lab.esp().join("loader/loader.conf").exists(), "that file is the admin's");
    assert!(!lab.home().join("grub").exists());
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn names_that_fat_would_confuse() {
    let lab = new();
    let long = |c: char| c.to_string().repeat(lab.longest_name());
    let names = ["Blue", "blue", "BLUE", "a:b", "a.", "a..conf", &long('n'), &long('N')];
    for name in names {
        lab.bootenv(&["create", name]).ok();
    }
    let mut files: Vec<String> = lab.menu_of_systemd_boot().into_iter().map(|l| l.file.to_lowercase()).collect();
    files.sort();
    files.dedup();
    assert_eq!(files.len(), names.len() + 1);
    assert!(files.iter().all(|f| f.len() < 250 && !f.contains([':', '*', '?', '[', '\\', '+'])), "{files:?}");
    for name in names {
        lab.bootenv(&["activate", name]).ok();
        assert_eq!(lab.asked("default").as_deref(), Some(name));
        assert!(is_default(&lab, name));
    }
    lab.bootenv(&["rename", "Blue", "bLUE"]).ok();
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn the_menu_is_in_the_order_of_activation() {
    let lab = new();
    for be in ["one", "two", "three"] {
        lab.bootenv(&["create", be]).ok();
    }
    assert_eq!(ids(&lab), ["default", "three", "two", "one"]);
    for be in ["one", "two", "one", "three"] {
        lab.bootenv(&["activate", be]).ok();
    }
    assert_eq!(ids(&lab), ["three", "one", "two", "default"]);
    // What the loader falls back to is the default before.
    std::fs::remove_file(lab.entry_file("three")).unwrap();
    assert!(is_default(&lab, "one"));
    assert!(attention(&lab).contains("three has no menu entry"));
    lab.bootenv(&["check", "--repair"]).ok();
    assert!(is_default(&lab, "one"));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn entries_of_others_stay_and_count() {
    let lab = new();
    let other = lab.entries_dir().join("arch.conf");
    std::fs::write(&other, "title Arch\nsort-key arch\nlinux /vmlinuz-arch\n").unwrap();
    std::fs::write(lab.esp().join("vmlinuz-arch"), "x").unwrap();
    lab.bootenv(&["create", "blue"]).ok();
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    // The admin's default counts as long as no machine has one of its own.
    let config = lab.esp().join("loader/loader.conf");
    std::fs::write(&config, "timeout 3\ndefault arch*\n").unwrap();
    assert!(!lab.bootenv(&["list", "-H"]).ok().stdout.contains("\tR\t"));
    assert!(attention(&lab).contains("arch.conf"), "{}", attention(&lab));
    lab.refuses(&["activate", "blue"], 3, &["loader.conf"]);
    std::fs::write(&config, "default *-blue.conf\n").unwrap();
    assert!(is_default(&lab, "blue"));
    std::fs::write(&config, "timeout 3\n").unwrap();
    assert!(is_default(&lab, "default"));
    lab.bootenv(&["activate", "blue"]).ok();
    std::fs::write(lab.entries_dir().join("0.conf"), "title first\nsort-key 0\nlinux /vmlinuz-arch\n").unwrap();
    assert!(!is_default(&lab, "blue"), "an entry that sorts before ours is what boots");
    std::fs::remove_file(lab.entries_dir().join("0.conf")).unwrap();
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "timeout 3\n");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "title Arch\nsort-key arch\nlinux /vmlinuz-arch\n");
}

#[test]
fn lines_that_the_admin_put_into_an_entry_stay() {
    let lab = new();
    lab.bootenv(&["create", "blue"]).ok();
    let file = lab.entry_file("blue");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("initrd /microcode.img\n{text}architecture x64\n")).unwrap();
    lab.bootenv(&["describe", "blue", "changed"]).ok();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("title blue: changed\n") && text.contains("architecture x64\n"), "{text}");
    assert!(text.find("initrd /microcode.img").unwrap() < text.find("initrd /EFI/").unwrap(), "{text}");
}

#[test]
fn damaged_entries_are_told_and_made_anew() {
    for rubbish in [&b""[..], b"\0\0\0", b"title blue\nlinux /x\n", b"\xff\xfe"] {
        let lab = new();
        lab.bootenv(&["create", "-a", "blue"]).ok();
        let file = lab.entry_file("blue");
        std::fs::write(&file, rubbish).unwrap();
        assert_eq!(lab.names(), ["default", "blue"]);
        assert!(is_default(&lab, "default"), "what the loader falls back to");
        assert!(
            attention(&lab).contains("damaged") && attention(&lab).contains("check --repair"),
            "{}",
            attention(&lab)
        );
        lab.bootenv(&["create", "green"]).ok();
        lab.bootenv(&["check", "--repair"]).ok();
        assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
        assert_eq!(lab.entry("blue").unwrap().title, "blue");
    }
    let lab = new();
    let file = lab.entry_file("default");
    let newer = std::fs::read_to_string(&file).unwrap().replace("bootenv-entry 1", "bootenv-entry 2");
    std::fs::write(&file, &newer).unwrap();
    for args in [&["create", "blue"][..], &["check", "--repair"], &["activate", "default"]] {
        assert_eq!(lab.json(args).status, 3, "{args:?}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
}

#[test]
fn what_an_image_cannot_be_told_is_refused() {
    let lab = new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.refuses(&["activate", "-t", "blue"], 3, &["once", "EFI variables"]);
    lab.refuses(&["create", "-t", "green"], 3, &["once", "EFI variables"]);
    lab.refuses(&["init", "--loader", "grub"], 3, &["systemd-boot"]);
    assert_eq!(lab.json(&["init", "--loader", "systemd-boot"]).ok().json()["changed"], false);
}

#[test]
fn adopted_roots_are_booted_where_they_lie() {
    for subvolume in [foreign().0, ""].into_iter().filter(|s| !s.is_empty() || kind() == Kind::Btrfs) {
        let mut lab = Lab::empty();
        lab.loader = Loader::SystemdBoot;
        lab.foreign(subvolume, "");
        lab.bootenv(&["init", "--loader", "systemd-boot"]).ok();
        let paths: Vec<String> = lab.menu().into_iter().map(|e| e.path).collect();
        assert_eq!(paths, ["ROOT/default", subvolume]);
        assert!(is_default(&lab, "default"));
        let old = lab.names().into_iter().find(|n| n != "default").unwrap();
        lab.bootenv(&["activate", &old]).ok();
        assert!(is_default(&lab, &old));
        let options = lab.entry(&old).unwrap().arguments;
        assert!(options.contains(&format!("{} rw", lab.root_arguments(subvolume))), "{options}");
        assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    }
}
