//! Programs that we run.

use std::process::Command;

/// Ends the command when we end, however we do: what it does must not go on after recovery has begun to clear up behind it.
#[allow(unsafe_code)]
pub fn tied(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    let end_with_parent = || {
        // SAFETY: prctl(2) with PR_SET_PDEATHSIG changes an attribute of the calling process, and nothing else.
        match unsafe { nix::libc::prctl(nix::libc::PR_SET_PDEATHSIG, nix::libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(end_with_parent) }
}
