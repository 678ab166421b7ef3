//! The shared list: which directories live in the shared dataset, and what becomes of each in a BE.

/// The directories every BE shares, below `/var`. Fixed: a configurable list would let two BEs of
/// one store disagree about where a file is.
pub const SHARED_LIST: [&str; 4] = ["adm", "log", "mail", "spool"];

/// Where the shared dataset is mounted in every BE, relative to its root.
pub const MOUNTPOINT: &str = "var/shared";

/// Where a BE keeps the pristine copy of what its packages put below the shared directories,
/// relative to its root. `/usr/share/factory` is the standard's place for it (file-hierarchy(7)).
pub const PRISTINE: &str = "usr/share/factory/var";

/// Where a BE keeps what was written below `/var/shared` while it did not run, relative to its root, until it boots.
pub const PENDING: &str = "var/lib/bootenv/pending";

/// The upper layer of an overlay in there (overlayfs(5)), with whose content the shared dataset is to be completed.
pub const UPPER: &str = "var/lib/bootenv/pending/upper";

/// Units that write below the shared directories before `local-fs.target` is reached, and so must
/// wait for the mount themselves. systemd-journal-flush waits for `/var/log/journal` only, which
/// resolves before the mount is there (systemd-journald.service(8), systemd.unit(5) RequiresMountsFor).
pub const EARLY_UNITS: [&str; 4] = [
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
    "systemd-tmpfiles-setup.service",
    "auditd.service",
];

/// The drop-in every early unit gets, below `etc/systemd/system/UNIT.d/`.
pub const DROP_IN_NAME: &str = "50-bootenv-shared.conf";

/// The text of the drop-in.
pub const DROP_IN: &str = "\
# Written by bootenv: the shared directories are symlinks into /var/shared.
[Unit]
RequiresMountsFor=/var/shared
";

/// The name of the unit that merges what waits in a BE, below `etc/systemd/system/`.
pub const PENDING_UNIT: &str = "bootenv-pending.service";

/// The text of that unit. It has to be done before anything writes below the shared directories.
pub fn pending_unit() -> String {
    PENDING_UNIT_TEXT.replace("@EARLY_UNITS@", &EARLY_UNITS.join(" "))
}

const PENDING_UNIT_TEXT: &str = "\
# Written by bootenv: what packages have left for /var/shared while this boot environment did not run.
[Unit]
Description=Merge what waits for the shared directories
Documentation=man:bootenv(8)
DefaultDependencies=no
ConditionPathExists=/var/lib/bootenv/pending
RequiresMountsFor=/var/shared /var/lib/bootenv
After=systemd-remount-fs.service
Before=@EARLY_UNITS@
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=bootenv pending --merge
";

/// The name of the unit that tells that a BE has booted, below `etc/systemd/system/`.
pub const BOOTED_UNIT: &str = "bootenv-booted.service";

/// The text of that unit. A boot is not to fail for its sake.
pub const BOOTED_UNIT_TEXT: &str = "\
# Written by bootenv: a boot environment that has been booted is not destroyed as an old automatic one.
[Unit]
Description=Note that this boot environment was booted
Documentation=man:bootenv-auto(8)
After=local-fs.target

[Service]
Type=oneshot
ExecStart=-bootenv --quiet auto --booted
";

/// What stands where a shared directory should be, in a BE that is about to be converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the directory is made in the shared dataset.
    Missing,
    /// A directory: its content moves.
    Directory,
    /// Already the symlink into the shared dataset.
    Done,
    /// A symlink to another place below `/var` that moves too (`/var/mail -> spool/mail`).
    SiblingLink,
    /// A symlink to somewhere else: the administrator's choice, honoured.
    ForeignLink(String),
    /// Something is mounted at it or below it, which is said in words: honoured.
    OwnMount(String),
    /// Something that is neither directory nor symlink: honoured.
    Other,
}

/// The relative symlink left behind for `name` in `/var`.
pub fn link_target(name: &str) -> String {
    format!("shared/{name}")
}

/// Decides what a symlink standing at `/var/NAME` means.
pub fn classify_link(name: &str, target: &str) -> Standing {
    if target.trim_end_matches('/') == link_target(name)
        || target.trim_end_matches('/') == format!("/var/shared/{name}")
    {
        return Standing::Done;
    }
    let relative = target.strip_prefix("/var/").or_else(|| target.strip_prefix("./")).unwrap_or(target);
    let first = relative.split('/').next().unwrap_or("");
    let inside = !relative.starts_with('/') && !relative.split('/').any(|part| part == "..");
    if inside && first != name && SHARED_LIST.contains(&first) {
        Standing::SiblingLink
    } else {
        Standing::ForeignLink(target.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_told_apart() {
        assert_eq!(classify_link("log", "shared/log"), Standing::Done);
        assert_eq!(classify_link("log", "/var/shared/log"), Standing::Done);
        assert_eq!(classify_link("mail", "spool/mail"), Standing::SiblingLink);
        assert_eq!(classify_link("mail", "/var/spool/mail"), Standing::SiblingLink);
        assert_eq!(classify_link("log", "/data/log"), Standing::ForeignLink("/data/log".into()));
        assert_eq!(classify_link("log", "../data"), Standing::ForeignLink("../data".into()));
        assert_eq!(classify_link("mail", "mail"), Standing::ForeignLink("mail".into()));
        assert_eq!(classify_link("mail", "spool/../../etc"), Standing::ForeignLink("spool/../../etc".into()));
    }
}
