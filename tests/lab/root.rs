//! A small root tree with one of everything that a copy can lose.

use super::{run, sh};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// Makes it, as a copy of `kept`.
pub fn small(at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    run("cp", &["-a", kept().join(".").to_str().unwrap(), at.to_str().unwrap()]);
}

/// One that is made once, for whoever only reads it: in an emulated machine each of its commands takes long.
/// The kernels in `/boot` are no kernels: nothing boots this root; the machine lane boots real ones.
pub fn kept() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    SCRIPT.hash(&mut hasher);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("small-root-{:x}", hasher.finish()));
    if !kept.exists() {
        let new = tempfile::Builder::new().prefix(super::PREFIX).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let root = new.path().join("root");
        sh(&format!("set -e; mkdir '{0}'; cd '{0}'; {SCRIPT}", root.display()));
        // Another thread may have been faster.
        let _ = std::fs::rename(&root, &kept);
    }
    kept
}

const SCRIPT: &str = r#"
mkdir -p dev proc sys run mnt sbin lib lib64
mkdir -p etc usr/bin usr/lib/systemd/system bin boot root tmp var/lib/machines var/lib/dpkg/info var/cache
mkdir -p var/log/apt var/log/journal var/mail var/spool/cron/crontabs
printf 'ID=debian\nVERSION_ID=13\n' > etc/os-release
printf '# /etc/fstab\n' > etc/fstab
echo kernel > boot/vmlinuz-6.12.1-amd64; echo initrd > boot/initrd.img-6.12.1-amd64
echo older > boot/vmlinuz-6.9.9-amd64; echo older > boot/initrd.img-6.9.9-amd64
echo '#!/bin/sh' > usr/bin/tool; chmod 4755 usr/bin/tool
chmod 2775 var/mail; chown 0:8 var/mail; chmod 1777 tmp; chmod 1730 var/spool/cron/crontabs
echo line > var/log/syslog; chmod 640 var/log/syslog; chown 0:4 var/log/syslog
echo packaged > var/log/apt/README; printf '/var/log/apt\n/var/log/apt/README\n' > var/lib/dpkg/info/apt.list
ln var/log/syslog var/log/syslog.hard; ln var/log/syslog var/mail/hard
ln -s ../mail var/spool/mail
truncate -s 8M var/log/sparse; echo end >> var/log/sparse
setfattr -n user.note -v kept var/log/syslog
setfacl -m u:42:rwx var/log/apt
mkfifo var/spool/fifo
python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('var/spool/sock')"
echo mail > 'var/mail/odd name
with newline'
touch -d '2020-02-02 02:02:02.123456789 UTC' var/log/syslog var/log/apt
"#;
