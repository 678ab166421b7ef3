//! A BE as `/`, with the host's tools over its own `/usr`, so that programs can run inside: either by chroot, or in a mount
//! namespace of its own whose root it is, as on a machine that has booted it.

use super::{Kind, Lab, Ran, sh};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A root to run commands in.
pub struct Inside {
    /// Where the test finds it.
    pub root: PathBuf,
    /// The command that enters it.
    enter: Vec<String>,
    /// Keeps the namespace.
    holder: Option<Child>,
    store: PathBuf,
    /// The top of the store, if it has to be left while bootenv works.
    top: Option<PathBuf>,
}

impl Lab {
    /// Makes the BE `name` what runs: it is the root of a mount namespace, and the shared dataset is mounted read-write on
    /// its `/var/shared`. No loader's state can be seen inside, for there is no FAT in the kernels that this lane runs on.
    pub fn running(&self, name: &str) -> Inside {
        self.root_of_a_namespace("", name, "", true)
    }

    /// The same of a zone, with its socket where it is in a container.
    pub fn running_in_zone(&self, zone: &str, name: &str) -> Inside {
        let sockets = super::inside::sockets(zone);
        let socket = format!("mkdir run/bootenv-host; mount --bind '{}' run/bootenv-host", sockets.display());
        self.root_of_a_namespace(&format!("zones/{zone}/"), name, &socket, true)
    }

    /// The same with nothing of the host's: what is installed in the BE runs.
    pub fn running_by_itself(&self, name: &str) -> Inside {
        self.root_of_a_namespace("", name, "", false)
    }

    fn root_of_a_namespace(&self, place: &str, name: &str, more: &str, with_tools: bool) -> Inside {
        let root = self.path("running");
        std::fs::create_dir_all(&root).unwrap();
        let script = format!(
            "set -e; {}; {}; {}
             {more}
             mount -t tmpfs tmpfs tmp; pivot_root . .; umount -l .; echo ready; exec sleep 600",
            self.mounting(&format!("{place}ROOT/{name}"), &root),
            self.mounting(&format!("{place}SHARED"), &root.join("var/shared")),
            self.furnish(&root, with_tools)
        );
        // Ends with the test, however that ends.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--",
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            &script,
        ]);
        command.stdout(Stdio::piped());
        let mut holder = command.spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).expect("a running root");
        let process = format!("/proc/{}", holder.id());
        Inside {
            root: PathBuf::from(format!("{process}/root")),
            enter: vec!["nsenter".into(), format!("--mount={process}/ns/mnt"), format!("--root={process}/root")],
            holder: Some(holder),
            store: self.inner_store(),
            top: self.busy_top(),
        }
    }

    /// Furnishes a mounted root, to be entered by chroot.
    pub fn enter(&self, root: &Path) -> Inside {
        sh(&format!("set -e; {}", self.furnish(root, true)));
        Inside {
            root: root.to_path_buf(),
            enter: vec!["chroot".into(), root.display().to_string()],
            holder: None,
            store: self.inner_store(),
            top: self.busy_top(),
        }
    }

    /// A script that puts `/dev`, `/proc`, `/sys`, an empty `/run` and, if wanted, the host's tools into a mounted root.
    fn furnish(&self, root: &Path, with_tools: bool) -> String {
        let tools = if with_tools { "usr bin sbin lib lib64" } else { "" };
        format!(
            r#"
cd '{0}'
for dir in {tools}; do mount --bind -o ro /$dir $dir; done
for dir in dev proc sys; do mount --bind /$dir $dir; done
mount -t tmpfs tmpfs run
touch run/bootenv-binary
mkdir run/lab
mount --bind '{1}' run/bootenv-binary
mount --bind '{2}' run/lab
{3}
"#,
            root.display(),
            env!("CARGO_BIN_EXE_bootenv"),
            self.path("").display(),
            match self.inner_store().is_absolute() {
                true => format!("touch run/lab.img; mount --bind '{}' run/lab.img", self.image.display()),
                false => String::new(),
            }
        )
    }

    /// What `--store` is told inside.
    fn inner_store(&self) -> PathBuf {
        match super::kind() {
            Kind::Btrfs => PathBuf::from("/run/lab.img"),
            Kind::Zfs => self.store(),
        }
    }

    /// What the store is mounted below for the test, where that keeps bootenv from its work.
    pub(super) fn busy_top(&self) -> Option<PathBuf> {
        self.backend.busy().then(|| self.path("top"))
    }
}

impl Inside {
    /// A program inside.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.enter[0]);
        command.args(&self.enter[1..]).arg(program).env("NO_COLOR", "1").env("TZ", "UTC");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command
    }

    /// A shell script inside, that has to succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let ran: Ran = self.command("/usr/bin/bash").args(["-c", script]).output().unwrap().into();
        ran.ok().stdout
    }

    /// The same, with what comes of it, in whatever shell the root has.
    pub fn try_sh(&self, script: &str) -> Ran {
        self.command("/bin/sh").args(["-c", script]).output().unwrap().into()
    }

    /// The binary inside, on the store that `/` is on.
    pub fn bootenv(&self, args: &[&str]) -> Ran {
        self.leave_top();
        self.command("/run/bootenv-binary").args(args).output().unwrap().into()
    }

    /// The binary inside, told the image. The loader's state then is the stand-in of an image that has no ESP yet, so that
    /// verbs that need one work.
    pub fn bootenv_on_image(&self, args: &[&str]) -> Ran {
        self.leave_top();
        self.command("/run/bootenv-binary").arg("--store").arg(&self.store).args(args).output().unwrap().into()
    }

    fn leave_top(&self) {
        if let Some(top) = &self.top {
            super::unmount_below(top);
        }
    }

    /// The mount table as a process inside sees it.
    pub fn mounts(&self) -> Vec<String> {
        self.sh("cat /proc/self/mountinfo").lines().map(str::to_string).collect()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(holder) = &mut self.holder {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}
