//! `soak`: boots the system `soak`, follows what it says of itself, holds it to its promises, and reports.
//!
//! The promises that only the inside can check, the domain checks (verification/suites/soak); a broken one arrives as a line. From
//! here is seen whether the system gets on at all, how it ends, and whether it becomes slower.

mod course;
mod page;
pub(crate) mod storm;
mod times;

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::Interrupted;
use crate::image::write_if_changed;
use crate::machine::{self, Ending, Heard, Input, Kind, Launch, Machine};
use crate::pack;
use crate::report::{Host, Report};
use crate::ui::{self, Step};
use crate::workspace::Workspace;
use course::Course;

/// The system.
pub(crate) const SYSTEM: &str = "soak";
/// A system in which nothing has happened for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that was told to stop may take for its last checks.
const LAST_CHECKS: Duration = Duration::from_secs(30);
/// How often something is said where no terminal shows the status line.
const REMINDER: Duration = Duration::from_secs(15);
/// Lines of the console that are shown of a system that did not end well.
const SHOWN: usize = 30;

/// What the command line asks for.
pub(crate) struct Request {
    /// Where.
    pub(crate) machine: Kind,
    /// How many lives to end.
    pub(crate) cycles: Option<u64>,
    /// How many CPUs.
    pub(crate) cpus: u32,
    /// What chance is made of.
    pub(crate) seed: Option<u64>,
    /// Print the report as JSON.
    pub(crate) json: bool,
    /// Whether QEMU may be installed.
    pub(crate) may_install: bool,
}

/// What is written to `target/reports`.
#[derive(Serialize)]
struct SoakReport<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(flatten)]
    course: &'a Course,
}

/// Runs a soak and reports. An error if a promise was broken.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let (kind, qemu) = machine::choose(Some(request.machine), request.may_install)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let cycles = request.cycles.unwrap_or(if kind == Kind::Bare { 10_000 } else { 1_000_000 });
    let seed = request.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // Few digits: somebody may have to type them again.
        since.map_or(0, |time| u64::from(time.subsec_nanos()))
    });
    let launch = launch(workspace, cycles, seed, request.cpus)?;
    let course = follow(&machine, &launch, cycles, &format!("soaking {kind}, seed {seed}"))?;

    let report = Report::new(Host::here(kind, false), &workspace.root, course.figures());
    let folder = workspace.target.join("reports");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let stem = if kind == Kind::Bare { "soak-bare" } else { "soak" };
    let json = serde_json::to_string_pretty(&SoakReport { report: &report, course: &course })
        .context("writing the report")?;
    write_if_changed(&folder.join(format!("{stem}.json")), json.as_bytes())?;
    let page = page::draw(&course, &report.place());
    write_if_changed(&folder.join(format!("{stem}.html")), page.as_bytes())?;
    if request.json {
        println!("{json}");
    } else {
        println!("\n{}{}\n{}", course.summary(), course.methods_table(), report.table());
    }
    eprintln!("report: {}", folder.join(format!("{stem}.html")).display());
    conclude(&course)?;
    if course.is_partial() { Err(Interrupted.into()) } else { Ok(()) }
}

/// An error that says which promise was broken, when, and how to see it again.
fn conclude(course: &Course) -> Result<()> {
    match &course.broken {
        None => Ok(()),
        Some(broken) => bail!(
            "a promise was broken around cycle {}: {} (seed {})",
            broken.cycle,
            broken.what,
            course.seed
        ),
    }
}

/// A short soak, for the tests: how many cycles it did.
pub(crate) fn short(workspace: &Workspace, machine: &Machine, kind: Kind, cycles: u64) -> Result<u64> {
    let launch = launch(workspace, cycles, 1, 2)?;
    let course = follow(machine, &launch, cycles, &format!("soaking {kind} for a moment"))?;
    conclude(&course)?;
    Ok(course.cycles)
}

fn launch(workspace: &Workspace, cycles: u64, seed: u64, cpus: u32) -> Result<Launch> {
    let manifest = pack::read_manifest(workspace, SYSTEM)?;
    Ok(Launch {
        devices: manifest.devices(&[])?,
        archive: pack::pack(workspace, &manifest)?,
        cpus,
        memory: "512M".to_owned(),
        // A line for each crash would be most of what the machine does.
        options: vec![format!("cycles={cycles}"), format!("seed={seed}"), "log=error".to_owned()],
        count_instructions: false,
    })
}

/// Boots it and listens until it ends, hangs, or was told to stop by Ctrl-C.
fn follow(machine: &Machine, launch: &Launch, cycles: u64, label: &str) -> Result<Course> {
    let step = Step::start(label);
    let mut course = Course::new(cycles);
    let mut session = machine.open(launch, Input::Lines)?;
    let (mut said, mut moved, mut stop_by) = (Instant::now(), Instant::now(), None);
    let mut console: Vec<String> = Vec::new();
    loop {
        match session.next(Duration::from_millis(200)) {
            Heard::Line(line) => match course.hear(&line) {
                Some(Ok(is_new)) => {
                    if is_new {
                        moved = Instant::now();
                    }
                    step.status(&course.status());
                }
                Some(Err(error)) => course.break_off(format!("a line that is none: {error} in {line}")),
                None => console.push(line),
            },
            Heard::Silence => {}
            Heard::End => break,
        }
        if said.elapsed() > REMINDER {
            said = Instant::now();
            step.remind(&course.status());
        }
        if machine::interrupted() && stop_by.is_none() {
            step.line("stopping; its last checks take a moment");
            stop_by = Some(Instant::now() + LAST_CHECKS);
            // If it does not listen any more, it is about to end or to be ended.
            let _ = session.say("stop");
        }
        let hangs = moved.elapsed() > PATIENCE;
        if hangs || stop_by.is_some_and(|until| Instant::now() > until) {
            session.kill()?;
            let what = if hangs { "no progress" } else { "no end although it was told to stop" };
            course.break_off(format!(
                "{what} for {}; last: {}",
                ui::seconds(moved.elapsed()),
                course.status()
            ));
            show_end(&step, &console);
            step.done("hangs");
            return Ok(course);
        }
    }
    let ending = session.ending()?;
    course.end(step.elapsed());
    if course.broken.is_none() && (ending != Ending::Success || !course.has_ended()) {
        let why = ending.into_result("soak").err();
        course.break_off(why.map_or_else(|| "it ended without a word".to_owned(), |why| format!("{why:#}")));
    }
    if course.broken.is_some() {
        show_end(&step, &console);
    }
    step.done(&format!(
        "{} cycles, {}",
        course.cycles,
        if course.broken.is_some() { "BROKEN" } else { "all well" }
    ));
    Ok(course)
}

fn show_end(step: &Step, console: &[String]) {
    for line in &console[console.len().saturating_sub(SHOWN)..] {
        step.line(&format!("    {line}"));
    }
}
