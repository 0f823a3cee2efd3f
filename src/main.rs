//! The `maestro` binary: parse, run, print the error, exit with its code.

use std::process::ExitCode;

fn main() -> ExitCode {
    maestro::main(std::env::args_os().collect())
}
