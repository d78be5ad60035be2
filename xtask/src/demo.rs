//! `demo`: crashes a driver repeatedly under load, and checks that nothing is lost.
//!
//! The system runs the load, crashes its driver by one kind of fault after the other, and counts everything
//! that is visible only inside (verification/support/trial). The host checks everything that is visible only
//! outside. A [`Workload`] describes the driver under test: [`disk`] a disk's, [`net`] a network device's.

mod disk;
mod image;
mod net;
mod report;
mod watch;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use coppice_run_protocol::trial::checks;
use xtask_report::recovery::RunLog;
use xtask_report::recovery::page;
use xtask_report::recovery::verdict::{self, Verdict};

use crate::error::{Interrupted, Usage};
use crate::machine::{self, Ending, Kind, Launch, Machine};
use crate::machine_args::{MachineArgs, may_install};
use crate::pack::{self, SystemManifest};
use crate::workspace::Workspace;
use disk::DiskWorkload;
use image::Image;
pub(crate) use net::Traffic;
use watch::{Watched, watch};
use workload::Workload;

/// The RedLeaf paper's recovery figure: one crash a second.
const SLOW: Duration = Duration::from_secs(1);
/// The least number of spans of each kind in a comparison, and of crashes in a span with crashes.
const TURNS: u32 = 8;
const CRASHES_IN_A_TURN: u32 = 4;
/// A shorter span would consist mostly of its transitions.
const SHORTEST_TURN: Duration = Duration::from_secs(1);

/// The driver to demonstrate.
pub(crate) enum Driver {
    /// A disk's driver: without a device if the disk is another domain's memory, which is zeroes, else on a
    /// copied image.
    Disk {
        /// True for a disk without a device.
        in_memory: bool,
    },
    /// A network device's driver.
    Net(Traffic),
}

/// The options of the command line.
pub(crate) struct Request {
    /// The driver to demonstrate.
    pub(crate) driver: Driver,
    /// The interval between crashes.
    pub(crate) every: Duration,
    /// `all`, `none`, `Kill`, or a kind of fault.
    pub(crate) fault: String,
    /// The duration of a run.
    pub(crate) duration: Duration,
    /// Also run without crashes, and with one per second.
    pub(crate) compare: bool,
    /// Print the report as JSON.
    pub(crate) json: bool,
    /// No live display.
    pub(crate) plain: bool,
    /// The machine and its configuration. The image of its disk is copied; without one, an image is made.
    pub(crate) machine: MachineArgs,
}

/// The parameters of one boot.
struct Plan {
    heading: String,
    every: Duration,
    duration: Duration,
    /// The length of alternating spans without and with crashes.
    turn: Option<Duration>,
}

/// The result of one boot.
struct Run {
    heading: String,
    log: RunLog,
    verdicts: Vec<Verdict>,
    is_partial: bool,
}

/// Runs the demonstration and reports.
///
/// # Errors
/// If anything was lost.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let may_install = may_install(request.machine.no_install);
    // The arguments are checked first, so that a mistyped one fails before anything is installed or compiled.
    let given = match &request.machine.disks[..] {
        [] => None,
        [path] => Some(Image::given(path)?),
        more => return Err(Usage(format!("the demonstration has one disk, not {}", more.len())).into()),
    };
    if let Driver::Net(traffic) = &request.driver {
        traffic.check(workspace)?;
    }
    let (kind, qemu) = machine::choose(request.machine.machine, may_install)?;
    let workload = workload(workspace, request, given, may_install)?;
    eprintln!("{}", workload.description().0);
    let machine = Machine::build(workspace, kind, qemu)?;
    let runner = Runner::new(workspace, &machine, &*workload, request)?;

    let mut runs: Vec<Run> = Vec::new();
    for plan in plans(request) {
        let run = runner.boot(&plan)?;
        if !request.json {
            println!("\n{}\n{}\n{}", run.heading, page::summary(&run.log), verdict::lines(&run.verdicts));
        }
        let is_last = run.is_partial;
        runs.push(run);
        if is_last {
            break;
        }
    }
    report::write(workspace, kind, &*workload, &runs, request.json)?;
    conclude(&runs)
}

fn workload(
    workspace: &Workspace,
    request: &Request,
    given: Option<Image>,
    may_install: bool,
) -> Result<Box<dyn Workload>> {
    Ok(match &request.driver {
        Driver::Net(traffic) => Box::new(traffic.clone()),
        &Driver::Disk { in_memory } => {
            let image = match given {
                Some(image) => image,
                None if in_memory => Image::zeroes(workspace)?,
                None => Image::made(workspace, may_install)?,
            };
            Box::new(DiskWorkload { image, in_memory })
        }
    })
}

/// All demonstrations, for the tests: name, system, driver.
pub(crate) fn each() -> [(&'static str, &'static str, Driver); 2] {
    [
        ("demo", "demo", Driver::Disk { in_memory: false }),
        ("demo --net", "demo-net", Driver::Net(Traffic::default())),
    ]
}

/// A short run on `machine` with further options for the kernel, for the tests.
///
/// # Errors
/// If anything was lost.
pub(crate) fn short(
    workspace: &Workspace,
    machine: &Machine,
    kind: Kind,
    driver: Driver,
    options: &[&str],
) -> Result<()> {
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
            options: options.iter().map(|&option| option.to_owned()).collect(),
            disks: Vec::new(),
            no_install: true,
        },
    };
    let workload = workload(workspace, &request, None, false)?;
    let run = Runner::new(workspace, machine, &*workload, &request)?.boot(&plans(&request)[0])?;
    conclude(std::slice::from_ref(&run))
}

/// The boots of a demonstration, in order.
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

/// The environment of all boots.
struct Runner<'a> {
    workspace: &'a Workspace,
    machine: &'a Machine,
    manifest: SystemManifest,
    archive: PathBuf,
    workload: &'a dyn Workload,
    request: &'a Request,
}

impl<'a> Runner<'a> {
    fn new(
        workspace: &'a Workspace,
        machine: &'a Machine,
        workload: &'a dyn Workload,
        request: &'a Request,
    ) -> Result<Self> {
        let manifest = pack::read_manifest(workspace, workload.system())?;
        let archive = pack::pack(workspace, &manifest)?;
        Ok(Self { workspace, machine, manifest, archive, workload, request })
    }

    fn boot(&self, plan: &Plan) -> Result<Run> {
        let prepared = self.workload.prepare(self.workspace)?;
        let MachineArgs { cpus, memory, options, .. } = &self.request.machine;
        let mut ours = vec![
            // With a line for each crash, the console would take most of the machine's time.
            ("log", "error".to_owned()),
            ("fault", self.request.fault.clone()),
            ("every_us", plan.every.as_micros().to_string()),
            ("duration_us", plan.duration.as_micros().to_string()),
            ("turn_us", plan.turn.map_or(0, |turn| turn.as_micros()).to_string()),
        ];
        ours.extend(prepared.options());
        let ours = ours.iter().map(|(name, value)| format!("{name}={value}"));
        let launch = Launch {
            archive: self.archive.clone(),
            cpus: *cpus,
            memory: memory.clone(),
            // The last option of a name counts, so options of the command line override these.
            options: ours.chain(options.iter().cloned()).collect(),
            devices: prepared.devices(&self.manifest)?,
            count_instructions: false,
        };
        let label = format!("{}, {}", self.workload.system(), plan.heading);
        let Watched { log, ending, is_partial } = watch(self.machine, &launch, &label, self.request.plain)?;
        let mut verdicts = prepared.verdicts(&log, is_partial)?;
        let checks: Vec<_> = self.workload.checks().iter().chain(&checks::RESOURCES).copied().collect();
        verdicts.extend(verdict::general(&log, &checks, in_words(ending)));
        Ok(Run { heading: plan.heading.clone(), log, verdicts, is_partial })
    }
}

/// The way in which a system ended, if not in success; `None` if it was killed from here.
fn in_words(ending: Option<Ending>) -> Result<(), String> {
    match ending {
        Some(Ending::Success) => Ok(()),
        Some(other) => Err(format!("{other:?}")),
        None => Err("it was killed from outside".to_owned()),
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
