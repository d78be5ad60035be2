//! `test`: everything that must pass, in one command and one table.
//!
//! 1. unit tests and compile-fail tests of all packages that run on the host, by one `cargo test`;
//! 2. the scenarios, which boot systems built beforehand and are told where they lie by environment variables;
//! 3. exact instruction counts, where there is QEMU;
//! 4. a short soak on each machine;
//! 5. a disk under load whose driver is killed, and one power loss on each machine;
//! 6. a network driver on QEMU's own model, where there is one;
//! 7. the demonstrations for a moment, on each machine: a disk's driver, and a network device's while it forwards;
//! 8. the isolation audit.
//!
//! A suite that ran nothing has failed, unless a filter asked for that: silence is not success.

mod instructions;
mod output;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Package, Target};

use crate::devices::Device;
use crate::machine::{Kind, Launch};
use crate::qemu::Qemu;
use crate::ui::{Step, show, table};
use crate::workspace::{Workspace, is_image};
use crate::{audit, bench, demo, image, install, kernel, machine, pack, powerloss, soak};
use output::{Counts, Event};

/// The integration test that boots systems, and the package it belongs to.
const SCENARIOS: (&str, &str) = ("coppice-kernel", "scenarios");

/// Where scenarios run.
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

/// What came of one suite.
struct Suite {
    name: String,
    counts: Counts,
    time: Duration,
    /// Why it failed although no test did.
    trouble: Option<String>,
}

impl Suite {
    /// One trial, begun at `started`.
    fn of_one(name: String, outcome: Result<()>, started: Instant) -> Self {
        let counts = Counts {
            passed: usize::from(outcome.is_ok()),
            failed: usize::from(outcome.is_err()),
            ignored: 0,
        };
        let trouble = outcome.err().map(|error| format!("{error:#}"));
        Self { name, counts, time: started.elapsed(), trouble }
    }

    fn failed(&self) -> bool {
        self.counts.failed > 0 || self.trouble.is_some()
    }
}

/// Runs everything, prints a table, and fails if anything did.
pub(crate) fn run(
    workspace: &Workspace,
    machines: Machines,
    filter: Option<&str>,
    may_install: bool,
) -> Result<()> {
    let mut suites = stage("unit tests", unit_tests(workspace, filter));
    suites.extend(stage("scenarios", scenarios(workspace, machines, filter, may_install)));
    if filter.is_none() {
        if machines != Machines::Hosted {
            suites.extend(stage("instruction counts", instruction_counts(workspace)));
        }
        suites.extend(stage("soak", soaks(workspace, machines)));
        suites.extend(stage("integrity", integrity(workspace, machines)));
        suites.extend(stage("igb", igb(workspace, machines)));
        suites.extend(stage("demo", demonstrations(workspace, machines)));
        suites.extend(stage("isolation audit", isolation_audit(workspace)));
    }
    conclude(&suites, filter)
}

/// A stage that could not be run at all counts as one suite that failed, and the others still run.
fn stage(name: &str, outcome: Result<Vec<Suite>>) -> Vec<Suite> {
    outcome.unwrap_or_else(|error| {
        let trouble = Some(format!("{error:#}"));
        vec![Suite { name: name.to_owned(), counts: Counts::default(), time: Duration::ZERO, trouble }]
    })
}

fn conclude(suites: &[Suite], filter: Option<&str>) -> Result<()> {
    let mut rows = vec![["suite", "passed", "failed", "ignored", "time"].map(str::to_owned).to_vec()];
    let mut total = Counts::default();
    for suite in suites {
        let Counts { passed, failed, ignored } = suite.counts;
        total = total + suite.counts;
        // A suite that broke without a failing test still has to show in the closing line.
        total.failed += usize::from(suite.trouble.is_some() && failed == 0);
        rows.push(vec![
            suite.name.clone(),
            passed.to_string(),
            failed.to_string(),
            ignored.to_string(),
            crate::ui::seconds(suite.time),
        ]);
    }
    println!("\n{}", table(&rows));
    for suite in suites {
        if let Some(trouble) = &suite.trouble {
            println!("{}: {trouble}", suite.name);
        }
    }
    if total.passed + total.failed == 0 {
        let filter = filter.unwrap_or_default();
        bail!("no test ran: none has \"{filter}\" in its name");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} suites failed", suites.iter().filter(|suite| suite.failed()).count());
    }
    Ok(())
}

/// What one `cargo test` is asked to run.
#[derive(Default)]
struct Selection {
    packages: BTreeSet<String>,
    libraries: bool,
    binaries: BTreeSet<String>,
    tests: BTreeSet<String>,
}

impl Selection {
    fn of(workspace: &Workspace) -> Self {
        let mut selection = Self::default();
        let defaults: BTreeSet<_> =
            workspace.metadata.workspace_default_packages().into_iter().map(|package| &package.id).collect();
        for package in workspace.metadata.workspace_packages() {
            // An image's own binary is freestanding, but its library is ordinary code.
            let is_default = defaults.contains(&package.id);
            let mut any = false;
            for target in package.targets.iter().filter(|target| target.test) {
                any |= selection.take(package, target, is_default);
            }
            if any {
                selection.packages.insert(package.name.to_string());
            }
        }
        selection
    }

    fn take(&mut self, package: &Package, target: &Target, is_default: bool) -> bool {
        if target.is_lib() || target.is_proc_macro() {
            self.libraries = true;
            return true;
        }
        if !is_default || is_image(package) {
            return false;
        }
        if target.is_bin() {
            self.binaries.insert(target.name.clone());
        } else if target.is_test() && (package.name.as_str(), target.name.as_str()) != SCENARIOS {
            self.tests.insert(target.name.clone());
        } else {
            return false;
        }
        true
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--no-fail-fast".to_owned()];
        arguments.extend(self.libraries.then(|| "--lib".to_owned()));
        for (flag, names) in [("-p", &self.packages), ("--bin", &self.binaries), ("--test", &self.tests)] {
            arguments.extend(names.iter().flat_map(|name| [flag.to_owned(), name.clone()]));
        }
        arguments
    }
}

fn unit_tests(workspace: &Workspace, filter: Option<&str>) -> Result<Vec<Suite>> {
    let selection = Selection::of(workspace);
    let cargo_test = || {
        let mut cargo = workspace.cargo("test");
        // Even empty, it would overrule the flags with which trybuild has the compiler spell types out.
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").args(selection.arguments());
        cargo
    };
    let step = Step::start("compiling unit tests");
    step.run(cargo_test().arg("--no-run"))?;
    step.done("");

    let step = Step::start("running unit tests");
    let mut cargo = cargo_test();
    cargo.arg("--").args(filter);
    let mut suites = run_suites(&step, &mut cargo, None)?;
    let total = suites.iter().map(|suite| suite.counts).fold(Counts::default(), |a, b| a + b);
    step.done(&total.to_string());
    if filter.is_some() {
        suites.retain(|suite| suite.counts != Counts::default() || suite.failed());
        return Ok(suites);
    }
    // A library may well have nothing to test by itself; a file of tests may not, nor may all of them together.
    for suite in &mut suites {
        if selection.tests.contains(&suite.name) {
            refuse_silence(suite);
        }
    }
    suites.retain(|suite| suite.counts != Counts::default() || suite.failed());
    if suites.is_empty() {
        bail!("no unit test ran");
    }
    Ok(suites)
}

fn scenarios(
    workspace: &Workspace,
    machines: Machines,
    filter: Option<&str>,
    may_install: bool,
) -> Result<Vec<Suite>> {
    let (package, test) = SCENARIOS;
    let exists = workspace
        .member(package)
        .is_some_and(|package| package.targets.iter().any(|target| target.is_test() && target.name == test));
    if !exists {
        bail!("the scenarios are missing: {package} has no integration test \"{test}\"");
    }
    let qemu = match machines {
        Machines::Hosted => None,
        Machines::Bare => machine::choose(Some(Kind::Bare), may_install)?.1,
        Machines::All => find_or_install_qemu(may_install)?,
    };
    let images = image::build_all(workspace)?;
    let archives = pack::pack_all(workspace, &images)?;
    let mut cargo = workspace.cargo("test");
    cargo.args(["-p", package, "--test", test]);
    for variable in ["COPPICE_HOSTED", "COPPICE_BARE", "COPPICE_QEMU", "COPPICE_DEVICE"] {
        cargo.env_remove(variable);
    }
    cargo.env("COPPICE_ARCHIVES", archives);
    cargo.env("COPPICE_IMAGES", workspace.target.join("images"));
    if machines != Machines::Bare {
        cargo.env("COPPICE_HOSTED", kernel::build(workspace, Kind::Hosted)?);
    }
    if let Some(qemu) = &qemu {
        cargo.env("COPPICE_BARE", kernel::build(workspace, Kind::Bare)?).env("COPPICE_QEMU", &qemu.program);
        cargo.env("COPPICE_DEVICE", kernel::build_device_host(workspace)?);
    }

    let step = Step::start("compiling scenarios");
    let mut compile = workspace.cargo("test");
    step.run(compile.args(["-p", package, "--test", test, "--no-run"]))?;
    step.done("");
    let step = Step::start("running scenarios");
    let mut suites = run_suites(&step, cargo.arg("--").args(filter), Some(test))?;
    let total = suites.iter().map(|suite| suite.counts).fold(Counts::default(), |a, b| a + b);
    step.done(&total.to_string());
    if filter.is_none() {
        suites.iter_mut().for_each(refuse_silence);
    }
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
            reason.map_or_else(|| "its package brought none".to_owned(), |error| format!("{error:#}"));
        eprintln!("scenarios run on the hosted machine only, because there is no QEMU: {reason}");
    }
    Ok(qemu)
}

/// Compares what the benchmarks count with what is recorded. Only QEMU can count, and only one compiler's code has the
/// recorded counts: without either, nothing is claimed.
fn instruction_counts(workspace: &Workspace) -> Result<Vec<Suite>> {
    let Some(qemu) = Qemu::find()? else { return Ok(Vec::new()) };
    let compiler = workspace.compiler()?;
    let machine = machine::Machine::build(workspace, Kind::Bare, Some(qemu))?;
    let mut suites = Vec::new();
    for name in bench::select(workspace, &[])? {
        let file = workspace.root.join("benches").join(&name).join("instructions.toml");
        let Some(recorded) = instructions::Recorded::read(&file)? else { continue };
        let step = Step::start(format!("counting instructions of {name}"));
        if recorded.compiler != compiler {
            step.done(&format!("left out: recorded for {}, this is {compiler}", recorded.compiler));
            continue;
        }
        let measured = bench::count_instructions(workspace, &machine, &name, recorded.only.clone())?;
        let mut counts = Counts::default();
        for outcome in recorded.compare(&measured) {
            counts.passed += usize::from(outcome.is_ok());
            counts.failed += usize::from(outcome.is_err());
            if let Err(difference) = outcome {
                step.line(&difference);
            }
        }
        let suite =
            Suite { name: format!("instructions of {name}"), counts, time: step.elapsed(), trouble: None };
        step.done(&suite.counts.to_string());
        suites.push(suite);
    }
    Ok(suites)
}

/// A moment of `cargo xtask soak` on each machine that there is: as many lives as end in a few seconds.
/// Loads on disks for a moment, and power losses: see docs/integrity.md.
fn integrity(workspace: &Workspace, machines: Machines) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    let mut suite = |name: String, outcome: Result<()>, started: Instant| {
        suites.push(Suite::of_one(name, outcome, started));
    };
    if machines != Machines::Bare {
        for system in ["integrity", "integrity-memory"] {
            let started = Instant::now();
            let options = ["integrity-duration=3s", "log=error"];
            let machine = machine::Machine::build(workspace, Kind::Hosted, None)?;
            suite(format!("{system} on hosted"), boot(workspace, &machine, system, &options), started);
        }
    }
    for kind in [Kind::Hosted, Kind::Bare] {
        match (kind, machines) {
            (Kind::Hosted, Machines::Bare) | (Kind::Bare, Machines::Hosted) => continue,
            (Kind::Bare, _) if Qemu::find()?.is_none() => continue,
            _ => {}
        }
        let started = Instant::now();
        let request =
            powerloss::Request { machine: kind, runs: 1, seed: Some(1), every_ms: 100, may_install: false };
        suite(format!("power loss on {kind}"), powerloss::run(workspace, &request), started);
    }
    Ok(suites)
}

/// The network driver on QEMU's own model of a controller that it knows too, where this QEMU has one.
fn igb(workspace: &Workspace, machines: Machines) -> Result<Vec<Suite>> {
    const SYSTEM: &str = "nics-igb";
    if machines == Machines::Hosted {
        return Ok(Vec::new());
    }
    let Some(qemu) = Qemu::find()? else { return Ok(Vec::new()) };
    let devices = pack::read_manifest(workspace, SYSTEM)?.devices(&[])?;
    let least = devices.iter().map(Device::least_qemu).max().unwrap_or(0);
    if qemu.major() < least {
        eprintln!("{SYSTEM} is left out: QEMU {least} and later have its device, and this is {qemu}");
        return Ok(Vec::new());
    }
    let machine = machine::Machine::build(workspace, Kind::Bare, Some(qemu))?;
    let started = Instant::now();
    let outcome = boot(workspace, &machine, SYSTEM, &["log=error"]);
    Ok(vec![Suite::of_one(format!("{SYSTEM} on bare"), outcome, started)])
}

/// Boots a system that ends by itself, and in success if all was well.
fn boot(workspace: &Workspace, machine: &machine::Machine, system: &str, options: &[&str]) -> Result<()> {
    /// Longer than any of them takes.
    const PATIENCE: Duration = Duration::from_secs(180);
    /// Lines of the console that are shown if it ends otherwise.
    const CONSOLE: usize = 20;
    let manifest = pack::read_manifest(workspace, system)?;
    let images = image::build_all(workspace)?;
    let launch = Launch {
        devices: manifest.devices(&[])?,
        archive: pack::pack(workspace, &manifest, &images)?,
        cpus: 2,
        memory: "512M".to_owned(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        count_instructions: false,
    };
    let mut console = Vec::new();
    let ending = machine.watch(&launch, PATIENCE, |line| console.push(line.to_owned()))?;
    let shown = console[console.len().saturating_sub(CONSOLE)..].join("\n");
    ending.into_result(system).with_context(|| shown)
}

fn soaks(workspace: &Workspace, machines: Machines) -> Result<Vec<Suite>> {
    const CYCLES: [(Kind, u64); 2] = [(Kind::Hosted, 10_000), (Kind::Bare, 400)];
    let mut suites = Vec::new();
    for (kind, cycles) in CYCLES {
        let Some(machine) = machine_of(workspace, kind, machines)? else { continue };
        let started = Instant::now();
        let done = soak::short(workspace, &machine, kind, cycles);
        let mut suite = Suite {
            name: format!("soak on {kind}"),
            counts: Counts {
                passed: usize::from(done.is_ok()),
                failed: usize::from(done.is_err()),
                ignored: 0,
            },
            time: started.elapsed(),
            trouble: None,
        };
        match done {
            // It ends early only when somebody wants that.
            Ok(done) if done < cycles => {
                suite.counts.passed = 0;
                suite.trouble = Some(format!("{done} of {cycles} cycles were done"));
            }
            Ok(_) => {}
            Err(error) => suite.trouble = Some(format!("{error:#}")),
        }
        suites.push(suite);
    }
    Ok(suites)
}

/// A moment of `cargo xtask demo` on each machine that there is, of each driver.
fn demonstrations(workspace: &Workspace, machines: Machines) -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for kind in [Kind::Hosted, Kind::Bare] {
        let Some(machine) = machine_of(workspace, kind, machines)? else { continue };
        for (name, driver) in demo::each() {
            let started = Instant::now();
            let outcome = demo::short(workspace, &machine, kind, driver);
            suites.push(Suite::of_one(format!("{name} on {kind}"), outcome, started));
        }
    }
    Ok(suites)
}

/// A machine with its kernel, if it is wanted and there.
fn machine_of(workspace: &Workspace, kind: Kind, machines: Machines) -> Result<Option<machine::Machine>> {
    let qemu = match (kind, machines) {
        (Kind::Hosted, Machines::Bare) | (Kind::Bare, Machines::Hosted) => return Ok(None),
        (Kind::Hosted, _) => None,
        // That there is none was said when the scenarios ran, or was an error then.
        (Kind::Bare, _) => match Qemu::find()? {
            Some(qemu) => Some(qemu),
            None => return Ok(None),
        },
    };
    machine::Machine::build(workspace, kind, qemu).map(Some)
}

fn isolation_audit(workspace: &Workspace) -> Result<Vec<Suite>> {
    let step = Step::start("auditing isolation");
    let audit = audit::audit(workspace)?;
    for finding in &audit.findings {
        step.line(&format!("FINDING {finding}"));
    }
    let failed = audit.findings.len();
    let mut suite = Suite {
        name: "isolation audit".to_owned(),
        counts: Counts { passed: usize::from(failed == 0), failed, ignored: 0 },
        time: step.elapsed(),
        trouble: None,
    };
    if audit.audited.is_empty() {
        suite.counts.passed = 0;
        suite.trouble = Some("there was no domain to audit".to_owned());
    }
    step.done(&format!("{} packages, {failed} findings", audit.audited.len()));
    Ok(vec![suite])
}

fn refuse_silence(suite: &mut Suite) {
    if suite.counts.passed + suite.counts.failed == 0 && suite.trouble.is_none() {
        suite.trouble = Some("ran no test".to_owned());
    }
}

/// Runs a `cargo test` and reads what its suites say. `single` is the name of the only suite, whose lines are shown
/// as they come; of several, only those that failed are shown.
fn run_suites(step: &Step, cargo: &mut Command, single: Option<&str>) -> Result<Vec<Suite>> {
    let shown = show(cargo);
    // One pipe for both streams keeps cargo's headings and the suites' lines in order.
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let other = writer.try_clone().context("making a pipe")?;
    cargo.stdin(Stdio::null()).stdout(writer).stderr(other);
    let mut child = cargo.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    // The command owns the pipe's writing ends; until they are closed here, the reader would wait for us.
    cargo.stdout(Stdio::null()).stderr(Stdio::null());

    let mut suites: Vec<Suite> = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    let mut started = Instant::now();
    let mut current: Option<String> = None;
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.with_context(|| format!("reading what `{shown}` says"))?;
        let line = String::from_utf8_lossy(&line).into_owned();
        match output::event(&line) {
            Some(Event::Started(name)) => {
                step.status(&name);
                // The suite before, if there still is one, left without a result.
                suites.extend(broken(current.replace(name), started, &mut lines, step, single));
                started = Instant::now();
            }
            Some(Event::Finished(counts)) if let Some(name) = current.take() => {
                if counts.failed > 0 && single.is_none() {
                    step.line(&lines.join("\n"));
                }
                lines.clear();
                suites.push(Suite { name, counts, time: started.elapsed(), trouble: None });
            }
            _ if single.is_some() && current.is_some() => step.line(&line),
            _ => lines.push(line),
        }
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    suites.extend(broken(current.take(), started, &mut lines, step, single));
    if !status.success() && !suites.iter().any(Suite::failed) {
        bail!("`{shown}` failed ({status}):\n{}", lines.join("\n"));
    }
    Ok(suites)
}

/// The suite `name` ended without saying how.
fn broken(
    name: Option<String>,
    started: Instant,
    lines: &mut Vec<String>,
    step: &Step,
    single: Option<&str>,
) -> Option<Suite> {
    let name = name?;
    if single.is_none() {
        step.line(&lines.join("\n"));
    }
    lines.clear();
    let trouble = Some("ended without a result; its output is above".to_owned());
    Some(Suite { name, counts: Counts::default(), time: started.elapsed(), trouble })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &str, passed: usize, failed: usize) -> Suite {
        let counts = Counts { passed, failed, ignored: 0 };
        Suite { name: name.into(), counts, time: Duration::ZERO, trouble: None }
    }

    #[test]
    fn unit_tests_are_those_of_all_default_members() {
        let selection = Selection::of(&Workspace::load().expect("this is a workspace"));
        for (kind, name) in [
            (&selection.tests, "isolation"),
            (&selection.tests, "adding_a_domain"),
            (&selection.binaries, "coppice-hosted"),
            (&selection.packages, "coppice-domain-echo"),
        ] {
            assert!(kind.contains(name), "{name} is left out");
        }
        assert!(!selection.binaries.contains("echo"), "a freestanding binary has no tests of the host's");
    }

    #[test]
    fn a_suite_that_ran_nothing_has_failed() {
        let mut silent = suite("a", 0, 0);
        refuse_silence(&mut silent);
        assert!(silent.failed());
        assert!(conclude(&[silent, suite("b", 3, 0)], None).is_err());
    }

    #[test]
    fn a_filter_that_matches_nothing_is_an_error() {
        assert!(conclude(&[suite("a", 0, 0)], Some("nonsense")).is_err());
        assert!(conclude(&[suite("a", 0, 0), suite("b", 1, 0)], Some("some")).is_ok());
    }

    #[test]
    fn one_failed_test_fails_everything() {
        assert!(conclude(&[suite("a", 10, 1)], None).is_err());
    }
}
