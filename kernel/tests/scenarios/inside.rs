//! The scenarios that a domain runs inside the system, all in one boot.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use coppice_run_protocol::scenario::Outcome;

use crate::harness::{Harness, Parallel, Report};
use crate::machine::{Boot, Devices, Ending, Launch, Machine};

macro_rules! scenarios {
    ($($module:ident: [$($name:ident,)*])*) => {
        /// Module and name of each scenario.
        pub(crate) const SCENARIOS: &[(&str, &str)] = &[$($((stringify!($module), stringify!($name)),)*)*];
    };
}

// After the macro, which the list uses.
#[path = "../../../verification/suites/scenarios/src/list.rs"]
mod list;

#[path = "../../../verification/suites/nic-trials/src/list.rs"]
mod nic_list;

/// A system that runs scenarios and prints their outcomes.
pub(crate) struct System {
    archive: &'static str,
    /// Module and name of each scenario.
    scenarios: &'static [(&'static str, &'static str)],
}

/// The main system.
pub(crate) const SCENARIOS: System = System { archive: "scenarios.tar", scenarios: list::SCENARIOS };

/// The system for network drivers.
pub(crate) const NICS: System = System { archive: "nics.tar", scenarios: nic_list::SCENARIOS };

/// Adds one boot, which reports all scenarios of a system.
pub(crate) fn add<'a>(
    boots: &mut Parallel<'a>,
    harness: &mut Harness,
    machine: &'a Machine,
    archives: &'a Path,
    system: &'static System,
    (cpus, devices): (u32, Devices),
) {
    let suffix = match devices {
        Devices::None | Devices::Educational => "",
        Devices::Models | Devices::LateModels => "_models",
        Devices::Network => "_nics",
        Devices::DiskAndNetwork => "_disk_and_nic",
    };
    let scenarios = system.scenarios;
    let configuration = format!("{}_{cpus}{suffix}", machine.name());
    let full_name = move |module: &str, name: &str| format!("{configuration}::{module}::{name}");
    let selected: Vec<_> =
        scenarios.iter().filter(|(module, name)| harness.selects(&full_name(module, name))).collect();
    // A single selected scenario runs without the others.
    harness.filter_out(scenarios.len() - selected.len());
    let Some(&&(module, name)) = selected.first() else { return };
    let options = if selected.len() == 1 { format!("scenario={name}") } else { String::new() };
    boots.job(&full_name(module, name), move || {
        let launch = Launch {
            archive: &archives.join(system.archive),
            cpus,
            memory: "256M",
            options: &options,
            devices,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(machine.choose(1200, 1800)),
        };
        let started = Instant::now();
        let boot = machine.boot(launch);
        let time = started.elapsed();
        let mut outcomes = outcomes(&boot);
        let all_passed = outcomes.values().all(Result::is_ok);
        let mut reports: Vec<_> = selected
            .into_iter()
            .map(|(module, name)| {
                let outcome = outcomes
                    .remove(*name)
                    .unwrap_or_else(|| Err("the scenario did not report an outcome".to_owned()));
                let outcome = outcome.map_err(|error| format!("{error}\n{boot}"));
                Report { name: full_name(module, name), outcome, time: Duration::ZERO }
            })
            .collect();
        let unlisted: Vec<_> = outcomes.keys().collect();
        let expected = if all_passed { Ending::Success } else { Ending::Failure };
        let as_listed = unlisted.is_empty() || !options.is_empty();
        let outcome = if boot.ending == expected && as_listed {
            Ok(())
        } else {
            Err(format!("not listed: {unlisted:?}\n{boot}"))
        };
        // The time of the boot is the time of all claims above.
        let name = "it_ran_the_listed_scenarios_and_its_exit_status_matches_their_outcomes";
        reports.push(Report { name: full_name("system", name), outcome, time });
        reports
    });
}

/// The outcomes that a system has printed, by scenario.
fn outcomes(boot: &Boot) -> BTreeMap<String, Result<(), String>> {
    let outcomes = boot.console.iter().filter_map(|line| Outcome::from_console(line));
    outcomes.map(|Outcome { name, result }| (name, result.map(drop))).collect()
}

/// A record of each level, with the name of the domain that logged it; the texts are those of
/// `FaultTarget::log`.
const RECORDS: [(&str, &str); 5] = [
    ("error", "fault-target: ERROR an error, of a fault target"),
    ("warn", "fault-target: warning: a warning, of a fault target"),
    ("info", "fault-target: information, of a fault target"),
    ("debug", "fault-target: a detail, of a fault target"),
    ("trace", "fault-target: a trace, of a fault target"),
];

/// Boots with several log levels.
pub(crate) fn log_levels(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let levels = [("off", 0), ("error", 1), ("info", 3), ("trace", 5)];
    let mut tests = Parallel::default();
    for (level, shown) in levels {
        tests.test(
            &format!("{}::log_level_{level}_shows_{shown}_kinds_of_records", machine.name()),
            move || {
                let options = format!("log={level} scenario=a_domain_logs_under_its_name");
                let launch = Launch {
                    archive: &archives.join("scenarios.tar"),
                    cpus: 1,
                    memory: "256M",
                    options: &options,
                    devices: Devices::Educational,
                    board: &[],
                    exact: false,
                    timeout: Duration::from_secs(600),
                };
                let boot = machine.boot(launch);
                let is_shown = |record: &str| boot.console.iter().any(|line| line.contains(record));
                let passed = RECORDS
                    .iter()
                    .enumerate()
                    .all(|(index, (_, record))| is_shown(record) == (index < shown));
                if passed && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
            },
        );
    }
    harness.run(tests);
}

/// Checks that crash records reach the log. A background thread writes them; a system that shuts down must
/// not lose the last ones.
pub(crate) fn crash_records(harness: &mut Harness, machine: &Machine, archives: &Path) {
    /// The number of crashes of `fault-target` in that scenario, in generations 0, 1, 2, ...
    const PANICS: usize = 8;
    harness.test(&format!("{}::each_crash_is_logged_once_before_shutdown", machine.name()), || {
        let launch = Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 1,
            memory: "256M",
            options: "scenario=each_panic_ends_its_domain",
            devices: Devices::Educational,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        };
        let boot = machine.boot(launch);
        let records = |generation: usize| {
            let record = format!("kernel: warning: fault-target (generation {generation}): ");
            boot.console.iter().filter(|line| line.contains(&record)).count()
        };
        let passed = (0..PANICS).all(|generation| records(generation) == 1);
        if passed && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
    });
}

/// A domain that cannot start is in the log once for each pause, however often it is tried.
pub(crate) fn back_off(harness: &mut Harness, machine: &Machine, archives: &Path) {
    /// `restart-pause` of `fault-target-fails-while-held` in the manifest, doubled up to
    /// `restart-pause-limit`.
    const PAUSES: [&str; 5] = ["1 ms", "2 ms", "4 ms", "8 ms", "16 ms"];
    let name = format!("{}::a_domain_that_cannot_start_is_logged_once_per_pause", machine.name());
    harness.test(&name, || {
        let launch = Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 1,
            memory: "256M",
            options: "scenario=a_failing_start_is_retried_at_growing_intervals",
            devices: Devices::Educational,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        };
        let boot = machine.boot(launch);
        let count = |words: &str| boot.console.iter().filter(|line| line.contains(words)).count();
        let steps = count("fault-target-fails-while-held has ended");
        let each_once = PAUSES.iter().all(|pause| count(&format!("it stays dead for {pause} before")) == 1);
        // One more, of the first failure: it has no pause.
        let (reasons, records) = (
            count("fault-target-fails-while-held did not start again"),
            count("option fail=kept: a call is blocked"),
        );
        let is_quiet = [reasons, records].iter().all(|&lines| (1..=PAUSES.len() + 1).contains(&lines));
        if steps == PAUSES.len() && each_once && is_quiet && boot.ending == Ending::Success {
            Ok(())
        } else {
            Err(format!("{steps} steps, {reasons} reasons, {records} records\n{boot}"))
        }
    });
}

/// Deliberate leaks of kernels for tests (kernel/src/fault/mutation.rs), and the field of the snapshot in
/// which each shows.
const MUTATIONS: [(&str, &str); 4] = [
    ("leak-kernel-heap", "kernel_bytes"),
    ("leak-domain-heap", "kernel_bytes"),
    ("leak-object", "shared_objects"),
    ("leak-thread", "free_bytes"),
];

/// Checks that the leak checks notice leaks: they have to fail on a kernel that leaks, and only there.
pub(crate) fn mutations(harness: &mut Harness, machine: &Machine, archives: &Path) {
    const SCENARIO: &str = "crashes_with_objects_held_leak_nothing";
    let boot = move |options: &str| {
        machine.boot(Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 1,
            memory: "256M",
            options: &format!("scenario={SCENARIO} {options}"),
            devices: Devices::Educational,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        })
    };
    let mut tests = Parallel::default();
    for (mutation, field) in MUTATIONS {
        let name = format!("{}::the_leak_checks_notice_the_mutation_{mutation}", machine.name());
        tests.test(&name, move || {
            let boot = boot(&format!("mutation={mutation}"));
            let failure = format!("scenario {SCENARIO} ... FAILED");
            let line = boot.console.iter().find(|line| line.starts_with(&failure));
            if boot.ending == Ending::Failure && line.is_some_and(|line| line.contains(&format!("{field} ")))
            {
                Ok(())
            } else {
                Err(boot.to_string())
            }
        });
    }
    let name = format!("{}::the_leak_checks_pass_without_a_mutation", machine.name());
    tests.test(&name, move || {
        let boot = boot("");
        if boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
    });
    harness.run(tests);
}
