//! One run of QEMU: from power on to the guest's next reset or power off.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::agent::{self, Event};

/// Where Debian's and Ubuntu's `ovmf` puts the firmware and the variables that go with it.
const FIRMWARE: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];

/// The firmware's code, and its variables as they leave the factory.
pub fn firmware() -> Option<(&'static Path, &'static Path)> {
    let paths = FIRMWARE.map(|(code, vars)| (Path::new(code), Path::new(vars)));
    paths.into_iter().find(|(code, vars)| code.exists() && vars.exists())
}

/// What the kernels of machines are told besides their roots. On a busy host their check of the timer can fail for want of ticks,
/// and they panic. A program that lies elsewhere each time is translated anew each time, which takes most of the time that it runs.
/// A kernel that has made a mistake does not stand still until the time is up: now and then the emulator leads one to it.
pub const ARGUMENTS: &str = "quiet console=ttyS0 mitigations=off audit=0 no_timer_check norandmaps oops=panic panic=-1";

/// How a machine comes up.
#[derive(Clone, Debug)]
pub enum Boot {
    /// By UEFI firmware, from the first drive.
    Firmware,
    /// Straight into a kernel.
    Kernel { kernel: PathBuf, initrd: PathBuf, arguments: String },
}

impl Boot {
    /// Into what `build-vm.sh` has made in `dir`, of which `root.img` is the first drive.
    pub fn vm(dir: &Path) -> Boot {
        Boot::Kernel {
            kernel: dir.join("vmlinuz"),
            initrd: dir.join("initrd"),
            arguments: format!("root=/dev/vda rw {ARGUMENTS}"),
        }
    }
}

/// A disk of a machine, which the guest finds as `/dev/disk/by-id/virtio-NAME`.
#[derive(Clone, Debug)]
pub struct Drive<'disk> {
    pub name: String,
    pub path: &'disk Path,
    /// What the guest writes is forgotten at its next reset.
    pub throw_away: bool,
}

/// Starts QEMU with its files in `dir`. What it and the agent in it say goes to `events`; the stream
/// takes commands for the agent.
pub fn start(
    boot: &Boot,
    drives: &[Drive<'_>],
    memory_mib: u32,
    dir: &Path,
    events: Sender<Event>,
) -> (Child, UnixStream) {
    let socket = dir.join("agent");
    let _ = std::fs::remove_file(&socket);
    let mut child = command(boot, drives, memory_mib, dir, &socket).spawn().expect("QEMU starts");
    let (mut control, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let stream = match connect(&socket, &mut child) {
        Ok(stream) => stream,
        Err(why) => {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(dir.join("qemu.log")).unwrap_or_default();
            panic!("QEMU did not start: {why}\n{said}");
        }
    };
    std::io::Write::write_all(&mut control, b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();

    let from_agent = stream.try_clone().unwrap();
    let to_test = events.clone();
    std::thread::spawn(move || forward(from_agent, &to_test, agent::parse));
    std::thread::spawn(move || {
        forward(said, &events, shutdown);
        drop(control); // only now: QEMU ends when its control connection does
    });
    (child, stream)
}

fn command(boot: &Boot, drives: &[Drive<'_>], memory_mib: u32, dir: &Path, socket: &Path) -> Command {
    let path = |name: &str| dir.join(name).display().to_string();
    // setpriv becomes QEMU (same pid) and has the kernel end it with the thread that started it, so
    // that a test program that is killed leaves none behind.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    // Without what only costs time: SATA, the PS/2 controller, five-level page tables.
    command.args(["-machine", "q35,sata=off,i8042=off", "-accel", "tcg,thread=multi"]);
    // One processor: with two, QEMU now and then loses a race with a kernel that patches its own code
    // ("Oops: int3" in the guest, more so on a busy host), and they are hardly faster.
    // Without fast strings: where there are, kernel and C library copy and clear with one instruction, which is
    // emulated byte by byte (`zpool create` took 10 s with them, 3 without).
    command.args(["-cpu", "max,la57=off,erms=off,fsrm=off", "-smp", "1", "-m", &memory_mib.to_string()]);
    command.args(["-nodefaults", "-display", "none", "-nic", "none", "-qmp", "stdio", "-no-reboot"]);
    match boot {
        Boot::Firmware => {
            let (code, _) = firmware().expect("ovmf is installed");
            command.args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={}", code.display())]);
            command.args(["-drive", &format!("if=pflash,unit=1,format=raw,file={}", path("vars.fd"))]);
        }
        Boot::Kernel { kernel, initrd, arguments } => {
            command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).args(["-append", arguments]);
        }
    }
    // "unsafe": the guest's flushes need not reach the host's disk. What it has written survives QEMU
    // in the host's page cache, which is all that killing QEMU can take away.
    for (index, Drive { name, path, throw_away }) in drives.iter().enumerate() {
        let snapshot = if *throw_away { "on" } else { "off" };
        let options = format!("if=none,id=drive{index},format=raw,discard=unmap,cache=unsafe,snapshot={snapshot}");
        command.args(["-drive", &format!("{options},file={}", path.display())]);
        let order = if index == 0 && matches!(boot, Boot::Firmware) { ",bootindex=0" } else { "" };
        command.args(["-device", &format!("virtio-blk-pci,drive=drive{index},serial={name}{order}")]);
    }
    command.args(["-device", "virtio-rng-pci"]);
    command.args(["-chardev", &format!("file,id=serial,append=on,path={}", path("serial.log"))]);
    command.args(["-serial", "chardev:serial"]);
    command.args(["-chardev", &format!("socket,id=agent,server=on,wait=off,path={}", socket.display())]);
    command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=org.bootenv.test"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(dir.join("qemu.log")).unwrap());
    command
}

fn connect(socket: &Path, child: &mut Child) -> Result<UnixStream, String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(e) if Instant::now() > until => return Err(e.to_string()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
        if let Some(status) = child.try_wait().map_err(|e| e.to_string())? {
            return Err(status.to_string());
        }
    }
}

fn forward(from: impl Read, to: &Sender<Event>, parse: fn(&[u8]) -> Option<Event>) {
    for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
        if let Some(event) = parse(&line)
            && to.send(event).is_err()
        {
            break;
        }
    }
}

/// With `-no-reboot` a reset ends QEMU too; the reason tells the two apart.
fn shutdown(line: &[u8]) -> Option<Event> {
    let line = String::from_utf8_lossy(line);
    line.contains("\"SHUTDOWN\"").then(|| Event::Ended { reset: line.contains("\"guest-reset\"") })
}

/// Through the `Child`, which knows whether it has been waited for: never a pid that is someone else's by now.
pub fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let _ = child.kill();
    let _ = child.wait();
}

/// Kills whatever QEMU is there when the time is up, even if the test is busy with something else.
pub fn kill_at(until: Instant, child: &Arc<Mutex<Child>>) {
    let child: Weak<_> = Arc::downgrade(child);
    std::thread::spawn(move || {
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(500));
            if child.strong_count() == 0 {
                return;
            }
        }
        if let Some(child) = child.upgrade() {
            kill(&child);
        }
    });
}
