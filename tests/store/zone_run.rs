//! `zone start|stop|switch|enable|disable`: what is put in place for a container, and what drives it. The brand is one that is made
//! here: a file, whose containers are processes with a root of their own.

use crate::lab::chroot::Inside;
use crate::lab::zone::STARTS;
use crate::lab::{Lab, Ran, sh};
use serde_json::Value;
use std::path::PathBuf;

/// What everybody who adds a brand writes.
const JAIL: &str = r#"
version = 1
description = "a process with a root of its own"
root = "/var/jails/{zone}"
init = ["usr/sbin/init"]
running = "/run/jail/{zone}"
leader = ["cat", "/run/jail/{zone}"]
start = ["/etc/jail", "start", "{zone}"]
stop = ["/etc/jail", "stop", "{zone}"]
ready = ["test", "-e", "/run/jail/{zone}"]
[settings]
file = "/run/jail.conf/{zone}"
text = """
root {root}
bind {shared}
"""
instead = ["/etc/jail.conf/{zone}"]
"#;

/// Its program: it has the root put in place, and reads what it is from its settings.
const PROGRAM: &str = r#"#!/bin/bash
set -e
zone=$2
case $1 in
start)
    /run/bootenv-binary zone start --place $zone
    mkdir -p /run/jail
    set -- $(sed -n 's/^[rb][a-z]* //p' /run/jail.conf/$zone)
    setsid unshare --mount --propagation private bash -c '
        set -e
        mount --rbind $1 /mnt; mount --bind $2 /mnt/var/shared; cd /mnt
        for dir in proc usr bin sbin lib lib64; do mount --bind /$dir $dir; done
        pivot_root . mnt; umount -l /mnt; exec sleep 100' jail $1 $2 </dev/null >/run/jail/error 2>&1 &
    pid=$!
    until [ "$(cat /proc/$pid/comm)" = sleep ]; do kill -0 $pid || { cat /run/jail/error >&2; exit 1; }; sleep 0.05; done
    echo $pid > /run/jail/$zone ;;
stop)
    kill $(cat /run/jail/$zone)
    rm /run/jail/$zone
    /run/bootenv-binary zone stop --place $zone ;;
esac
"#;

/// A store whose BE `default` runs, with the zone `web` of this brand.
struct Host {
    lab: Lab,
    inside: Inside,
}

impl Host {
    fn new() -> Host {
        let lab = Lab::with(&format!(
            "mkdir -p etc/bootenv/zones; cat > etc/bootenv/zones/jail.toml <<'END'\n{JAIL}\nEND\n\
             cat > etc/jail <<'END'\n{PROGRAM}\nEND\nchmod 755 etc/jail"
        ));
        let inside = lab.running("default");
        let host = Host { lab, inside };
        let root = host.lab.path("container");
        sh(&format!("cp -a '{0}' '{1}'; cd '{1}'; {STARTS}", host.lab.path("root").display(), root.display()));
        host.bootenv(&["zone", "create", "--brand", "jail", "--from", "/run/lab/container", "web"]).ok();
        host
    }

    fn bootenv(&self, args: &[&str]) -> Ran {
        self.inside.bootenv(args)
    }

    fn in_web(&self, args: &[&str]) -> Ran {
        self.bootenv(&[&["--zone", "web"], args].concat())
    }

    fn flags(&self) -> String {
        let list = self.in_web(&["list", "-H"]).ok().stdout;
        let cells = list.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join("="));
        cells.collect::<Vec<_>>().join(" ")
    }

    /// A script in the container, as its processes see things.
    fn in_container(&self, script: &str) -> String {
        let enter = "nsenter --mount=/proc/$(cat /run/jail/web)/ns/mnt --root=/proc/$(cat /run/jail/web)/root";
        self.inside.sh(&format!("{enter} bash -c '{script}'"))
    }

    /// Refused, with nothing mounted or left behind.
    #[track_caller]
    fn refuses(&self, args: &[&str], status: i32, words: &[&str]) {
        let before = self.inside.mounts();
        let dry = self.bootenv(&[&["--json", "--dry-run"], args].concat()).refused(status, words);
        assert_eq!(dry.stderr, self.bootenv(&[&["--json"], args].concat()).refused(status, words).stderr, "{args:?}");
        assert_eq!(before, self.inside.mounts(), "{args:?} was refused and has changed the mount table");
    }

    fn place(&self) -> PathBuf {
        self.inside.root.join("var/jails/web")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.inside.try_sh("kill $(cat /run/jail/web)");
    }
}

#[test]
fn a_zone_starts_in_what_is_due_and_stops() {
    let host = Host::new();
    assert!(host.place().read_dir().unwrap().next().is_none(), "an empty place, for others to find the zone by");
    let mounts = host.inside.mounts();
    let shown = host.bootenv(&["--json", "--dry-run", "zone", "start", "web"]).ok().json();
    let steps: Vec<&str> = shown["steps"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(steps[0], "run `/etc/jail start web`");
    assert!(steps[1].contains("ROOT/default") && steps[1].contains("/var/jails/web"), "{steps:?}");
    assert_eq!((host.inside.mounts(), host.flags()), (mounts.clone(), "default=R".into()));

    assert_eq!(host.bootenv(&["zone", "start", "--wait", "web"]).ok().stdout, "web runs default\n");
    assert_eq!(host.flags(), "default=NR");
    // Its shared dataset is where it belongs, and can be written to.
    host.in_container("test -x /usr/sbin && readlink /var/log && echo said > /var/log/said");
    assert_eq!(host.in_container("cat /var/shared/log/said /etc/os-release | head -n 2"), "said\nID=debian\n");
    let said = std::fs::read_to_string(host.lab.zone_files("web", "SHARED/log/said")).unwrap();
    assert_eq!(said, "said\n");
    assert!(!host.lab.shared().join("log/said").exists(), "it is in the host's");

    // What is so already.
    let told = host.bootenv(&["--json", "zone", "start", "web"]).ok().json();
    assert_eq!((&told["changed"], &told["notes"][0]), (&false.into(), &"web runs already: default".into()));
    assert_eq!(host.bootenv(&["zone", "switch", "web"]).ok().stdout, "web runs already what is due: default\n");
    let stopped = host.bootenv(&["--json", "zone", "stop", "web"]).ok().json();
    assert_eq!((&stopped["changed"], &stopped["mountpoint"]), (&true.into(), &"/var/jails/web".into()));
    assert_eq!((host.inside.mounts(), host.flags()), (mounts, "default=R".into()));
    assert_eq!(host.bootenv(&["zone", "stop", "web"]).ok().stdout, "web does not run\n");
}

#[test]
fn a_zone_is_switched_and_what_is_for_once_is_used_up() {
    let host = Host::new();
    host.bootenv(&["zone", "start", "web"]).ok();
    host.in_web(&["create", "-a", "blue"]).ok();
    assert_eq!(host.flags(), "default=N blue=R");
    assert_eq!(host.bootenv(&["zone", "switch", "web"]).ok().stdout, "web runs blue\n");
    assert_eq!(host.flags(), "default=- blue=NR");
    host.in_web(&["activate", "-t", "default"]).ok();
    let shown = host.bootenv(&["--dry-run", "zone", "switch", "web"]).ok().stdout;
    for words in ["/etc/jail stop web", "/etc/jail start web", "no longer run default once"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(host.flags(), "default=T blue=NR");
    assert_eq!(host.bootenv(&["zone", "switch", "web"]).ok().stdout, "web runs default\n");
    assert_eq!(host.flags(), "default=N blue=R");
    host.bootenv(&["zone", "switch", "web"]).ok();
    assert_eq!(host.flags(), "default=- blue=NR");
    // It need not run.
    host.bootenv(&["zone", "stop", "web"]).ok();
    assert_eq!(host.bootenv(&["zone", "switch", "web"]).ok().stdout, "web runs blue\n");
}

#[test]
fn what_runs_in_a_zone_is_protected_as_the_host_is() {
    let host = Host::new();
    host.in_web(&["create", "default@before"]).ok();
    host.bootenv(&["zone", "start", "web"]).ok();
    host.in_web(&["create", "-a", "blue"]).ok();
    for (args, status, words) in [
        (&["--zone", "web", "destroy", "-F", "default"][..], 3, &["default is running", "zone switch web"][..]),
        (&["--zone", "web", "destroy", "-fF", "default"], 3, &["default is running"]),
        (&["--zone", "web", "rollback", "-F", "default@before"], 3, &["default is running", "zone switch web"]),
        (&["--zone", "web", "unmount", "default"], 3, &["default is running"]),
        (&["--zone", "web", "mount", "default"], 5, &["default is mounted at /var/jails/web"]),
        (&["zone", "destroy", "-F", "web"], 5, &["bootenv zone"]),
    ] {
        host.refuses(args, status, words);
    }
    // Another container that has the name by chance is not what runs.
    host.bootenv(&["zone", "stop", "web"]).ok();
    host.inside.sh("echo $$ > /run/jail/web");
    assert_eq!(host.flags(), "default=- blue=R");
    host.inside.sh("rm /run/jail/web");
    host.in_web(&["rollback", "-F", "default@before"]).ok();
    host.in_web(&["destroy", "-sF", "default"]).ok();
    host.bootenv(&["zone", "destroy", "-F", "web"]).ok();
    assert!(!host.place().exists());
}

#[test]
fn a_place_that_is_something_elses_is_refused() {
    let host = Host::new();
    let start = ["zone", "start", "web"];
    for (made, word) in [
        ("ln -s /etc /var/jails/web", "is a symlink"),
        ("ln -s /nowhere /var/jails/web", "is a symlink"),
        ("touch /var/jails/web", "is no directory"),
        ("mkdir -p /var/jails/web/etc", "is not empty"),
    ] {
        host.inside.sh(&format!("rm -rf /var/jails/web; {made}"));
        host.refuses(&start, 3, &["/var/jails/web", word]);
        // Nor by those who start it themselves.
        host.refuses(&["zone", "start", "--place", "web"], 3, &[word]);
    }
    host.inside.sh("rm -r /var/jails/web; mkdir /var/jails/web; mount -t tmpfs other /var/jails/web");
    host.refuses(&start, 3, &["/var/jails/web", "something else mounted", "other"]);
    host.inside.sh("umount /var/jails/web; mount --bind /mnt /var/jails/web");
    host.refuses(&start, 3, &["something else mounted"]);
    host.inside.sh("umount /var/jails/web");
    // What a container has left that went away with its host.
    host.bootenv(&["zone", "start", "--place", "web"]).ok();
    let mounts = host.inside.mounts().len();
    host.bootenv(&["zone", "start", "web"]).ok();
    assert_eq!((host.inside.mounts().len(), host.flags()), (mounts, "default=NR".into()));
    // Somebody looks into it while it stops.
    host.inside.sh("cd /var/jails/web; /run/bootenv-binary zone stop web");
    assert_eq!(host.inside.mounts().len(), mounts - 2);
}

#[test]
fn settings_of_others_have_to_bind_the_shared_dataset() {
    let host = Host::new();
    let start = ["zone", "start", "web"];
    let needed = "bind /run/bootenv/zones/web/shared";
    host.inside.sh("mkdir /etc/jail.conf; printf 'root /x\\n# bind /var/shared\\n' > /etc/jail.conf/web");
    host.refuses(&start, 3, &["/etc/jail.conf/web is read instead", needed]);
    host.inside.sh("printf 'root /x\\n\\nbind /data:/var/shared\\n' > /etc/jail.conf/web");
    host.refuses(&start, 3, &["/etc/jail.conf/web:3", "bind /data:/var/shared", needed]);
    host.inside.sh(&format!("printf '{needed}\\nhide /var/shared/log\\n' > /etc/jail.conf/web"));
    host.refuses(&start, 3, &["/etc/jail.conf/web:2", "hide /var/shared/log"]);
    host.inside.sh(&format!("echo '  {needed}' > /etc/jail.conf/web"));
    host.bootenv(&start).ok();
    host.bootenv(&["zone", "stop", "web"]).ok();
    // Those that are in the place of ours are not written over.
    host.inside.sh("rm /etc/jail.conf/web; echo 'root /x' > /run/jail.conf/web");
    host.refuses(&start, 3, &["/run/jail.conf/web", needed]);
    assert_eq!(host.inside.sh("cat /run/jail.conf/web"), "root /x\n");
    // Those of the machines that come with bootenv.
    host.bootenv(&["zone", "create", "--from", "/run/lab/container", "db"]).ok();
    host.inside.sh(
        "mkdir -p /etc/systemd/nspawn; printf '[Files]\\nBind=/srv:/var/shared\\n' > /etc/systemd/nspawn/db.nspawn",
    );
    host.refuses(
        &["zone", "start", "db"],
        3,
        &["/etc/systemd/nspawn/db.nspawn:2", "Bind=/run/bootenv/zones/db/shared:/var/shared:idmap"],
    );
    host.refuses(&["zone", "start", "--place", "db"], 3, &["/etc/systemd/nspawn/db.nspawn:2"]);
    // Where there is no user namespace systemd-nspawn refuses to map owners.
    host.inside.sh("echo 'Bind=/run/bootenv/zones/db/shared:/var/shared' > /etc/systemd/nspawn/db.nspawn");
    host.bootenv(&["zone", "start", "--place", "db"]).ok();
    host.bootenv(&["zone", "stop", "--place", "db"]).ok();
}

#[test]
fn what_cannot_be_started_is_refused() {
    let host = Host::new();
    for verb in ["start", "stop", "switch", "enable"] {
        host.refuses(&["zone", verb, "none"], 4, &["there is no zone none", "web"]);
        host.refuses(&["zone", verb, "../web"], 2, &["../web"]);
    }
    // Machines that are no zones are nobody's business.
    for name in ["none", "../web", "a_b"] {
        assert_eq!(host.bootenv(&["zone", "start", "--place", name]).ok().stdout, "");
        assert_eq!(host.bootenv(&["zone", "stop", "--place", name]).ok().stdout, "");
    }
    // The host has to run.
    host.lab.refuses(&["zone", "start", "web"], 3, &["runs where its host does"]);
    host.bootenv(&["zone", "create", "--brand", "jail", "--from", "/run/lab/container", "db"]).ok();
    host.lab.destroy_behind(&host.lab.zone_files("db", "SHARED"));
    host.refuses(&["zone", "start", "db"], 3, &["shared dataset of db is missing", "check --repair"]);
    std::fs::remove_file(host.lab.zone_files("web", "ROOT/default/usr/sbin/init")).unwrap();
    host.refuses(&["zone", "start", "web"], 3, &["no boot environment that it could run", "activate"]);
    std::fs::write(host.lab.zone_files("web", "ROOT/default/usr/sbin/init"), "").unwrap();
    // A container that does not come up leaves nothing behind.
    host.inside.sh("sed -i 's/^    mkdir -p .run.jail/    echo it broke >\\&2; exit 7/' /etc/jail");
    let failed = host.bootenv(&["zone", "start", "web"]).fails(1, &["/etc/jail start web", "7", "it broke"]);
    assert_eq!(failed.stdout, "");
}

#[test]
fn a_root_that_leads_out_of_itself_or_has_no_place_is_not_started() {
    let host = Host::new();
    let file = |path: &str| host.lab.zone_files("web", &format!("ROOT/default/{path}"));
    let shared = file("var/shared");
    // The directory itself may be immutable.
    sh(&format!("chattr -i '{0}' 2>/dev/null || true; rmdir '{0}'", shared.display()));
    let refused = |words: &[&str]| {
        for args in [&["zone", "start", "web"][..], &["zone", "start", "--place", "web"], &["zone", "switch", "web"]] {
            host.refuses(args, 3, words);
        }
    };
    refused(&["default has no /var/shared", "bootenv --zone web check --repair"]);
    host.bootenv(&["--zone", "web", "check", "--repair"]).ok();
    sh(&format!("chattr -i '{}' 2>/dev/null || true", file("var/shared").display()));
    for (path, target) in [
        ("var/shared", "../opt"),
        ("var/shared", "nowhere"),
        ("var/log", "../../../../opt"),
        ("var/log", "/opt"),
        ("var", "/opt"),
    ] {
        std::fs::rename(file(path), file("aside")).unwrap();
        std::os::unix::fs::symlink(target, file(path)).unwrap();
        refused(&[&format!("/{path} of default may lead out of web"), "rollback"]);
        std::fs::remove_file(file(path)).unwrap();
        std::fs::rename(file("aside"), file(path)).unwrap();
    }
    std::fs::rename(file("var"), file("aside")).unwrap();
    refused(&["default has no /var/shared", "rollback"]);
    std::fs::rename(file("aside"), file("var")).unwrap();
    host.bootenv(&["zone", "start", "web"]).ok();
}

#[test]
fn zones_start_with_the_host() {
    let host = Host::new();
    let zone = |verb: &str| host.bootenv(&["zone", verb, "web"]).ok().stdout;
    assert_eq!(host.lab.zone_told("web")["autostart"], false);
    assert_eq!(zone("disable"), "web does not start with the host already\n");
    zone("enable");
    assert_eq!(host.lab.zone_told("web")["autostart"], true);
    assert_eq!(zone("enable"), "web starts with the host already\n");
    // As in a BE that was made before the zone.
    host.inside.sh("rmdir /var/jails/web /var/jails; rm -r /run/jail.conf");
    zone("detach");
    host.bootenv(&["zone", "start", "--booted"]).ok();
    assert!(host.place().is_dir(), "its place, for others to find it by");
    assert_eq!(host.flags(), "default=R");
    zone("attach");
    host.bootenv(&["zone", "start", "--booted"]).ok();
    assert_eq!(host.flags(), "default=NR");
    host.bootenv(&["zone", "start", "--booted"]).ok();
    host.bootenv(&["zone", "stop", "web"]).ok();
    // With a BE of the host that is older than it there is nothing to run.
    let rename = |from: &str, to: &str| {
        let dir = host.lab.zone_files("web", "ROOT/default/usr/sbin");
        std::fs::rename(dir.join(from), dir.join(to)).unwrap();
    };
    rename("init", "aside");
    assert_eq!(host.bootenv(&["--quiet", "zone", "start", "--booted"]).ok().stderr, "");
    assert_eq!(host.flags(), "default=!");
    rename("aside", "init");
    // One that cannot be started does not keep the others from it, and is told of.
    host.bootenv(&["zone", "create", "--brand", "jail", "--from", "/run/lab/container", "broken"]).ok();
    host.bootenv(&["zone", "enable", "broken"]).ok();
    host.inside.sh("rmdir /var/jails/broken; ln -s /etc /var/jails/broken");
    host.bootenv(&["zone", "start", "--booted"]).fails(1, &["broken", "is a symlink"]);
    assert_eq!(host.flags(), "default=NR");
}
