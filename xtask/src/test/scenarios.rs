//! Images and systems: all are built and packed; the scenarios, a test program, boot some of them and find
//! them by environment variables.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail};

use super::Machines;
use super::changed::Scope;
use super::executable::{self, Executable, Run};
use super::suite::Suite;
use crate::kernel::Flavor;
use crate::machine::{self, Kind};
use crate::qemu::Qemu;
use crate::ui::Step;
use crate::workspace::Workspace;
use crate::{image, install, kernel, pack, seal};

/// The integration test that boots systems, and its package.
pub(super) const SCENARIOS: (&str, &str) = ("coppice-kernel", "scenarios");

/// The systems that the scenarios boot.
pub(super) const SYSTEMS: [&str; 4] = ["nics", "scenarios", SHELL, "tour"];

/// The system of them that also boots on a kernel for production.
const SHELL: &str = "shell";

/// Packs the systems in `scope`, which also checks their manifests, and runs the scenarios that boot them.
pub(super) fn run(
    workspace: &Workspace,
    program: Option<&Executable>,
    scope: &Scope,
    machines: Machines,
    filter: Option<&str>,
    may_install: bool,
) -> Result<Vec<Suite>> {
    let images = workspace.images()?;
    let images: BTreeSet<&str> =
        images.keys().map(String::as_str).filter(|image| scope.builds(image)).collect();
    if images.is_empty() && !workspace.systems()?.keys().any(|system| scope.packs(system)) {
        return Ok(Vec::new());
    }
    let started = Instant::now();
    // One cargo builds all images, including those that are in no system.
    let packed = image::build(workspace, &images)
        .and_then(|_| pack::pack_all(workspace, |system| scope.packs(system)));
    let archives = match packed {
        Ok(archives) => archives,
        Err(error) => return Ok(vec![Suite::of_one("systems".to_owned(), Err(error), started)]),
    };
    let mut suites = Vec::new();
    if filter.is_none() {
        suites.push(Suite::of_one("systems".to_owned(), Ok(()), started));
    }
    let kinds = [Kind::Hosted, Kind::Bare].into_iter().filter(|&kind| machines.include(kind));
    let boots: Vec<(Kind, &str)> = kinds
        .flat_map(|kind| SYSTEMS.map(|system| (kind, system)))
        .filter(|&(kind, system)| scope.boots(kind, system))
        .collect();
    if boots.is_empty() {
        return Ok(suites);
    }
    let Some(program) = program else {
        bail!("the scenarios are missing: {} has no integration test \"{}\"", SCENARIOS.0, SCENARIOS.1);
    };
    let on = |kind| boots.iter().any(|(wanted, _)| *wanted == kind);
    let qemu = match machines {
        _ if !on(Kind::Bare) => None,
        Machines::Bare => machine::choose(Some(Kind::Bare), may_install)?.1,
        Machines::Hosted | Machines::All => find_or_install_qemu(may_install)?,
    };
    let mut command = program.command(workspace)?;
    for variable in [
        "COPPICE_HOSTED",
        "COPPICE_HOSTED_PRODUCTION",
        "COPPICE_BARE",
        "COPPICE_BARE_PRODUCTION",
        "COPPICE_QEMU",
        "COPPICE_DEVICE",
        "COPPICE_BOOTS",
    ] {
        command.env_remove(variable);
    }
    command.env("COPPICE_ARCHIVES", archives).env(seal::SIGNING_KEY, seal::key_file(workspace)?);
    if on(Kind::Hosted) {
        command.env("COPPICE_HOSTED", kernel::build(workspace, Kind::Hosted, Flavor::Testing)?);
    }
    if let Some(qemu) = &qemu {
        command
            .env("COPPICE_BARE", kernel::build(workspace, Kind::Bare, Flavor::Testing)?)
            .env("COPPICE_QEMU", &qemu.program);
        command.env("COPPICE_DEVICE", kernel::build_device_host(workspace)?);
    }
    for (kind, variable) in
        [(Kind::Hosted, "COPPICE_HOSTED_PRODUCTION"), (Kind::Bare, "COPPICE_BARE_PRODUCTION")]
    {
        let has_machine = kind == Kind::Hosted || qemu.is_some();
        if has_machine && boots.contains(&(kind, SHELL)) {
            command.env(variable, kernel::build(workspace, kind, Flavor::Production)?);
        }
    }
    let boots: Vec<String> = boots.iter().map(|(kind, system)| format!("{kind}/{system}")).collect();
    command.env("COPPICE_BOOTS", boots.join(","));

    let step = Step::start("running scenarios");
    let shown = |line: &str| step.line(line);
    let Run { mut suite, .. } = executable::run("scenarios", command.args(filter), shown)?;
    step.done(&suite.counts.to_string());
    if filter.is_none() {
        suite.fail_if_empty();
    }
    suites.push(suite);
    Ok(suites)
}

fn find_or_install_qemu(may_install: bool) -> Result<Option<Qemu>> {
    if let Some(qemu) = Qemu::find()? {
        return Ok(Some(qemu));
    }
    let reason = if may_install {
        install::install(&install::QEMU).err()
    } else {
        Some(anyhow::anyhow!(install::QEMU.advice()))
    };
    let qemu = Qemu::find()?;
    if qemu.is_none() {
        let reason =
            reason.map_or_else(|| "its package contains none".to_owned(), |error| format!("{error:#}"));
        eprintln!("scenarios run on the hosted machine only, because there is no QEMU: {reason}");
    }
    Ok(qemu)
}
