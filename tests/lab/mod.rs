//! A laboratory: a real store in a file, with a small root in it, in a mount namespace of the test's own: Btrfs, or ZFS
//! where `BOOTENV_TEST_STORE` says `zfs`.
//!
//! Nothing is left behind even when a test fails: mounts go with the namespace of the thread, loop devices are
//! attached with autoclear and go with the mounts, and pools are destroyed with their laboratory.

#![allow(dead_code)] // every lane uses another part of it

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod btrfs;
pub mod chroot;
pub mod inside;
#[cfg(feature = "zfs")]
mod pool;
pub mod print;
pub mod root;
pub mod store;
pub mod strace;
pub mod systemd_boot;
pub mod writes;
pub mod zone;

pub use print::Print;

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

    /// Fails the test unless the run was refused with `status`, an error that says all of `words`, and a hint that names
    /// the repair. The error must have been written with `--json`.
    #[track_caller]
    pub fn refused(self, status: i32, words: &[&str]) -> Self {
        let told: serde_json::Value = serde_json::from_str(&self.stderr).unwrap_or_else(|e| {
            panic!("{e}: status {}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
        });
        let kind = match status {
            1 => "failed",
            2 => "usage",
            3 => "refused",
            4 => "not_found",
            5 => "busy",
            _ => unreachable!(),
        };
        assert_eq!(told["error"]["kind"], kind, "{}", self.stderr);
        assert_eq!(self.stdout, "", "an error leaves standard output empty");
        let hint = told["error"]["hint"].as_str().unwrap_or_default();
        assert!(hint.len() > 5, "there is no hint: {}", self.stderr);
        self.fails(status, words)
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

/// The store that the lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Btrfs,
    Zfs,
}

/// Which it is.
pub fn kind() -> Kind {
    match std::env::var("BOOTENV_TEST_STORE").as_deref() {
        Ok("zfs") => Kind::Zfs,
        Ok("btrfs") | Err(_) => Kind::Btrfs,
        Ok(other) => panic!("BOOTENV_TEST_STORE={other}: there is btrfs, and zfs"),
    }
}

/// Where a root lies that installers have made, and what it is called when it is adopted.
pub fn foreign() -> (&'static str, &'static str) {
    match kind() {
        Kind::Btrfs => ("@", "root"),
        Kind::Zfs => ("system", "system"),
    }
}

/// How often something is done anew whose outcome the clock or chance decides. Where the machine is emulated, everything takes so
/// long, and has so many instants, that there are fewer.
pub fn rounds(many: usize) -> usize {
    match kind() {
        Kind::Btrfs => many,
        Kind::Zfs => many.div_ceil(5),
    }
}

/// How many milliseconds pass there while here it is one.
pub fn pace() -> u64 {
    match kind() {
        Kind::Btrfs => 1,
        Kind::Zfs => 50,
    }
}

/// Whether a case that is about one kind of store alone can run. Says `skipped: CASE: WHY` if not.
#[must_use]
pub fn only_on(wanted: Kind, why: &str) -> bool {
    if kind() != wanted {
        skipped(why);
    }
    kind() == wanted
}

/// Says that the case does not run, and why.
pub fn skipped(why: &str) {
    use std::io::Write;
    let current = std::thread::current();
    // Threads are named after the cases they run. Not println!, which is kept from sight while a test passes.
    // On a line of its own, also behind the name of the case, which one thread alone prints first.
    let _ = writeln!(std::io::stdout(), "\nskipped: {}: {why}", current.name().unwrap_or("?"));
}

/// What is different from store to store.
trait Backend {
    fn kind(&self) -> Kind;

    /// What `--store` is told.
    fn store(&self) -> PathBuf;

    /// Makes it, empty, if a laboratory begins without.
    fn make(&self);

    /// Keeps it as it is, where others can begin with a copy.
    fn keep(&self, _what: &str) {}

    /// Mounts the top.
    fn raise(&self);

    /// Whether bootenv cannot work while the top is mounted.
    fn busy(&self) -> bool;

    /// Makes a dataset where a directory is missing or empty.
    fn nest(&self, at: &Path);

    fn is_dataset(&self, dir: &Path) -> bool;

    fn destroy_behind(&self, path: &Path);

    fn rename_behind(&self, from: &Path, to: &Path);

    fn clone_behind(&self, from: &Path, to: &Path);

    fn make_readonly(&self, path: &Path);

    /// The command that mounts what is at a path of the store.
    fn mounting(&self, path: &str, at: &Path) -> String;

    /// What the kernel has to be told to have what is at a path of the store as its root.
    fn root_arguments(&self, path: &str) -> String;

    /// The line of fstab that mounts the shared dataset.
    fn shared_line(&self) -> String;

    /// Makes a store as installers and people make them, with the small root in the dataset `name`, and mounts the top.
    fn foreign(&self, name: &str) -> PathBuf;

    /// What the store says of its datasets besides their files, in paths that no file has.
    fn datasets(&self) -> Vec<(PathBuf, String)>;
}

/// A store in a file.
pub struct Lab {
    // Goes before the directory it lies in.
    backend: Box<dyn Backend>,
    dir: tempfile::TempDir,
    /// The file of a Btrfs.
    pub image: PathBuf,
    pub loader: Loader,
}

/// What boots it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    Grub,
    SystemdBoot,
}

impl Loader {
    pub fn name(self) -> &'static str {
        match self {
            Loader::Grub => "grub",
            Loader::SystemdBoot => "systemd-boot",
        }
    }
}

impl Lab {
    /// An empty laboratory: no image yet, or an empty pool.
    pub fn empty() -> Lab {
        Lab::of_size("256M")
    }

    /// The same, for a store of this size.
    pub fn of_size(size: &str) -> Lab {
        isolate();
        let dir = scratch();
        let image = dir.path().join(IMAGE);
        let backend: Box<dyn Backend> = match kind() {
            Kind::Btrfs => Box::new(btrfs::Image::new(&image, dir.path().join("top"))),
            #[cfg(feature = "zfs")]
            Kind::Zfs => Box::new(pool::Pool::new(dir.path(), size)),
            #[cfg(not(feature = "zfs"))]
            Kind::Zfs => panic!("a store of {size} on ZFS: built without the feature `zfs`"),
        };
        Lab { backend, image, dir, loader: Loader::Grub }
    }

    /// A laboratory with the BE `default` in a pool on a disk of the caller's.
    #[cfg(feature = "zfs")]
    pub fn on_disk(disk: &Path) -> Lab {
        isolate();
        let dir = scratch();
        let backend = Box::new(pool::Pool::on(dir.path(), disk));
        let lab = Lab { backend, image: disk.to_path_buf(), dir, loader: Loader::SystemdBoot };
        lab.init(&root::kept(), &["--loader", lab.loader.name()]).ok();
        lab
    }

    /// A laboratory with a store that holds the BE `default`, made by `bootenv init` from the small root.
    pub fn new() -> Lab {
        Lab::with("")
    }

    /// The same, with the root changed by a shell script before it is copied in.
    pub fn with(script: &str) -> Lab {
        Lab::made(Loader::Grub, script)
    }

    /// The same, booted by this loader.
    pub fn booted_by(loader: Loader) -> Lab {
        Lab::made(loader, "")
    }

    /// The same, with both.
    pub fn made(loader: Loader, script: &str) -> Lab {
        if script.is_empty()
            && let Some(lab) = Lab::again(loader.name(), loader)
        {
            return lab;
        }
        let mut lab = Lab::empty();
        lab.loader = loader;
        let root = if script.is_empty() { root::kept() } else { lab.root(script) };
        lab.init(&root, &["--loader", lab.loader.name()]).ok();
        if script.is_empty() {
            lab.keep(loader.name());
        }
        lab
    }

    /// One as another was when it was kept by that name, where making it anew takes long: on ZFS.
    pub fn again(what: &str, loader: Loader) -> Option<Lab> {
        if kind() != Kind::Zfs {
            return None;
        }
        #[cfg(feature = "zfs")]
        {
            isolate();
            let dir = scratch();
            let backend = Box::new(pool::Pool::again(dir.path(), what)?);
            Some(Lab { backend, image: dir.path().join(IMAGE), dir, loader })
        }
        #[cfg(not(feature = "zfs"))]
        panic!("{what} for {loader:?} on ZFS: built without the feature `zfs`")
    }

    /// Keeps it for those that begin with the same.
    pub fn keep(&self, what: &str) {
        self.leave_top_if_busy();
        self.backend.keep(what);
    }

    /// What `init` has to be told to make the first BE of a store that is not there, or empty: a new image needs a size.
    pub fn init_args<'a>(&self, from: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        self.init_args_sized("256M", from, more)
    }

    /// The same, for a store of this size.
    pub fn init_args_sized<'a>(&self, size: &'a str, from: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let size = match self.backend.kind() {
            Kind::Btrfs => &["--size", size][..],
            Kind::Zfs => &[],
        };
        [&["init"], size, &["--from", from.to_str().unwrap()], more].concat()
    }

    /// Makes the store, with nothing in it.
    pub fn make(&self) {
        self.backend.make();
    }

    /// Makes the first BE.
    pub fn init(&self, from: &Path, more: &[&str]) -> Ran {
        self.bootenv(&self.init_args(from, more))
    }

    /// The small root as a folder of the laboratory, changed by a shell script that runs in it.
    pub fn root(&self, script: &str) -> PathBuf {
        let root = self.path("root");
        let _ = std::fs::remove_dir_all(&root);
        root::small(&root);
        sh(&format!("set -e; cd '{}'; {script}", root.display()));
        root
    }

    /// A path in the laboratory's own directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What `--store` is told.
    pub fn store(&self) -> PathBuf {
        self.backend.store()
    }

    /// The binary, told to work on this store. Where it could not while the top is mounted, the top is left.
    pub fn command(&self, args: &[&str]) -> Command {
        self.leave_top_if_busy();
        let mut command = tool();
        command.arg("--store").arg(self.store()).args(args);
        command
    }

    /// Runs the binary on this store. The top is mounted afterwards if it was before.
    pub fn bootenv(&self, args: &[&str]) -> Ran {
        let up = self.is_up();
        let ran = self.command(args).output().unwrap().into();
        if up {
            self.top();
        }
        ran
    }

    /// Runs the binary on this store with `--json`.
    pub fn json(&self, args: &[&str]) -> Ran {
        self.bootenv(&[&["--json"], args].concat())
    }

    /// Runs the binary on this store, which has to refuse: exit status, words, a hint, and nothing changed in the store or in
    /// the mount table.
    #[track_caller]
    pub fn refuses(&self, args: &[&str], status: i32, words: &[&str]) {
        let before = (self.print(), mounts());
        self.json(args).refused(status, words);
        before.0.assert_same(&self.print(), &format!("{args:?} was refused and has changed the store"));
        assert_eq!(before.1, mounts(), "{args:?} was refused and has changed the mount table");
    }

    /// Mounts the top of the store in this test's namespace and returns where.
    pub fn top(&self) -> PathBuf {
        let at = self.path("top");
        if !self.is_up() {
            self.backend.raise();
        }
        at
    }

    fn is_up(&self) -> bool {
        let at = self.path("top");
        table().iter().any(|line| mountpoint(line) == at)
    }

    /// Unmounts the top where bootenv cannot work while it is mounted.
    fn leave_top_if_busy(&self) {
        if self.backend.busy() {
            self.leave_top();
        }
    }

    /// Unmounts the top again.
    pub fn leave_top(&self) {
        unmount_below(&self.path("top"));
    }

    /// A store as installers and people make them: nobody has told bootenv about it. It holds the small root in the dataset
    /// `name` (at the very top if it is empty), with an fstab as it is there, mounted in this test's namespace. `script` runs in the
    /// root. Returns where the root is.
    pub fn foreign(&self, name: &str, script: &str) -> PathBuf {
        let at = self.backend.foreign(name);
        sh(&format!("set -e; cd '{}'; {script}", at.display()));
        at
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

impl Drop for Lab {
    fn drop(&mut self) {
        // The namespace would do it, but the directory is removed before the namespace is.
        for line in table().iter().rev() {
            let at = mountpoint(line);
            if at.starts_with(self.dir.path()) || at.starts_with("/run/bootenv/") {
                let _ = nix::mount::umount2(&at, nix::mount::MntFlags::MNT_DETACH);
            }
        }
        // One thread may have one laboratory after another.
        let _ = std::fs::remove_dir_all("/run/bootenv");
    }
}

/// Unmounts what is mounted on a directory and below it.
pub fn unmount_below(dir: &Path) {
    for at in table().iter().rev().map(|line| mountpoint(line)).filter(|at| at.starts_with(dir)) {
        // What another thread has just forked holds a copy of every file that this one had open, until it has become
        // another program.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while let Err(e) = nix::mount::umount(&at) {
            assert!(e == nix::errno::Errno::EBUSY && std::time::Instant::now() < until, "umount {at:?}: {e}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

/// The mount table of the calling thread, line by line, without what laboratories mount to show their stores.
pub fn mounts() -> Vec<String> {
    table().into_iter().filter(|line| !shown(&mountpoint(line))).collect()
}

/// Whether a path is in a store that a laboratory shows.
fn shown(path: &Path) -> bool {
    let is_laboratory = |dir: &Path| dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(PREFIX));
    path.ancestors().any(|p| p.ends_with("top") && p.parent().is_some_and(is_laboratory))
}

/// The whole mount table of the calling thread. (`/proc/self` is the main thread's, which is not isolated.)
fn table() -> Vec<String> {
    let table = std::fs::read("/proc/thread-self/mountinfo").unwrap();
    String::from_utf8_lossy(&table).lines().map(str::to_string).collect()
}

/// Where a line of the mount table says that something is mounted.
pub fn mountpoint(line: &str) -> PathBuf {
    let field = line.split(' ').nth(4).unwrap();
    PathBuf::from(field.replace("\\040", " ").replace("\\012", "\n").replace("\\134", "\\"))
}

/// What the names of laboratories' directories begin with.
const PREFIX: &str = "bootenv-lab";

/// The file of a Btrfs in them.
const IMAGE: &str = "lab.img";

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

thread_local!(static ISOLATED: Cell<bool> = const { Cell::new(false) });

/// Puts the calling thread, and what it starts, into a mount namespace of its own. Tests run one per thread.
pub fn isolate() {
    assert!(nix::unistd::geteuid().is_root(), "this lane needs root: run it with `make test`");
    if !ISOLATED.replace(true) {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        // Mounts of our own below /run/bootenv must not meet those of a test that runs beside, or of the host: who removes
        // a directory there would take the mounts in it away here too.
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    }
}

/// The binary, told no store.
pub fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootenv"));
    command.env("NO_COLOR", "1").env("TZ", "UTC");
    command
}

/// Runs the binary with `--json` on the store that `store` names.
pub fn on(store: &Path, args: &[&str]) -> Ran {
    tool().arg("--json").arg("--store").arg(store).args(args).output().unwrap().into()
}

/// Runs a shell command and returns its output; a failure fails the test.
#[track_caller]
pub fn sh(script: &str) -> String {
    let ran = try_sh(script);
    assert_eq!(ran.status, 0, "{script}\n{}{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// A loop device for a file, which goes away with its last user.
pub fn attach(file: &Path) -> String {
    sh(&format!("losetup --find --show '{}'", file.display())).trim().to_string()
}

/// Runs a program and returns its output; a failure fails the test. In an emulated machine a shell more would be felt.
#[track_caller]
pub fn run(program: &str, args: &[&str]) -> String {
    let ran: Ran = Command::new(program).args(args).output().unwrap().into();
    assert_eq!(ran.status, 0, "{program} {args:?}\n{}{}", ran.stdout, ran.stderr);
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
