//! `cargo xtask`: the program for all tasks on a developer's machine.
//!
//! It builds domain images ([`image`]) and kernels ([`kernel`]), packs a system's manifest and images into a
//! boot archive ([`pack`]), launches that on the hosted or the bare machine ([`machine`]), runs the tests
//! ([`test`]), the soak ([`soak`]), the power losses ([`powerloss`]) and the benchmarks ([`bench`]), audits
//! isolation ([`audit`]) and scaffolds domains ([`scaffold`]). The library `xtask-report` draws the results.
//!
//! These tasks are kept out of build scripts on purpose: a domain has none (STYLE.md section 5), and one
//! program with readable steps is better than link arguments spread over packages.

mod audit;
mod baseline;
mod bench;
mod cli;
mod demo;
mod devices;
mod error;
mod hosted;
mod image;
mod install;
mod iso;
mod kernel;
mod machine;
mod machine_args;
mod pack;
mod powerloss;
mod qemu;
mod run;
mod scaffold;
mod seal;
mod serve_device;
mod soak;
mod symbols;
mod test;
mod ui;
mod workspace;
mod wrapper;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::Cli::read() {
        Ok(command) => command,
        Err(status) => return status,
    };
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(error::exit_code(&error))
        }
    }
}
