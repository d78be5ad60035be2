//! Storms of kills at exact instants: under QEMU's instruction counter a seed gives the same run each time, so a kill that
//! came between the wrong two instructions can be brought back.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::machine::{self, Ending, Kind, Launch, Machine};
use crate::pack;
use crate::ui::Step;
use crate::workspace::Workspace;

/// Scenarios in which chance decides when somebody is killed.
const SCENARIOS: [&str; 2] = ["a_kill_storm_hurts_nobody_else", "a_kill_at_any_instant_leaks_nothing"];
/// Alone, and with somebody who is killed by another CPU. One instruction at a time runs of all CPUs'.
const CPUS: [u32; 2] = [1, 2];
/// A storm that is not over by then hangs.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Runs each scenario with `count` seeds from `first` on. An error that names those that broke a promise.
pub(crate) fn run(workspace: &Workspace, first: u64, count: u64, may_install: bool) -> Result<()> {
    let manifest = pack::read_manifest(workspace, "scenarios")?;
    let (kind, qemu) = machine::choose(Some(Kind::Bare), may_install)?;
    let archive = pack::pack(workspace, &manifest)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let step = Step::start(format!("storms with {count} seeds from {first} on"));
    let mut bad = Vec::new();
    for seed in first..first.saturating_add(count) {
        for (cpus, scenario) in CPUS.into_iter().flat_map(|cpus| SCENARIOS.map(|scenario| (cpus, scenario))) {
            step.status(&format!("seed {seed}, {cpus} CPUs: {scenario}; {} bad so far", bad.len()));
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
                Err(error) if error.is::<crate::cli::Interrupted>() => return Err(error),
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
    if bad.is_empty() { Ok(()) } else { bail!("storms broke promises with seeds {}", bad.join(", ")) }
}
