//! Pools and BEs that are in no good state: read-only, without a disk, suspended, without a key.

use crate::lab::{Kind, Lab, attach, only_on, sh};
use crate::pools::{POOLS, get, listed};
use std::path::Path;

#[test]
fn a_pool_imported_read_only_can_be_looked_at() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.bootenv(&["create", "blue"]).ok();
    lab.leave_top();
    let (pool, dir) = (lab.store().display().to_string(), lab.path("").display().to_string());
    sh(&format!("zpool export {pool}"));
    lab.json(&["list"]).refused(4, &["zpool import"]);
    sh(&format!("zpool import -N -o readonly=on -o cachefile=none -d '{dir}' {pool}"));
    assert_eq!(lab.names(), ["default", "blue"]);
    assert_eq!(lab.json(&[]).ok().json()["boot_environments"], 2);
    for args in [&["create", "new"][..], &["activate", "blue"], &["destroy", "blue"], &["mount", "blue"]] {
        lab.json(args).refused(1, &["ead-only", "import the pool"]);
    }
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

/// A disk that can be pulled out.
struct Disk {
    name: String,
    device: String,
    sectors: u64,
}

impl Disk {
    fn new(dir: &Path) -> Disk {
        let (file, sectors) = (dir.join("pulled"), 256 << 11);
        std::fs::File::create(&file).unwrap().set_len(sectors << 9).unwrap();
        let disk = Disk { name: format!("pulled{}", std::process::id()), device: attach(&file), sectors };
        sh(&format!("dmsetup create {} --table '{}'", disk.name, disk.table("linear")));
        disk
    }

    fn table(&self, target: &str) -> String {
        let to = if target == "linear" { format!("{} 0", self.device) } else { String::new() };
        format!("0 {} {target} {to}", self.sectors)
    }

    fn becomes(&self, target: &str) {
        let (name, table) = (&self.name, self.table(target));
        sh(&format!(
            "dmsetup suspend --noflush --nolockfs {name}; dmsetup load {name} --table '{table}'; dmsetup resume {name}"
        ));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        sh(&format!("dmsetup remove --retry {}; losetup -d {}", self.name, self.device));
    }
}

#[test]
fn a_pool_that_is_suspended_is_refused_until_it_is_cleared() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = Disk::new(dir.path());
    let lab = Lab::on_disk(&Path::new("/dev/mapper").join(&disk.name));
    lab.leave_top();
    let pool = lab.store().display().to_string();
    disk.becomes("error");
    // Its first write has nowhere to go, and waits.
    let mut writes = std::process::Command::new("zfs").args(["set", "user:x=y", &pool]).spawn().unwrap();
    let state = Path::new("/proc/spl/kstat/zfs").join(&pool).join("state");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
    while std::fs::read_to_string(&state).unwrap().trim() != "SUSPENDED" {
        assert!(std::time::Instant::now() < until, "the pool goes on without its disk");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    for args in [&["list"][..], &["create", "blue"], &["check"]] {
        lab.json(args).refused(1, &["is suspended", &format!("zpool clear {pool}")]);
    }
    disk.becomes("linear");
    sh(&format!("zpool clear {pool}"));
    assert!(writes.wait().unwrap().success());
    lab.bootenv(&["create", "blue"]).ok();
    assert_eq!(lab.names(), ["default", "blue"]);
}

#[test]
fn a_pool_that_has_lost_a_device_works_and_says_so() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::new();
    lab.leave_top();
    let (pool, other) = (lab.store().display().to_string(), lab.path("other").display().to_string());
    let file = lab.path("pool").display().to_string();
    sh(&format!(
        "truncate -s 256M '{other}' && zpool attach -w {pool} '{file}' '{other}' && zpool offline {pool} '{other}'"
    ));
    lab.bootenv(&["create", "blue"]).ok();
    let status = lab.bootenv(&["--json"]).ok().json();
    assert!(status["attention"][0].as_str().unwrap().contains("degraded"), "{status}");
    sh(&format!("zpool online {pool} '{other}'"));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_be_whose_key_is_not_loaded() {
    if !only_on(Kind::Zfs, POOLS) {
        return;
    }
    let lab = Lab::empty();
    let (pool, key) = (lab.store().display().to_string(), lab.path("key").display().to_string());
    std::fs::write(&key, "a passphrase").unwrap();
    let encrypted = format!("-o encryption=on -o keyformat=passphrase -o 'keylocation=file://{key}'");
    sh(&format!("zfs create -o canmount=off {encrypted} {pool}/ROOT"));
    let root = lab.root("");
    lab.init(&root, &[]).ok();
    // With its key loaded it is as any other.
    lab.bootenv(&["create", "-a", "blue"]).ok();
    lab.bootenv(&["create", "blue@then"]).ok();
    lab.bootenv(&["mount", "blue"]).ok();
    lab.bootenv(&["unmount", "blue"]).ok();
    lab.bootenv(&["create", "red"]).ok();
    lab.bootenv(&["create", "red@then"]).ok();
    lab.leave_top();
    sh(&format!("zfs unload-key {pool}/ROOT"));
    let before = listed(&lab);
    for args in [
        &["activate", "default"][..],
        &["mount", "red"],
        &["create", "new"],
        &["create", "-e", "red@then", "new"],
        &["rename", "red", "other"],
        &["rollback", "-F", "red@then"],
        &["describe", "red", "text"],
        &["run", "red", "--", "true"],
        &["upgrade", "--", "true"],
    ] {
        // What `run` says is not for programs.
        let args = if args[0] == "run" { args } else { &[&["--json"], args].concat() };
        lab.bootenv(args).fails(1, &["encryption key is not loaded", "zfs load-key"]);
    }
    assert_eq!(listed(&lab), before);
    lab.bootenv(&["check"]).fails(1, &[]);
    lab.bootenv(&["create", "blue@locked"]).ok();
    lab.bootenv(&["destroy", "-s", "red"]).ok();
    sh(&format!("zfs load-key {pool}/ROOT"));
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
    assert_eq!(get(&lab, "ROOT/blue", "keylocation"), "none default");
}
