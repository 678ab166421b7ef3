//! Loaders that boot copies of kernels on the ESP, because they cannot read the store: systemd-boot none, GRUB no pool.

use crate::lab::{Kind, Lab, Loader, kind, only_on, sh};

with_every_loader! {
    kernels_are_there_once_per_content_and_only_as_long_as_an_entry_names_them
    a_kernel_that_is_gone_from_the_esp_is_told_and_made_anew
    a_rollback_to_another_kernel_is_refused_to_what_is_due
    an_esp_without_room_is_refused_before_the_first_byte
    without_its_esp_a_running_store_says_what_to_mount
    settings_that_are_lost_do_not_lose_the_loader
    a_be_that_is_gone_is_not_said_to_boot
}

/// A laboratory, unless that loader reads its store.
fn new(loader: Loader) -> Option<Lab> {
    let copies = loader == Loader::SystemdBoot || only_on(Kind::Zfs, "GRUB loads kernels out of the BEs");
    copies.then(|| Lab::booted_by(loader))
}

fn attention(lab: &Lab) -> String {
    lab.json(&[]).ok().json()["attention"].to_string()
}

fn is_default(lab: &Lab, be: &str) -> bool {
    lab.be(be)["active_on_reboot"] == true
}

fn is_whole(lab: &Lab) {
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

fn kernels_are_there_once_per_content_and_only_as_long_as_an_entry_names_them(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    for be in ["blue", "green"] {
        lab.bootenv(&["create", be]).ok();
    }
    assert_eq!(lab.copies().len(), 2);
    // Another initrd under the same name, and a kernel that is the same under another.
    let boot = lab.files("blue").join("boot");
    std::fs::write(boot.join("initrd.img-6.12.1-amd64"), "another").unwrap();
    let before = lab.copies();
    assert!(lab.bootenv(&["check"]).stdout.contains("blue is out of date"));
    lab.bootenv(&["activate", "blue"]).ok();
    assert_eq!(lab.copies().len(), 3);
    std::fs::copy(boot.join("vmlinuz-6.12.1-amd64"), boot.join("vmlinuz-6.13.0-amd64")).unwrap();
    std::fs::copy(boot.join("initrd.img-6.12.1-amd64"), boot.join("initrd.img-6.13.0-amd64")).unwrap();
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!((lab.copies().len(), lab.entry("blue").unwrap().kernel.as_str()), (3, "vmlinuz-6.13.0-amd64"));
    lab.bootenv(&["activate", "default"]).ok();
    lab.bootenv(&["destroy", "blue"]).ok();
    assert_eq!(lab.copies(), before);
    // What is not ours to remove.
    let dir = lab.copies_dir();
    std::fs::write(dir.join("README"), "mine").unwrap();
    std::fs::write(dir.join("0123456789abcdef0123456789abcdef.new"), "half a copy").unwrap();
    lab.bootenv(&["destroy", "green"]).ok();
    let mut after = [&before[..], &["README".to_string()]].concat();
    after.sort();
    assert_eq!(lab.copies(), after);
}

fn a_kernel_that_is_gone_from_the_esp_is_told_and_made_anew(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    lab.bootenv(&["create", "-a", "blue"]).ok();
    let all = lab.loads("blue");
    for (gone, word) in [(&all[0], "kernel"), (&all[1], "initrd")] {
        std::fs::remove_file(gone).unwrap();
        let list = lab.bootenv(&["list", "-H"]).ok().stdout;
        assert!(!list.contains("\tR\t"), "{list}");
        assert!(attention(&lab).contains(word), "{}", attention(&lab));
        assert_eq!(lab.bootenv(&["check", "--repair"]).status, 0);
        assert!(is_default(&lab, "blue"));
    }
    // What lies there is not whole.
    std::fs::write(&all[1], "").unwrap();
    assert!(!is_default(&lab, "blue"));
    lab.bootenv(&["check", "--repair"]).ok();
    assert_eq!(std::fs::read_to_string(&all[1]).unwrap(), "initrd\n");
}

fn an_esp_without_room_is_refused_before_the_first_byte(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    lab.bootenv(&["create", "blue"]).ok();
    // The stand-in has what room the store has. Two files that only together are too large.
    let boot = lab.files("blue").join("boot");
    for (file, size) in [("vmlinuz-6.13.0-amd64", 20), ("initrd.img-6.13.0-amd64", 20)] {
        sh(&format!("head -c {size}M /dev/urandom > '{}'", boot.join(file).display()));
    }
    // Written, not allocated: a pool takes no room for what is only that.
    let home = lab.home();
    let settle = if kind() == Kind::Zfs { format!("zpool sync {}", lab.store().display()) } else { "sync".into() };
    sh(&format!(
        "{settle}; head -c $(($(stat -fc '%a*%S' '{0}') - (30<<20))) /dev/zero > '{0}/fill'; {settle}",
        home.display()
    ));
    let before = (lab.copies(), lab.menu());
    lab.refuses(&["activate", "blue"], 3, &["MiB", "free"]);
    lab.refuses(&["create", "-e", "blue", "green"], 3, &["MiB", "free"]);
    assert_eq!((lab.copies(), lab.menu()), before);
    sh(&format!("rm '{}/fill'; {settle}", lab.home().display()));
    lab.bootenv(&["activate", "blue"]).ok();
    assert_eq!(lab.copies().len(), 4);
}

fn without_its_esp_a_running_store_says_what_to_mount(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    lab.bootenv(&["create", "blue"]).ok();
    let inside = lab.running("default");
    let told = inside.bootenv(&["list"]).ok();
    assert!(!told.stdout.contains(" R ") && told.stdout.contains("blue"), "{told:?}");
    for args in
        [&["create", "green"][..], &["activate", "blue"], &["rename", "blue", "red"], &["destroy", "-F", "blue"]]
    {
        let ran = inside.bootenv(&[&["--json"], args].concat());
        ran.refused(3, &["ESP"]);
    }
    inside.bootenv(&["create", "blue@one"]).ok();
}

fn settings_that_are_lost_do_not_lose_the_loader(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    std::fs::write(lab.home().join("store.toml"), "not [ toml").unwrap();
    assert!(is_default(&lab, "default"));
    lab.bootenv(&["check", "--repair"]).ok();
    let text = std::fs::read_to_string(lab.home().join("store.toml")).unwrap();
    assert!(text.contains(&format!("loader = \"{}\"", loader.name())), "{text}");
    std::fs::write(lab.home().join("store.toml"), "version = 1\nloader = \"later\"\n").unwrap();
    lab.refuses(&["create", "x"], 3, &["later"]);
}

fn a_be_that_is_gone_is_not_said_to_boot(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    lab.bootenv(&["create", "-a", "blue"]).ok();
    lab.destroy_behind(&lab.files("blue"));
    assert!(!lab.bootenv(&["list", "-H"]).ok().stdout.contains("\tR\t"));
    assert!(attention(&lab).contains("blue"), "{}", attention(&lab));
    // GRUB is still told to boot it, and that is told.
    let _ = lab.bootenv(&["check", "--repair"]);
    assert!(is_default(&lab, "default"));
}

fn a_rollback_to_another_kernel_is_refused_to_what_is_due(loader: Loader) {
    let Some(lab) = new(loader) else { return };
    lab.bootenv(&["create", "blue"]).ok();
    lab.bootenv(&["create", "blue@one"]).ok();
    lab.bootenv(&["activate", "blue"]).ok();
    std::fs::write(lab.files("blue").join("boot/initrd.img-6.12.1-amd64"), "another").unwrap();
    lab.bootenv(&["check", "--repair"]).ok();
    let why = match kind() {
        Kind::Btrfs => "another kernel",
        Kind::Zfs => "would not find it",
    };
    lab.refuses(&["rollback", "-F", "blue@one"], 3, &[why]);
    lab.bootenv(&["activate", "default"]).ok();
    lab.bootenv(&["rollback", "-F", "blue@one"]).ok();
    is_whole(&lab);
}
