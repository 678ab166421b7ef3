//! The service at a zone's socket, and whoever connects to it: in control groups as a container manager makes them.

use super::{Lab, Ran, sh};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The directory of a zone's socket.
pub fn sockets(zone: &str) -> PathBuf {
    Path::new("/run/bootenv-zones").join(zone)
}

/// Where control groups are made in the test's own namespace.
const GROUPS: &str = "/run/groups";

thread_local!(static MOUNTED: Cell<bool> = const { Cell::new(false) });

/// The control group that processes of a zone are in: in a slice of this program's, which is gone once it has ended.
fn group(unit: &str) -> PathBuf {
    if !MOUNTED.replace(true) {
        sh(&format!("mkdir -p {GROUPS}; mount -t cgroup2 cgroup2 {GROUPS}"));
    }
    static OWN: OnceLock<(String, Child)> = OnceLock::new();
    let (own, _) = OWN.get_or_init(|| {
        let pid = std::process::id();
        let own = format!("bootenv-test-{pid}.slice");
        std::fs::create_dir(Path::new(GROUPS).join(&own)).unwrap();
        // Nobody can remove what he is in, so somebody does who waits for the end of this program; in its namespace, for he is not to keep
        // what this case has mounted.
        let sweep = "cat; until find \"$0\" -depth -type d -exec rmdir {} +; do sleep 0.1; done";
        let mut sweeper = Command::new("nsenter");
        sweeper.args([&format!("--mount=/proc/{pid}/ns/mnt"), &format!("--wd={GROUPS}"), "sh", "-c", sweep, &own]);
        sweeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        (own, sweeper.spawn().unwrap())
    });
    let group = Path::new(GROUPS).join(own).join(unit);
    std::fs::create_dir_all(&group).unwrap();
    group
}

/// The unit that is a zone's.
pub fn unit(zone: &str) -> String {
    format!("machine-{}.scope", zone.replace('-', "\\x2d"))
}

/// Puts this process, which all cases run in, into a zone's control group, so that it can connect itself.
pub fn become_a_process_of(zone: &str) {
    static LOCK: Mutex<()> = Mutex::new(());
    let _lock = LOCK.lock().unwrap();
    std::fs::write(group(&unit(zone)).join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

/// A socket and its service, which runs from when somebody connects until it ends by itself, as one of systemd's does.
pub struct Service {
    zone: String,
    state: Arc<Mutex<State>>,
    tender: Option<JoinHandle<()>>,
    /// What it has told the administrator of the host.
    pub journal: PathBuf,
    /// What the store is mounted below for the test, where that keeps bootenv from its work.
    top: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    process: Option<Child>,
    /// How it has ended, if it should not have.
    failed: Option<ExitStatus>,
    /// Whether the test has had enough of it.
    over: bool,
}

impl Lab {
    /// Opens the socket of a zone.
    pub fn serve(&self, zone: &str) -> Service {
        self.serve_at(zone, &["--zone", zone])
    }

    /// Opens the socket of the host.
    pub fn serve_host(&self) -> Service {
        self.serve_at("host", &[])
    }

    fn serve_at(&self, name: &str, told: &[&str]) -> Service {
        let dir = sockets(name);
        std::fs::create_dir_all(&dir).unwrap();
        let _ = std::fs::remove_file(dir.join("io.bootenv"));
        let listener = UnixListener::bind(dir.join("io.bootenv")).unwrap();
        sh(&format!("chmod 666 '{}'", dir.join("io.bootenv").display()));
        let journal = self.path(&format!("{name}.journal"));
        let _ = std::fs::remove_file(&journal);
        let store = ["--store".as_ref(), self.store().as_os_str()].map(OsString::from);
        let told = told.iter().chain(&["serve"]).map(OsString::from);
        let arguments: Vec<OsString> = store.into_iter().chain(told).collect();
        let state = Arc::new(Mutex::new(State::default()));
        let (tended, told) = (Arc::clone(&state), journal.clone());
        let tender = Some(std::thread::spawn(move || tend(&listener, &arguments, &told, &tended)));
        Service { zone: name.to_string(), state, tender, journal, top: self.busy_top() }
    }
}

/// Starts the service whenever somebody waits at its socket and it does not run.
fn tend(listener: &UnixListener, arguments: &[OsString], journal: &Path, state: &Mutex<State>) {
    let somebody_waits = || {
        let mut socket = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut socket, PollTimeout::ZERO).unwrap() > 0
    };
    loop {
        let mut state = state.lock().unwrap();
        let State { process, failed, over } = &mut *state;
        match process {
            Some(running) if *over => {
                let _ = running.kill();
                let _ = running.wait();
                return;
            }
            None if *over => return,
            Some(running) => {
                if let Some(status) = running.try_wait().unwrap() {
                    *process = None;
                    // Nobody wanted anything, or the store was busy with what the test had mounted; a crash is neither.
                    if !matches!(status.code(), Some(0 | 5)) {
                        *failed = Some(status);
                    }
                }
            }
            None if somebody_waits() => *process = Some(start(listener, arguments, journal)),
            None => (),
        }
        drop(state);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn start(listener: &UnixListener, arguments: &[OsString], journal: &Path) -> Child {
    // The shell passes it on as systemd does: as descriptor 3, for the process that it becomes.
    let become_it = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "bash", "-c", become_it, "bash", env!("CARGO_BIN_EXE_bootenv")]);
    command.args(arguments).env("NO_COLOR", "1").env("TZ", "UTC");
    command.stdin(OwnedFd::from(listener.try_clone().unwrap())).stdout(Stdio::null());
    command.stderr(File::options().create(true).append(true).open(journal).unwrap());
    command.spawn().unwrap()
}

impl Drop for Service {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        let _ = self.tender.take().unwrap().join();
    }
}

impl Service {
    /// A command in the control group `unit`, with the zone's socket where it is in a container. `enter` is the program, with its
    /// arguments, that takes it wherever else it is to be.
    pub fn command_in(&self, unit: &str, enter: &str, args: &[&str]) -> Command {
        let script = format!(
            "set -e; echo $$ > '{}/cgroup.procs'; mkdir -p /run/bootenv-host
             mount --bind '{}' /run/bootenv-host; exec {enter} \"$@\"",
            group(unit).display(),
            sockets(&self.zone).display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "bash", "-c", &script, "bash"]);
        command.args(args).env("NO_COLOR", "1").env("TZ", "UTC");
        command
    }

    /// The binary, as root of the zone runs it: told nothing but the verb.
    pub fn admin(&self, args: &[&str]) -> Ran {
        self.make_ready();
        let args = [&[env!("CARGO_BIN_EXE_bootenv")], args].concat();
        self.command_in(&unit(&self.zone), "", &args).output().unwrap().into()
    }

    /// The same with `--json`.
    pub fn admin_json(&self, args: &[&str]) -> Ran {
        self.admin(&[&["--json"], args].concat())
    }

    /// Makes ready for a connection. Cases connect in several threads at once.
    fn make_ready(&self) {
        let state = self.state.lock().unwrap();
        self.top.iter().for_each(|top| super::unmount_below(top));
        assert!(state.failed.is_none(), "the service of {} has ended: {:?}", self.zone, state.failed);
    }

    /// A connection of this process.
    pub fn connect(&self) -> Connection {
        self.make_ready();
        let stream = UnixStream::connect(sockets(&self.zone).join("io.bootenv")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        Connection { stream, begun: Vec::new() }
    }

    /// What is told to a call on a connection of its own.
    pub fn call(&self, method: &str, parameters: Value) -> Value {
        let mut connection = self.connect();
        connection.send(&serde_json::json!({"method": method, "parameters": parameters}));
        connection.reply().expect("a reply")
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        self.state.lock().unwrap().process.is_some()
    }
}

/// A connection.
pub struct Connection {
    pub stream: UnixStream,
    begun: Vec<u8>,
}

impl Connection {
    pub fn send(&mut self, message: &Value) {
        self.send_bytes(format!("{message}\0").as_bytes()).unwrap();
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next reply; nothing if the connection has ended.
    pub fn reply(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.begun.drain(..=end).collect();
                return Some(serde_json::from_slice(&message[..end]).expect("JSON"));
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(some) => self.begun.extend_from_slice(&piece[..some]),
            }
        }
    }
}
