//! Kills at exact instants: the scenarios with random kills, run under QEMU's instruction counter, where a
//! seed reproduces the run. So a kill between two particular instructions can be repeated by its seed. `cargo
//! xtask soak --seeds N` tries further seeds.

use std::path::Path;
use std::time::Duration;

use crate::harness::{Harness, Parallel};
use crate::machine::{Boot, Devices, Ending, Launch, Machine};

/// A short name for each scenario, and the scenario.
const SCENARIOS: [(&str, &str); 2] =
    [("storm", "a_kill_storm_ends_no_other_domain"), ("labour", "a_kill_at_any_instant_leaks_nothing")];
/// On one CPU, the killer preempts its victim; on two, it also runs in parallel.
const CPUS: [u32; 2] = [1, 2];
/// The number of seeds, from 1 on, for each scenario and number of CPUs.
const SEEDS: u32 = 6;

/// Runs them on the bare machine. On the hosted one, time is the host's, so a seed does not fix the run.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    if matches!(machine, Machine::Hosted { .. }) {
        return;
    }
    // Under the instruction counter, the load of the host cannot change a run.
    let mut tests = Parallel::default();
    for (cpus, (label, scenario)) in CPUS.into_iter().flat_map(|cpus| SCENARIOS.map(|pair| (cpus, pair))) {
        for seed in 1..=SEEDS {
            tests.test(&format!("bare_{cpus}::exact_{label}_with_seed_{seed}"), move || {
                let boot = boot(machine, archives, cpus, scenario, seed);
                if boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
            });
        }
    }
    for cpus in CPUS {
        tests.test(&format!("bare_{cpus}::the_same_seed_gives_the_same_run"), move || {
            // The log has timestamps in instructions, so any difference between two runs shows in it.
            let [first, repeated, other_seed] =
                [1, 1, 2].map(|seed| boot(machine, archives, cpus, SCENARIOS[0].1, seed));
            if first.console != repeated.console {
                Err(format!("two runs of one seed differ:\n{first}\nand:\n{repeated}"))
            } else if first.console == other_seed.console {
                Err(format!("another seed gives the same run:\n{first}"))
            } else {
                Ok(())
            }
        });
    }
    harness.run(tests);
}

fn boot(machine: &Machine, archives: &Path, cpus: u32, scenario: &str, seed: u32) -> Boot {
    machine.boot(Launch {
        archive: &archives.join("scenarios.tar"),
        cpus,
        memory: "256M",
        options: &format!("scenario={scenario} seed={seed} log=debug"),
        board: &[],
        devices: Devices::Educational,
        exact: true,
        timeout: Duration::from_secs(600),
    })
}
