//! `powerloss`: boots a load on a disk, ends the machine at a moment that chance chooses, and holds what is left on the disk against
//! what the load had said was durable.
//!
//! Killing a process loses what is in its memory only. On hosted that is the model's write cache, so the image is what a power loss
//! leaves. QEMU hands each write to the host at once, so there the image proves little; instead each write and flush is recorded
//! (QEMU's `blklogwrites`), and *every* image that a power loss at *any* moment of the run may have left is looked at
//! ([`disk`]): all that was before a completed flush, and of what came later any part.

mod disk;
mod log;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use coppice_disk_oracle::Content;
use coppice_disk_oracle::journal::{self, Begin, Claims};
use tempfile::TempDir;

use crate::cli::Interrupted;
use crate::machine::{self, Heard, Input, Kind, Launch, Machine};
use crate::pack;
use crate::ui::Step;
use crate::workspace::Workspace;
use disk::{Disk, Findings};
use log::Log;

/// The system.
pub(crate) const SYSTEM: &str = "powerloss";
/// Bytes of the disk, of which the load has the first part.
const DISK_BYTES: u64 = 4 << 20;
/// How long a load runs, at least and at most.
const RUN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// A system that has not begun after that time hangs; and one that says nothing for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of the console that are shown of a system that does not do what it should.
const CONSOLE: usize = 20;

/// What the command line asks for.
pub(crate) struct Request {
    /// Where.
    pub(crate) machine: Kind,
    /// How often.
    pub(crate) runs: u64,
    /// What chance is made of; the next run has the next number.
    pub(crate) seed: Option<u64>,
    /// How often the driver is ended meanwhile, in milliseconds; 0 is never.
    pub(crate) every_ms: u64,
    /// Whether QEMU may be installed.
    pub(crate) may_install: bool,
}

/// Runs it. An error that says with which seed something was lost.
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
    if bad.is_empty() { Ok(()) } else { bail!("what was durable is lost, with seeds {}", bad.join(", ")) }
}

/// What one run came to.
struct Outcome {
    findings: Findings,
    lines: u64,
    claimed: usize,
    /// Writes and flushes that were recorded, if they were.
    entries: Option<usize>,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { findings, lines, claimed, entries } = self;
        write!(f, "{lines} lines of journal, {claimed} blocks known, {} values looked at", findings.values)?;
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
    File::create(&record).context("making a record")?;
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
            // QEMU 7.2's controller says that it has FUA and takes no notice of it, as this tool has found.
            format!("integrity-fua={}", if kind == Kind::Bare { "no" } else { "yes" }),
            "log=error".to_owned(),
        ],
        devices,
        count_instructions: false,
    };
    let claims = listen(machine, &launch, RUN.0 + (RUN.1 - RUN.0).mul_f64(fraction(seed)))?;
    let begin = claims.begin();

    let mut findings = Findings::default();
    disk::look(&contents(&image, begin)?, &claims, claims.lines(), &"the image", &mut findings);
    let mut entries = None;
    if kind == Kind::Bare {
        let log = Log::read(&record)?;
        Disk::new(begin).replay(&log, &claims, true, &mut findings)?;
        // The same with a disk that ignores flushes has to be found wrong, or this proves nothing.
        let mut control = Findings::default();
        Disk::new(begin).replay(&log, &claims, false, &mut control)?;
        ensure!(
            !control.wrong.is_empty(),
            "a disk that forgets its flushes would not be found: the run was too short"
        );
        entries = Some(log.entries.len());
    }
    ensure!(claims.claimed() > 0, "nothing was said to be durable: the run was too short");
    Ok(Outcome { findings, lines: claims.lines(), claimed: claims.claimed(), entries })
}

/// Between 0 and 1, by splitmix64's mix.
fn fraction(seed: u64) -> f64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Boots it, takes in its journal, and kills it `time` after the journal has begun.
fn listen(machine: &Machine, launch: &Launch, time: Duration) -> Result<Claims> {
    let mut session = machine.open(launch, Input::Nothing)?;
    let (mut claims, mut end) = (None, Instant::now() + PATIENCE);
    let (mut console, mut killed) = (Vec::new(), false);
    loop {
        match session.next(end.saturating_duration_since(Instant::now())) {
            Heard::Line(line) => match journal::read(&line) {
                Ok(journal::Heard::Begin(begin)) => {
                    claims = Some(Claims::new(begin));
                    end = Instant::now() + time;
                }
                Ok(journal::Heard::Line(line)) => {
                    claims.as_mut().context("the journal has no first line")?.add(line)?;
                }
                Ok(journal::Heard::Other) => console.push(line),
                // The machine was killed in the middle of it.
                Err(_) if killed => break,
                Err(damaged) => {
                    session.kill()?;
                    return Err(damaged.into());
                }
            },
            Heard::Silence if !killed && claims.is_some() => {
                // What it has said until now is still to be read.
                session.kill()?;
                (killed, end) = (true, Instant::now() + PATIENCE);
            }
            Heard::End if killed => break,
            silence => {
                if machine::interrupted() {
                    session.kill()?;
                    return Err(Interrupted.into());
                }
                let shown = console[console.len().saturating_sub(CONSOLE)..].join("\n");
                if silence == Heard::End {
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
        // A console that never rests must not keep it alive.
        if !killed && claims.is_some() && Instant::now() >= end {
            session.kill()?;
            (killed, end) = (true, Instant::now() + PATIENCE);
        }
    }
    if let Some(line) = console.iter().find(|line| line.contains("@integrity wrong")) {
        bail!("the load has found something itself: {line}");
    }
    claims.context("the load has not begun")
}

/// What is in the load's blocks.
fn contents(image: &Path, begin: Begin) -> Result<Vec<Content>> {
    let bytes = fs::read(image).context("reading the disk")?;
    let block = begin.block_bytes as usize;
    let (first, count) = (begin.range.first as usize * block, begin.range.blocks as usize * block);
    let range = bytes.get(first..first + count).context("the disk is too short for the load's blocks")?;
    Ok(range.chunks_exact(block).map(Content::of).collect())
}
