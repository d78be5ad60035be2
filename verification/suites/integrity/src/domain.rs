//! [`IntegrityDomain`]: a load that runs for the time given in the manifest.

use alloc::string::ToString;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_block::BlockDevice;
use coppice_control::Control;
use coppice_experiment::Random;
use coppice_interfaces::{Handle, Imports, Text};
use coppice_run_protocol::integrity::{End, Kills, Line, Progress, Refused, Wrong};
use coppice_runtime::thread::Builder;
use coppice_runtime::{Domain, Environment, StartError, time};

use crate::load::{Load, LoadError, Report, console};
use crate::options::Options;

/// The default duration of a load.
const DURATION: Duration = Duration::from_secs(10);

/// The default mean time between two kills of a domain.
const EVERY: Duration = Duration::from_millis(100);

/// The killer's stream of random numbers. The writers use the first streams.
const KILLER: u64 = 1 << 32;

/// The interval of progress reports.
const INTERVAL: Duration = Duration::from_millis(500);

/// The domain of the harness. Words of its manifest are those of [`Options`], and `duration=10s`. `kill=NAME`
/// and `every=100ms` make it end a domain repeatedly, at random intervals of at most twice that time. The
/// word `journal` prints the journal. Options of the kernel's command line with the names `integrity-seed`,
/// `integrity-run`, `integrity-duration`, `integrity-every` and `integrity-fua=no` take precedence; an
/// `every` of zero means no kills.
pub struct IntegrityDomain;

/// The services that the manifest wires to the harness.
#[derive(Imports)]
pub struct Wires {
    /// The console, and the end of the system.
    control: Handle<dyn Control>,
    /// The disk under test.
    disk: Handle<dyn BlockDevice>,
}

impl Wires {
    fn print(&self, line: impl Into<Line>) {
        // Without the kernel there is no console to report this to.
        let _ = self.control.print(Text::format(format_args!("{}", line.into())));
    }
}

impl Domain for IntegrityDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let options = Options::of(environment).map_err(LoadError::BadOptions);
        let time = environment.option("duration").and_then(time::parse).unwrap_or(DURATION);
        let has_journal = environment.args().contains(&"journal");
        let every = environment.option("every").and_then(time::parse).unwrap_or(EVERY);
        let victim = environment.option("kill").map(|name| (name, every));
        let run = move || {
            let wires = Arc::new(wires);
            let report = options.and_then(|options| run(&wires, options, time, has_journal, victim));
            let is_clean = match report {
                Ok(report) => {
                    report.wrong.iter().for_each(|wrong| wires.print(Wrong { what: wrong.to_string() }));
                    wires.print(End { report: report.to_string() });
                    report.is_clean()
                }
                Err(error) => {
                    wires.print(Refused { reason: error.to_string() });
                    false
                }
            };
            let _ = wires.control.shut_down(is_clean);
        };
        // Has a higher priority than its own writers, so that they do not delay the end of the run.
        Builder::new().priority(1).spawn(run)?;
        Ok(())
    }
}

fn run(
    wires: &Arc<Wires>,
    options: Options,
    time: Duration,
    has_journal: bool,
    victim: Option<(&'static str, Duration)>,
) -> Result<Report, LoadError> {
    let option = |name| wires.control.option(Text::new(name)).ok().flatten();
    let number = |name, otherwise| option(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let seed = number("integrity-seed", options.seed);
    // Stamps of another run on the same disk must not pass for stamps of this one.
    let run = number("integrity-run", if options.run == 0 { time::tsc() } else { options.run });
    let time = option("integrity-duration").and_then(|text| time::parse(&text)).unwrap_or(time);
    let fua = options.fua && option("integrity-fua").is_none_or(|text| &*text != "no");
    let journal = has_journal.then(|| console(wires.control.clone()));
    let every = option("integrity-every").and_then(|text| time::parse(&text));
    let victim =
        victim.map(|(name, time)| (name, every.unwrap_or(time))).filter(|(_, every)| !every.is_zero());
    let is_over = Arc::new(AtomicBool::new(false));
    let load = Load::start(wires.disk.clone(), Options { seed, run, fua, ..options }, journal)?;
    let killer = match victim {
        Some((name, every)) => {
            let (wires, is_over) = (wires.clone(), is_over.clone());
            let random = Random::new(seed, KILLER);
            Some(Builder::new().priority(1).spawn(move || kill(&wires, &is_over, name, every, random))?)
        }
        None => None,
    };
    let end = time::now() + time;
    while time::now() < end && !load.is_broken() && load.counters().is_clean() {
        time::sleep(INTERVAL.min(end.saturating_sub(time::now())));
        wires.print(Progress { counters: load.counters().to_string() });
    }
    is_over.store(true, Ordering::Relaxed);
    if let Some(killer) = killer {
        killer.join();
    }
    Ok(load.stop())
}

/// Ends `name` at random times. A dead domain is left to its restart.
fn kill(wires: &Wires, is_over: &AtomicBool, name: &'static str, every: Duration, mut random: Random) {
    let span = u64::try_from(2 * every.as_nanos()).unwrap_or(u64::MAX).max(1);
    let mut count = 0_u64;
    while !is_over.load(Ordering::Relaxed) {
        time::sleep(Duration::from_nanos(random.below(span)));
        if let Ok(Ok(())) = wires.control.kill(Text::new(name)) {
            count += 1;
        }
    }
    wires.print(Kills { domain: name.into(), count });
}
