//! `test`: everything that must pass, in one command and one table.
//!
//! 1. unit tests and compile-fail tests of all packages that run on the host ([`units`]), as many programs at once as there are
//!    CPUs;
//! 2. the scenarios, which boot systems ([`scenarios`]);
//! 3. exact instruction counts, if there is QEMU ([`instructions`]);
//! 4. a short soak, a disk under load whose driver is killed, a power loss, a network driver on QEMU's own model, and the
//!    demonstrations for a moment, on each machine ([`boots`]);
//! 5. the isolation audit ([`isolation`]).
//!
//! With `--changed` it runs those of them that a change can break ([`changed`]). A suite that ran nothing has failed, unless a
//! filter or a change left it nothing: silence is not success.

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
    /// Both, without bare if QEMU cannot be had
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

/// What the command line asks for.
pub(crate) struct Request {
    /// A part of the names of tests.
    pub(crate) filter: Option<String>,
    pub(crate) machines: Machines,
    /// Only what the changes since this commit can break.
    pub(crate) changed_since: Option<String>,
    /// Print the results as JSON.
    pub(crate) json: bool,
    /// Whether QEMU may be installed.
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
        suites.extend(stage("isolation audit", isolation::run(workspace, &scope)));
    }
    conclude(&suites, filter, request.json)
}
