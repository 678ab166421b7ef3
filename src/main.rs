//! The `bootenv` command: parse, run, exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    bootenv::cli::main()
}
