//! The console: one that is not read stops no other part of the system, and no record imitates another.

use std::path::Path;
use std::time::Duration;

use crate::harness::Harness;
use crate::machine::{Boot, Devices, Ending, Launch, Machine};

/// Runs all tests of this file.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    unread_for_some_time(harness, machine, archives);
    never_read(harness, machine, archives);
    forged(harness, machine, archives);
    lockups(harness, machine, archives);
}

fn launch<'a>(archive: &'a Path, options: &'a str) -> Launch<'a> {
    Launch {
        archive,
        cpus: 2,
        memory: "256M",
        options,
        devices: Devices::Educational,
        board: &[],
        exact: false,
        timeout: Duration::from_secs(600),
    }
}

/// The seconds in the prefix of a log record.
fn seconds(line: &str) -> Option<f64> {
    line.strip_prefix('[')?.split_once(']')?.0.trim().parse().ok()
}

/// Returns true if the records are in the order of their times. Records of crashes and the kernel's own have
/// the time of the event.
fn is_in_order(boot: &Boot) -> bool {
    let records = boot.console.iter().filter(|line| !line.contains("] kernel: "));
    let times: Vec<f64> = records.filter_map(|line| seconds(line)).collect();
    times.is_sorted()
}

/// The scenario measures its times by the machine's clock, and fails if a kill, a restart or a deadline is
/// late.
fn unread_for_some_time(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let name = format!("{}::a_console_that_is_not_read_delays_nothing_but_the_log", machine.name());
    harness.test(&name, || {
        let archive = archives.join("scenarios.tar");
        // Longer than the boot, the flood, and the limit of the scenario; shorter than the time for which a
        // printed line and the end of the system wait.
        let delay = Duration::from_secs(6);
        let launch = launch(&archive, "scenario=a_log_flood_delays_no_kill_and_no_restart");
        let boot = machine.boot_and_read_after(launch, delay);
        let has = |words: &str| boot.console.iter().any(|line| line.contains(words));
        let passed = has("scenario a_log_flood_delays_no_kill_and_no_restart ... ok")
            && has("log records of fault-target-logs-without-limit were dropped")
            && is_in_order(&boot);
        if passed && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
    });
}

/// A system that ends does not wait for ever for a console that takes nothing.
fn never_read(harness: &mut Harness, machine: &Machine, archives: &Path) {
    // QEMU waits for its own console.
    if matches!(machine, Machine::Bare { .. }) {
        return;
    }
    harness.test("hosted::a_system_ends_although_its_console_is_never_read", || {
        let archive = archives.join("scenarios.tar");
        let mut launch = launch(&archive, "scenario=a_log_flood_delays_no_kill_and_no_restart");
        launch.timeout = Duration::from_secs(120);
        match machine.end_of_unread(launch) {
            Ending::Success => Ok(()),
            ending => Err(format!("the boot ended with {ending:?}")),
        }
    });
}

/// Texts of a domain stay in its records.
fn forged(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let name = format!("{}::a_record_imitates_no_other_line", machine.name());
    harness.test(&name, || {
        let archive = archives.join("scenarios.tar");
        let boot = machine.boot(launch(&archive, "log=trace scenario=a_log_record_stays_in_its_line"));
        let forged: Vec<_> = boot.console.iter().filter(|line| line.contains("forged")).collect();
        let is_record = |line: &str| seconds(line).is_some() && line.contains("] fault-target: ");
        let is_plain = |line: &str| !line.chars().any(|char| char.is_control() || char == '\u{2028}');
        let passed = forged.len() == 15 && forged.iter().all(|line| is_record(line) && is_plain(line));
        if passed && boot.ending == Ending::Success { Ok(()) } else { Err(format!("{forged:#?}\n{boot}")) }
    });
}

/// With a limit that every section exceeds, the crash log has records of the kernel; with the default, none.
fn lockups(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let name = format!("{}::a_cpu_that_does_not_react_is_recorded_with_the_place", machine.name());
    harness.test(&name, || {
        let archive = archives.join("scenarios.tar");
        let boot = |options| machine.boot(launch(&archive, options));
        let records = |boot: &Boot| {
            let lockup = "kernel: warning: kernel (generation 0): Lockup: CPU ";
            boot.console
                .iter()
                .filter(|line| line.contains(lockup) && line.contains(" from kernel/src/"))
                .count()
        };
        let strict = boot("lockup=100ns scenario=a_domain_logs_under_its_name");
        let default = boot("scenario=a_domain_logs_under_its_name");
        let passed = records(&strict) > 0 && records(&default) == 0;
        if passed && default.ending == Ending::Success { Ok(()) } else { Err(format!("{strict}\n{default}")) }
    });
}
