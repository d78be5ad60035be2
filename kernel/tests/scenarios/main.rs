//! Boots whole systems and checks their console: the scenarios of verification/suites/scenarios on each
//! machine with several numbers of CPUs, and systems that cannot run, which have to report the reason.
//!
//! Nothing is built here. `cargo xtask test` builds everything and passes the paths: `COPPICE_HOSTED` and
//! `COPPICE_BARE` (the kernels), `COPPICE_HOSTED_PRODUCTION` and `COPPICE_BARE_PRODUCTION` (those for
//! production), `COPPICE_QEMU`, `COPPICE_DEVICE` (the program that hosts device models for QEMU),
//! `COPPICE_ARCHIVES` (the folder of boot archives), `COPPICE_SIGNING_KEY` (the file of the key that signed
//! them). A machine whose variables are not set is left out. With `COPPICE_BOOTS`, such as
//! `hosted/tour,bare/nics`, only those systems are booted. Arguments are parts of test names, as for `cargo
//! test`.

mod archive;
mod boards;
mod console;
mod harness;
mod inside;
mod machine;
mod production;
mod refusals;
mod storms;

use std::process::ExitCode;

use harness::{Harness, Parallel};
use machine::{Devices, Machine};

fn main() -> ExitCode {
    let mut harness = Harness::new(std::env::args().skip(1));
    let Some(archives) = std::env::var_os("COPPICE_ARCHIVES") else {
        println!("scenarios need systems to boot: `cargo xtask test` builds them");
        return harness.conclude();
    };
    let (hosted, bare) = (Machine::hosted(), Machine::bare());
    if bare.is_none() {
        println!(
            "scenarios on the bare machine are left out: no QEMU was found or the bare kernel was not built"
        );
    }
    let boots = std::env::var("COPPICE_BOOTS").ok();
    let educational = Devices::Educational;
    let machines = [
        (hosted.as_ref(), &[(4, educational), (2, educational), (1, educational)][..]),
        (bare.as_ref(), &[(4, educational), (1, educational), (2, Devices::Models)][..]),
    ];
    let archives = archives.as_ref();
    let is_booted = |machine: &Machine, system: &str| {
        let system = format!("{}/{system}", machine.name());
        boots.as_ref().is_none_or(|boots| boots.split(',').any(|boot| boot == system))
    };
    let mut long = Parallel::default();
    for (machine, configurations) in machines {
        let Some(machine) = machine else { continue };
        let nics = [1, 2].map(|cpus| (cpus, Devices::Network));
        for (system, name, configurations) in
            [(&inside::SCENARIOS, "scenarios", configurations), (&inside::NICS, "nics", &nics)]
        {
            for &configuration in configurations.iter().filter(|_| is_booted(machine, name)) {
                inside::add(&mut long, &mut harness, machine, archives, system, configuration);
            }
        }
    }
    harness.run(long);
    for (machine, _) in machines {
        let Some(machine) = machine else { continue };
        if is_booted(machine, "scenarios") {
            inside::log_levels(&mut harness, machine, archives);
            inside::crash_records(&mut harness, machine, archives);
            inside::back_off(&mut harness, machine, archives);
            inside::mutations(&mut harness, machine, archives);
            console::run(&mut harness, machine, archives);
            boards::surprise_removal(&mut harness, machine, archives);
            boards::late_doorbells(&mut harness, machine, archives);
            storms::run(&mut harness, machine, archives);
        }
        if is_booted(machine, "shell") {
            production::run(&mut harness, machine, archives);
        }
        if is_booted(machine, "tour") {
            boards::run(&mut harness, machine, archives);
            boards::interrupts(&mut harness, machine, archives);
            refusals::run(&mut harness, machine, archives);
        }
    }
    harness.conclude()
}
