//! The hosted machine: the same kernel and the same domain images, inside an ordinary Linux process without
//! root.
//!
//! A CPU is a pinned host thread ([`cpus`]), memory is one mapping ([`memory`]), in which also the kernel's
//! heap lies ([`heap`]), interrupts and exceptions arrive as signals ([`signals`]), devices are models
//! ([`devices`]), and the console is stdin and stdout ([`console`]). It offers native speed, debuggers and
//! fast tests. It does not cover boot, page tables and real interrupts; the bare machine does.

mod arguments;
mod clock;
mod console;
mod cpus;
mod devices;
mod heap;
mod interfaces;
mod machine;
mod memory;
mod signals;

use std::process::ExitCode;

/// Exit status for a command line or an archive that cannot be used.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match machine::Hosted::new(arguments::parse()) {
        Ok(machine) => {
            machine::report_panics();
            let machine = Box::leak(Box::new(machine));
            heap::enter_kernel();
            coppice_kernel::boot(machine, interfaces::REGISTRY)
        }
        Err(error) => {
            eprintln!("coppice-hosted: {error}");
            ExitCode::from(USAGE)
        }
    }
}
