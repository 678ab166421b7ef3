//! Machines: QEMU with UEFI firmware, a disk, and the test agent inside on a virtio-serial port.
//!
//! Everything here panics when it fails, for it is only ever called by tests. A panic prints the end of the serial
//! log, and dropping a `Machine` kills the QEMU it started and removes its files.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::agent::{self, Event};
use crate::disk::Disk;

/// Where Debian's and Ubuntu's `ovmf` puts the firmware and the variables that go with it.
const FIRMWARE: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];

#[derive(Clone, Debug)]
pub struct Options {
    pub memory_mib: u32,
    /// From power on, or the reset, to a running agent.
    pub boot: Duration,
    /// For one command, unless `run_for` says otherwise.
    pub command: Duration,
    /// For everything: then QEMU is killed, whatever the test is doing.
    pub total: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Options { memory_mib: 1024, boot: minutes(4), command: minutes(2), total: minutes(20) }
    }
}

#[derive(Debug)]
pub struct Output {
    /// The exit status; 124 if it ran out of time, 128 + n if signal n ended it.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }
}

pub struct Machine {
    qemu: Arc<Mutex<Child>>,
    monitor: ChildStdin,
    agent: UnixStream,
    events: Receiver<Event>,
    options: Options,
    deadline: Instant,
    boot_id: String,
    next_command: u64,
    /// How long the last boot took, from power on or the request to reset to a running agent.
    pub boot_time: Duration,
    dir: tempfile::TempDir,
}

/// Why machines cannot run here, if they cannot.
pub fn missing() -> Option<String> {
    if firmware().is_none() {
        return Some("the UEFI firmware (ovmf) is not installed".into());
    }
    let found = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(name).is_file())
    };
    ["qemu-system-x86_64", "setpriv", "sfdisk", "mkfs.fat", "mcopy", "mkfs.btrfs", "grub-mkimage"]
        .into_iter()
        .find(|name| !found(name))
        .map(|name| format!("{name} is not installed"))
}

fn firmware() -> Option<(&'static str, &'static str)> {
    FIRMWARE.into_iter().find(|(code, vars)| Path::new(code).exists() && Path::new(vars).exists())
}

impl Machine {
    /// Powers a machine on and waits for the agent.
    pub fn boot(disk: &Disk, options: Options) -> Machine {
        let started = Instant::now();
        let dir = tempfile::Builder::new().prefix("bootenv-machine-").tempdir().unwrap();
        let (code, vars) = firmware().expect("ovmf is installed");
        std::fs::copy(vars, dir.path().join("vars.fd")).unwrap();

        let socket = dir.path().join("agent");
        let mut child = qemu(disk, &options, dir.path(), code, &socket);
        let monitor = child.stdin.take().unwrap();
        let qemu = Arc::new(Mutex::new(child));
        kill_after(&qemu, options.total);
        let agent = match connect(&socket, &qemu) {
            Ok(agent) => agent,
            Err(why) => {
                kill(&qemu);
                let said = std::fs::read_to_string(dir.path().join("qemu.log")).unwrap_or_default();
                panic!("QEMU did not start: {why}\n{said}");
            }
        };
        let (sender, events) = channel();
        let reader = BufReader::new(agent.try_clone().unwrap());
        std::thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                let Some(event) = agent::parse(&line) else { continue };
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        let mut machine = Machine {
            qemu,
            monitor,
            agent,
            events,
            deadline: started + options.total,
            options,
            boot_id: String::new(),
            next_command: 1,
            boot_time: Duration::ZERO,
            dir,
        };
        machine.wait_boot_since(started);
        machine
    }

    /// Runs a command with bash, as root, in the environment of a system service.
    pub fn run(&mut self, command: &str) -> Output {
        self.run_for(command, self.options.command)
    }

    /// `run`, with a time limit of its own. The guest ends the command first; only a guest that does not is an error.
    pub fn run_for(&mut self, command: &str, limit: Duration) -> Output {
        let id = self.send(command, limit);
        let until = Instant::now() + limit + Duration::from_secs(30);
        loop {
            match self.next_event(until, &format!("the answer to: {command}")) {
                Event::Done { id: done, status, stdout, stderr } if done == id => {
                    return Output { status, stdout, stderr };
                }
                Event::Hello { boot_id, .. } => panic!("the agent started anew (boot {boot_id}) during: {command}"),
                Event::Done { .. } => {}
            }
        }
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn ok(&mut self, command: &str) -> String {
        let out = self.run(command);
        assert_eq!(
            out.status,
            0,
            "{command}\n{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        out.text()
    }

    /// Runs a command that ends in a reset or a reboot, and waits for the next boot's agent.
    pub fn expect_reset_by(&mut self, command: &str) {
        let started = Instant::now();
        self.send(command, self.options.command);
        self.wait_boot_since(started);
    }

    /// Runs a command that ends in a soft-reboot or anything else that starts a new agent under the same kernel.
    pub fn expect_new_agent_by(&mut self, command: &str) {
        let started = Instant::now();
        self.send(command, self.options.command);
        match self.next_hello(started) {
            id if id == self.boot_id => self.boot_time = started.elapsed(),
            id => panic!("a new kernel was booted ({id}), not only a new agent started"),
        }
    }

    /// Waits for the next boot: an agent under a kernel that was not running before.
    pub fn wait_reboot(&mut self) {
        self.wait_boot_since(Instant::now());
    }

    /// The reset button: no warning to the guest.
    pub fn reset_hard(&mut self) {
        let started = Instant::now();
        self.monitor.write_all(b"system_reset\n").unwrap();
        self.wait_boot_since(started);
    }

    /// The plug: what the guest has not written by now is lost.
    pub fn power_off_hard(self) {
        kill(&self.qemu);
    }

    /// An orderly shutdown.
    pub fn power_off(mut self) {
        self.send("systemctl poweroff", self.options.command);
        let until = Instant::now() + self.options.boot;
        while self.qemu.lock().unwrap().try_wait().unwrap().is_none() {
            assert!(Instant::now() < until.min(self.deadline), "the machine does not power off");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the kernel calls this boot.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Everything on the first serial port since power on: firmware, GRUB, kernel, systemd.
    pub fn serial_log(&self) -> String {
        let log = std::fs::read(self.dir.path().join("serial.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn send(&mut self, command: &str, limit: Duration) -> u64 {
        let id = self.next_command;
        self.next_command += 1;
        let message = agent::request(id, limit, command);
        self.agent.write_all(&message).expect("the agent port takes a command");
        id
    }

    fn wait_boot_since(&mut self, started: Instant) {
        loop {
            let id = self.next_hello(started);
            if id != self.boot_id {
                self.boot_id = id;
                self.boot_time = started.elapsed();
                return;
            }
        }
    }

    fn next_hello(&mut self, started: Instant) -> String {
        loop {
            // Answers to commands sent before are of no interest any more.
            if let Event::Hello { boot_id, .. } = self.next_event(started + self.options.boot, "the agent") {
                return boot_id;
            }
        }
    }

    fn next_event(&mut self, until: Instant, what: &str) -> Event {
        let until = until.min(self.deadline);
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => panic!("no time left, waiting for {what}"),
            Err(RecvTimeoutError::Disconnected) => panic!("QEMU ended, waiting for {what}"),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        kill(&self.qemu);
        if std::thread::panicking() {
            let log = self.serial_log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the serial log ---");
            for line in &lines[lines.len().saturating_sub(60)..] {
                eprintln!("{}", line.replace(|c: char| c.is_control(), " "));
            }
            eprintln!("--- end ---");
        }
    }
}

fn qemu(disk: &Disk, options: &Options, dir: &Path, code: &str, socket: &Path) -> Child {
    let path = |name: &str| dir.join(name).display().to_string();
    // setpriv becomes QEMU (same pid) and has the kernel end it with the thread that started it, so
    // that a test program that is killed leaves none behind.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]);
    command.args(["-m", &options.memory_mib.to_string()]);
    command.args(["-nodefaults", "-display", "none", "-nic", "none", "-monitor", "stdio"]);
    command.args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}")]);
    command.args(["-drive", &format!("if=pflash,unit=1,format=raw,file={}", path("vars.fd"))]);
    // "unsafe": the guest's flushes need not reach the host's disk. What it has written survives QEMU
    // in the host's page cache, which is all that killing QEMU can take away.
    let disk = disk.path().display();
    command.args(["-drive", &format!("if=none,id=disk,format=raw,discard=unmap,cache=unsafe,file={disk}")]);
    command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0", "-device", "virtio-rng-pci"]);
    command.args(["-serial", &format!("file:{}", path("serial.log"))]);
    command.args(["-chardev", &format!("socket,id=agent,server=on,wait=off,path={}", socket.display())]);
    command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.bootenv.test"]);
    let log = std::fs::File::create(dir.join("qemu.log")).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("QEMU starts")
}

fn connect(socket: &Path, qemu: &Mutex<Child>) -> Result<UnixStream, String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > until => return Err(e.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
        if let Some(status) = qemu.lock().unwrap().try_wait().unwrap() {
            return Err(status.to_string());
        }
    }
}

/// Through the `Child`, which knows whether it has been waited for: never a pid that is someone else's by now.
fn kill(qemu: &Mutex<Child>) {
    let mut child = qemu.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let _ = child.kill();
    let _ = child.wait();
}

fn kill_after(qemu: &Arc<Mutex<Child>>, limit: Duration) {
    let qemu = Arc::downgrade(qemu);
    let until = Instant::now() + limit;
    std::thread::spawn(move || {
        while Instant::now() < until {
            std::thread::sleep(Duration::from_secs(1));
            if qemu.strong_count() == 0 {
                return;
            }
        }
        if let Some(qemu) = qemu.upgrade() {
            kill(&qemu);
        }
    });
}
