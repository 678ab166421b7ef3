//! The packages lane: commands and real package managers at work in boot environments of a real Debian, without the network.

#[path = "../lab/mod.rs"]
mod lab;
#[path = "../machine/recipe.rs"]
#[allow(dead_code)] // machines have more needs
mod recipe;

mod automatic;
mod bad;
mod debian;
mod foreign;
mod guard;
mod inside;
mod upgrade;
mod zone;

use lab::{Lab, Loader, Ran, sh};
use std::path::{Path, PathBuf};

/// A store with a Debian in the BE `default`, in which packages can be installed without the network, and a copy of it,
/// `blue`. `None`, with a word on why, where there is no such Debian.
fn debian() -> Option<Lab> {
    if let Some(lab) = Lab::again("debian", Loader::Grub) {
        return Some(lab);
    }
    // A machine that this runs in is handed what it could not make.
    let given = std::env::var_os("BOOTENV_TEST_DEBIAN").map(PathBuf::from);
    let tar = given.or_else(|| recipe::made_by("build-root.sh", "packages"))?;
    let lab = Lab::of_size(SIZE);
    lab.bootenv(&lab.init_args_sized(SIZE, &tar, &["--loader", lab.loader.name()])).ok();
    run(&lab, "default", "mv /opt/apt/archives/*.deb /var/cache/apt/archives/; cp -a /opt/apt/lists/. /var/lib/apt/lists/; rm -r /opt/apt").ok();
    lab.bootenv(&["create", "blue"]).ok();
    lab.keep("debian");
    Some(lab)
}

/// Of the store.
const SIZE: &str = "4096M";

/// Runs a shell script in a BE.
fn run(lab: &Lab, be: &str, script: &str) -> Ran {
    lab.bootenv(&["run", be, "--", "sh", "-c", script])
}

/// How many processes there are that sleep for so many seconds, or for a number that begins so.
fn sleepers(seconds: &str) -> usize {
    let command = format!("sleep\0{seconds}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(command.as_bytes())).count()
}

/// apt-get, asking nobody and no network.
const APT: &str =
    "DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::http::Proxy=http://127.0.0.1:9 -y --no-install-recommends";

/// Writes a file of the laboratory.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
}

/// A package `name` made from a tree and maintainer scripts, as a file of the laboratory: `script` is run in the tree.
fn package(lab: &Lab, name: &str, script: &str) -> std::path::PathBuf {
    let (dir, file) = (lab.path(name), lab.path(&format!("{name}.deb")));
    sh(&format!(
        "set -e; mkdir -p '{0}/DEBIAN'; cd '{0}'; printf 'Package: {name}\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: x\\n' > DEBIAN/control
         {script}
         dpkg-deb --root-owner-group -b . '{1}' >/dev/null",
        dir.display(),
        file.display()
    ));
    file
}
