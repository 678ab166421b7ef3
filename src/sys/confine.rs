//! What a process gives up for good: capabilities, and two calls that write into the terminal of whoever started it.

#![allow(unsafe_code)]

use crate::error::{Doing, Error, Result};
use nix::libc;
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

/// What package managers and their scripts need (user and file ownership, chroot, ports, setuid and setcap bits, device
/// nodes, which a `nodev` mount makes harmless). Whatever could take a mount's flags off, reach a filesystem other than by
/// path (`open_by_handle_at`), load code into the kernel or change the running system is not among them.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE);

/// Gives them up, for this process and all it will start. The calling process must be able to do everything still.
pub fn confine() -> Result<()> {
    deny_terminal_input()?;
    // The kernel may know more of them than any list; it refuses the first number that is none.
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_unless_kept(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            result => result.doing("cannot give up a capability")?,
        }
    }
    let sets = CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).doing("cannot give up capabilities")
}

fn remove_unless_kept(capability: CapabilitySet) -> rustix::io::Result<()> {
    if KEPT.contains(capability) { Ok(()) } else { remove_capability_from_bounding_set(capability) }
}

/// The number of ioctl(2) of each call convention that a process here may use, by audit architecture (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const IOCTL: &[(u32, &[u32])] = &[
    (0xc000_003e, &[16, 0x4000_0000 + 16, 0x4000_0000 + 514]), // x86-64, and x32 on it
    (0x4000_0003, &[54]),                                      // i386
];
#[cfg(target_arch = "aarch64")]
const IOCTL: &[(u32, &[u32])] = &[(0xc000_00b7, &[29]), (0x4000_0028, &[54])];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const IOCTL: &[(u32, &[u32])] = &[];

/// Where the fields are in `struct seccomp_data` (linux/seccomp.h). The request of ioctl(2) is the second argument, of which
/// the kernel looks at the lower half (little endian here).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const REQUEST: u32 = 24;

/// Makes TIOCSTI and TIOCLINUX fail: by them a program inside could type commands into the terminal outside
/// (ioctl_tty(2); kernels from 6.2 on can refuse the first by themselves).
fn deny_terminal_input() -> Result<()> {
    let mut program = Vec::new();
    for (architecture, numbers) in IOCTL {
        for number in *numbers {
            // Each test skips to the next block if it does not hold.
            program.extend([
                load(ARCHITECTURE),
                equal(*architecture, 0, 6),
                load(NUMBER),
                equal(*number, 0, 4),
                load(REQUEST),
                equal(libc::TIOCSTI as u32, 1, 0),
                equal(libc::TIOCLINUX as u32, 0, 1),
                answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            ]);
        }
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    let length = u16::try_from(program.len()).map_err(|_| Error::failed("the filter is too long"))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the filter and what it points to outlive the call; the kernel checks the program.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).doing("cannot guard the terminal (seccomp)"),
    }
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

/// Goes on after skipping so many statements, if the loaded word is `value` or if it is not.
fn equal(value: u32, if_so: u8, if_not: u8) -> libc::sock_filter {
    statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, if_so, if_not, value)
}

fn answer(value: u32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}
