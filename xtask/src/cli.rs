//! The command line, and the exit status of each kind of error.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::kernel::Flavor;
use crate::machine::Kind;
use crate::workspace::Workspace;
use crate::{audit, bench, demo, device, iso, powerloss, run, scaffold, soak, test};

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
        /// (interfaces/testing/src/fault.rs)
        #[arg(long, default_value = "all", value_parser = parse_word)]
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

/// The machine that a system runs on, and its configuration.
#[derive(Args)]
pub(crate) struct MachineArgs {
    /// The machine to boot on [default: bare if QEMU is present or may be installed, else hosted]
    #[arg(long, value_enum)]
    pub(crate) machine: Option<Kind>,
    /// The number of CPUs
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// The size of memory: a number and M or G
    #[arg(long, default_value = "512M", value_parser = parse_memory)]
    pub(crate) memory: String,
    /// An option for the kernel; may be repeated
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse_option)]
    pub(crate) options: Vec<String>,
    /// A disk image instead of the next disk of the manifest; may be repeated. The system may write to it;
    /// `demo` uses a copy
    #[arg(long = "disk", value_name = "FILE")]
    pub(crate) disks: Vec<PathBuf>,
    /// Never install anything; COPPICE_NO_INSTALL in the environment has the same effect
    #[arg(long)]
    pub(crate) no_install: bool,
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

/// Returns true if packages may be installed, given `--no-install`.
pub(crate) fn may_install(no_install: bool) -> bool {
    !no_install && std::env::var_os("COPPICE_NO_INSTALL").is_none()
}

fn parse_memory(text: &str) -> Result<String, String> {
    let number = text.strip_suffix(['M', 'G']).ok_or("expected a number followed by M or G, such as 512M")?;
    match number.parse::<u32>() {
        Ok(0) => Err("a machine needs some memory".into()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("\"{number}\" is not a number of megabytes or gigabytes: {error}")),
    }
}

/// Parses a word of the kernel's command line, which has no quoting.
fn parse_word(text: &str) -> Result<String, String> {
    let valid = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"');
    if valid { Ok(text.to_owned()) } else { Err("expected text without spaces or quotes".into()) }
}

fn parse_option(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, value)) if parse_word(name).is_ok() && parse_word(value).is_ok() => Ok(text.to_owned()),
        _ => Err("expected NAME=VALUE, neither of them empty or with spaces or quotes".into()),
    }
}

impl Cli {
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
            Command::Device { device, socket, once } => device::serve(&workspace, &device, &socket, once),
            Command::Check { json } => audit::run(&workspace, json),
            Command::NewDomain { name } => scaffold::new_domain(&workspace.root, &name),
            Command::Iso { system, output, options, production, no_install } => {
                let flavor = Flavor::new(production);
                iso::make(&workspace, system, output, &options, flavor, may_install(no_install))
            }
        }
    }
}

/// An error of the command line: it names an unknown item or is inconsistent.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Ctrl-C was pressed.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The exit status for an error: 2 for a bad command line (as clap does), 130 after Ctrl-C (as shells do),
/// else 1.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        2
    } else if error.is::<Interrupted>() {
        130
    } else {
        1
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
    fn memory_is_a_number_and_a_unit() {
        assert!(parse_memory("64M").is_ok() && parse_memory("8G").is_ok());
        for bad in ["64", "M", "0M", "-1M", "64K", "1.5G"] {
            assert!(parse_memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_option_cannot_contain_a_second_one() {
        assert!(parse_option("log=debug").is_ok());
        for bad in ["log", "=x", "log=", "log=a trace=on", "log=\"a\""] {
            assert!(parse_option(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn usage_errors_exit_with_two() {
        assert_eq!(exit_code(&Usage("x".into()).into()), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("x")), 1);
    }
}
