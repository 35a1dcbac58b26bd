//! The command `lockstep-sim`, run as `cargo sim`.

fn main() -> std::process::ExitCode {
    sim::cli::main(&sim::subject::lab())
}
