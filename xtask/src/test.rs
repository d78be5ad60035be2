//! `test`: runs all tests, in one command, and prints one table.
//!
//! 1. unit tests and compile-fail tests of all packages that run on the host ([`units`]), as many programs at
//!    once as there are CPUs;
//! 2. the scenarios, which boot systems ([`scenarios`]);
//! 3. exact instruction counts, if QEMU is present ([`instructions`]);
//! 4. a short soak, a disk under load whose driver is killed, a power loss, a network driver on QEMU's own
//!    model, and short demonstrations, on each machine ([`boots`]);
//! 5. the isolation audit ([`isolation`]).
//!
//! With `--changed` it runs only the tests that a change can break ([`changed`]). A suite that ran nothing
//! has failed, unless a filter or a change selected nothing in it.

mod boots;
mod changed;
mod executable;
mod instructions;
mod isolation;
mod output;
mod scenarios;
mod suite;
mod units;

use std::fmt;

use anyhow::Result;

use crate::machine::Kind;
use crate::workspace::Workspace;
use changed::Scope;
use suite::{conclude, stage};

/// The machines that boot systems.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Machines {
    /// QEMU only
    Bare,
    /// Linux process only
    Hosted,
    /// Both; hosted only if there is no QEMU and it cannot be installed
    All,
}

impl fmt::Display for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Hosted => "hosted",
            Self::All => "all",
        })
    }
}

impl Machines {
    fn include(self, kind: Kind) -> bool {
        match kind {
            Kind::Bare => self != Self::Hosted,
            Kind::Hosted => self != Self::Bare,
        }
    }
}

/// The options of the command line.
pub(crate) struct Request {
    /// Run only tests whose names contain this text.
    pub(crate) filter: Option<String>,
    pub(crate) machines: Machines,
    /// Run only tests that changes since this commit can break.
    pub(crate) changed_since: Option<String>,
    /// Print the results as JSON.
    pub(crate) json: bool,
    /// Allow the installation of QEMU.
    pub(crate) may_install: bool,
}

/// Runs the tests, prints a table, and fails if any of them did.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let scope = match &request.changed_since {
        None => Scope::everything(),
        Some(base) => {
            let scope = Scope::of_changes(workspace, base)?;
            eprint!("{scope}");
            if scope.is_empty() {
                eprintln!("there is nothing to test");
                return Ok(());
            }
            scope
        }
    };
    let (filter, machines) = (request.filter.as_deref(), request.machines);
    let mut programs = None;
    let mut suites = stage(
        "unit tests",
        units::compile(workspace, &scope)
            .and_then(|compiled| units::run(workspace, programs.insert(compiled), filter)),
    );
    let program = programs.as_ref().and_then(|programs| programs.scenarios.as_ref());
    suites.extend(stage(
        "scenarios",
        scenarios::run(workspace, program, &scope, machines, filter, request.may_install),
    ));
    if filter.is_none() {
        suites.extend(stage("instruction counts", instructions::run(workspace, machines, &scope)));
        suites.extend(stage("soak", boots::soaks(workspace, machines, &scope)));
        suites.extend(stage("integrity", boots::integrity(workspace, machines, &scope)));
        suites.extend(stage("igb", boots::igb(workspace, machines, &scope)));
        suites.extend(stage("demo", boots::demonstrations(workspace, machines, &scope)));
        suites.extend(stage("unexpected ends", boots::unexpected_ends(workspace, machines, &scope)));
        suites.extend(stage("isolation audit", isolation::run(workspace, &scope)));
    }
    conclude(&suites, filter, request.json)
}
