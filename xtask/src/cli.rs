//! The command line. Only the entry function uses this module; [`crate::error`] has the errors and their exit
//! status.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use coppice_run_protocol::faults;

use crate::kernel::Flavor;
use crate::machine::Kind;
use crate::machine_args::{MachineArgs, may_install, parse_option, parse_word};
use crate::workspace::Workspace;
use crate::{audit, bench, demo, iso, powerloss, run, scaffold, serve_device, soak, test};

/// Builds, boots, tests and audits Coppice.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a system with this terminal as its console; Ctrl-C ends it
    Run {
        /// A manifest in systems/, without .toml [default: shell if there is one, else tour]
        system: Option<String>,
        #[command(flatten)]
        machine: MachineArgs,
        /// Use Coppice's device models on bare as well, with all of their options, instead of QEMU's own
        /// devices
        #[arg(long)]
        models: bool,
        /// Boot a kernel for production, without the interfaces of examples and tests
        #[arg(long)]
        production: bool,
        /// Boot a system also if the isolation audit has findings in its images
        #[arg(long)]
        unaudited: bool,
    },
    /// Crash a disk driver (or a network driver) repeatedly under load, and show that nothing is lost
    Demo {
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        net: NetArgs,
        /// Instead of an NVMe controller with an image, use a disk of zeroes in the memory of another domain
        #[arg(long, conflicts_with_all = ["disks", "net"])]
        memory_disk: bool,
        /// The interval between crashes
        #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
        every: Duration,
        /// The fault to inject: all in turn, none, Kill, or a kind such as Panic
        /// (interfaces/testing/src/fault.rs); case does not matter
        #[arg(long, default_value = faults::ALL, value_parser = parse_fault)]
        fault: String,
        /// The duration of the run
        #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
        duration: Duration,
        /// Compare with the same load without crashes and with one crash per second
        #[arg(long)]
        compare: bool,
        /// Print the report as JSON instead of a summary
        #[arg(long)]
        json: bool,
        /// Print plain lines instead of the live display, even on a terminal
        #[arg(long)]
        plain: bool,
    },
    /// Run unit tests, compile-fail tests, scenarios and the isolation audit
    Test {
        /// Only tests whose names contain this text
        filter: Option<String>,
        /// Boot systems on this machine only
        #[arg(long, value_enum, default_value_t = test::Machines::All)]
        machine: test::Machines,
        /// Only tests that a change can break
        ///
        /// That is: unit tests of the packages with changed files and of packages that depend on those; boots
        /// of systems whose manifest, images or kernel depend on them; for a page, the tests that read it;
        /// for xtask, its own tests. Cargo.toml and Cargo.lock at the root, .cargo, .ci and files that belong
        /// to no package select everything. Prints the selection and its reasons.
        #[arg(long)]
        changed: bool,
        /// With --changed: compare with the last common commit with REV; uncommitted and untracked files
        /// count
        #[arg(long, requires = "changed", value_name = "REV", default_value = "HEAD")]
        base: String,
        /// Print the suites as JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
        #[arg(long)]
        no_install: bool,
    },
    /// Run benchmarks with baselines in the same run, and write target/reports/NAME.json and .svg
    Bench {
        /// Folders in benches/ [default: all]
        names: Vec<String>,
        /// hosted measures time; bare counts instructions on one CPU
        #[arg(long, value_enum, default_value_t = Kind::Hosted)]
        machine: Kind,
        /// Print the reports as JSON instead of tables
        #[arg(long)]
        json: bool,
        /// The time limit of each benchmark, passed to it as the option seconds=N
        #[arg(long)]
        seconds: Option<u64>,
        /// On bare, measure time with two CPUs instead, that is, the speed of the emulator
        #[arg(long)]
        time: bool,
        /// Measure fewer figures in benchmarks that have many (nvme, net)
        #[arg(long)]
        quick: bool,
        /// Only figures whose names contain this text, such as 4k/rand/read/d32 (nvme) or /60/b32/ (net)
        #[arg(long, value_name = "TEXT", value_parser = parse_word)]
        only: Option<String>,
        /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
        #[arg(long)]
        no_install: bool,
    },
    /// End and restart domains under load, check every guarantee, and write target/reports/soak.json and
    /// .html
    Soak {
        /// hosted, or bare, which is much slower
        #[arg(long, value_enum, default_value_t = Kind::Hosted)]
        machine: Kind,
        /// The number of instances to end [default: 1000000 on hosted, 10000 on bare]
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        cycles: Option<u64>,
        /// The number of CPUs
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
        cpus: u32,
        /// The random seed, as printed by an earlier run [default: from the time]
        #[arg(long)]
        seed: Option<u64>,
        /// Instead, run storms of kills at exact instants, on bare: one for each of N seeds from --seed on
        #[arg(long, conflicts_with_all = ["cycles", "json"], value_name = "N")]
        seeds: Option<u64>,
        /// Print the report as JSON instead of tables
        #[arg(long)]
        json: bool,
        /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
        #[arg(long)]
        no_install: bool,
    },
    /// Kill a machine whose disk is under load, and check that all durable writes survive
    Powerloss {
        /// hosted checks the resulting image; bare checks every image that a power loss at any moment could
        /// leave
        #[arg(long, value_enum, default_value_t = Kind::Bare)]
        machine: Kind,
        /// The number of runs
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
        runs: u64,
        /// The random seed of the first run; each further run adds 1 [default: from the time]
        #[arg(long)]
        seed: Option<u64>,
        /// End the driver every MS milliseconds during the load; 0 for never [default: 100]
        #[arg(long, value_name = "MS")]
        every: Option<u64>,
        /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
        #[arg(long)]
        no_install: bool,
    },
    /// Serve a device model to other machines as a VFIO-user device, until Ctrl-C
    Device {
        /// MODEL or MODEL,OPTIONS as in docs/devices.md: ixgbe,peer=loopback
        device: String,
        /// The path of the socket, which must not exist yet
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// Serve one machine and end
        #[arg(long)]
        once: bool,
    },
    /// Audit isolation: no domain holds unsafe code that the trusted set did not write
    Check {
        /// Print findings and the trusted set as JSON
        #[arg(long)]
        json: bool,
    },
    /// Create domains/NAME and systems/NAME.toml: a domain that builds, loads and can be called
    NewDomain {
        /// Lower-case letters, digits and hyphens, starting with a letter
        name: String,
    },
    /// Make an ISO image that boots by BIOS and by UEFI
    Iso {
        /// A manifest in systems/, without .toml [default: shell if there is one, else tour]
        system: Option<String>,
        /// The output file [default: target/SYSTEM.iso]
        #[arg(long, short)]
        output: Option<PathBuf>,
        /// Options for the kernel
        #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_option)]
        options: Vec<String>,
        /// Use a kernel for production, without the interfaces of examples and tests
        #[arg(long)]
        production: bool,
        /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
        #[arg(long)]
        no_install: bool,
    },
}

/// The demonstration of a network driver.
#[derive(Args)]
pub(crate) struct NetArgs {
    /// Instead, crash a network driver while it forwards frames at the rate of a 10 Gb/s wire
    #[arg(long, conflicts_with = "disks")]
    net: bool,
    /// Bytes of each frame, without FCS
    #[arg(long, requires = "net", default_value_t = 60, value_name = "BYTES",
        value_parser = clap::value_parser!(u16).range(60..=1514))]
    frame: u16,
    /// Frames offered per second [default: the rate of the wire, or this machine's forwarding rate if lower]
    #[arg(long, requires = "net", value_name = "N")]
    rate: Option<u64>,
    /// Write all frames of the wire to this file, in pcap format
    #[arg(long, requires = "net", value_name = "FILE")]
    capture: Option<PathBuf>,
    /// Faults that the device injects during the run (docs/devices.md)
    #[arg(long, requires = "net", value_name = "TEXT", value_parser = parse_word)]
    faults: Option<String>,
}

impl NetArgs {
    fn traffic(self) -> Option<demo::Traffic> {
        let Self { net, frame, rate, capture, faults } = self;
        let traffic = demo::Traffic { frame_bytes: frame, per_second: rate.unwrap_or(0), capture, faults };
        net.then_some(traffic)
    }
}

/// Parses the option `--fault`.
fn parse_fault(text: &str) -> Result<String, String> {
    let known = || {
        let words = [faults::ALL, faults::NONE, faults::KILL].into_iter().chain(faults::NAMES);
        words.collect::<Vec<_>>().join(", ")
    };
    faults::named(text)
        .map(str::to_owned)
        .ok_or_else(|| format!("there is no such fault; the words are {}", known()))
}

/// A refusal of the command line as one line: clap separates its parts by line breaks, and adds the usage and
/// the option for help.
fn one_line(message: &str) -> String {
    let is_part = |line: &&str| {
        !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
    };
    message.lines().map(str::trim).filter(is_part).collect::<Vec<_>>().join(" ")
}

impl Cli {
    /// Parses the command line.
    ///
    /// # Errors
    /// The exit status, if the command line is malformed or only asks for help; the message is printed.
    pub(crate) fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayVersion => error.exit(),
            _ => {
                eprintln!("{}", one_line(&error.render().to_string()));
                ExitCode::from(2)
            }
        })
    }

    /// Runs the command of the command line.
    pub(crate) fn run(self) -> Result<()> {
        let workspace = Workspace::load()?;
        match self.command {
            Command::Run { system, machine, models, production, unaudited } => {
                run::interactive(&workspace, system, &machine, models, unaudited, Flavor::new(production))
            }
            Command::Demo { machine, net, memory_disk, every, fault, duration, compare, json, plain } => {
                let driver = match net.traffic() {
                    Some(traffic) => demo::Driver::Net(traffic),
                    None => demo::Driver::Disk { in_memory: memory_disk },
                };
                demo::run(
                    &workspace,
                    &demo::Request { driver, every, fault, duration, compare, json, plain, machine },
                )
            }
            Command::Test { filter, machine: machines, changed, base, json, no_install } => {
                let changed_since = changed.then_some(base);
                let may_install = may_install(no_install);
                test::run(&workspace, &test::Request { filter, machines, changed_since, json, may_install })
            }
            Command::Bench { names, machine, json, seconds, time, quick, only, no_install } => {
                let may_install = may_install(no_install);
                bench::run(
                    &workspace,
                    &bench::Request { names, machine, json, seconds, time, quick, only, may_install },
                )
            }
            Command::Soak { machine, cycles, cpus, seed, seeds, json, no_install } => {
                let may_install = may_install(no_install);
                match seeds {
                    Some(seeds) => soak::storm::run(&workspace, seed.unwrap_or(0), seeds, may_install),
                    None => soak::run(
                        &workspace,
                        &soak::Request { machine, cycles, cpus, seed, json, may_install },
                    ),
                }
            }
            Command::Powerloss { machine, runs, seed, every, no_install } => powerloss::run(
                &workspace,
                &powerloss::Request {
                    machine,
                    runs,
                    seed,
                    every_ms: every.unwrap_or(100),
                    may_install: may_install(no_install),
                },
            ),
            Command::Device { device, socket, once } => {
                serve_device::serve(&workspace, &device, &socket, once)
            }
            Command::Check { json } => audit::run(&workspace, json),
            Command::NewDomain { name } => scaffold::new_domain(&workspace.root, &name),
            Command::Iso { system, output, options, production, no_install } => {
                let flavor = Flavor::new(production);
                iso::make(&workspace, system, output, &options, flavor, may_install(no_install))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_valid_words() {
        let refusal = |arguments: &[&str]| {
            let words = ["xtask"].iter().chain(arguments);
            let error = Cli::try_parse_from(words).err().expect("it is refused");
            assert_eq!(error.exit_code(), 2);
            one_line(&error.render().to_string())
        };
        let fault = refusal(&["demo", "--fault", "Panik"]);
        assert!(fault.starts_with("error: invalid value 'Panik' for '--fault <FAULT>': "), "{fault}");
        assert!(fault.contains("PanicInDrop") && !fault.contains('\n'), "{fault}");
        let machine = refusal(&["demo", "--machine", "bear"]);
        assert!(
            machine.contains("bare") && machine.contains("hosted") && !machine.contains('\n'),
            "{machine}"
        );
        assert!(refusal(&["dmo"]).contains("'demo'"));
        assert!(Cli::try_parse_from(["xtask", "demo", "--fault", "pANIC"]).is_ok());
    }

    #[test]
    fn no_module_but_the_entry_function_uses_this_one() {
        let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
        let (mut users, mut files) = (Vec::new(), 0);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the folder can be read") {
                let path = entry.expect("the folder can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|name| name != "cli.rs" && name != "main.rs") {
                    files += 1;
                    let text = std::fs::read_to_string(&path).expect("the file can be read");
                    users.extend(text.contains(concat!("cli", "::")).then_some(path));
                }
            }
        }
        assert!(
            files > 30 && users.is_empty(),
            "{files} files, of which these use the command line: {users:?}"
        );
    }
}
