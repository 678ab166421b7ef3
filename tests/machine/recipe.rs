//! What is built once and kept in a cache outside the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a recipe (`build-root.sh`, `build-vm.sh`) for a kind of root (`btrfs`, `zfs`) and gives the path of what it made.
/// `None`, with a word on why, if it is not there and cannot be made here.
pub fn made_by(script: &str, kind: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine").join(script);
    let out = Command::new(&script).arg(kind).output().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    let said = String::from_utf8_lossy(&out.stderr);
    match out.status.code() {
        Some(0) => Some(String::from_utf8(out.stdout).unwrap().trim_end().into()),
        Some(77) => {
            eprint!("{said}");
            None
        }
        _ => panic!("{}: {}\n{said}", script.display(), out.status),
    }
}

/// The first of these programs that is not installed.
pub fn lacks(programs: &[&str]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    programs.iter().find(|name| !found(name)).map(|name| format!("{name} is not installed"))
}

/// Says why something cannot run here.
pub fn skip(why: &str) -> Option<PathBuf> {
    eprintln!("skipped: {why}");
    None
}
