//! Boots the same system on machines of different shapes: little and much memory, old boards, plain CPUs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use coppice_run_protocol::scenario::Outcome;

use crate::harness::Harness;
use crate::machine::{Boot, Devices, Ending, Launch, Machine};

/// A shape of a machine: name, CPUs, memory, arguments for QEMU.
type Shape = (&'static str, u32, &'static str, &'static [&'static str]);

const ANY_MACHINE: [Shape; 3] = [
    ("runs_with_64_mib", 1, "64M", &[]),
    ("runs_with_8_gib", 2, "8G", &[]),
    ("runs_with_8_cpus", 8, "256M", &[]),
];

const BARE_ONLY: [Shape; 4] = [
    ("runs_on_board_pc", 2, "256M", &["-machine", "pc"]),
    ("runs_on_cpu_qemu64", 2, "256M", &["-cpu", "qemu64"]),
    ("runs_on_board_pc_with_cpu_qemu64_and_4_gib", 4, "4G", &["-machine", "pc", "-cpu", "qemu64"]),
    ("runs_without_x2apic", 2, "256M", &["-cpu", "max,-x2apic"]),
];

/// The outcome that a scenario has reported, if any.
fn outcome(boot: &Boot, name: &str) -> Option<Outcome> {
    boot.console.iter().filter_map(|line| Outcome::from_console(line)).find(|outcome| outcome.name == name)
}

/// Boots system `tour` in each shape.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let more = machine.choose(&[][..], &BARE_ONLY[..]);
    for &(name, cpus, memory, board) in ANY_MACHINE.iter().chain(more) {
        harness.test(&format!("{}::{name}", machine.name()), || {
            let archive = &archives.join("tour.tar");
            let timeout = Duration::from_secs(600);
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

/// Kills the process that hosts device models, so the devices disappear: only their drivers may be affected.
pub(crate) fn surprise_removal(harness: &mut Harness, machine: &Machine, archives: &Path) {
    if machine.name() != "bare" {
        return;
    }
    harness.test("bare::killing_the_process_of_the_device_models_affects_only_their_drivers", || {
        let launch = Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 2,
            memory: "256M",
            // The scenarios with `device` in their name.
            options: "scenario=device",
            devices: Devices::Models,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        };
        let mut killed = 0;
        let boot = machine.boot_and_watch(launch, |process, line| {
            if killed == 0 && Outcome::from_console(line).is_some() {
                killed = kill_children(process);
            }
        });
        // The drivers' registers read as ones, which each new instance of a driver reports. The scenarios
        // that need the device fail, and the last of them still runs.
        let is_logged = |text: &str| boot.console.iter().any(|line| line.contains(text));
        let is_gone = is_logged("0xffffffff is not an edu device")
            && outcome(&boot, "a_device_copies_memory_both_ways")
                .is_some_and(|outcome| outcome.result.is_err());
        let continues = outcome(&boot, "a_kill_at_any_instant_of_a_device_service_leaks_nothing").is_some();
        if killed == 1 && is_gone && continues && boot.ending == Ending::Failure {
            Ok(())
        } else {
            Err(format!("killed {killed} processes\n{boot}"))
        }
    });
}

/// QEMU drops a ring of a doorbell until it has read that the peer exists. The first requests come earlier.
pub(crate) fn late_doorbells(harness: &mut Harness, machine: &Machine, archives: &Path) {
    if machine.name() != "bare" {
        return;
    }
    harness.test("bare::a_device_whose_doorbell_qemu_does_not_know_yet_is_rung_again", || {
        let boot = machine.boot(Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 2,
            memory: "256M",
            options: "scenario=a_device_copies_memory_both_ways",
            devices: Devices::LateModels,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        });
        let copies =
            outcome(&boot, "a_device_copies_memory_both_ways").is_some_and(|outcome| outcome.result.is_ok());
        if boot.ending == Ending::Success && copies { Ok(()) } else { Err(boot.to_string()) }
    });
}

/// Kills the child processes of `parent`. Returns their number.
fn kill_children(parent: u32) -> usize {
    let processes = std::fs::read_dir("/proc").expect("Linux has /proc").flatten();
    let is_child = |process: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        line.is_some_and(|line| line.trim() == parent.to_string())
    };
    let names = processes.filter_map(|entry| entry.file_name().into_string().ok());
    let children = names.filter(|name| name.parse::<u32>().is_ok() && is_child(name));
    let kill = |process: &String| {
        Command::new("kill").args(["-9", process]).status().is_ok_and(|status| status.success())
    };
    children.filter(kill).count()
}

/// Devices that can be made to interrupt, by MSI and by MSI-X.
const INTERRUPTERS: [&str; 4] = ["-device", "edu", "-device", "e1000e"];

/// Runs the bare machine's probe, which makes devices interrupt each CPU in turn, with PCI accessed by ECAM
/// and by ports.
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
                    timeout: Duration::from_secs(600),
                });
                let arrives = |kind: &str, cpu: u32| {
                    let end = format!("arrives at CPU {cpu}");
                    boot.console
                        .iter()
                        .any(|line| line.contains(&format!("ok, {kind} from")) && line.ends_with(&end))
                };
                let all = ["MSI", "MSI-X"].into_iter().all(|kind| arrives(kind, 0) && arrives(kind, 1));
                if all && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
            },
        );
    }
}
