//! `powerloss`: boots a load on a disk, ends the machine at a random moment, and checks the disk's contents
//! against the writes that the load had reported as durable.
//!
//! Killing a process loses only its memory. On hosted that includes the model's write cache, so the image is
//! a power loss's result. QEMU passes each write to the host at once, so there the image proves little;
//! instead each write and flush is recorded (QEMU's `blklogwrites`), and *every* image that a power loss at
//! *any* moment of the run may have left is checked ([`disk`]): all writes before a completed flush, and any
//! part of the later ones.

mod disk;
mod write_log;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use coppice_disk_oracle::Content;
use coppice_disk_oracle::journal::{self, Begin, Guarantees};
use coppice_run_protocol::integrity::{Line, Refused, Wrong};
use tempfile::TempDir;

use crate::error::Interrupted;
use crate::machine::{self, ConsoleEvent, Input, Kind, Launch, Machine};
use crate::pack;
use crate::ui::Step;
use crate::workspace::Workspace;
use disk::{Disk, Findings};
use write_log::Log;

/// The system's name.
pub(crate) const SYSTEM: &str = "powerloss";
/// Bytes of the disk; the load uses the first part.
const DISK_BYTES: u64 = 4 << 20;
/// The least and the greatest duration of a load.
const RUN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// The time limit for the load's beginning, and for the end of the console after the kill.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines of the console that are shown if the system fails.
const CONSOLE: usize = 20;

/// The options of the command line.
pub(crate) struct Request {
    /// The machine to boot on.
    pub(crate) machine: Kind,
    /// The number of runs.
    pub(crate) runs: u64,
    /// The random seed of the first run; each further run adds 1.
    pub(crate) seed: Option<u64>,
    /// The interval between kills of the driver, in milliseconds; 0 for none.
    pub(crate) every_ms: u64,
    /// Allow the installation of QEMU.
    pub(crate) may_install: bool,
}

/// Runs the power losses.
///
/// # Errors
/// If a durable write was lost; the message names the seed.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<()> {
    let (kind, qemu) = machine::choose(Some(request.machine), request.may_install)?;
    let machine = Machine::build(workspace, kind, qemu)?;
    let first = request.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |time| u64::from(time.subsec_nanos()))
    });
    let archive = pack::pack(workspace, &pack::read_manifest(workspace, SYSTEM)?)?;
    let mut bad = Vec::new();
    for seed in first..first.saturating_add(request.runs) {
        let step = Step::start(format!("power loss on {kind}, seed {seed}"));
        match once(workspace, &machine, kind, &archive, seed, request.every_ms) {
            Ok(outcome) if outcome.findings.count == 0 => step.done(&outcome.to_string()),
            Ok(outcome) => {
                for wrong in &outcome.findings.wrong {
                    step.line(&format!("seed {seed}: {wrong}"));
                }
                step.done(&format!("{} findings: {outcome}", outcome.findings.count));
                bad.push(seed.to_string());
            }
            Err(error) => return Err(error.context(format!("seed {seed}"))),
        }
    }
    if bad.is_empty() { Ok(()) } else { bail!("durable writes are lost with seeds {}", bad.join(", ")) }
}

/// The result of one run.
struct Outcome {
    findings: Findings,
    lines: u64,
    claimed: usize,
    /// The number of recorded writes and flushes, if they were recorded.
    entries: Option<usize>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { findings, lines, claimed, entries } = self;
        write!(f, "{lines} lines of journal, {claimed} blocks known, {} values checked", findings.values)?;
        if let Some(entries) = entries {
            write!(f, " at {entries} moments")?;
        }
        Ok(())
    }
}

fn once(
    workspace: &Workspace,
    machine: &Machine,
    kind: Kind,
    archive: &Path,
    seed: u64,
    every_ms: u64,
) -> Result<Outcome> {
    let folder = TempDir::with_prefix("coppice-powerloss-").context("making a folder for the disk")?;
    let (image, record) = (folder.path().join("disk.img"), folder.path().join("writes.log"));
    File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).context("making a disk")?;
    File::create(&record).context("making a file for the record of writes")?;
    let mut devices = pack::read_manifest(workspace, SYSTEM)?.devices(std::slice::from_ref(&image))?;
    if kind == Kind::Bare {
        devices = devices.into_iter().map(|device| device.recorded(&record)).collect::<Result<_>>()?;
    }
    let launch = Launch {
        archive: archive.to_owned(),
        cpus: 2,
        memory: "256M".to_owned(),
        options: vec![
            format!("integrity-seed={seed}"),
            format!("integrity-run={}", seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            format!("integrity-every={every_ms}ms"),
            // QEMU 7.2's controller reports FUA but ignores it, as this tool has found.
            format!("integrity-fua={}", if kind == Kind::Bare { "no" } else { "yes" }),
            "log=error".to_owned(),
        ],
        devices,
        count_instructions: false,
    };
    let claims = read_journal(machine, &launch, RUN.0 + (RUN.1 - RUN.0).mul_f64(fraction(seed)))?;
    let begin = claims.begin();

    let mut findings = Findings::default();
    disk::check(&contents(&image, begin)?, &claims, claims.lines(), &"the image", &mut findings);
    let mut entries = None;
    if kind == Kind::Bare {
        let log = Log::read(&record)?;
        Disk::new(begin).replay(&log, &claims, true, &mut findings)?;
        // A control: a disk that ignores flushes has to fail the same check, else this proves nothing.
        let mut control = Findings::default();
        Disk::new(begin).replay(&log, &claims, false, &mut control)?;
        ensure!(
            !control.wrong.is_empty(),
            "a disk that ignores flushes would not be detected: the run was too short"
        );
        entries = Some(log.entries.len());
    }
    ensure!(claims.covered_blocks() > 0, "no write was reported as durable: the run was too short");
    Ok(Outcome { findings, lines: claims.lines(), claimed: claims.covered_blocks(), entries })
}

/// A number between 0 and 1, by splitmix64's mix.
fn fraction(seed: u64) -> f64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Boots the load, reads its journal, and kills the machine `time` after the journal has begun.
fn read_journal(machine: &Machine, launch: &Launch, time: Duration) -> Result<Guarantees> {
    let mut session = machine.open(launch, Input::Nothing)?;
    let (mut claims, mut end) = (None, Instant::now() + PROGRESS_TIMEOUT);
    let (mut console, mut killed) = (Vec::new(), false);
    loop {
        match session.next(end.saturating_duration_since(Instant::now())) {
            ConsoleEvent::Line(line) => match journal::read(&line) {
                Ok(journal::ConsoleLine::Begin(begin)) => {
                    claims = Some(Guarantees::new(begin));
                    end = Instant::now() + time;
                }
                Ok(journal::ConsoleLine::Line(line)) => {
                    claims.as_mut().context("the journal has no first line")?.add(line)?;
                }
                Ok(journal::ConsoleLine::Other) => console.push(line),
                // The kill cut this line off.
                Err(_) if killed => break,
                Err(damaged) => {
                    session.kill()?;
                    return Err(damaged.into());
                }
            },
            ConsoleEvent::Timeout if !killed && claims.is_some() => {
                // The output up to the kill is still to be read.
                session.kill()?;
                (killed, end) = (true, Instant::now() + PROGRESS_TIMEOUT);
            }
            ConsoleEvent::Ended if killed => break,
            other => {
                if machine::interrupted() {
                    session.kill()?;
                    return Err(Interrupted.into());
                }
                let shown = console[console.len().saturating_sub(CONSOLE)..].join("\n");
                if other == ConsoleEvent::Ended {
                    bail!("the system has ended by itself ({:?}):\n{shown}", session.ending()?);
                }
                session.kill()?;
                bail!("the system hangs:\n{shown}");
            }
        }
        if machine::interrupted() {
            session.kill()?;
            return Err(Interrupted.into());
        }
        // A console that prints without pause must not delay the kill.
        if !killed && claims.is_some() && Instant::now() >= end {
            session.kill()?;
            (killed, end) = (true, Instant::now() + PROGRESS_TIMEOUT);
        }
    }
    for line in &console {
        match Line::from_console(line) {
            Some(Ok(Line::Wrong(Wrong { what }))) => bail!("the load reports a wrong block: {what}"),
            Some(Ok(Line::Refused(Refused { reason }))) => bail!("the load has not begun: {reason}"),
            // The kill may have cut the last line off.
            Some(Err(error)) if !std::ptr::eq(line, &console[console.len() - 1]) => {
                bail!("a malformed line: {error} in {line}")
            }
            _ => {}
        }
    }
    claims.context("the load has not begun")
}

/// The contents of the load's blocks.
fn contents(image: &Path, begin: Begin) -> Result<Vec<Content>> {
    let bytes = fs::read(image).context("reading the disk")?;
    let block = begin.block_bytes as usize;
    let (first, count) = (begin.range.first as usize * block, begin.range.blocks as usize * block);
    let range = bytes.get(first..first + count).context("the disk is too short for the load's blocks")?;
    Ok(range.chunks_exact(block).map(Content::of).collect())
}
