//! The shared directories: moved with everything they are, found again by relative symlinks, honoured where somebody has
//! decided otherwise, and filled from the pristine copy without overwriting.

use crate::lab::{Lab, Print, sh};
use std::path::Path;

const NAMES: [&str; 3] = ["log", "mail", "spool"];

#[track_caller]
fn link(lab: &Lab, path: &str) -> String {
    std::fs::read_link(lab.files("default").join(path)).unwrap_or_else(|e| panic!("{path}: {e}")).display().to_string()
}

fn fstab(lab: &Lab) -> String {
    std::fs::read_to_string(lab.files("default").join("etc/fstab")).unwrap()
}

#[test]
fn nothing_that_a_copy_can_lose_is_lost() {
    let lab = Lab::empty();
    let root = lab.root(
        r#"
mknod var/spool/device c 1 3; chmod 620 var/spool/device; chown 7:5 var/spool/device
chmod 4711 var/spool/fifo; chown 1234:4321 var/spool/sock
setfacl -d -m u:42:rwx,g:43:r-x var/spool/cron
setfattr -n trusted.note -v root var/log/apt; setfattr -n security.note -v label var/log/sparse
setfattr -h -n trusted.link -v yes var/spool/mail
ln var/spool/fifo var/mail/fifo.hard; ln -s nowhere var/log/dangling; mkdir -m 700 var/spool/empty
ln var/spool/mail var/log/symlink.hard
printf 'x' > "var/log/$(printf 'bytes\377\001')"
python3 -c "
with open('var/log/holes', 'wb') as f:
    f.write(b'begin'); f.seek(5 << 20); f.write(b'middle'); f.seek(20 << 20); f.write(b'end'); f.truncate(30 << 20)"
touch -hd '2001-01-01 UTC' var/log/dangling; touch -d '1999-12-31 23:59:59.000000001 UTC' var/spool/empty var/mail var/spool/sock
"#,
    );
    let before = Print::of_copy(&root.join("var")).only(&NAMES);
    assert!(before.len() > 20);
    lab.init(&root, &[]).ok();
    before.assert_same(&Print::of_copy(&lab.shared()).only(&NAMES), "the shared directories are not what they were");
}

#[test]
fn symlinks_lead_where_they_led() {
    let script = "ln -s ../lib/dpkg var/log/out; ln -s ../../../etc/os-release var/log/apt/far; ln -s ../syslog var/log/apt/near; ln -s /etc/fstab var/spool/absolute";
    let links = ["/var/log/out", "/var/log/apt/far", "/var/log/apt/near", "/var/spool/absolute", "/var/spool/mail"];
    let lab = Lab::with(script);
    let inside = lab.running("default");
    let ran: crate::lab::Ran = inside.command("/usr/bin/readlink").arg("-e").args(links).output().unwrap().into();
    let led = ["/var/lib/dpkg", "/etc/os-release", "/var/shared/log/syslog", "/etc/fstab", "/var/shared/mail"];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), led, "{}", ran.stderr);
}

#[test]
fn relative_symlinks_stay_behind_for_all_four() {
    let lab = Lab::new();
    for name in ["adm", "log", "mail", "spool"] {
        assert_eq!(link(&lab, &format!("var/{name}")), format!("shared/{name}"));
        assert!(lab.shared().join(name).is_dir());
    }
    let left: Vec<_> =
        sh(&format!("ls -A '{}'", lab.files("default").join("var").display())).lines().map(str::to_string).collect();
    assert_eq!(left, ["adm", "cache", "lib", "log", "mail", "shared", "spool"]);
}

#[test]
fn nothing_can_be_written_below_the_mountpoint_before_it_is_mounted() {
    let lab = Lab::new();
    let at = lab.files("default").join("var/shared");
    assert_eq!(std::fs::read_dir(&at).unwrap().count(), 0);
    let error = std::fs::write(at.join("early"), "x").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::libc::EPERM));
}

#[test]
fn fstab_gets_one_line_and_keeps_what_it_had() {
    let lab = Lab::with(r"printf '# kept\n\nUUID=11 /boot/efi\tvfat  umask=0077 0 1' > etc/fstab");
    let text = fstab(&lab);
    assert_eq!(text, format!("# kept\n\nUUID=11 /boot/efi\tvfat  umask=0077 0 1\n{}\n", lab.shared_line()));
    // Made into a store once more, nothing is added.
    let again = Lab::empty();
    let from = lab.files("default");
    again.init(&from, &[]).ok();
    assert_eq!(fstab(&again), text);
}

#[test]
fn fstab_keeps_its_owner_and_its_mode() {
    use std::os::unix::fs::MetadataExt;
    let lab = Lab::with("chmod 600 etc/fstab; chown 0:4 etc/fstab; setfattr -n user.note -v kept etc/fstab");
    let meta = std::fs::metadata(lab.files("default").join("etc/fstab")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o600, 0, 4), "a password may stand in it");
}

#[test]
fn a_root_without_fstab_gets_one() {
    let lab = Lab::with("rm etc/fstab");
    assert_eq!(fstab(&lab).lines().count(), 1);
    assert!(fstab(&lab).contains("/var/shared"));
}

#[test]
fn a_line_for_the_shared_dataset_that_stands_there_is_honoured() {
    let lab = Lab::with(r"echo 'LABEL=mine /var/shared/ xfs noatime 0 2' > etc/fstab");
    assert_eq!(fstab(&lab), "LABEL=mine /var/shared/ xfs noatime 0 2\n");
}

#[test]
fn a_mount_of_its_own_is_honoured() {
    let lab = Lab::empty();
    let root = lab.root(r"rm var/mail/hard; echo 'LABEL=logs /var/log ext4 defaults 0 2' > etc/fstab");
    let before = Print::of_copy(&root.join("var/log"));
    let ran = lab.init(&root, &[]).ok();
    assert!(ran.stderr.contains("/var/log"), "nothing is said about it: {}", ran.stderr);
    before.assert_same(&Print::of_copy(&lab.files("default").join("var/log")), "/var/log was touched");
    assert!(!lab.shared().join("log").exists());
    assert_eq!(link(&lab, "var/mail"), "shared/mail");
    assert_eq!(link(&lab, "var/spool"), "shared/spool");
    assert!(fstab(&lab).contains("LABEL=logs /var/log ext4 defaults 0 2\n"));
}

#[test]
fn a_mount_below_one_of_the_four_is_honoured() {
    let lab = Lab::with(r"mkdir var/spool/queue; echo 'LABEL=q /var/spool/queue xfs defaults 0 2' > etc/fstab");
    assert!(lab.files("default").join("var/spool/queue").is_dir());
    assert!(lab.files("default").join("var/spool").symlink_metadata().unwrap().is_dir());
    assert_eq!(link(&lab, "var/log"), "shared/log");
}

#[test]
fn mail_in_the_spool_is_found_by_both_its_names() {
    let lab = Lab::with(
        "rm -r var/mail var/spool/mail; mkdir -m 1777 var/spool/mail; echo hello > var/spool/mail/user; ln -s spool/mail var/mail",
    );
    assert_eq!((link(&lab, "var/mail"), link(&lab, "var/spool")), ("shared/mail".into(), "shared/spool".into()));
    // As they resolve where the system runs.
    let inside = lab.running("default");
    for path in ["/var/mail/user", "/var/spool/mail/user", "/var/shared/mail/user"] {
        let ran: crate::lab::Ran = inside.command("/usr/bin/cat").arg(path).output().unwrap().into();
        assert_eq!(ran.ok().stdout, "hello\n", "{path}");
    }
}

#[test]
fn a_spool_that_points_to_the_mail_still_does() {
    let lab = Lab::with("echo hello > var/mail/user");
    assert_eq!(std::fs::read_link(lab.shared().join("spool/mail")).unwrap(), Path::new("../mail"));
    let inside = lab.running("default");
    for path in ["/var/mail/user", "/var/spool/mail/user"] {
        let ran: crate::lab::Ran = inside.command("/usr/bin/cat").arg(path).output().unwrap().into();
        assert_eq!(ran.ok().stdout, "hello\n", "{path}");
    }
}

#[test]
fn a_symlink_to_somewhere_else_is_the_administrators_choice() {
    let lab = Lab::empty();
    let root = lab.root("rm -r var/log; mkdir -p srv/log; ln -s /srv/log var/log");
    let ran = lab.init(&root, &[]).ok();
    assert!(ran.stderr.contains("/srv/log"), "{}", ran.stderr);
    assert_eq!(link(&lab, "var/log"), "/srv/log");
}

#[test]
fn a_symlink_in_the_root_never_leads_out_of_it() {
    crate::lab::isolate();
    // What a careless copy would take, or destroy, on the system that bootenv runs on; not below /var, which is moved here.
    sh("mount -t tmpfs outside /mnt");
    let outside = Path::new("/mnt/outside");
    sh(&format!(
        "mkdir -p '{0}'/log/apt '{0}'/mail '{0}'/spool '{0}'/.log.bootenv-moved; echo secret > '{0}'/log/secret; touch '{0}'/.log.bootenv-moved/x",
        outside.display()
    ));
    for script in [
        format!("mkdir -p './{0}'; mv var/* './{0}/'; rmdir var; ln -s '{0}' var", outside.display()),
        format!(
            "mkdir -p './{0}/factory/var/log'; mkdir -p usr/share; ln -s '{0}/factory' usr/share/factory",
            outside.display()
        ),
        format!(
            "mkdir -p './{0}'; mv etc/* './{0}/'; rmdir etc; ln -s '{0}' etc; touch './{0}/fstab'",
            outside.display()
        ),
    ] {
        let lab = Lab::empty();
        let before = Print::of(outside);
        let root = lab.root(&script);
        let ran = lab.init(&root, &[]);
        before.assert_same(&Print::of(outside), &format!("init reached out of the root, which was made by: {script}"));
        // Adopted or refused: both are right as long as nothing from outside came in.
        if ran.status == 0 {
            assert!(sh(&format!("grep -rl secret '{}' || true", lab.top().display())).is_empty(), "{script}");
        }
    }
}

#[test]
fn early_units_wait_for_the_mount() {
    let lab = Lab::new();
    let unit = lab.files("default").join("etc/systemd/system/systemd-journal-flush.service.d");
    let text = sh(&format!("cat '{}'/*.conf", unit.display()));
    assert!(text.contains("RequiresMountsFor=/var/shared"), "{text}");
}

#[test]
fn the_pristine_copy_holds_directories_and_what_packages_own() {
    let lab =
        Lab::with("mkdir -p var/log/private/deep; echo secret > var/log/private/deep/file; echo x > var/mail/user");
    let factory = lab.files("default").join("usr/share/factory/var");
    let files = sh(&format!("cd '{}' && find . ! -type d", factory.display()));
    assert_eq!(files, "./log/apt/README\n");
    let directories = sh(&format!("cd '{}' && find . -type d | sort", factory.display()));
    for dir in ["./log/apt", "./log/journal", "./log/private/deep", "./mail", "./spool/cron/crontabs"] {
        assert!(directories.lines().any(|l| l == dir), "{dir} is missing: {directories}");
    }
    assert_eq!(sh(&format!("stat -c '%a %u:%g' '{}/mail'", factory.display())), "2775 0:8\n");
}

#[test]
fn a_lost_shared_dataset_is_made_anew_from_the_pristine_copies() {
    let lab = Lab::new();
    lab.destroy_behind(&lab.shared());
    let status = lab.json(&[]).ok().json();
    assert!(status["attention"].to_string().contains("SHARED"), "{status}");
    assert_eq!(lab.bootenv(&["check"]).status, 1);
    lab.refuses(&["mount", "default"], 3, &["SHARED"]);
    lab.bootenv(&["check", "--repair"]).ok();
    let filled = sh(&format!("cd '{}' && find . ! -type d", lab.shared().display()));
    assert_eq!(filled, "./log/apt/README\n");
    for name in ["adm", "log", "mail", "spool", "log/journal", "spool/cron/crontabs"] {
        assert!(lab.shared().join(name).is_dir(), "{name}");
    }
    assert_eq!(sh(&format!("stat -c '%a %u:%g' '{}/mail'", lab.shared().display())), "2775 0:8\n");
    assert_eq!(lab.bootenv(&["check"]).ok().stdout, "nothing is wrong\n");
}

#[test]
fn a_repair_overwrites_nothing_in_the_shared_dataset() {
    let lab = Lab::new();
    std::fs::write(lab.shared().join("log/apt/README"), "evolved\n").unwrap();
    std::fs::remove_dir_all(lab.shared().join("spool/cron")).unwrap();
    std::fs::write(lab.shared().join("spool/cron"), "a file where the packages have a directory\n").unwrap();
    let before = Print::of(&lab.shared());
    // Something to repair.
    std::fs::remove_file(lab.entry_of("default")).unwrap();
    lab.bootenv(&["check", "--repair"]).ok();
    before.assert_same(&Print::of(&lab.shared()), "a repair changed shared data");
}

#[test]
fn a_second_root_brings_what_is_missing_and_overwrites_nothing() {
    let lab = Lab::new();
    std::fs::write(lab.shared().join("log/syslog"), "evolved\n").unwrap();
    let before = Print::of(&lab.shared());
    let root = lab.root(
        "echo other > var/log/syslog; echo new > var/log/new; mkdir -p var/spool/fresh; echo x > var/spool/fresh/file",
    );
    let ran = lab.bootenv(&["init", "--from", root.to_str().unwrap(), "--name", "second"]).ok();
    let read = |name: &str| std::fs::read_to_string(lab.shared().join(name)).unwrap();
    assert_eq!(read("log/syslog"), "evolved\n");
    assert_eq!(read("log/syslog.from-second"), "other\n");
    assert!(ran.stderr.contains("syslog.from-second"), "nothing is said about it: {}", ran.stderr);
    assert_eq!((read("log/new"), read("spool/fresh/file")), ("new\n".into(), "x\n".into()));
    let lost: Vec<String> =
        before.changes(&Print::of(&lab.shared())).into_iter().filter(|c| c.starts_with("gone")).collect();
    assert_eq!(lost, [""; 0]);
}
