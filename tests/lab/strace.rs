//! Verbs under strace, which kills them on entering a call.

use super::{Lab, Ran};
use std::process::Command;

/// The verb under strace, which follows what is traced and does what is asked.
pub fn under_strace(lab: &Lab, verb: &[&str], options: &[&str]) -> Ran {
    let command = lab.command(verb);
    let mut strace = Command::new("strace");
    strace.args(options).arg("--").arg(command.get_program()).args(command.get_args());
    strace.output().expect("strace is installed").into()
}

/// Runs the verb so that it dies on entering the `nth` call of the kind `call`.
pub fn killed_at(lab: &Lab, verb: &[&str], call: &str, nth: u32) -> Ran {
    let inject = format!("inject={call}:signal=KILL:when={nth}");
    under_strace(lab, verb, &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject])
}
