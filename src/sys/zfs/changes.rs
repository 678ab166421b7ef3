//! What has changed in a dataset, by zfs-diff(8).
//!
//! It looks for where the datasets are mounted, and finds nothing that is mounted nowhere. So it runs in a mount namespace of its
//! own, where they are.

use super::command::printed;
use crate::error::Result;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Runs zfs-diff(8) on `$1` and `$2`, after a line that says where the later one is mounted: the first mount in the table is what
/// counts. What somebody has mounted with other options is busy for these.
const SCRIPT: &str = r#"
set -e
at() {
    while read -r source target rest; do
        if [ "$source" = "$1" ]; then echo "$target"; return; fi
    done < /proc/self/mounts
}
mount -t tmpfs -o mode=700 tmpfs "$3"
for dataset in "${1%%@*}" "${2%%@*}"; do
    [ -z "$(at "$dataset")" ] || continue
    place=$(mktemp -d "$3/XXXXXX")
    mount -i -t zfs -o ro "$dataset" "$place" 2>/dev/null || mount -i -t zfs "$dataset" "$place"
done
at "${2%%@*}"
exec zfs diff -H "$1" "$2"
"#;

/// The paths of what has changed, come or gone from the snapshot `from` to the snapshot or dataset `to`, from the top of that. What
/// was renamed has both its names. An object of which ZFS no longer knows the path is left out: the directory that it was in
/// has changed too.
/// `scratch` is a directory to mount them below in a namespace that nobody sees.
pub fn changed_paths(from: &str, to: &str, scratch: &Path) -> Result<Vec<PathBuf>> {
    let scratch = scratch.to_string_lossy();
    let own = ["--mount", "--propagation", "private", "--", "sh", "-c", SCRIPT, "sh"];
    let said = printed("unshare", &[&own[..], &[from, to, &scratch]].concat())?;
    let (at, changes) = said.split_once('\n').unwrap_or_default();
    let at = PathBuf::from(OsString::from_vec(bytes(at, 3)));
    let paths = changes.lines().flat_map(|line| line.split('\t').skip(1));
    let paths = paths.map(|path| PathBuf::from(OsString::from_vec(bytes(path, 4))));
    Ok(paths.filter_map(|path| path.strip_prefix(&at).map(PathBuf::from).ok()).collect())
}

/// What is printed with a backslash and so many octal digits for what is no printable character.
fn bytes(printed: &str, digits: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(printed.len());
    let mut rest = printed.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.get(..digits).filter(|_| *first == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[digits..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[test]
fn odd_paths_come_back() {
    assert_eq!(bytes(r"/later/a\0040b\0134\0377", 4), b"/later/a b\\\xff");
    assert_eq!(bytes(r"/mnt/a\040b", 3), b"/mnt/a b");
}
