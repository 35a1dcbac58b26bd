//! The `lockstep` program: see `lockstep --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(host::main() as u8)
}
