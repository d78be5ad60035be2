//! `soak`: boots the system `soak`, follows its lines, checks its guarantees, and reports.
//!
//! The domain checks the guarantees that are visible only inside the system (verification/suites/soak), and
//! prints a line for each violation. The host checks progress, the ending, and that restarts do not become
//! slower.

pub(crate) mod storm;

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use xtask_report::measurement::Report;
use xtask_report::soak::{RunLog, page};

use crate::baseline;
use crate::error::Interrupted;
use crate::image::write_if_changed;
use crate::machine::{self, ConsoleEvent, Ending, Input, Kind, Launch, Machine};
use crate::pack;
use crate::ui::{self, Step};
use crate::workspace::Workspace;

/// The system's name.
pub(crate) const SYSTEM: &str = "soak";
/// The time without progress after which the system is considered hung.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit for the last checks of a system that was told to stop.
const LAST_CHECKS: Duration = Duration::from_secs(30);
/// The interval of status lines where no terminal shows the status.
const REMINDER: Duration = Duration::from_secs(15);
/// Lines of the console that are shown if a system did not end in success.
const SHOWN: usize = 30;

/// The options of the command line.
pub(crate) struct Request {
    /// The machine to boot on.
    pub(crate) machine: Kind,
    /// The number of instances to end; by default it depends on the machine.
    pub(crate) cycles: Option<u64>,
    /// The number of CPUs.
    pub(crate) cpus: u32,
    /// The random seed; by default it comes from the time.
    pub(crate) seed: Option<u64>,
    /// Print the report as JSON.
    pub(crate) json: bool,
    /// Allow the installation of QEMU.
    pub(crate) may_install: bool,
}

/// The report in `target/reports`.
#[derive(Serialize)]
struct SoakReport<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(flatten)]
    log: &'a RunLog,
}

/// Runs a soak and reports.
///
/// # Errors
/// If a guarantee was violated.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let (kind, qemu) = machine::choose(Some(request.machine), request.may_install)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let cycles = request.cycles.unwrap_or(if kind == Kind::Bare { 10_000 } else { 1_000_000 });
    let seed = request.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Few digits, because the seed may have to be typed again.
        since.map_or(0, |time| u64::from(time.subsec_nanos()))
    });
    let launch = launch(workspace, cycles, seed, request.cpus)?;
    let log = follow(&machine, &launch, cycles, &format!("soak on {kind}, seed {seed}"))?;

    let report = Report::new(baseline::host(kind, false), &workspace.root, log.figures());
    let folder = workspace.target.join("reports");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let stem = if kind == Kind::Bare { "soak-bare" } else { "soak" };
    let json = serde_json::to_string_pretty(&SoakReport { report: &report, log: &log })
        .context("writing the report")?;
    write_if_changed(&folder.join(format!("{stem}.json")), json.as_bytes())?;
    let page = page::draw(&log, &report.place());
    write_if_changed(&folder.join(format!("{stem}.html")), page.as_bytes())?;
    if request.json {
        println!("{json}");
    } else {
        println!("\n{}{}\n{}", log.summary(), log.methods_table(), report.table());
    }
    eprintln!("report: {}", folder.join(format!("{stem}.html")).display());
    conclude(&log)?;
    if log.is_partial() { Err(Interrupted.into()) } else { Ok(()) }
}

/// Returns an error that names the violated guarantee, its cycle, and the seed that reproduces it.
fn conclude(log: &RunLog) -> Result<()> {
    match &log.broken {
        None => Ok(()),
        Some(broken) => bail!(
            "a guarantee was violated around cycle {}: {} (seed {})",
            broken.cycle,
            broken.what,
            log.seed
        ),
    }
}

/// Runs a short soak for the tests, and returns its number of cycles.
pub(crate) fn short(workspace: &Workspace, machine: &Machine, kind: Kind, cycles: u64) -> Result<u64> {
    let launch = launch(workspace, cycles, 1, 2)?;
    let log = follow(machine, &launch, cycles, &format!("short soak on {kind}"))?;
    conclude(&log)?;
    Ok(log.cycles)
}

fn launch(workspace: &Workspace, cycles: u64, seed: u64, cpus: u32) -> Result<Launch> {
    let manifest = pack::read_manifest(workspace, SYSTEM)?;
    Ok(Launch {
        devices: manifest.devices(&[])?,
        archive: pack::pack(workspace, &manifest)?,
        cpus,
        memory: "512M".to_owned(),
        // With a line for each crash, the console would take most of the machine's time.
        options: vec![format!("cycles={cycles}"), format!("seed={seed}"), "log=error".to_owned()],
        count_instructions: false,
    })
}

/// Boots the soak and reads its console until it ends, hangs, or is stopped by Ctrl-C.
fn follow(machine: &Machine, launch: &Launch, cycles: u64, label: &str) -> Result<RunLog> {
    let step = Step::start(label);
    let mut log = RunLog::new(cycles);
    let mut session = machine.open(launch, Input::Lines)?;
    let (mut reminded, mut progressed, mut stop_by) = (Instant::now(), Instant::now(), None);
    let mut console: Vec<String> = Vec::new();
    loop {
        match session.next(Duration::from_millis(200)) {
            ConsoleEvent::Line(line) => match log.ingest_line(&line) {
                Some(Ok(is_new)) => {
                    if is_new {
                        progressed = Instant::now();
                    }
                    step.status(&log.status());
                }
                Some(Err(error)) => log.record_violation(format!("a malformed line: {error} in {line}")),
                None => console.push(line),
            },
            ConsoleEvent::Timeout => {}
            ConsoleEvent::Ended => break,
        }
        if reminded.elapsed() > REMINDER {
            reminded = Instant::now();
            step.remind(&log.status());
        }
        if machine::interrupted() && stop_by.is_none() {
            step.line("stopping; its last checks take a moment");
            stop_by = Some(Instant::now() + LAST_CHECKS);
            // If the system no longer reads its console, it is about to end or to be killed.
            let _ = session.write_line("stop");
        }
        let hangs = progressed.elapsed() > PROGRESS_TIMEOUT;
        if hangs || stop_by.is_some_and(|until| Instant::now() > until) {
            session.kill()?;
            let what = if hangs { "no progress" } else { "no end after the stop request" };
            log.record_violation(format!(
                "{what} for {}; last: {}",
                ui::seconds(progressed.elapsed()),
                log.status()
            ));
            show_end(&step, &console);
            step.done("hangs");
            return Ok(log);
        }
    }
    let ending = session.ending()?;
    log.end(step.elapsed());
    if log.broken.is_none() && (ending != Ending::Success || !log.has_ended()) {
        let why = ending.into_result("soak").err();
        log.record_violation(
            why.map_or_else(|| "it ended without its last line".to_owned(), |why| format!("{why:#}")),
        );
    }
    if log.broken.is_some() {
        show_end(&step, &console);
    }
    step.done(&format!("{} cycles, {}", log.cycles, if log.broken.is_some() { "BROKEN" } else { "ok" }));
    Ok(log)
}

fn show_end(step: &Step, console: &[String]) {
    for line in &console[console.len().saturating_sub(SHOWN)..] {
        step.line(&format!("    {line}"));
    }
}
