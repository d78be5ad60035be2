//! `run`: boots one system.

use anyhow::Result;

use crate::devices::Device;
use crate::kernel::Flavor;
use crate::machine::{self, Launch, Machine};
use crate::machine_args::{MachineArgs, may_install};
use crate::pack;
use crate::workspace::Workspace;

/// The system that is booted if none is named: the first of these that exists.
const DEFAULT_SYSTEMS: [&str; 2] = ["shell", "tour"];

/// The system that the command line names, or the default.
pub(crate) fn system_or_default(workspace: &Workspace, system: Option<String>) -> Result<String> {
    if let Some(system) = system {
        return Ok(system);
    }
    let systems = workspace.systems()?;
    let default = DEFAULT_SYSTEMS.into_iter().find(|&name| systems.contains_key(name));
    Ok(default.unwrap_or(DEFAULT_SYSTEMS[1]).to_owned())
}

/// Boots a system with this terminal as its console.
pub(crate) fn interactive(
    workspace: &Workspace,
    system: Option<String>,
    arguments: &MachineArgs,
    models: bool,
    unaudited: bool,
    flavor: Flavor,
) -> Result<()> {
    let system = system_or_default(workspace, system)?;
    let (machine, launch) = prepare(workspace, &system, arguments, models, unaudited, flavor)?;
    machine.interact(&launch)?.into_result(&system)
}

fn prepare(
    workspace: &Workspace,
    system: &str,
    arguments: &MachineArgs,
    models: bool,
    unaudited: bool,
    flavor: Flavor,
) -> Result<(Machine, Launch)> {
    // The manifest is read first, so that a mistyped name fails before anything is installed or compiled.
    let manifest = pack::read_manifest(workspace, system)?;
    let mut devices = manifest.devices(&arguments.disks)?;
    if models {
        devices = devices.into_iter().map(Device::into_model).collect();
    }
    let (kind, qemu) = machine::choose(arguments.machine, may_install(arguments.no_install))?;
    let mut options = arguments.options.clone();
    let archive = if unaudited {
        let (archive, findings) = pack::pack_unaudited(workspace, &manifest)?;
        findings.iter().for_each(|finding| eprintln!("FINDING {finding}"));
        options.push("accept=unaudited".to_owned());
        archive
    } else {
        pack::pack(workspace, &manifest)?
    };
    let machine = Machine::build_flavor(workspace, kind, qemu, flavor)?;
    let launch = Launch {
        archive,
        cpus: arguments.cpus,
        memory: arguments.memory.clone(),
        options,
        devices,
        count_instructions: false,
    };
    Ok((machine, launch))
}
