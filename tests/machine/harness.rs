//! Machines: QEMU with UEFI firmware or a kernel of its own, disks, and the test agent inside on a virtio-serial port.
//!
//! Everything here panics when it fails, for it is only ever called by tests. A panic prints the end of the serial
//! log, and dropping a `Machine` kills the QEMU it started and removes its files.
//!
//! When the guest resets, QEMU is started afresh with the same disk and firmware variables: the guest cannot tell, and
//! an emulator that has already run a kernel takes half as long again, or worse, for the next one.

use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::agent::{self, Event};
use crate::disk::Disk;
use crate::qemu::{self, Boot, Drive};
use crate::recipe;

#[derive(Clone, Debug)]
pub struct Options {
    pub memory_mib: u32,
    /// From power on, or the request to reset, to a running agent.
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

pub struct Machine<'disk> {
    start: Boot,
    drives: Vec<Drive<'disk>>,
    qemu: Arc<Mutex<Child>>,
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
    if qemu::firmware().is_none() {
        return Some("the UEFI firmware (ovmf) is not installed".into());
    }
    recipe::lacks(&["qemu-system-x86_64", "setpriv", "sfdisk", "mkfs.fat", "mcopy", "mkfs.btrfs", "grub-mkimage"])
}

impl<'disk> Machine<'disk> {
    /// Powers a machine on that boots from `disk`, and waits for the agent.
    pub fn boot(disk: &'disk Disk, options: Options) -> Self {
        let drive = Drive { name: "disk".into(), path: disk.path(), throw_away: false };
        Machine::power_on(Boot::Firmware, vec![drive], options)
    }

    /// Powers a machine on and waits for the agent.
    pub fn power_on(start: Boot, drives: Vec<Drive<'disk>>, options: Options) -> Self {
        let started = Instant::now();
        let dir = tempfile::Builder::new().prefix("bootenv-machine-").tempdir().unwrap();
        if matches!(start, Boot::Firmware) {
            let (_, vars) = qemu::firmware().expect("ovmf is installed");
            std::fs::copy(vars, dir.path().join("vars.fd")).unwrap();
        }

        let (sender, events) = channel();
        let (child, agent) = qemu::start(&start, &drives, options.memory_mib, dir.path(), sender);
        let mut machine = Machine {
            start,
            drives,
            qemu: Arc::new(Mutex::new(child)),
            agent,
            events,
            deadline: started + options.total,
            options,
            boot_id: String::new(),
            next_command: 1,
            boot_time: Duration::ZERO,
            dir,
        };
        qemu::kill_at(machine.deadline, &machine.qemu);
        machine.wait_boot_since(started);
        machine
    }

    /// Runs a command with bash, as root, in the environment of a system service.
    pub fn run(&mut self, command: &str) -> Output {
        self.run_for(command, self.options.command)
    }

    /// `run`, with a time limit of its own. The guest ends the command first; only a guest that does not is an error.
    pub fn run_for(&mut self, command: &str, limit: Duration) -> Output {
        let id = self.send("RUN", command, limit);
        self.wait_done(id, command, limit, |_| {})
    }

    /// Runs a command, hands each line it prints to `line` at once, and gives its exit status. It is not done before
    /// everything that holds its standard output is.
    pub fn follow(&mut self, command: &str, limit: Duration, line: impl FnMut(&str)) -> i32 {
        let id = self.send("FOLLOW", command, limit);
        self.wait_done(id, command, limit, line).status
    }

    fn wait_done(&mut self, id: u64, command: &str, limit: Duration, mut line: impl FnMut(&str)) -> Output {
        let until = Instant::now() + limit + Duration::from_secs(30);
        loop {
            match self.next_event(until, &format!("the answer to: {command}")) {
                Event::Done { id: done, status, stdout, stderr } if done == id => {
                    return Output { status, stdout, stderr };
                }
                Event::Line { id: of, text } if of == id => line(&text),
                Event::Done { .. } | Event::Line { .. } => {}
                Event::Hello { boot_id, .. } => panic!("the agent started anew (boot {boot_id}) during: {command}"),
                Event::Ended { reset } => panic!("the machine went down (reset: {reset}) during: {command}"),
            }
        }
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub fn ok(&mut self, command: &str) -> String {
        let out = self.run(command);
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.status, 0, "{command}\n{stdout}{stderr}");
        out.text()
    }

    /// Runs a command that ends in a reset, a reboot or a kexec, and waits for the next boot's agent.
    pub fn expect_reset_by(&mut self, command: &str) {
        let started = Instant::now();
        self.send("RUN", command, self.options.command);
        self.wait_boot_since(started);
    }

    /// Runs a command that ends in a reset, after which the machine stays off.
    pub fn off_by_reset(mut self, command: &str) {
        self.send("RUN", command, self.options.command);
        let until = Instant::now() + self.options.command;
        while !matches!(self.next_event(until, "a reset"), Event::Ended { reset: true }) {}
        self.qemu.lock().unwrap().wait().unwrap();
    }

    /// Runs a command that ends in a soft-reboot or anything else that starts a new agent under the same kernel.
    pub fn expect_new_agent_by(&mut self, command: &str) {
        let started = Instant::now();
        self.send("RUN", command, self.options.command);
        match self.next_hello(started) {
            id if id == self.boot_id => self.boot_time = started.elapsed(),
            id => panic!("a new kernel was booted ({id}), not only a new agent started"),
        }
    }

    /// Waits for the next boot: an agent under a kernel that was not running before.
    pub fn wait_reboot(&mut self) {
        self.wait_boot_since(Instant::now());
    }

    /// The power is cut, and comes back: what the guest has not written by now is lost.
    pub fn power_cycle(&mut self) {
        let started = Instant::now();
        self.restart();
        self.wait_boot_since(started);
    }

    /// The power is cut, and stays away.
    pub fn power_off_hard(self) {
        qemu::kill(&self.qemu);
    }

    /// An orderly shutdown.
    pub fn power_off(mut self) {
        self.send("RUN", "systemctl poweroff", self.options.command);
        let until = Instant::now() + self.options.boot;
        loop {
            match self.next_event(until, "power off") {
                Event::Ended { reset } => break assert!(!reset, "a reset instead of power off"),
                Event::Hello { .. } | Event::Done { .. } | Event::Line { .. } => {}
            }
        }
        self.qemu.lock().unwrap().wait().unwrap();
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

    fn send(&mut self, verb: &str, command: &str, limit: Duration) -> u64 {
        let id = self.next_command;
        self.next_command += 1;
        let message = agent::request(verb, id, limit, command);
        std::io::Write::write_all(&mut self.agent, &message).expect("the agent port takes a command");
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
            match self.next_event(started + self.options.boot, "the agent") {
                Event::Hello { boot_id, .. } => return boot_id,
                Event::Ended { reset: true } => self.restart(),
                Event::Ended { reset: false } => panic!("the machine powered off instead of booting"),
                // What is said about a command that was sent before is of no interest any more.
                Event::Done { .. } | Event::Line { .. } => {}
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

    fn restart(&mut self) {
        assert!(Instant::now() < self.deadline, "no time left for another boot");
        // Held throughout: the one who kills at the deadline sees the old QEMU or the new one.
        let mut child = self.qemu.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        let (sender, events) = channel();
        (*child, self.agent) = qemu::start(&self.start, &self.drives, self.options.memory_mib, self.dir.path(), sender);
        self.events = events;
    }
}

impl Drop for Machine<'_> {
    fn drop(&mut self) {
        qemu::kill(&self.qemu);
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.dir.path().join("qemu.log")).unwrap_or_default();
            eprintln!("--- what QEMU said ---\n{said}");
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
