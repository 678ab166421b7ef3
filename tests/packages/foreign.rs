//! Package managers other than apt, each in a root that is its own: real ones, with real packages, of which one ships and makes something
//! below the shared directories (`foreign/`).

use crate::lab::{Lab, Print, sh, skipped};
use crate::{recipe, run};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A package manager, and how it is told what to do.
pub struct Manager {
    /// What automatic BEs are named after.
    pub name: &'static str,
    /// The root that has it, of `foreign/root.sh`.
    root: &'static str,
    /// Makes the root one that this package manager has made.
    first: &'static str,
    /// Installs packages `@P` from the repository `@R`, with more options `@O`.
    install: &'static str,
    /// What of that is said otherwise if they are to become newer ones.
    update: (&'static str, &'static str),
    /// Removes packages `@P`.
    remove: &'static str,
    /// Its option for an alternate root `@AT`.
    elsewhere: &'static str,
    /// How it names packages and versions.
    shown: fn(&str, u32) -> String,
    /// Breaks its database so that it can still be read, as far as it has means to see that.
    breaks: &'static str,
    /// Writes into its database what is nonsense.
    damages: &'static str,
}

const OF_DEBIAN: &str = "rm -r /var/lib/dpkg /var/lib/apt;";
const RPM_DAMAGE: &str = "dd if=/dev/urandom of=/var/lib/rpm/rpmdb.sqlite bs=4096 count=1 conv=notrunc";
const RPM_BREAK: &str = "dd if=/dev/urandom of=/var/lib/rpm/rpmdb.sqlite bs=4096 seek=20 count=10 conv=notrunc";

fn of_rpm(name: &str, version: u32) -> String {
    format!("{name}.noarch {version}-1")
}

pub const RPM: Manager = Manager {
    name: "rpm",
    root: "debian",
    first: "rpm -i /opt/rpm/1/base-*.rpm",
    install: "for p in @P; do set -- \"$@\" /opt/rpm/@R/$p-*.rpm; done; rpm @O -U \"$@\"",
    update: ("", ""),
    remove: "rpm -e @P",
    elsewhere: "--root @AT",
    shown: of_rpm,
    breaks: RPM_BREAK,
    damages: RPM_DAMAGE,
};
pub const DNF4: Manager = Manager {
    name: "dnf",
    install: "dnf -q -y --nogpgcheck --releasever=1 --setopt=reposdir=/none --repofrompath=test,file:///opt/rpm/@R @O install @P",
    update: (" install ", " upgrade "),
    remove: "dnf -q -y --releasever=1 --setopt=reposdir=/none remove @P",
    elsewhere: "--installroot @AT --setopt=logdir=/tmp",
    ..RPM
};
pub const DNF5: Manager = Manager {
    root: "dnf5",
    install: "dnf5 -q -y --no-gpgchecks --releasever=1 --setopt=reposdir=/none --repofrompath=test,file:///opt/rpm/@R @O install @P",
    remove: "dnf5 -q -y --releasever=1 --setopt=reposdir=/none remove @P",
    ..DNF4
};
pub const ZYPPER: Manager = Manager {
    name: "zypper",
    install: "zypper --non-interactive --no-gpg-checks @O --plus-repo file:///opt/rpm/@R install @P",
    update: ("", ""),
    remove: "zypper --non-interactive remove @P",
    elsewhere: "--root @AT",
    ..RPM
};
pub const PACMAN: Manager = Manager {
    name: "pacman",
    root: "debian",
    first: "ln -s ../proc/self/mounts /etc/mtab; pacman --config /opt/pacman/1.conf --noconfirm -U /opt/pacman/1/base-*",
    install: "pacman --config /opt/pacman/@R.conf --noconfirm @O -Syy --needed @P",
    update: ("", ""),
    remove: "pacman --noconfirm -R @P",
    elsewhere: "--root @AT",
    shown: |name, version| format!("{name} {version}-1"),
    breaks: "rm -r /var/lib/pacman/local/logger-*",
    damages: ": > /var/lib/pacman/local/tool-1-1/desc",
};
pub const APK: Manager = Manager {
    name: "apk",
    root: "alpine",
    first: ":",
    install: "apk --no-network --allow-untrusted --repository /opt/apk/@R @O add @P",
    update: (" add ", " add -u "),
    remove: "apk --no-network del @P",
    elsewhere: "--root @AT --logfile=no",
    shown: |name, version| format!("{name} {version}-r0"),
    breaks: "sed -i 's/^P:logger$/P:other/' /lib/apk/db/installed",
    damages: "sed -i '20s/.*/nonsense/' /lib/apk/db/installed",
};

impl Manager {
    /// A store with its root in the BE `default`, and a copy of that, `blue`.
    pub fn lab(&self) -> Option<Lab> {
        let Some(tar) = recipe::made_by("../packages/foreign/root.sh", self.root) else {
            skipped(&format!("there is no root with {}, and none can be made here", self.name));
            return None;
        };
        let lab = Lab::of_size("4G");
        lab.bootenv(&lab.init_args_sized("4G", &tar, &["--loader", lab.loader.name()])).ok();
        let root = lab.files("default");
        if self.root == "alpine" {
            // bootenv is built for another C library than the root's.
            sh(&format!(
                "for lib in $(ldd '{}' | grep -o '/[^ ]*'); do install -D $lib '{}'/$lib; done",
                env!("CARGO_BIN_EXE_bootenv"),
                root.display()
            ));
        }
        let own = if self.root == "alpine" { "" } else { OF_DEBIAN };
        run(&lab, "default", &format!("set -e; {own} {}", self.first)).ok();
        lab.bootenv(&["create", "blue"]).ok();
        Some(lab)
    }

    /// The command that installs packages of a repository.
    pub fn install(&self, packages: &str, repository: u32, options: &str) -> String {
        self.install.replace("@P", packages).replace("@R", &repository.to_string()).replace("@O", options)
    }

    pub fn remove(&self, packages: &str) -> String {
        self.remove.replace("@P", packages)
    }
}

/// What a BE has below the shared directories and nobody else has yet.
fn waiting(lab: &Lab, be: &str) -> PathBuf {
    lab.files(be).join("var/lib/bootenv/pending/upper")
}

#[track_caller]
fn has_its_links(lab: &Lab, be: &str) {
    for name in ["log", "spool"] {
        let at = lab.files(be).join("var").join(name);
        let link = std::fs::read_link(&at).unwrap_or_else(|e| panic!("{at:?}: {e}"));
        assert_eq!(link, Path::new("shared").join(name));
    }
}

/// Packages are installed into a BE that does not run, and updated there.
fn inside(manager: &Manager) {
    let Some(lab) = manager.lab() else { return };
    let before = (Print::of(&lab.shared()), Print::of(&lab.files("default")));
    let ran = run(&lab, "blue", &manager.install("tool logger", 1, ""));
    println!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.status, 0);
    assert_eq!(
        run(&lab, "blue", "tool && cat /var/log/logger/README /var/log/logger.log").ok().stdout,
        "tool 1\npackaged\ninstalled\n"
    );
    has_its_links(&lab, "blue");
    for path in ["log/logger/README", "log/logger.log", "spool/logger"] {
        assert!(waiting(&lab, "blue").join(path).exists(), "{path}");
    }
    before.0.assert_same(&Print::of(&lab.shared()), "shared data was changed");
    before.1.assert_same(&Print::of(&lab.files("default")), "the other BE was changed");
    let [logger, tool, newer] = [("logger", 1), ("tool", 1), ("tool", 2)].map(|(name, v)| (manager.shown)(name, v));
    let diff = |old: &str, new: &str| lab.bootenv(&["diff", "--packages", old, new]).ok().stdout;
    assert_eq!(diff("default", "blue"), format!("+ {logger}\n+ {tool}\n"));
    assert_eq!(diff("blue", "default"), format!("- {logger}\n- {tool}\n"));

    lab.bootenv(&["create", "blue@one"]).ok();
    let (from, to) = manager.update;
    run(&lab, "blue", &manager.install("tool", 2, "").replace(from, to)).ok();
    let version = newer.split(' ').next_back().unwrap();
    assert_eq!(diff("blue@one", "blue"), format!("M {tool} -> {version}\n"));
    run(&lab, "blue", &manager.remove("tool logger")).ok();
    assert_eq!(diff("default", "blue"), "");
    has_its_links(&lab, "blue");

    let upgrade = |name: &str, script: &str| lab.bootenv(&["upgrade", "-n", name, "--", "sh", "-c", script]);
    let said = upgrade("next", &manager.install("tool logger", 1, "")).ok().stdout;
    let summary = format!("added (2):\n  {logger}\n  {tool}\nservices that differ (1):\n  logger.service\n");
    assert!(said.contains(&summary), "{said}");
    has_its_links(&lab, "next");
    for script in [manager.breaks, manager.damages] {
        let script = format!("set -e; {}; {script}", manager.install("tool logger", 1, ""));
        upgrade("bad", &script).fails(1, &["database", "--keep-failed"]);
        assert!(!lab.holds("bad"));
    }
    // What cannot be read is told, and costs nothing else.
    run(&lab, "next", manager.damages).ok();
    lab.json(&["diff", "--packages", "default", "next"]).refused(1, &["the package database of", "is damaged"]);
    lab.bootenv(&["diff", "default", "next"]).ok();
}

/// Packages are installed into a BE by the package manager of the one that runs. What needs a new directory in the shared dataset cannot
/// be.
fn by_its_own_option(manager: &Manager, why_not: &str) {
    let Some(lab) = manager.lab() else { return };
    let running = lab.running_by_itself("default");
    let at = running.bootenv_on_image(&["mount", "blue"]).ok().stdout;
    let at = at.trim();
    let options = manager.elsewhere.replace("@AT", at);
    let refused = running.try_sh(&manager.install("logger", 1, &options));
    println!("{refused:?}");
    assert!(refused.status != 0 && format!("{refused:?}").contains(why_not), "{refused:?}");
    running.bootenv_on_image(&["unmount", "blue"]).ok();
    drop(running);
    lab.bootenv(&["destroy", "-F", "blue"]).ok();
    lab.bootenv(&["create", "blue"]).ok();
    run(&lab, "blue", &manager.install("logger", 1, "")).ok();
    let running = lab.running_by_itself("default");
    running.bootenv_on_image(&["mount", "blue"]).ok();
    running.try_sh(&manager.install("plain tool", 1, &options)).ok();
    running.bootenv_on_image(&["unmount", "blue"]).ok();
    drop(running);
    let lines = ["logger", "plain", "tool"].map(|name| format!("+ {}\n", (manager.shown)(name, 1)));
    assert_eq!(lab.bootenv(&["diff", "--packages", "default", "blue"]).ok().stdout, lines.concat());
    assert_eq!(run(&lab, "blue", "tool").ok().stdout, "tool 1\n");
    for path in ["log/logger", "log/logger.log", "spool/logger"] {
        assert!(!lab.shared().join(path).exists(), "{path}");
    }
}

macro_rules! cases {
    ($($name:ident: $manager:ident, $why_not:expr;)*) => {$(
        mod $name {
            #[test]
            fn in_a_be() {
                super::inside(&super::$manager);
            }
            #[test]
            fn by_its_own_option() {
                super::by_its_own_option(&super::$manager, $why_not);
            }
        }
    )*};
}

cases! {
    rpm: RPM, "more space on the /var/shared filesystem";
    dnf4: DNF4, "more space on the /var/shared filesystem";
    dnf5: DNF5, "more space on the /var/shared filesystem";
    zypper: ZYPPER, "more space on the /var/shared filesystem";
    pacman: PACMAN, "/var/log exists in filesystem";
    apk: APK, "Read-only file system";
}

#[test]
fn links_that_have_given_way_come_back() {
    let Some(lab) = PACMAN.lab() else { return };
    let script = "test -d /var/log -a ! -L /var/log && echo x > /var/log/x && touch /root/begun && exec sleep 4248";
    let mut child = lab.command(&["run", "blue", "--", "sh", "-c", script]).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !lab.files("blue").join("root/begun").exists() {
        assert!(Instant::now() < until, "it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    // What a power cut would leave.
    for copy in ["again", "booted"] {
        lab.bootenv(&["create", "-e", "blue", copy]).ok();
        assert!(lab.files(copy).join("var/log").is_dir());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while std::fs::read_link(lab.files("blue").join("var/log")).is_err() {
        assert!(Instant::now() < until, "the keeper does not clear up");
        std::thread::sleep(Duration::from_millis(50));
    }
    has_its_links(&lab, "blue");
    assert_eq!(run(&lab, "again", "cat /var/log/x").ok().stdout, "x\n");
    has_its_links(&lab, "again");
    let running = lab.running("booted");
    running.bootenv(&["pending", "--merge"]).ok();
    assert_eq!(running.sh("cat /var/log/x"), "x\n");
    drop(running);
    has_its_links(&lab, "booted");
    assert!(!lab.files("booted").join("var/lib/bootenv/pending").exists());
    // A directory of somebody else's is nobody's link.
    std::fs::remove_file(lab.files("again").join("var/spool")).unwrap();
    std::fs::create_dir(lab.files("again").join("var/spool")).unwrap();
    run(&lab, "again", "true").ok();
    assert!(lab.files("again").join("var/spool").is_dir());
}
