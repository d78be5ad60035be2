//! Kills at exact instants: scenarios that leave to chance when somebody is killed, under QEMU's instruction counter, where
//! a seed gives the same run each time. A kill between the wrong two instructions can be brought back by its seed;
//! `cargo xtask soak --seeds N` looks for further ones.

use std::path::Path;
use std::time::Duration;

use crate::harness::Harness;
use crate::machine::{Boot, Devices, Ending, Launch, Machine};

/// Scenarios, and a word for each.
const SCENARIOS: [(&str, &str); 2] =
    [("storm", "a_kill_storm_hurts_nobody_else"), ("labour", "a_kill_at_any_instant_leaks_nothing")];
/// On one CPU a killer interrupts; on two it also comes from elsewhere.
const CPUS: [u32; 2] = [1, 2];
/// From 1 on, for each scenario and number of CPUs.
const SEEDS: u32 = 6;

/// Runs them on the bare machine; on the hosted one, time is the host's, and chance with it.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    if matches!(machine, Machine::Hosted { .. }) {
        return;
    }
    for (cpus, (word, scenario)) in CPUS.into_iter().flat_map(|cpus| SCENARIOS.map(|pair| (cpus, pair))) {
        for seed in 1..=SEEDS {
            harness.test(&format!("bare_{cpus}::exact_{word}_with_seed_{seed}"), || {
                let boot = boot(machine, archives, cpus, scenario, seed);
                if boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
            });
        }
    }
    for cpus in CPUS {
        harness.test(&format!("bare_{cpus}::the_same_seed_gives_the_same_run"), || {
            // The log carries times in instructions: two runs that differ anywhere differ there.
            let [one, other, another] =
                [1, 1, 2].map(|seed| boot(machine, archives, cpus, SCENARIOS[0].1, seed));
            if one.console != other.console {
                Err(format!("the first:\n{one}\nand the second:\n{other}"))
            } else if one.console == another.console {
                Err(format!("another seed gives it too:\n{one}"))
            } else {
                Ok(())
            }
        });
    }
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
