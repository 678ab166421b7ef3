//! Relative symlinks inside the shared directories, which move one level deeper.

use crate::domain::shared::SHARED_LIST;
use crate::error::{Doing, Result};
use std::path::{Component, Path, PathBuf};

/// What a symlink at `at` (its path from the root, itself included) must say after the move. One that stays among the
/// shared directories stays right, because they keep their places to each other; one that leaves them starts one
/// level deeper (`/var/log/README -> ../../usr/share/doc/...` on Debian).
pub fn adjusted(target: &Path, at: &[&str]) -> PathBuf {
    if target.is_absolute() {
        return target.to_path_buf();
    }
    let mut place: Vec<&std::ffi::OsStr> = at[..at.len() - 1].iter().map(|s| std::ffi::OsStr::new(*s)).collect();
    let mut leaves = false;
    for component in target.components() {
        match component {
            Component::ParentDir => drop(place.pop()),
            Component::Normal(name) => place.push(name),
            _ => {}
        }
        // `..` twice from /var/log and back is the same place only before the move.
        leaves |= place.is_empty();
    }
    let shared = place.len() >= 2 && place[0] == "var" && SHARED_LIST.iter().any(|name| place[1] == *name);
    if shared && !leaves { target.to_path_buf() } else { Path::new("..").join(target) }
}

/// Adjusts every symlink in the tree at `path`, which was just copied from `at`.
pub fn adjust(path: &Path, at: &[&str]) -> Result<()> {
    let meta = std::fs::symlink_metadata(path).doing_to("look at", path)?;
    if meta.is_symlink() {
        let target = std::fs::read_link(path).doing_to("read", path)?;
        let right = adjusted(&target, at);
        return if right == target { Ok(()) } else { replace(path, &right, &meta) };
    }
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).doing_to("read", path)? {
            let entry = entry.doing_to("read", path)?;
            let kind = entry.file_type().doing_to("look at", &entry.path())?;
            if kind.is_dir() || kind.is_symlink() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let inside: Vec<&str> = at.iter().copied().chain([name.as_str()]).collect();
                adjust(&entry.path(), &inside)?;
            }
        }
    }
    Ok(())
}

/// Another target, the same owner and time.
fn replace(path: &Path, target: &Path, meta: &std::fs::Metadata) -> Result<()> {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    use std::os::unix::fs::MetadataExt;
    std::fs::remove_file(path).doing_to("replace", path)?;
    std::os::unix::fs::symlink(target, path).doing_to("replace", path)?;
    std::os::unix::fs::lchown(path, Some(meta.uid()), Some(meta.gid())).doing_to("replace", path)?;
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).doing_to("replace", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_the_shared_directories_changes() {
        let cases = [
            (&["var", "log", "README"][..], "../../usr/share/doc", "../../../usr/share/doc"),
            (&["var", "log", "a", "l"][..], "../../lib/x", "../../../lib/x"),
            (&["var", "spool", "mail"][..], "../mail", "../mail"),
            (&["var", "log", "l"][..], "syslog", "syslog"),
            (&["var", "log", "l"][..], "/etc/x", "/etc/x"),
            (&["var", "log", "l"][..], "../../var/mail/x", "../../../var/mail/x"),
            (&["var", "log", "l"][..], "../shared/log/x", "../../shared/log/x"),
        ];
        for (at, target, right) in cases {
            assert_eq!(adjusted(Path::new(target), at), Path::new(right), "{at:?} -> {target}");
        }
    }
}
