//! The same system on machines of other shapes: little memory and much, old boards and plain CPUs.

use std::path::Path;
use std::time::Duration;

use crate::harness::Harness;
use crate::machine::{Ending, Launch, Machine};

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

/// Boots system `demo` in each shape.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let more = machine.choose(&[][..], &QEMU[..]);
    for &(name, cpus, memory, board) in EVERYWHERE.iter().chain(more) {
        harness.test(&format!("{}::{name}", machine.name()), || {
            let archive = &archives.join("demo.tar");
            let timeout = Duration::from_secs(60);
            let boot = machine.boot(Launch { archive, cpus, memory, options: "", board, timeout });
            if boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
        });
    }
}
