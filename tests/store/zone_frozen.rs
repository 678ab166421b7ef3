//! On Btrfs the processes of zones that run stand still while their roots are cloned, and go on whatever happens.

use crate::lab::{Kind, Lab, only_on, sh};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The zones `db` and `web`, both of which a process writes to that is in the control group of `web`.
struct Caged {
    lab: Lab,
    group: PathBuf,
    writer: Child,
}

impl Caged {
    fn new() -> Caged {
        let lab = Lab::with_zone();
        let groups = lab.path("groups");
        std::fs::create_dir(&groups).unwrap();
        let name = format!("bootenv-test-{}", std::process::id());
        let group = groups.join(&name);
        sh(&format!("mount -t cgroup2 none '{0}'; mkdir -p '{1}'", groups.display(), group.display()));
        // A brand that says where it is, and that it runs.
        let brands = Path::new("/usr/local/share/bootenv/zones");
        sh(&format!(
            "mount -t tmpfs tmpfs /usr/local/share; mkdir -p '{0}' /run/caged; touch /run/caged/web",
            brands.display()
        ));
        let brand = format!(
            "version = 1\ndescription = \"caged\"\nroot = \"/srv/{{zone}}\"\ninit = [\"usr/sbin/init\"]\nrunning = \"/run/caged/{{zone}}\"\n\
             start = [\"true\"]\nstop = [\"true\"]\n\
             cgroup = [\"{0}/none\", \"{0}/{name}\"]\n",
            groups.display()
        );
        std::fs::write(brands.join("caged.toml"), brand).unwrap();
        let root = lab.path("root");
        lab.bootenv(&["zone", "destroy", "web"]).ok();
        for zone in ["db", "web"] {
            lab.bootenv(&["zone", "create", "--brand", "caged", "--from", root.to_str().unwrap(), zone]).ok();
        }
        let counts = ["web", "db"].map(|zone| lab.zone_files(zone, "ROOT/default/count"));
        let script = format!(
            "import os\nopen('{}/cgroup.procs', 'w').write(str(os.getpid()))\nfiles = [os.open(p, os.O_CREAT | os.O_WRONLY) for p in ({:?}, {:?})]\n\
             n = 0\nwhile True:\n  n += 1\n  for f in files: os.pwrite(f, b'%012d' % n, 0)\n",
            group.display(),
            counts[0],
            counts[1]
        );
        let writer =
            Command::new("setpriv").args(["--pdeathsig", "KILL", "--", "python3", "-c", &script]).spawn().unwrap();
        let caged = Caged { lab, group, writer };
        caged.goes_on();
        caged
    }

    fn count(&self, zone: &str, be: &str) -> u64 {
        let text = std::fs::read_to_string(self.lab.zone_files(zone, &format!("ROOT/{be}/count"))).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Fails the test unless the process writes, soon.
    #[track_caller]
    fn goes_on(&self) {
        let (before, until) = (self.count("db", "default"), Instant::now() + Duration::from_secs(10));
        while self.count("db", "default") <= before {
            assert!(Instant::now() < until, "the process stands still: {:?}", self.state());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn state(&self) -> String {
        std::fs::read_to_string(self.group.join("cgroup.freeze")).unwrap().trim().into()
    }
}

impl Drop for Caged {
    fn drop(&mut self) {
        let _ = std::fs::write(self.group.join("cgroup.freeze"), "0");
        let _ = self.writer.kill();
        let _ = self.writer.wait();
        let _ = std::fs::remove_dir(&self.group);
    }
}

#[test]
fn zones_are_cloned_as_they_are_at_one_instant() {
    if !only_on(Kind::Btrfs, "on a pool it is one transaction") {
        return;
    }
    let caged = Caged::new();
    for number in 0..8 {
        let be = format!("be-{number}");
        caged.lab.bootenv(&["create", &be]).ok();
        // `web` is written to first, and cloned last.
        let (web, db) = (caged.count("web", &be), caged.count("db", &be));
        assert!(db > 0 && (web == db || web == db + 1), "{be}: {web} in web, {db} in db");
        caged.goes_on();
    }
    // What somebody has frozen is not thawed.
    std::fs::write(caged.group.join("cgroup.freeze"), "1").unwrap();
    caged.lab.bootenv(&["create", "default@one"]).ok();
    assert_eq!(caged.state(), "1");
    std::fs::write(caged.group.join("cgroup.freeze"), "0").unwrap();
    caged.goes_on();
}

#[test]
fn zones_go_on_whenever_bootenv_is_killed() {
    if !only_on(Kind::Btrfs, "on a pool nothing is frozen") {
        return;
    }
    let caged = Caged::new();
    let mut killed = 0;
    for (call, most) in
        [("ioctl", 80), ("openat2", 80), ("write", 20), ("clone", 3), ("pipe2", 3), ("clock_nanosleep", 3)]
    {
        for nth in 1..=most {
            let command = caged.lab.command(&["create", "blue"]);
            let mut strace = Command::new("strace");
            strace.args([
                "-o",
                "/dev/null",
                "-e",
                &format!("trace={call}"),
                "-e",
                &format!("inject={call}:signal=KILL:when={nth}"),
            ]);
            let status = strace.arg("--").arg(command.get_program()).args(command.get_args()).output().unwrap().status;
            caged.goes_on();
            assert_eq!(caged.state(), "0", "{call} {nth}");
            // Also undoes what was begun.
            if caged.lab.names().contains(&"blue".to_string()) {
                caged.lab.bootenv(&["destroy", "blue"]).ok();
            }
            if status.success() {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed > 40, "{killed}");
}
