//! Storms of kills at exact instants: under QEMU's instruction counter a seed gives the same run each time,
//! so a kill between two particular instructions can be reproduced.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::machine::{self, Ending, Kind, Launch, Machine};
use crate::pack;
use crate::ui::Step;
use crate::workspace::Workspace;

/// Scenarios in which a random generator chooses the instants of kills.
const SCENARIOS: [&str; 2] = ["a_kill_storm_ends_no_other_domain", "a_kill_at_any_instant_leaks_nothing"];
/// One CPU, and two, of which one kills domains that run on the other. At any time only one CPU executes an
/// instruction.
const CPUS: [u32; 2] = [1, 2];
/// The time after which a storm is considered hung.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs each scenario with `count` seeds from `first` on.
///
/// # Errors
/// If a seed violated a guarantee; the message names these seeds.
pub(crate) fn run(workspace: &Workspace, first: u64, count: u64, may_install: bool) -> Result<()> {
    let manifest = pack::read_manifest(workspace, "scenarios")?;
    let (kind, qemu) = machine::choose(Some(Kind::Bare), may_install)?;
    let archive = pack::pack(workspace, &manifest)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let step = Step::start(format!("storms with {count} seeds from {first} on"));
    let mut bad = Vec::new();
    for seed in first..first.saturating_add(count) {
        for (cpus, scenario) in CPUS.into_iter().flat_map(|cpus| SCENARIOS.map(|scenario| (cpus, scenario))) {
            step.status(&format!("seed {seed}, {cpus} CPUs: {scenario}; {} failed so far", bad.len()));
            let launch = Launch {
                archive: archive.clone(),
                cpus,
                memory: "256M".to_owned(),
                options: vec![format!("scenario={scenario}"), format!("seed={seed}"), "log=error".to_owned()],
                devices: manifest.devices(&[])?,
                count_instructions: true,
            };
            let mut console = Vec::new();
            let ending = machine.watch(&launch, TIMEOUT, |line| console.push(line.to_owned()));
            match ending {
                Ok(Ending::Success) => {}
                Err(error) if error.is::<crate::error::Interrupted>() => return Err(error),
                other => {
                    let how = other.map_or_else(|error| format!("{error:#}"), |ending| format!("{ending:?}"));
                    step.line(&format!(
                        "seed {seed}, {cpus} CPUs, {scenario}: {how}\n{}",
                        console.join("\n")
                    ));
                    bad.push(format!("{seed} ({cpus} CPUs)"));
                }
            }
        }
    }
    let runs = count * (CPUS.len() * SCENARIOS.len()) as u64;
    step.done(&format!("{runs} storms, {} bad", bad.len()));
    if bad.is_empty() { Ok(()) } else { bail!("storms violated guarantees with seeds {}", bad.join(", ")) }
}
