//! The scenarios that a domain runs inside the system: one boot for all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::harness::Harness;
use crate::machine::{Devices, Ending, Launch, Machine};

macro_rules! scenarios {
    ($($module:ident: [$($name:ident,)*])*) => {
        /// Module and name of each.
        pub(crate) const SCENARIOS: &[(&str, &str)] = &[$($((stringify!($module), stringify!($name)),)*)*];
    };
}

// After the macro, which it uses.
#[path = "../../../verification/suites/scenarios/src/list.rs"]
mod list;

#[path = "../../../verification/suites/nic-trials/src/list.rs"]
mod nic_list;

/// A system that tries claims and prints what comes of them.
pub(crate) struct System {
    archive: &'static str,
    /// Module and name of each claim.
    claims: &'static [(&'static str, &'static str)],
}

/// Most of them.
pub(crate) const SCENARIOS: System = System { archive: "scenarios.tar", claims: list::SCENARIOS };

/// Those about network drivers.
pub(crate) const NICS: System = System { archive: "nics.tar", claims: nic_list::SCENARIOS };

/// Boots once and reports all claims of a system.
pub(crate) fn run(
    harness: &mut Harness,
    machine: &Machine,
    archives: &Path,
    system: &System,
    (cpus, devices): (u32, Devices),
) {
    let with = match devices {
        Devices::None | Devices::Educational => "",
        Devices::Models | Devices::LateModels => "_models",
        Devices::Network => "_nics",
    };
    let claims = system.claims;
    let configuration = format!("{}_{cpus}{with}", machine.name());
    let full_name = |module: &str, name: &str| format!("{configuration}::{module}::{name}");
    let wanted: Vec<_> =
        claims.iter().filter(|(module, name)| harness.wants(&full_name(module, name))).collect();
    // One alone need not wait for all.
    harness.leave_out(claims.len() - wanted.len());
    let options = match wanted[..] {
        [] => return,
        [(_, name)] => format!("scenario={name}"),
        _ => String::new(),
    };
    let launch = Launch {
        archive: &archives.join(system.archive),
        cpus,
        memory: "256M",
        options: &options,
        devices,
        board: &[],
        exact: false,
        timeout: Duration::from_secs(machine.choose(600, 1200)),
    };
    let boot = machine.boot(launch);
    let mut outcomes = BTreeMap::new();
    for line in &boot.console {
        if let Some((name, outcome)) =
            line.strip_prefix("scenario ").and_then(|rest| rest.split_once(" ... "))
        {
            let outcome = if outcome.starts_with("ok") { Ok(()) } else { Err(outcome.to_owned()) };
            outcomes.insert(name, outcome);
        }
    }
    let all_are_well = outcomes.values().all(Result::is_ok);
    for (module, name) in wanted {
        let outcome = outcomes.remove(name).unwrap_or_else(|| Err("it was not heard of".to_owned()));
        harness.report(&full_name(module, name), outcome.map_err(|why| format!("{why}\n{boot}")));
    }
    let strangers: Vec<_> = outcomes.keys().collect();
    harness.test(&full_name("system", "it_ran_what_is_listed_and_ended_as_its_scenarios_did"), || {
        let right = if all_are_well { Ending::Success } else { Ending::Failure };
        let as_listed = strangers.is_empty() || !options.is_empty();
        if boot.ending == right && as_listed {
            Ok(())
        } else {
            Err(format!("not listed: {strangers:?}\n{boot}"))
        }
    });
}

/// Records of each level, with the name of the domain that made them, in words of `Subject::log`.
const RECORDS: [(&str, &str); 5] = [
    ("error", "subject: ERROR an error, of a subject"),
    ("warn", "subject: warning: a warning, of a subject"),
    ("info", "subject: information, of a subject"),
    ("debug", "subject: a detail, of a subject"),
    ("trace", "subject: a trace, of a subject"),
];

/// Boots with each log level.
pub(crate) fn log_levels(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let levels = [("off", 0), ("error", 1), ("info", 3), ("trace", 5)];
    for (level, shown) in levels {
        harness.test(
            &format!("{}::log_level_{level}_shows_{shown}_kinds_of_records", machine.name()),
            || {
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
                let right = RECORDS
                    .iter()
                    .enumerate()
                    .all(|(index, (_, record))| is_shown(record) == (index < shown));
                if right && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
            },
        );
    }
}

/// Deaths are written to the log by a thread that takes its time; a system that ends does not leave the last ones out.
pub(crate) fn deaths(harness: &mut Harness, machine: &Machine, archives: &Path) {
    /// As many as that scenario has its subject die, in lives 0, 1, 2, ...
    const PANICS: usize = 8;
    harness.test(&format!("{}::each_death_is_logged_once_before_the_end", machine.name()), || {
        let launch = Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 1,
            memory: "256M",
            options: "scenario=each_kind_of_panic",
            devices: Devices::Educational,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        };
        let boot = machine.boot(launch);
        let records = |instance: usize| {
            let record = format!("kernel: warning: subject (generation {instance}): ");
            boot.console.iter().filter(|line| line.contains(&record)).count()
        };
        let right = (0..PANICS).all(|instance| records(instance) == 1);
        if right && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
    });
}

/// A domain that cannot start is in the log once for each pause, however often it is tried.
pub(crate) fn back_off(harness: &mut Harness, machine: &Machine, archives: &Path) {
    /// `restart-pause` of the manifest's `unready`, doubled up to its `restart-pause-limit`.
    const PAUSES: [&str; 5] = ["1 ms", "2 ms", "4 ms", "8 ms", "16 ms"];
    let name = format!("{}::a_domain_that_cannot_start_is_logged_once_per_pause", machine.name());
    harness.test(&name, || {
        let launch = Launch {
            archive: &archives.join("scenarios.tar"),
            cpus: 1,
            memory: "256M",
            options: "scenario=a_domain_that_cannot_start_is_tried_less_and_less_often",
            devices: Devices::Educational,
            board: &[],
            exact: false,
            timeout: Duration::from_secs(600),
        };
        let boot = machine.boot(launch);
        let count = |words: &str| boot.console.iter().filter(|line| line.contains(words)).count();
        let steps = count("unready has ended");
        let each_once = PAUSES.iter().all(|pause| count(&format!("it stays dead for {pause} before")) == 1);
        // One more, of the first failure: it has no pause.
        let (reasons, records) =
            (count("unready did not start again"), count("it was told to fail while a call is kept"));
        let is_quiet = [reasons, records].iter().all(|&lines| (1..=PAUSES.len() + 1).contains(&lines));
        if steps == PAUSES.len() && each_once && is_quiet && boot.ending == Ending::Success {
            Ok(())
        } else {
            Err(format!("{steps} steps, {reasons} reasons, {records} records\n{boot}"))
        }
    });
}
