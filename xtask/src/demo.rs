//! `demo`: a driver is crashed again and again under load, and nothing is lost.
//!
//! The system does the work, crashes its driver by one kind of fault after the other, and counts what only the inside can see
//! (verification/support/trial). From here is seen what only the outside can. Of what it is, a [`Subject`] says: [`block`], a disk's driver,
//! or [`net`], a network device's.

mod block;
mod disk;
mod net;
mod report;
mod subject;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cli::{Interrupted, MachineArgs, Usage, may_install};
use crate::machine::{self, Kind, Launch, Machine};
use crate::pack::{self, SystemManifest};
use crate::recovery::Course;
use crate::recovery::page;
use crate::recovery::verdict::{self, Verdict};
use crate::recovery::watch::{Watched, watch};
use crate::workspace::Workspace;
use block::Block;
use disk::Image;
pub(crate) use net::Traffic;
use subject::Subject;

/// What every system counts and has to find to be 0.
const CHECKS: [&str; 4] = ["pages lost", "objects lost", "threads lost", "findings of the kernel's audit"];
/// The RedLeaf paper's recovery figure: one crash a second.
const SLOW: Duration = Duration::from_secs(1);
/// How many spans of each kind a comparison has at least, and how many crashes one with crashes has.
const TURNS: u32 = 8;
const CRASHES_IN_A_TURN: u32 = 4;
/// A shorter turn would be mostly the moments at its ends.
const SHORTEST_TURN: Duration = Duration::from_secs(1);

/// Of what driver it is.
pub(crate) enum Driver {
    /// A disk's. Without a device if the disk is another domain's memory, which is zeroes; else on an image that is copied.
    Disk {
        /// Without a device.
        in_memory: bool,
    },
    /// A network device's.
    Net(Traffic),
}

/// What the command line asks for.
pub(crate) struct Request {
    /// Of what it is.
    pub(crate) driver: Driver,
    /// From one crash to the next.
    pub(crate) every: Duration,
    /// `all`, `none`, `Kill`, or a kind of fault.
    pub(crate) fault: String,
    /// How long it goes on.
    pub(crate) duration: Duration,
    /// Also without crashes, and with one a second.
    pub(crate) compare: bool,
    /// Print the report as JSON.
    pub(crate) json: bool,
    /// No live display.
    pub(crate) plain: bool,
    /// Where and with what. Its disk is an image that is copied; one is made if there is none.
    pub(crate) machine: MachineArgs,
}

/// One boot.
struct Plan {
    heading: String,
    every: Duration,
    duration: Duration,
    /// Spans without crashes and with them take turns, so long each.
    turn: Option<Duration>,
}

/// What came of it.
struct Run {
    heading: String,
    course: Course,
    verdicts: Vec<Verdict>,
    is_partial: bool,
}

/// Runs the demonstration and reports. An error if anything was lost.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let may_install = may_install(request.machine.no_install);
    // A mistyped path is answered before anything is installed or compiled.
    let given = match &request.machine.disks[..] {
        [] => None,
        [path] => Some(Image::given(path)?),
        more => return Err(Usage(format!("the demonstration has one disk, and not {}", more.len())).into()),
    };
    let (kind, qemu) = machine::choose(request.machine.machine, may_install)?;
    let subject = subject(workspace, request, given, may_install)?;
    eprintln!("{}", subject.about().0);
    let machine = Machine::build(workspace, kind, qemu)?;
    let stage = Stage::new(workspace, &machine, &*subject, request)?;

    let mut runs: Vec<Run> = Vec::new();
    for plan in plans(request) {
        let run = stage.play(&plan)?;
        if !request.json {
            println!("\n{}\n{}\n{}", run.heading, page::summary(&run.course), verdict::lines(&run.verdicts));
        }
        let is_last = run.is_partial;
        runs.push(run);
        if is_last {
            break;
        }
    }
    report::write(workspace, kind, &*subject, &runs, request.json)?;
    conclude(&runs)
}

fn subject(
    workspace: &Workspace,
    request: &Request,
    given: Option<Image>,
    may_install: bool,
) -> Result<Box<dyn Subject>> {
    Ok(match &request.driver {
        Driver::Net(traffic) => Box::new(traffic.clone()),
        &Driver::Disk { in_memory } => {
            let image = match given {
                Some(image) => image,
                None if in_memory => Image::zeroes(workspace)?,
                None => Image::made(workspace, may_install)?,
            };
            Box::new(Block { image, in_memory })
        }
    })
}

/// All that there are, for the tests: name, system, driver.
pub(crate) fn each() -> [(&'static str, &'static str, Driver); 2] {
    [
        ("demo", "demo", Driver::Disk { in_memory: false }),
        ("demo --net", "demo-net", Driver::Net(Traffic::default())),
    ]
}

/// A short run on `machine`, for the tests. An error if anything was lost.
pub(crate) fn short(workspace: &Workspace, machine: &Machine, kind: Kind, driver: Driver) -> Result<()> {
    let request = Request {
        driver,
        every: Duration::from_millis(100),
        fault: "all".to_owned(),
        duration: Duration::from_secs(4),
        compare: false,
        json: true,
        plain: true,
        machine: MachineArgs {
            machine: Some(kind),
            cpus: 2,
            memory: "512M".to_owned(),
            options: Vec::new(),
            disks: Vec::new(),
            no_install: true,
        },
    };
    let subject = subject(workspace, &request, None, false)?;
    let run = Stage::new(workspace, machine, &*subject, &request)?.play(&plans(&request)[0])?;
    conclude(std::slice::from_ref(&run))
}

/// What is booted one after the other.
fn plans(request: &Request) -> Vec<Plan> {
    let plan = |every: Duration| {
        let turn = request.compare.then(|| (every * CRASHES_IN_A_TURN).max(SHORTEST_TURN));
        Plan {
            heading: match every {
                every if every.is_zero() => "no crashes".to_owned(),
                every => format!("a crash every {}", humantime::format_duration(every)),
            },
            every,
            duration: request.duration.max(turn.map_or(Duration::ZERO, |turn| turn * 2 * TURNS)),
            turn,
        }
    };
    let mut plans = vec![plan(if request.fault == "none" { Duration::ZERO } else { request.every })];
    if request.compare && request.every != SLOW && request.fault != "none" {
        plans.push(plan(SLOW));
    }
    plans
}

/// All that a run needs.
struct Stage<'a> {
    workspace: &'a Workspace,
    machine: &'a Machine,
    manifest: SystemManifest,
    archive: PathBuf,
    subject: &'a dyn Subject,
    request: &'a Request,
}

impl<'a> Stage<'a> {
    fn new(
        workspace: &'a Workspace,
        machine: &'a Machine,
        subject: &'a dyn Subject,
        request: &'a Request,
    ) -> Result<Self> {
        let manifest = pack::read_manifest(workspace, subject.system())?;
        let archive = pack::pack(workspace, &manifest)?;
        Ok(Self { workspace, machine, manifest, archive, subject, request })
    }

    fn play(&self, plan: &Plan) -> Result<Run> {
        let scene = self.subject.set_up(self.workspace)?;
        let MachineArgs { cpus, memory, options, .. } = &self.request.machine;
        let mut ours = vec![
            // A line for each crash would be most of what the machine does.
            ("log", "error".to_owned()),
            ("fault", self.request.fault.clone()),
            ("every_us", plan.every.as_micros().to_string()),
            ("duration_us", plan.duration.as_micros().to_string()),
            ("turn_us", plan.turn.map_or(0, |turn| turn.as_micros()).to_string()),
        ];
        ours.extend(scene.options());
        let ours = ours.iter().map(|(name, value)| format!("{name}={value}"));
        let launch = Launch {
            archive: self.archive.clone(),
            cpus: *cpus,
            memory: memory.clone(),
            // The last word of a name counts: somebody's own option wins.
            options: ours.chain(options.iter().cloned()).collect(),
            devices: scene.devices(&self.manifest)?,
            count_instructions: false,
        };
        let label = format!("{}, {}", self.subject.system(), plan.heading);
        let Watched { course, ending, is_partial } =
            watch(self.machine, &launch, &label, self.request.plain)?;
        let mut verdicts = scene.verdicts(&course, is_partial)?;
        let checks: Vec<_> = self.subject.checks().iter().chain(&CHECKS).copied().collect();
        verdicts.extend(verdict::general(&course, &checks, ending.as_ref()));
        Ok(Run { heading: plan.heading.clone(), course, verdicts, is_partial })
    }
}

fn conclude(runs: &[Run]) -> Result<()> {
    let broken: Vec<_> = runs
        .iter()
        .flat_map(|run| run.verdicts.iter().map(move |verdict| (run, verdict)))
        .filter(|(_, verdict)| !verdict.holds)
        .map(|(run, verdict)| {
            format!("{}: \"{}\" does not hold ({})", run.heading, verdict.what, verdict.detail)
        })
        .collect();
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    if runs.iter().any(|run| run.is_partial) { Err(Interrupted.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
