//! Boots kernels for production, which carry no interface of examples and tests.

use std::path::Path;
use std::time::Duration;

use crate::harness::Harness;
use crate::machine::{Devices, Ending, Launch, Machine};

/// The domains for production, all of systems/shell.toml but the shell, which answers itself.
const DOMAINS: [&str; 4] = ["nvme", "shadow-block", "ixgbe", "shadow-net"];

/// The line after which the shell reads commands.
const PROMPT: &str = "Type `help` for the commands.";

/// Boots the machine `machine` with a kernel for production.
pub(crate) fn run(harness: &mut Harness, machine: &Machine, archives: &Path) {
    let name = machine.name();
    let production = match machine {
        Machine::Hosted { .. } => Machine::hosted_for_production(),
        Machine::Bare { .. } => Machine::bare_for_production(),
    };
    harness.test(&format!("{name}::production_domains_run_on_a_production_kernel"), || {
        let machine = production.as_ref().ok_or("the kernel for production was not built")?;
        let archive = &archives.join("shell.tar");
        let boot = machine.boot_and_type(
            launch(archive, Devices::DiskAndNetwork),
            PROMPT,
            "ps\nkill nvme\nwhy nvme\nquit\n",
        );
        let line_of = |domain: &str| {
            boot.console.iter().find(|line| line.split_ascii_whitespace().next() == Some(domain))
        };
        for domain in DOMAINS {
            if !line_of(domain).is_some_and(|line| line.contains("Running")) {
                return Err(format!("{domain} does not run\n{boot}"));
            }
        }
        let is_killed =
            boot.console.iter().any(|line| line.contains("generation 0") && line.contains("Killed"));
        if is_killed && boot.ending == Ending::Success { Ok(()) } else { Err(boot.to_string()) }
    });
    // Without it, the test above could pass on a kernel that carries all interfaces.
    harness.test(&format!("{name}::a_production_kernel_refuses_an_example"), || {
        let machine = production.as_ref().ok_or("the kernel for production was not built")?;
        let boot = machine.boot(launch(&archives.join("tour.tar"), Devices::None));
        let is_refused =
            boot.console.iter().any(|line| line.contains("built without interface") && line.contains("Echo"));
        if is_refused && boot.ending != Ending::Success { Ok(()) } else { Err(boot.to_string()) }
    });
}

fn launch(archive: &Path, devices: Devices) -> Launch<'_> {
    Launch {
        archive,
        cpus: 2,
        memory: "256M",
        options: "",
        devices,
        board: &[],
        exact: false,
        timeout: Duration::from_secs(300),
    }
}
