//! `bench`: runs the systems `bench-NAME`, collects their figures, adds baselines of the same run, and
//! reports.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use xtask_report::bench::{bars, faults, net, nvme};
use xtask_report::measurement::{Measurement, Report};

use crate::baseline;
use crate::error::Usage;
use crate::image::write_if_changed;
use crate::machine::{self, Kind, Launch, Machine};
use crate::pack;
use crate::ui::Step;
use crate::workspace::Workspace;

/// The time after which a benchmark is considered hung.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The options of the command line.
pub(crate) struct Request {
    /// Folders in `benches/`; all if empty.
    pub(crate) names: Vec<String>,
    /// Hosted for time, bare for instruction counts.
    pub(crate) machine: Kind,
    /// Print reports as JSON.
    pub(crate) json: bool,
    /// The time limit of each benchmark.
    pub(crate) seconds: Option<u64>,
    /// On bare, measure the emulator's time instead of counting instructions.
    pub(crate) time: bool,
    /// Measure fewer figures in benchmarks that have many.
    pub(crate) quick: bool,
    /// Measure only figures whose names contain this text.
    pub(crate) only: Option<String>,
    /// Allow the installation of QEMU.
    pub(crate) may_install: bool,
}

/// Runs benchmarks.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let names = select(workspace, &request.names)?;
    let manifests =
        names.iter().map(|name| pack::read_manifest(workspace, &system(name))).collect::<Result<Vec<_>>>()?;
    let (kind, qemu) = machine::choose(Some(request.machine), request.may_install)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let counts = kind == Kind::Bare && !request.time;
    let host = baseline::host(kind, counts);
    let folder = workspace.target.join("reports");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;

    let mut reports = serde_json::Map::new();
    for (name, manifest) in names.iter().zip(&manifests) {
        let archive = pack::pack(workspace, manifest)?;
        let devices = manifest.devices(&[])?;
        let mut launch = launch(archive, kind, counts, request.options());
        if kind == Kind::Hosted && !devices.is_empty() {
            // A model's thread needs a core of its own: on a core with one of the machine's CPUs, each waits
            // for a tick of the host to preempt the other, 4 ms as measured.
            launch.cpus =
                std::thread::available_parallelism().map_or(1, |cores| cores.get() - 1).clamp(1, 2) as u32;
        }
        let launch = Launch { devices, ..launch };
        let results = measure(&machine, kind, name, &launch)?;
        let report = Report::new(host.clone(), &workspace.root, results);
        // Instruction counts and times are different figures and must not overwrite each other.
        let stem = match kind {
            Kind::Bare if counts => format!("{name}-icount"),
            Kind::Bare => format!("{name}-bare"),
            Kind::Hosted => name.clone(),
        };
        let json = serde_json::to_string_pretty(&report).context("writing a report")?;
        write_if_changed(&folder.join(format!("{stem}.json")), json.as_bytes())?;
        // The table of faults has its own page instead of a bar chart.
        let is_of_faults = name == faults::NAME;
        let drawn = if is_of_faults {
            let page = folder.join("faults.html");
            write_if_changed(&page, faults::draw(&folder)?.as_bytes())?;
            page
        } else {
            let chart = folder.join(format!("{stem}.svg"));
            let draw = match name.as_str() {
                nvme::NAME if !counts => nvme::draw,
                net::NAME if !counts => net::draw,
                _ => bars::draw,
            };
            write_if_changed(&chart, draw(name, &report.results).as_bytes())?;
            chart
        };
        if request.json {
            reports.insert(name.clone(), serde_json::to_value(&report).context("writing a report")?);
        } else if is_of_faults {
            println!("\n{name}\n{}", faults::show(&folder.join(format!("{stem}.json")))?);
        } else if name == nvme::NAME {
            println!("\n{name}\n{}", nvme::show(&report));
        } else if name == net::NAME {
            println!("\n{name}\n{}", net::show(&report));
        } else {
            println!("\n{name}\n{}", report.table());
        }
        eprintln!("report: {}, drawn: {}", folder.join(format!("{stem}.json")).display(), drawn.display());
    }
    if request.json {
        println!("{}", serde_json::to_string_pretty(&reports).context("writing reports")?);
    }
    Ok(())
}

impl Request {
    /// The options passed to a benchmark.
    fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        options.extend(self.seconds.map(|seconds| format!("seconds={seconds}")));
        options.extend(self.quick.then(|| "quick=on".to_owned()));
        options.extend(self.only.as_ref().map(|only| format!("only={only}")));
        options
    }
}

fn launch(archive: PathBuf, kind: Kind, counts: bool, mut options: Vec<String>) -> Launch {
    // The report of a crash on the console would cost more than the rest of the crash.
    options.insert(0, "log=error".to_owned());
    options.extend(counts.then(|| "count=on".to_owned()));
    Launch {
        archive,
        // Instruction counts are exact for one CPU only, but some figures are about contention of two.
        cpus: if kind == Kind::Bare && counts { 1 } else { 2 },
        memory: "512M".to_owned(),
        options,
        devices: Vec::new(),
        count_instructions: counts,
    }
}

/// Runs one benchmark on a bare `machine` for the shortest time: repetition does not improve counts. With
/// `only`, it measures just those figures.
pub(crate) fn count_instructions(
    workspace: &Workspace,
    machine: &Machine,
    name: &str,
    only: Option<String>,
) -> Result<Vec<Measurement>> {
    let manifest = pack::read_manifest(workspace, &system(name))?;
    let archive = pack::pack(workspace, &manifest)?;
    let devices = manifest.devices(&[])?;
    let mut options = vec!["seconds=1".to_owned()];
    options.extend(only.map(|only| format!("only={only}")));
    measure(machine, Kind::Bare, name, &Launch { devices, ..launch(archive, Kind::Bare, true, options) })
}

/// The system that boots a benchmark.
pub(crate) fn system(name: &str) -> String {
    format!("bench-{name}")
}

/// The benchmarks of `names`, or all if it is empty.
pub(crate) fn select(workspace: &Workspace, names: &[String]) -> Result<Vec<String>> {
    let systems = workspace.systems()?;
    let all: Vec<String> =
        systems.keys().filter_map(|system| system.strip_prefix("bench-")).map(str::to_owned).collect();
    if all.is_empty() {
        return Err(Usage("there are no benchmarks: systems/ holds no bench-*.toml".into()).into());
    }
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        return Err(
            Usage(format!("there is no benchmark \"{unknown}\"; there are: {}", all.join(", "))).into()
        );
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

fn measure(machine: &Machine, kind: Kind, name: &str, launch: &Launch) -> Result<Vec<Measurement>> {
    let step = Step::start(format!("measuring {name}"));
    let mut results = Vec::new();
    let mut broken = Vec::new();
    let mut console = Vec::new();
    let ending = machine.watch(launch, TIMEOUT, |line| {
        match Measurement::from_console(line) {
            Some(Ok(mut result)) => {
                step.status(&result.id);
                // In this mode the guest's counter advances by one with each instruction.
                if launch.count_instructions && result.unit == "tsc_cycles" {
                    result.unit = "instructions".to_owned();
                }
                results.push(result);
            }
            Some(Err(error)) => broken.push(format!("{error} in: {line}")),
            None => {}
        }
        console.push(line.to_owned());
    });
    let outcome = ending.and_then(|ending| ending.into_result(&system(name)));
    if let Err(error) = outcome {
        return Err(error.context(format!("its console output:\n{}", console.join("\n"))));
    }
    if let Some(line) = broken.first() {
        bail!("the benchmark {name} printed a malformed figure: {line}");
    }
    if results.is_empty() {
        bail!("the benchmark {name} printed no figure; its console output:\n{}", console.join("\n"));
    }
    if kind == Kind::Hosted {
        results.push(baseline::syscall()?);
    }
    step.done(&format!("{} figures", results.len()));
    Ok(results)
}
