//! `init`: a new image from a folder or a tar.

use crate::lab::{Kind, Lab, Print, on, only_on, sh};

/// What a copy of the small root has to show, whatever it came from.
#[track_caller]
fn is_whole(lab: &Lab, source: &Print) {
    let own = |p: Print| {
        // What `init` changes on purpose is looked at in `shared`; `/` and `/var` have changed content, and so times.
        p.without(|path| {
            let changed =
                ["", "etc", "etc/fstab", "var", "usr", "usr/share", "usr/lib", "usr/lib/systemd", "etc/systemd"];
            changed.iter().any(|c| path.as_os_str() == *c)
                || ["var/log", "var/mail", "var/spool", "var/adm", "var/shared", "usr/share/factory", "etc/systemd"]
                    .iter()
                    .any(|c| path.starts_with(c))
        })
    };
    let copied = own(Print::of_copy(&lab.files("default")));
    assert!(
        copied.has("usr/bin/tool")
            && copied.has("boot/vmlinuz-6.12.1-amd64")
            && copied.has("var/lib/dpkg/info/apt.list")
    );
    own(source.clone()).assert_same(&copied, "the BE is not what was copied");
}

#[test]
fn from_a_folder_makes_a_store_whose_be_boots_next() {
    let lab = Lab::empty();
    let root = lab.root("");
    let before = Print::of(&root);
    let ran = lab.init(&root, &[]).ok();
    assert_eq!(ran.stdout, "default is made and boots next\n");
    before.assert_same(&Print::of(&root), "the source was changed");
    is_whole(&lab, &Print::of_copy(&root));
    let be = lab.be("default");
    assert_eq!(
        (&be["active_on_reboot"], &be["active_now"], &be["active_once"]),
        (&true.into(), &false.into(), &false.into())
    );
    assert_eq!(lab.asked("default").as_deref(), Some("default"));
    let entry = lab.entry("default").unwrap();
    assert_eq!((entry.kernel.as_str(), entry.initrd.as_str()), ("vmlinuz-6.12.1-amd64", "initrd.img-6.12.1-amd64"));
    assert_eq!(lab.menu().len(), 1);
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

/// Packs the small root with `tar`, makes a store from it and compares.
fn from_tar(suffix: &str, options: &str) {
    let lab = Lab::empty();
    // tar does not keep sockets, in no format: nothing lies in the archive that could be unpacked.
    let root = lab.root("rm var/spool/sock");
    let tar = lab.path(&format!("root.tar{suffix}"));
    sh(&format!("tar --acls --xattrs --sparse {options} -cf '{}' -C '{}' .", tar.display(), root.display()));
    lab.init(&tar, &["--name", "default"]).ok();
    is_whole(&lab, &Print::of_copy(&root));
    assert!(lab.shared().join("log/apt/README").exists());
    assert_eq!(lab.asked("default").as_deref(), Some("default"));
}

#[test]
fn from_a_tar() {
    from_tar("", "--format=pax");
}

#[test]
fn from_a_tar_with_gzip() {
    from_tar(".gz", "--format=pax --gzip");
}

#[test]
fn from_a_tar_with_zstd() {
    from_tar(".zst", "--format=pax --zstd");
}

#[test]
fn from_a_tar_whose_name_says_nothing_about_its_compression() {
    from_tar("", "--format=pax --xz");
}

#[test]
fn name_and_description_are_what_was_asked_for() {
    let lab = Lab::empty();
    let root = lab.root("");
    lab.init(&root, &["--name", "first", "-d", "as installed"]).ok();
    assert_eq!(lab.names(), ["first"]);
    assert_eq!(lab.be("first")["description"], "as installed");
    assert_eq!(lab.entry("first").unwrap().title, "first: as installed");
}

#[test]
fn the_image_has_the_size_asked_for_and_takes_no_more_room_than_it_needs() {
    if !only_on(Kind::Btrfs, "images are Btrfs; pools are made by zpool") {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let lab = Lab::new();
    let meta = std::fs::metadata(&lab.image).unwrap();
    assert_eq!(meta.len(), 256 << 20);
    assert!(meta.blocks() * 512 < 100 << 20, "{} bytes are allocated", meta.blocks() * 512);
}

#[test]
fn a_second_root_becomes_a_second_be_and_leaves_the_first_alone() {
    let lab = Lab::new();
    lab.bootenv(&["describe", "default", "kept"]).ok();
    let root = lab.root("echo second > etc/which");
    let before = Print::of(&lab.files("default"));
    let asked = lab.asked("default");
    lab.bootenv(&["init", "--from", root.to_str().unwrap(), "--name", "second"]).ok();
    assert_eq!(lab.names(), ["default", "second"]);
    before.assert_same(&Print::of(&lab.files("default")), "the first BE was changed");
    assert_eq!(lab.asked("default"), asked, "what boots next was changed");
    assert_eq!(std::fs::read_to_string(lab.files("second").join("etc/which")).unwrap(), "second\n");
    assert_eq!(lab.be("default")["description"], "kept");
    assert_eq!(lab.menu().len(), 2);
}

#[test]
fn init_of_what_is_initialised_says_so_and_changes_nothing() {
    let lab = Lab::new();
    let before = lab.print();
    let ran = lab.json(&["init"]).ok().json();
    assert_eq!(ran["changed"], false);
    assert!(ran["notes"][0].as_str().unwrap().contains("already"), "{ran}");
    before.assert_same(&lab.print(), "init changed an initialised store");
}

#[test]
fn a_size_that_is_none_or_too_small_makes_nothing() {
    if !only_on(Kind::Btrfs, "images are Btrfs; pools are made by zpool") {
        return;
    }
    let lab = Lab::empty();
    let root = lab.root("");
    let from = root.to_str().unwrap();
    for (size, status) in [("", 2), ("4X", 2), ("-1G", 2), ("0", 2), ("1.5G", 2), ("1M", 1), ("99999999999T", 2)] {
        let size = format!("--size={size}");
        lab.json(&["init", &size, "--from", from]).refused(status, &[]);
        assert_eq!(sh(&format!("ls -A '{}'", lab.path("").display())), "root\n", "{size} left something");
    }
    lab.json(&["init", "--from", from]).refused(2, &["--size"]);
    lab.json(&["init", "--size", "256M"]).refused(2, &["--from"]);
}

#[test]
fn what_is_no_root_is_not_copied_in() {
    let lab = Lab::empty();
    sh(&format!(
        r#"
cd '{}'; mkdir empty pack; echo text > text; head -c 100000 /dev/urandom > noise
touch pack/file; tar -cf rubbish.tar -C pack .; tar -cf nothing.tar -T /dev/null
mkdir -p whole/etc whole/usr; head -c 1000000 /dev/urandom > whole/usr/data
tar -cf whole.tar -C whole .; head -c 400000 whole.tar > cut.tar; gzip -k whole.tar; head -c 400000 whole.tar.gz > cut.tar.gz
"#,
        lab.path("").display()
    ));
    let before = sh(&format!("ls -A '{}'", lab.path("").display()));
    let cases = [
        ("missing", 2),
        ("empty", 3),
        ("text", 1),
        ("noise", 1),
        ("rubbish.tar", 3),
        ("nothing.tar", 3),
        ("cut.tar", 1),
        ("cut.tar.gz", 1),
        ("../../../../../../../../../..", 3),
    ];
    for (from, status) in cases {
        let from = lab.path(from);
        lab.json(&lab.init_args(&from, &[])).refused(status, &[]);
        assert_eq!(sh(&format!("ls -A '{}'", lab.path("").display())), before, "{from:?} left something");
    }
}

#[test]
fn a_root_that_does_not_fit_leaves_no_image() {
    let lab = Lab::of_size("128M");
    let root = lab.root("head -c 150M /dev/urandom > usr/large");
    lab.json(&lab.init_args_sized("128M", &root, &[])).refused(1, &["space"]);
    assert!(!lab.image.exists() && lab.in_root().is_empty());
}

#[test]
fn an_image_cannot_be_made_where_there_is_no_directory() {
    if !only_on(Kind::Btrfs, "images are Btrfs; pools are made by zpool") {
        return;
    }
    let lab = Lab::empty();
    let root = lab.root("");
    on(&lab.path("no/such/lab.img"), &["init", "--size", "256M", "--from", root.to_str().unwrap()])
        .refused(1, &["no/such"]);
    assert!(!lab.path("no").exists());
}
