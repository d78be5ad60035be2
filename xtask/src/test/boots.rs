//! Suites that boot a system for a few seconds and judge it from outside: soaks, integrity, power losses,
//! demonstrations.
//!
//! They run one after the other and alone: each loads all CPUs that it boots with, and its verdicts are about
//! loss and recovery under that load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::Machines;
use super::changed::Scope;
use super::suite::Suite;
use crate::devices::Device;
use crate::machine::{Kind, Launch, Machine};
use crate::qemu::Qemu;
use crate::workspace::Workspace;
use crate::{demo, pack, powerloss, soak};

/// A short `cargo xtask soak` on each machine.
pub(super) fn soaks(workspace: &Workspace, machines: Machines, scope: &Scope) -> Result<Vec<Suite>> {
    const CYCLES: [(Kind, u64); 2] = [(Kind::Hosted, 10_000), (Kind::Bare, 400)];
    let mut suites = Vec::new();
    for (kind, cycles) in CYCLES {
        if !scope.boots(kind, soak::SYSTEM) {
            continue;
        }
        let Some(machine) = machine_of(workspace, kind, machines)? else { continue };
        let started = Instant::now();
        // The soak ends early only after Ctrl-C.
        let outcome = soak::short(workspace, &machine, kind, cycles).and_then(|done| {
            anyhow::ensure!(done >= cycles, "{done} of {cycles} cycles were done");
            Ok(())
        });
        suites.push(Suite::of_one(format!("soak on {kind}"), outcome, started));
    }
    Ok(suites)
}

/// Short loads on disks, and power losses: see docs/integrity.md.
pub(super) fn integrity(workspace: &Workspace, machines: Machines, scope: &Scope) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for system in ["integrity", "integrity-memory"] {
        if !scope.boots(Kind::Hosted, system) {
            continue;
        }
        let Some(machine) = machine_of(workspace, Kind::Hosted, machines)? else { continue };
        let started = Instant::now();
        let outcome = boot(workspace, &machine, system, &["integrity-duration=3s", "log=error"]);
        suites.push(Suite::of_one(format!("{system} on hosted"), outcome, started));
    }
    for kind in [Kind::Hosted, Kind::Bare] {
        if !scope.boots(kind, powerloss::SYSTEM) || machine_of(workspace, kind, machines)?.is_none() {
            continue;
        }
        let started = Instant::now();
        let request =
            powerloss::Request { machine: kind, runs: 1, seed: Some(1), every_ms: 100, may_install: false };
        let outcome = powerloss::run(workspace, &request);
        suites.push(Suite::of_one(format!("power loss on {kind}"), outcome, started));
    }
    Ok(suites)
}

/// The network driver on QEMU's own model of another controller that it supports, if this QEMU has that
/// model.
pub(super) fn igb(workspace: &Workspace, machines: Machines, scope: &Scope) -> Result<Vec<Suite>> {
    const SYSTEM: &str = "nics-igb";
    if !machines.include(Kind::Bare) || !scope.boots(Kind::Bare, SYSTEM) {
        return Ok(Vec::new());
    }
    let Some(qemu) = Qemu::find()? else { return Ok(Vec::new()) };
    let devices = pack::read_manifest(workspace, SYSTEM)?.devices(&[])?;
    let least = devices.iter().map(Device::least_qemu).max().unwrap_or(0);
    if qemu.major() < least {
        eprintln!("{SYSTEM} is left out: QEMU {least} and later have its device, and this is {qemu}");
        return Ok(Vec::new());
    }
    let machine = Machine::build(workspace, Kind::Bare, Some(qemu))?;
    let started = Instant::now();
    let outcome = boot(workspace, &machine, SYSTEM, &["log=error"]);
    Ok(vec![Suite::of_one(format!("{SYSTEM} on bare"), outcome, started)])
}

/// A short `cargo xtask demo` on each machine, of each driver.
pub(super) fn demonstrations(workspace: &Workspace, machines: Machines, scope: &Scope) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for kind in [Kind::Hosted, Kind::Bare] {
        for (name, system, driver) in demo::each() {
            if !scope.boots(kind, system) {
                continue;
            }
            let Some(machine) = machine_of(workspace, kind, machines)? else { continue };
            let started = Instant::now();
            let outcome = demo::short(workspace, &machine, kind, driver, &[]);
            suites.push(Suite::of_one(format!("{name} on {kind}"), outcome, started));
        }
    }
    Ok(suites)
}

/// A short demonstration in which one domain is ended behind the back of the checks. It has to fail and to
/// name that end.
pub(super) fn unexpected_ends(
    workspace: &Workspace,
    machines: Machines,
    scope: &Scope,
) -> Result<Vec<Suite>> {
    const DOMAIN: &str = "fault-control";
    let mut suites = Vec::new();
    for kind in [Kind::Hosted, Kind::Bare] {
        let [(_, system, driver), _] = demo::each();
        if !scope.boots(kind, system) {
            continue;
        }
        let Some(machine) = machine_of(workspace, kind, machines)? else { continue };
        let started = Instant::now();
        let option = format!("unannounced_kill={DOMAIN}");
        let outcome = match demo::short(workspace, &machine, kind, driver, &[&option]) {
            Err(error) if names_end_of(&format!("{error:#}"), DOMAIN) => Ok(()),
            Err(error) => Err(error.context("the end of a domain is not named")),
            Ok(()) => Err(anyhow!("the end of {DOMAIN} was not noticed")),
        };
        suites.push(Suite::of_one(format!("demo with an unexpected end on {kind}"), outcome, started));
    }
    Ok(suites)
}

/// Returns true if the message of a demonstration says that this domain was killed without an injected fault.
fn names_end_of(message: &str, domain: &str) -> bool {
    message.lines().any(|line| {
        line.contains("no instance ended without an injected fault")
            && line.contains(&format!("{domain} #"))
            && line.contains("died of Killed")
    })
}

/// Boots a system that ends by itself. Fails if the system does not end in success.
fn boot(workspace: &Workspace, machine: &Machine, system: &str, options: &[&str]) -> Result<()> {
    /// Longer than any of these systems takes.
    const TIMEOUT: Duration = Duration::from_secs(180);
    /// Lines of the console that are shown if the system ends otherwise.
    const CONSOLE: usize = 20;
    let manifest = pack::read_manifest(workspace, system)?;
    let launch = Launch {
        devices: manifest.devices(&[])?,
        archive: pack::pack(workspace, &manifest)?,
        cpus: 2,
        memory: "512M".to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        count_instructions: false,
    };
    let mut console = Vec::new();
    let ending = machine.watch(&launch, TIMEOUT, |line| console.push(line.to_owned()))?;
    let shown = console[console.len().saturating_sub(CONSOLE)..].join("\n");
    ending.into_result(system).with_context(|| shown)
}

/// A machine with its kernel, if the run includes it and this host can boot it.
fn machine_of(workspace: &Workspace, kind: Kind, machines: Machines) -> Result<Option<Machine>> {
    let qemu = match kind {
        _ if !machines.include(kind) => return Ok(None),
        Kind::Hosted => None,
        // The scenarios have reported the missing QEMU, or have failed for it.
        Kind::Bare => match Qemu::find()? {
            Some(qemu) => Some(qemu),
            None => return Ok(None),
        },
    };
    Machine::build(workspace, kind, qemu).map(Some)
}
