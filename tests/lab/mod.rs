//! A laboratory: a real Btrfs in an image file, with a small root in it, in a mount namespace of the test's own.
//!
//! Nothing is left behind even when a test fails: mounts go with the namespace of the thread, and loop devices are
//! attached with autoclear and go with the mounts.

#![allow(dead_code)] // every lane uses another part of it

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub mod root;

/// What a run of the binary gave.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless the run succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the run ended with `status` and its error says all of `words`.
    #[track_caller]
    pub fn fails(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in: {}", self.stderr);
        }
        self
    }

    /// The JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        Ran {
            status: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A store in an image file.
pub struct Lab {
    dir: tempfile::TempDir,
    pub image: PathBuf,
}

impl Lab {
    /// An empty laboratory: no image yet.
    pub fn empty() -> Lab {
        isolate();
        let dir = tempfile::Builder::new().prefix("bootenv-lab").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Lab { image: dir.path().join("lab.img"), dir }
    }

    /// A laboratory with a store that holds the BE `default`, made by `bootenv init` from the small root.
    pub fn new() -> Lab {
        let lab = Lab::empty();
        let root = lab.path("root");
        root::small(&root);
        lab.bootenv(&["init", "--size", "256M", "--from", root.to_str().unwrap()]).ok();
        lab
    }

    /// A path in the laboratory's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary, told to work on this store.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootenv"));
        command.arg("--store").arg(&self.image).args(args).env("NO_COLOR", "1").env("TZ", "UTC");
        command
    }

    /// Runs the binary on this store.
    pub fn bootenv(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Mounts the top of the store in this test's namespace and returns where.
    pub fn top(&self) -> PathBuf {
        let at = self.path("top");
        if !at.exists() {
            std::fs::create_dir(&at).unwrap();
        }
        if !at.join("BOOTENV").exists() {
            sh(&format!("mount -o loop,subvolid=5 '{}' '{}'", self.image.display(), at.display()));
        }
        at
    }

    /// Unmounts the top again.
    pub fn leave_top(&self) {
        sh(&format!("umount '{}'", self.path("top").display()));
    }

    /// The names that `list` gives, oldest first.
    pub fn names(&self) -> Vec<String> {
        let list = self.bootenv(&["list", "--json"]).ok().json();
        list["boot_environments"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap().to_string()).collect()
    }

    /// One BE of `list --json`.
    pub fn be(&self, name: &str) -> serde_json::Value {
        let list = self.bootenv(&["list", "--json"]).ok().json();
        list["boot_environments"].as_array().unwrap().iter().find(|b| b["name"] == name).cloned().unwrap_or_default()
    }
}

thread_local!(static ISOLATED: Cell<bool> = const { Cell::new(false) });

/// Puts the calling thread, and what it starts, into a mount namespace of its own. Tests run one per thread.
pub fn isolate() {
    assert!(nix::unistd::geteuid().is_root(), "this lane needs root: run it with `make test`");
    if !ISOLATED.replace(true) {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        // Mounts of our own below /run/bootenv must not meet those of a test that runs beside.
        std::fs::create_dir_all("/run/bootenv").unwrap();
        mount(Some("tmpfs"), "/run/bootenv", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }
}

/// Runs a shell command and returns its output; a failure fails the test.
#[track_caller]
pub fn sh(script: &str) -> String {
    let ran = try_sh(script);
    assert_eq!(ran.status, 0, "{script}\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// Runs a shell command.
pub fn try_sh(script: &str) -> Ran {
    Command::new("bash").args(["-c", script]).output().unwrap().into()
}

/// A fingerprint of everything below a directory: names, types, modes, owners, times, links, extended attributes, content.
pub fn fingerprint(dir: &Path) -> String {
    sh(&format!(
        "cd '{0}' && find . -xdev -printf '%P %y %m %U %G %T@ %n %l\\n' | sort && find . -xdev -type f -print0 | sort -z | xargs -0r sha256sum && \
         (getfattr -Rhd -m- . 2>/dev/null || true)",
        dir.display()
    ))
}
