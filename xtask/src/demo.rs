//! `demo`: a disk driver is crashed again and again under load, and nothing is lost.
//!
//! The system `demo` hashes a disk through the driver and writes and verifies blocks beside it, while it crashes the driver
//! by one kind of fault after the other (domains/demo). What only the inside can see, it counts; from here is seen whether
//! the hashes are those of the image, outside, and whether the image came out as it went in.

mod disk;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::{Interrupted, MachineArgs, Usage, may_install};
use crate::image::{self, write_if_changed};
use crate::machine::{self, Kind, Launch, Machine};
use crate::pack::{self, SystemManifest};
use crate::recovery::Course;
use crate::recovery::course::Percentiles;
use crate::recovery::page::{self, Section};
use crate::recovery::verdict::{self, Verdict};
use crate::recovery::watch::{Watched, watch};
use crate::report::{Host, Measurement, Report};
use crate::workspace::Workspace;
use disk::{Disk, Image};

/// The systems: over an NVMe controller, and over another domain's memory.
const SYSTEM: &str = "demo";
const MEMORY_SYSTEM: &str = "demo-memory";
/// What it counts and has to find to be 0.
const CHECKS: [&str; 7] = [
    "bytes wrong",
    "requests lost",
    "requests answered twice",
    "pages lost",
    "objects lost",
    "threads lost",
    "findings of the kernel's audit",
];
/// The RedLeaf paper's recovery figure: one crash a second.
const SLOW: Duration = Duration::from_secs(1);
/// How many spans of each kind a comparison has at least, and how many crashes one with crashes has.
const TURNS: u32 = 8;
const CRASHES_IN_A_TURN: u32 = 4;
/// A shorter turn would be mostly the moments at its ends.
const SHORTEST_TURN: Duration = Duration::from_secs(1);

/// What the command line asks for.
pub(crate) struct Request {
    /// No device and no image, but another domain's memory, which is zeroes.
    pub(crate) memory_disk: bool,
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

impl Request {
    fn system(&self) -> &'static str {
        if self.memory_disk { MEMORY_SYSTEM } else { SYSTEM }
    }
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
    let image = match &request.machine.disks[..] {
        [] => None,
        [path] => Some(Image::given(path)?),
        more => return Err(Usage(format!("the demonstration has one disk, and not {}", more.len())).into()),
    };
    let (kind, qemu) = machine::choose(request.machine.machine, may_install)?;
    let image = match image {
        Some(image) => image,
        None if request.memory_disk => Image::zeroes(workspace)?,
        None => Image::made(workspace, may_install)?,
    };
    eprintln!("disk: {image}\nsha256: {}", image.hash);
    let images = image::build_all(workspace)?;
    let manifest = pack::read_manifest(workspace, request.system())?;
    let archive = pack::pack(workspace, &manifest, &images)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let stage = Stage { workspace, machine: &machine, manifest, archive, image: &image, request };

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
    write(workspace, kind, &image, &runs, request.json)?;
    conclude(&runs)
}

/// A short run on `machine`, for the tests: how many crashes there were.
pub(crate) fn short(workspace: &Workspace, machine: &Machine, kind: Kind) -> Result<u64> {
    let request = Request {
        memory_disk: false,
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
    let image = if request.memory_disk { Image::zeroes(workspace) } else { Image::made(workspace, false) }?;
    let images = image::build_all(workspace)?;
    let manifest = pack::read_manifest(workspace, request.system())?;
    let archive = pack::pack(workspace, &manifest, &images)?;
    let stage = Stage { workspace, machine, manifest, archive, image: &image, request: &request };
    let run = stage.play(&plans(&request)[0])?;
    conclude(std::slice::from_ref(&run))?;
    Ok(run.course.crashes.len() as u64)
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
    image: &'a Image,
    request: &'a Request,
}

impl Stage<'_> {
    fn play(&self, plan: &Plan) -> Result<Run> {
        let disk = Disk::of(self.workspace, self.image)?;
        let label = format!("{}, {}", self.request.system(), plan.heading);
        let launch = self.launch(plan, &disk)?;
        let Watched { course, ending, is_partial } =
            watch(self.machine, &launch, &label, self.request.plain)?;
        let mut verdicts = vec![hashes_agree(&course, self.image, is_partial)];
        verdicts.push(Verdict::new(
            "the image came out of the machine as it went in",
            disk.hash()? == self.image.hash,
            "",
        ));
        verdicts.push(Verdict::new("nobody has written to the image itself", self.image.is_unchanged()?, ""));
        verdicts.extend(verdict::general(&course, &CHECKS, ending.as_ref()));
        Ok(Run { heading: plan.heading.clone(), course, verdicts, is_partial })
    }

    /// A machine with the disk.
    fn launch(&self, plan: &Plan, disk: &Disk) -> Result<Launch> {
        let MachineArgs { cpus, memory, options, .. } = &self.request.machine;
        let ours = [
            // A line for each crash would be most of what the machine does.
            ("log", "error".to_owned()),
            ("fault", self.request.fault.clone()),
            ("every_us", plan.every.as_micros().to_string()),
            ("duration_us", plan.duration.as_micros().to_string()),
            ("turn_us", plan.turn.map_or(0, |turn| turn.as_micros()).to_string()),
            ("image_bytes", disk.image_bytes.to_string()),
            ("scratch_from", disk.scratch_from.to_string()),
        ];
        let ours = ours.iter().map(|(name, value)| format!("{name}={value}"));
        let disks = if self.request.memory_disk { &[][..] } else { std::slice::from_ref(&disk.path) };
        Ok(Launch {
            archive: self.archive.clone(),
            cpus: *cpus,
            memory: memory.clone(),
            // The last word of a name counts: somebody's own option wins.
            options: ours.chain(options.iter().cloned()).collect(),
            devices: self.manifest.devices(disks)?,
            count_instructions: false,
        })
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
