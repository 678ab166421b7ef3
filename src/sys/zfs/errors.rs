//! What an errno of OpenZFS means for what was tried, and the repair.
//!
//! Sources: the comments in libzfs_core.c, `zfs_standard_error` and the callers of libzfs_core in libzfs, zfs-program(8),
//! `zfs_errno_t` in sys/fs/zfs.h.

use crate::error::{Error, Kind};
use nix::errno::Errno;
use nix::libc;

/// What is done to a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Create,
    Clone,
    Snapshot,
    Destroy,
    Rename,
    Promote,
    Rollback,
    Set,
    Mount,
    Sync,
    Run,
    Measure,
    Read,
}

impl Act {
    fn words(self) -> &'static str {
        match self {
            Act::Create => "create",
            Act::Clone => "clone to",
            Act::Snapshot => "make the snapshot",
            Act::Destroy => "destroy",
            Act::Rename => "rename",
            Act::Promote => "promote",
            Act::Rollback => "roll back",
            Act::Set => "set a property of",
            Act::Mount => "mount",
            Act::Sync => "sync",
            Act::Run => "run a channel program on",
            Act::Measure => "ask for the space of",
            Act::Read => "read",
        }
    }
}

/// The errors of `zfs_errno_t` that can come here: "command", "argument" and "property" that one side does not know.
const OTHER_VERSION: [i32; 5] = [1029, 1030, 1031, 1032, 1044];
const WRONG_PARENT: i32 = 1033;
/// A block that does not match its checksum, which Linux has no number of its own for.
const CHECKSUM: i32 = libc::EBADE;

/// The error for `errno`, met when `name` (a dataset, a snapshot or a pool) was to be changed.
pub(super) fn told(act: Act, name: &str, errno: i32) -> Error {
    let pool = name.split(['/', '@']).next().unwrap_or(name);
    let (kind, why, hint): (Kind, String, String) = match errno {
        libc::EBUSY => (
            Kind::Busy,
            "it is in use".into(),
            match name.contains('@') {
                true => format!("something has it mounted or holds it: see `findmnt -t zfs` and `zfs holds {name}`"),
                false => {
                    format!(
                        "something has it mounted: see `findmnt -t zfs`, also in containers; another bootenv may be at work on {name}"
                    )
                }
            },
        ),
        libc::ENOENT if matches!(act, Act::Create | Act::Clone | Act::Rename) => (
            Kind::NotFound,
            "the dataset, its origin or its parent is not there".into(),
            format!("see `zfs list -r -t all {pool}`; `zpool import` names pools that are not imported"),
        ),
        libc::ENOENT | libc::ESRCH => (
            Kind::NotFound,
            "there is no such dataset".into(),
            format!("see `zfs list -r -t all {pool}`; `zpool import` names pools that are not imported"),
        ),
        libc::EEXIST | libc::EXDEV if act == Act::Rollback => {
            (Kind::Refused, "that is not its latest snapshot".into(), "destroy the later snapshots first".into())
        }
        libc::EEXIST => match act {
            Act::Destroy if name.contains('@') => (
                Kind::Refused,
                "it has clones".into(),
                format!("promote or destroy those first: see `zfs get clones {name}`"),
            ),
            Act::Destroy => {
                (Kind::Refused, "it has children".into(), format!("destroy those first: see `zfs list -r {name}`"))
            }
            _ => (Kind::Refused, "it is there already".into(), "choose another name".into()),
        },
        libc::EXDEV => (
            Kind::Refused,
            "that would lead into another pool or dataset".into(),
            "name something of the same pool, and for a snapshot of the same dataset".into(),
        ),
        libc::EINVAL if act == Act::Promote => {
            (Kind::Refused, "it is no clone".into(), format!("see `zfs get origin {name}`"))
        }
        libc::EINVAL | libc::ENAMETOOLONG | libc::E2BIG | WRONG_PARENT => (
            Kind::Refused,
            match errno {
                libc::EINVAL => "OpenZFS takes that name or value for wrong".into(),
                WRONG_PARENT => "its parent is no filesystem".into(),
                _ => "the name or value is too long".into(),
            },
            "names are letters, digits and `-_.: `, at most 255 bytes with the pool; values are at most 8191 bytes"
                .into(),
        ),
        libc::EROFS => (
            Kind::Failed,
            "the pool is read-only".into(),
            format!("import it read-write: `zpool export {pool}; zpool import {pool}`"),
        ),
        libc::ENOSPC | libc::EDQUOT => (
            Kind::Failed,
            if errno == libc::ENOSPC { "the pool is full".into() } else { "its quota is used up".into() },
            "`bootenv destroy` a boot environment or a snapshot, then run this again".into(),
        ),
        libc::EAGAIN if act == Act::Rollback => (
            Kind::Failed,
            "the pool is suspended, or the snapshot was made in the same transaction group".into(),
            format!("see `zpool status {pool}`"),
        ),
        // The kernel's word for a pool that has lost its devices.
        libc::EAGAIN | libc::EIO | libc::ENXIO => (
            Kind::Failed,
            if errno == libc::EAGAIN { "the pool is suspended".into() } else { "the pool's devices fail".into() },
            format!("see `zpool status {pool}`; `zpool clear {pool}` when the devices are back"),
        ),
        CHECKSUM => (Kind::Failed, "there is damaged data".into(), format!("see `zpool status -v {pool}`")),
        libc::EACCES => {
            (Kind::Failed, "its encryption key is not loaded".into(), format!("load it: `zfs load-key -r {pool}`"))
        }
        libc::EPERM => (
            Kind::Refused,
            "that is not permitted".into(),
            "run bootenv as root; in a container, the dataset has to be delegated to it".into(),
        ),
        libc::ENOTSUP => (
            Kind::Failed,
            "the pool or the OpenZFS module cannot do that".into(),
            format!("see `zpool status {pool}` and `zpool upgrade`"),
        ),
        e if OTHER_VERSION.contains(&e) => (
            Kind::Failed,
            format!("the OpenZFS library and the module{} are of versions that do not fit together", module()),
            "load the module of the installed version: reboot, or `zpool export -a; modprobe -r zfs; modprobe zfs`"
                .into(),
        ),
        e => (Kind::Failed, words(e), String::new()),
    };
    let mut error = Error::new(kind, format!("cannot {} {name}: {why}", act.words()));
    error.errno = Some(errno);
    if hint.is_empty() { error } else { error.hint(hint) }
}

fn words(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("error {errno}"),
        e => e.desc().to_string(),
    }
}

/// The version of the module that is loaded, in brackets.
fn module() -> String {
    std::fs::read_to_string("/sys/module/zfs/version").map(|v| format!(" ({})", v.trim())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_repairs() {
        let kind = |act, errno| told(act, "tank/ROOT/a", errno).kind;
        assert_eq!(kind(Act::Destroy, libc::EBUSY), Kind::Busy);
        assert_eq!(kind(Act::Rename, libc::ENOENT), Kind::NotFound);
        assert_eq!(kind(Act::Create, libc::EEXIST), Kind::Refused);
        assert_eq!(kind(Act::Clone, libc::EINVAL), Kind::Refused);
        assert_eq!(kind(Act::Set, libc::EROFS), Kind::Failed);
        for errno in [libc::EBUSY, libc::EROFS, libc::EAGAIN, libc::ENOSPC, libc::EACCES, 1029] {
            let error = told(Act::Destroy, "tank/ROOT/a@s", errno);
            assert_eq!(error.errno, Some(errno));
            assert!(error.hint.is_some_and(|h| !h.is_empty()));
        }
        assert!(told(Act::Destroy, "tank/a@s", libc::EBUSY).hint.unwrap().contains("zfs holds tank/a@s"));
        assert!(told(Act::Sync, "tank", 4711).message.contains("error 4711"));
    }
}
