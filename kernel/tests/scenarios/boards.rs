//! The same system on machines of other shapes: little memory and much, old boards and plain CPUs.

use std::path::Path;
use std::time::Duration;

use crate::harness::Harness;
use crate::machine::{Devices, Ending, Launch, Machine};

/// A shape: name, CPUs, memory, arguments of QEMU's.
type Shape = (&'static str, u32, &'static str, &'static [&'static str]);

const EVERYWHERE: [Shape; 3] = [
    ("runs_with_64_mib", 1, "64M", &[]),
    ("runs_with_8_gib", 2, "8G", &[]),
    ("runs_with_8_cpus", 8, "256M", &[]),
];

const QEMU: [Shape; 4] = [
    ("runs_on_board_pc", 2, "256M", &["-machine", "pc"]),
    ("runs_on_cpu_qemu64", 2, "256M", &["-cpu", "qemu64"]),
    ("runs_on_board_pc_with_cpu_qemu64_and_4_gib", 4, "4G", &["-machine", "pc", "-cpu", "qemu64"]),
    ("runs_without_x2apic", 2, "256M", &["-cpu", "max,-x2apic"]),
];

/// Boots system `tour` in each shape.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let more = machine.choose(&[][..], &QEMU[..]);
    for &(name, cpus, memory, board) in EVERYWHERE.iter().chain(more) {
        harness.test(&format!("{}::{name}", machine.name()), || {
            let archive = &archives.join("tour.tar");
            let timeout = Duration::from_secs(60);
            let boot = machine.boot(Launch {
                archive,
                cpus,
                memory,
                options: "",
                devices: Devices::None,
                board,
                exact: false,
                timeout,
            });
            if boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
        });
    }
}

/// Devices that can be told to interrupt, by MSI and by MSI-X.
const INTERRUPTERS: [&str; 4] = ["-device", "edu", "-device", "e1000e"];

/// Has the bare machine's probe make devices interrupt each CPU in turn, with PCI reached by ECAM and by ports.
pub(crate) fn interrupts(harness: &mut Harness, machine: &Machine, archives: &Path) {
    for (board, devices) in machine.choose(&[][..], &[("q35", INTERRUPTERS), ("pc", INTERRUPTERS)][..]) {
        harness.test(
            &format!("{}::msi_and_msi_x_arrive_at_each_cpu_on_board_{board}", machine.name()),
            || {
                let board: Vec<&str> =
                    ["-machine", board].into_iter().chain(devices.iter().copied()).collect();
                let boot = machine.boot(Launch {
                    archive: &archives.join("tour.tar"),
                    cpus: 2,
                    memory: "256M",
                    options: "probe=interrupts",
                    devices: Devices::None,
                    board: &board,
                    exact: false,
                    timeout: Duration::from_secs(60),
                });
                let arrives = |how: &str, cpu: u32| {
                    let end = format!("arrives at CPU {cpu}");
                    boot.console
                        .iter()
                        .any(|line| line.contains(&format!("ok, {how} from")) && line.ends_with(&end))
                };
                let all = ["MSI", "MSI-X"].into_iter().all(|how| arrives(how, 0) && arrives(how, 1));
                if all && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
            },
        );
    }
}
