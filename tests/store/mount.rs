//! `mount` and `unmount`: alternate roots.

use crate::lab::{Kind, Lab, Print, kind, mountpoint, mounts, only_on, sh, try_sh};
use std::path::{Path, PathBuf};

fn two() -> Lab {
    let lab = Lab::new();
    lab.nest("default", "var/lib/machines");
    lab.bootenv(&["create", "blue"]).ok();
    // The top of the store stays mounted from now on, so that mount tables can be compared.
    lab.top();
    lab
}

fn mount(lab: &Lab, args: &[&str]) -> PathBuf {
    let out = lab.bootenv(&[&["mount"], args].concat()).ok().stdout;
    assert_eq!(out.lines().count(), 1, "the directory and nothing else: {out:?}");
    PathBuf::from(out.trim())
}

fn flags(at: &Path) -> String {
    let line =
        mounts().into_iter().find(|l| mountpoint(l) == at).unwrap_or_else(|| panic!("nothing is mounted at {at:?}"));
    line.split(' ').nth(5).unwrap().to_string()
}

#[track_caller]
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

#[test]
fn on_a_directory_of_its_own() {
    let lab = two();
    let before = mounts();
    let at = mount(&lab, &["blue"]);
    assert_eq!(at, Path::new("/run/bootenv/blue"));
    assert_eq!(std::fs::read_to_string(at.join("etc/os-release")).unwrap(), "ID=debian\nVERSION_ID=13\n");
    assert_eq!(std::fs::read_to_string(at.join("var/log/syslog")).unwrap(), "line\n");
    std::fs::write(at.join("etc/new"), "written through the mount").unwrap();
    std::fs::write(at.join("var/lib/machines/new"), "in what is nested too").unwrap();
    assert!(lab.files("blue").join("etc/new").exists() && lab.files("blue").join("var/lib/machines/new").exists());
    assert!(!lab.files("default").join("etc/new").exists());
    let nested = usize::from(kind() == Kind::Zfs);
    assert_eq!(mounts().len(), before.len() + 2 + nested, "the BE, the shared dataset in it, and what is nested");
    lab.bootenv(&["unmount", "blue"]).ok();
    assert_eq!(mounts(), before);
    assert!(!at.exists(), "the directory of its own is left");
}

#[test]
fn on_a_directory_that_is_named() {
    let lab = two();
    let before = mounts();
    let dir = lab.path("with a blank");
    std::fs::create_dir(&dir).unwrap();
    assert_eq!(mount(&lab, &["blue", dir.to_str().unwrap()]), dir);
    assert!(dir.join("var/log/syslog").exists());
    // By directory, however it is written.
    let written = format!("{}/../with a blank/", dir.display());
    lab.bootenv(&["unmount", &written]).ok();
    assert_eq!(mounts(), before);
    assert!(dir.exists(), "a directory that was there before stays");
}

#[test]
fn on_a_relative_directory() {
    let lab = two();
    std::fs::create_dir(lab.path("here")).unwrap();
    let run =
        |args: &[&str]| -> crate::lab::Ran { lab.command(args).current_dir(lab.path("")).output().unwrap().into() };
    run(&["mount", "blue", "here"]).ok();
    assert_eq!(lab.be("blue")["mountpoint"], lab.path("here").to_str().unwrap());
    run(&["unmount", "./here"]).ok();
}

#[test]
fn shared_data_is_read_only_and_the_be_is_not() {
    let lab = two();
    let at = mount(&lab, &["blue"]);
    let shared = flags(&at.join("var/shared"));
    for flag in ["ro", "nosuid", "nodev"] {
        assert!(shared.split(',').any(|f| f == flag), "{shared}");
    }
    assert_eq!(flags(&at).split(',').next(), Some("rw"));
    assert_eq!(errno(std::fs::write(at.join("var/log/new"), "")), nix::libc::EROFS);
    assert_eq!(errno(std::fs::write(at.join("var/shared/new"), "")), nix::libc::EROFS);
    // The store itself is not what became read-only.
    std::fs::write(lab.shared().join("log/other"), "").unwrap();
    assert!(at.join("var/log/other").exists(), "what runs goes on writing, and it is seen");
    std::fs::remove_file(lab.shared().join("log/other")).unwrap();
}

#[test]
fn read_only_means_everything() {
    let lab = two();
    let before = Print::of(&lab.files("blue"));
    let at = mount(&lab, &["--read-only", "blue"]);
    for file in ["new", "etc/new", "var/lib/machines/new", "var/log/new"] {
        assert_eq!(errno(std::fs::write(at.join(file), "")), nix::libc::EROFS, "{file}");
    }
    lab.bootenv(&["unmount", "blue"]).ok();
    before.assert_same(&Print::of(&lab.files("blue")), "a read-only mount changed the BE");
    let at = mount(&lab, &["blue"]);
    std::fs::write(at.join("etc/new"), "it was the mount, not the BE").unwrap();
}

#[test]
fn what_is_nested_without_its_directory_gets_one_from_who_may_write() {
    if !only_on(Kind::Zfs, "a subvolume is the directory that it is nested in") {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.leave_top();
    sh(&format!("zfs create -u -o canmount=noauto '{}/ROOT/blue/srv'", lab.store().display()));
    let at = lab.path("by-hand");
    std::fs::create_dir(&at).unwrap();
    let look = format!("{}; ls -d '{1}/srv'; umount '{1}'", lab.mounting("ROOT/blue", &at), at.display());
    let is_there = || !try_sh(&look).stdout.is_empty();
    for args in [&["list"][..], &["check"], &["mount", "--read-only", "blue"], &["unmount", "blue"]] {
        lab.bootenv(args).ok();
        assert!(!is_there(), "{args:?} made a directory");
    }
    let mounted = mount(&lab, &["blue"]);
    std::fs::write(mounted.join("srv/file"), "in what is nested").unwrap();
    lab.bootenv(&["unmount", "blue"]).ok();
    assert!(is_there());
    lab.bootenv(&["create", "-e", "blue", "green"]).ok();
    assert!(lab.files("green").join("srv/file").exists());
}

#[test]
fn shared_data_is_never_mounted_writable() {
    let lab = two();
    lab.refuses(&["mount", "-s", "rw", "blue"], 3, &["rw"]);
    lab.refuses(&["mount", "-s", "maybe", "blue"], 2, &["maybe"]);
    mount(&lab, &["-s", "ro", "blue"]);
}

#[test]
fn several_at_once() {
    let lab = two();
    lab.bootenv(&["create", "green"]).ok();
    let before = mounts();
    let (blue, green) = (mount(&lab, &["blue"]), mount(&lab, &["green"]));
    assert_ne!(blue, green);
    lab.bootenv(&["unmount", "blue"]).ok();
    assert!(green.join("etc").exists() && !blue.exists());
    lab.bootenv(&["unmount", green.to_str().unwrap()]).ok();
    assert_eq!(mounts(), before);
}

#[test]
fn a_directory_left_over_is_used_and_one_in_use_is_not() {
    let lab = two();
    std::fs::create_dir_all("/run/bootenv/blue").unwrap();
    assert_eq!(mount(&lab, &["blue"]), Path::new("/run/bootenv/blue"));
    lab.bootenv(&["unmount", "blue"]).ok();
    std::fs::create_dir_all("/run/bootenv/blue").unwrap();
    std::fs::write("/run/bootenv/blue/file", "somebody's").unwrap();
    let at = mount(&lab, &["blue"]);
    assert_ne!(at, Path::new("/run/bootenv/blue"));
    lab.bootenv(&["unmount", "blue"]).ok();
    assert!(Path::new("/run/bootenv/blue/file").exists() && !at.exists());
}

#[test]
fn where_it_cannot_be_mounted() {
    let lab = two();
    let dir = |name: &str| lab.path(name).to_str().unwrap().to_string();
    sh(&format!(
        "cd '{}'; mkdir full busy empty; touch file full/file; mount -t tmpfs tmpfs busy; ln -s nowhere dangling; mkfifo fifo",
        lab.path("").display()
    ));
    lab.refuses(&["mount", "blue", &dir("file")], 3, &["not a directory"]);
    lab.refuses(&["mount", "blue", &dir("fifo")], 3, &["not a directory"]);
    lab.refuses(&["mount", "blue", &dir("full")], 3, &["not empty"]);
    lab.refuses(&["mount", "blue", &dir("busy")], 5, &["mounted"]);
    lab.refuses(&["mount", "blue", &dir("missing")], 3, &["missing"]);
    lab.refuses(&["mount", "blue", &dir("dangling")], 3, &["dangling"]);
    lab.refuses(&["mount", "blue", "/"], 5, &["mounted"]);
    lab.refuses(&["mount", "none", &dir("empty")], 4, &["none"]);
    mount(&lab, &["blue", &dir("empty")]);
    lab.refuses(&["mount", "blue"], 5, &["is mounted at"]);
    std::fs::create_dir(lab.path("another")).unwrap();
    lab.refuses(&["mount", "blue", &dir("another")], 5, &["is mounted at"]);
    lab.refuses(&["mount", "default", &dir("empty")], 5, &["mounted"]);
}

#[test]
fn a_be_in_use_stays_mounted_as_it_was_unless_forced() {
    let lab = two();
    let before = mounts();
    let at = mount(&lab, &["blue"]);
    for inside in ["", "etc", "var/shared/log"] {
        let mut user = std::process::Command::new("sleep").arg("60").current_dir(at.join(inside)).spawn().unwrap();
        let during = mounts().len();
        let ran = lab.json(&["unmount", "blue"]);
        user.kill().unwrap();
        user.wait().unwrap();
        ran.refused(5, &["in use"]);
        assert_eq!(mounts().len(), during, "something was unmounted although {inside:?} was in use");
        assert_eq!(errno(std::fs::write(at.join("var/log/new"), "")), nix::libc::EROFS);
        let remount = try_sh(&format!("mount -o remount,bind,rw '{}/var/shared'", at.display()));
        assert_ne!(remount.status, 0, "the read-only flag can be taken off again");
    }
    let mut user = std::process::Command::new("sleep").arg("60").current_dir(at.join("etc")).spawn().unwrap();
    let ran = lab.bootenv(&["unmount", "-f", "blue"]);
    user.kill().unwrap();
    user.wait().unwrap();
    ran.ok();
    assert_eq!(mounts(), before);
}

#[test]
fn what_somebody_mounted_inside_is_not_unmounted_unless_forced() {
    let lab = two();
    let before = mounts();
    let at = mount(&lab, &["blue"]);
    sh(&format!("mount -t tmpfs tmpfs '{}/tmp'", at.display()));
    lab.refuses(&["unmount", "blue"], 5, &["/tmp"]);
    lab.bootenv(&["unmount", "-f", "blue"]).ok();
    assert_eq!(mounts(), before);
}

#[test]
fn what_is_not_mounted_cannot_be_unmounted() {
    let lab = two();
    assert_eq!(lab.json(&["unmount", "blue"]).ok().json()["changed"], false);
    lab.refuses(&["unmount", "none"], 4, &["none"]);
    lab.refuses(&["unmount", "/tmp"], 4, &["/tmp"]);
    lab.refuses(&["unmount", "/no/such/dir"], 4, &["/no/such/dir"]);
    lab.refuses(&["unmount", "-f", lab.path("").to_str().unwrap()], 4, &[]);
}

#[test]
fn a_kernel_installed_in_it_is_in_the_menu_afterwards() {
    let lab = two();
    let at = mount(&lab, &["blue"]);
    std::fs::write(at.join("boot/vmlinuz-6.13.0-amd64"), "new").unwrap();
    std::fs::write(at.join("boot/initrd.img-6.13.0-amd64"), "new").unwrap();
    lab.bootenv(&["unmount", "blue"]).ok();
    assert_eq!(lab.entry("blue").unwrap().kernel, "vmlinuz-6.13.0-amd64");
    assert_eq!(lab.entry("default").unwrap().kernel, "vmlinuz-6.12.1-amd64");
}

#[test]
fn unmounting_succeeds_although_the_be_was_broken_meanwhile() {
    let lab = two();
    let before = mounts();
    let at = mount(&lab, &["blue"]);
    std::fs::write(at.join("etc/bootenv.toml"), "not [ toml").unwrap();
    let ran = lab.bootenv(&["unmount", "blue"]);
    assert_eq!(mounts(), before);
    assert_eq!(ran.status, 0, "it is unmounted, so it was not refused: {}", ran.stderr);
    assert!(ran.stderr.contains("bootenv.toml"), "{}", ran.stderr);
    // It hides nothing, and can be told, unmade and mended.
    assert_eq!(lab.names(), ["default", "blue"]);
    assert!(lab.bootenv(&["check"]).fails(1, &[]).stdout.contains("bootenv.toml"));
    lab.refuses(&["activate", "blue"], 3, &["bootenv.toml"]);
    lab.bootenv(&["create", "-e", "default", "green"]).ok();
    lab.bootenv(&["destroy", "blue"]).ok();
}

#[test]
fn what_is_mounted_in_another_namespace_is_in_use() {
    let lab = two();
    lab.bootenv(&["create", "blue@then"]).ok();
    let at = lab.path("there");
    std::fs::create_dir(&at).unwrap();
    // A container, as far as this goes.
    let script = format!("{} && echo ready && exec sleep 60", lab.mounting("ROOT/blue", &at));
    let mut container = std::process::Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private", "bash", "-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 5];
    std::io::Read::read_exact(container.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let before = lab.print();
    let outcomes = [&["destroy", "blue"][..], &["destroy", "-f", "-s", "blue"], &["rollback", "blue@then"]]
        .map(|args| (args, lab.json(args)));
    let after = lab.print();
    container.kill().unwrap();
    container.wait().unwrap();
    for (args, ran) in outcomes {
        eprintln!("{args:?}");
        ran.refused(5, &["there"]);
    }
    before.assert_same(&after, "a BE in use was changed");
}
