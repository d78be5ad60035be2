//! [`RunLog`]: the lines of a run so far, and the figures derived from them.

use std::collections::BTreeMap;

use coppice_run_protocol::trial::{
    Begin, Broken, Check, Consequence, Crash, Domain, Fault, Line, Memory, Meter, Note, Pass, Tick,
    Unexpected,
};
use serde::Serialize;

use crate::json;

/// The lines of a run so far.
#[derive(Default, Serialize)]
pub struct RunLog {
    /// The run's parameters.
    #[serde(serialize_with = "json::option")]
    pub begin: Option<Begin>,
    /// The running counts.
    #[serde(serialize_with = "json::list")]
    pub meters: Vec<Meter>,
    /// All crashes, in order.
    #[serde(serialize_with = "json::list")]
    pub crashes: Vec<Crash>,
    /// Each complete read of the data.
    #[serde(serialize_with = "json::list")]
    pub passes: Vec<Pass>,
    /// The injected faults, with counts.
    #[serde(serialize_with = "json::list")]
    pub faults: Vec<Fault>,
    /// Remarks in plain text.
    #[serde(serialize_with = "json::list")]
    pub notes: Vec<Note>,
    /// Counts that have to be 0.
    #[serde(serialize_with = "json::list")]
    pub checks: Vec<Check>,
    /// Ends of instances that no injected fault explains.
    #[serde(serialize_with = "json::list")]
    pub unexpected: Vec<Unexpected>,
    /// Ends of further instances, each explained by the fault that was under way.
    #[serde(serialize_with = "json::list")]
    pub consequences: Vec<Consequence>,
    /// Violations, reported by the system or detected on the host.
    #[serde(serialize_with = "json::list")]
    pub broken: Vec<Broken>,
    /// All domains, by their latest state.
    #[serde(serialize_with = "json::map")]
    pub domains: BTreeMap<String, Domain>,
    /// Memory of owners that are no domains.
    pub memory: BTreeMap<String, u64>,
    /// Throughput over time.
    pub spans: Vec<Span>,
    /// The system's own count of crashes; `None` until its last line.
    pub counted: Option<u64>,
    #[serde(skip)]
    last: Option<Tick>,
}

/// The interval between two ticks.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Span {
    /// Its beginning and end, since the run's beginning.
    pub from_us: u64,
    pub to_us: u64,
    /// The units counted in it, by meter.
    pub amounts: Vec<u64>,
    /// The driver's completed requests.
    pub answers: u64,
    /// Crashes in it.
    pub crashes: u64,
    /// True if no fault was injected.
    pub calm: bool,
}

impl Span {
    /// Units per second.
    pub fn rate(&self, meter: usize) -> f64 {
        self.amount(meter) as f64 * 1e6 / (self.to_us - self.from_us).max(1) as f64
    }

    /// The number of units.
    pub fn amount(&self, meter: usize) -> u64 {
        self.amounts.get(meter).copied().unwrap_or(0)
    }
}

/// Some percentiles, mostly of nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Percentiles {
    pub n: usize,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Percentiles {
    /// The percentiles of `times`; `None` if it is empty.
    pub fn of(times: impl Iterator<Item = u64>) -> Option<Self> {
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).max(1) - 1];
        let &max = times.last()?;
        Some(Self { n: times.len(), p50: at(0.5), p99: at(0.99), max })
    }
}

impl RunLog {
    /// Adds a line of the console. Returns false if it is not about the run.
    pub fn ingest_line(&mut self, text: &str) -> bool {
        match Line::from_console(text) {
            None => return false,
            Some(Ok(line)) => self.apply(line),
            Some(Err(error)) => self.record_violation(format!("a malformed line: {error} in {text}")),
        }
        true
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Begin(begin) => self.begin = Some(begin),
            Line::Meter(meter) => self.meters.push(meter),
            Line::Tick(tick) => self.tick(tick),
            Line::Crash(crash) => self.crashes.push(crash),
            Line::Domain(domain) => drop(self.domains.insert(domain.name.clone(), domain)),
            Line::Memory(Memory { owner, bytes }) => drop(self.memory.insert(owner, bytes)),
            Line::Pass(pass) => self.passes.push(pass),
            Line::Fault(fault) => self.faults.push(fault),
            Line::Note(note) => self.notes.push(note),
            Line::Check(check) => self.checks.push(check),
            Line::Broken(broken) => self.broken.push(broken),
            Line::Unexpected(unexpected) => self.unexpected.push(unexpected),
            Line::Consequence(consequence) => self.consequences.push(consequence),
            Line::End(end) => self.counted = Some(end.crashes),
        }
    }

    fn tick(&mut self, tick: Tick) {
        if let Some(last) = self.last.replace(tick.clone()) {
            let begun = self.begun_us();
            let amounts = tick.totals.iter().zip(&last.totals).map(|(now, then)| now.saturating_sub(*then));
            self.spans.push(Span {
                from_us: last.us.saturating_sub(begun),
                to_us: tick.us.saturating_sub(begun),
                amounts: amounts.collect(),
                answers: tick.answers.saturating_sub(last.answers),
                crashes: tick.crashes.saturating_sub(last.crashes),
                calm: last.calm && tick.calm,
            });
        }
    }

    /// Records a violation.
    pub fn record_violation(&mut self, what: String) {
        let us = self.last.as_ref().map_or(0, |tick| tick.us);
        self.broken.push(Broken { us, what });
    }

    /// The start of the run, since boot.
    pub fn begun_us(&self) -> u64 {
        self.begin.as_ref().map_or(0, |begin| begin.us)
    }

    /// The duration of the run so far.
    pub fn elapsed_us(&self) -> u64 {
        self.last.as_ref().map_or(0, |tick| tick.us.saturating_sub(self.begun_us()))
    }

    /// The driver's completed requests, and the name of their unit.
    pub fn answers(&self) -> (u64, &str) {
        let what = self.begin.as_ref().map_or("answers", |begin| &begin.answers);
        (self.last.as_ref().map_or(0, |tick| tick.answers), what)
    }

    /// Units per second over all spans that `wanted` selects; `None` if it selects none.
    pub fn rate(&self, meter: usize, wanted: impl Fn(&Span) -> bool) -> Option<f64> {
        let mut wanted = self.spans.iter().filter(|span| wanted(span)).peekable();
        wanted.peek()?;
        let (amount, us) = wanted
            .fold((0, 0), |(amount, us), span| (amount + span.amount(meter), us + span.to_us - span.from_us));
        Some(amount as f64 * 1e6 / us.max(1) as f64)
    }

    /// Outages of all crashes except hangs.
    pub fn outages(&self) -> Option<Percentiles> {
        let crashes = self.crashes.iter().filter(|crash| !crash.is_hang());
        Percentiles::of(crashes.map(|crash| crash.outage_ns))
    }

    /// Outages of hangs, which consist mostly of the time until their detection.
    pub fn hangs(&self) -> Option<Percentiles> {
        Percentiles::of(self.crashes.iter().filter(|crash| crash.is_hang()).map(|crash| crash.outage_ns))
    }

    /// The part of each outage that is not the next instance's own start, where that is known; without hangs.
    pub fn overheads(&self) -> Option<Percentiles> {
        let beside = |crash: &Crash| Some(crash.outage_ns.saturating_sub(crash.start_ns?));
        Percentiles::of(self.crashes.iter().filter(|crash| !crash.is_hang()).filter_map(beside))
    }

    /// Frames lost by each crash, where that is known; without hangs.
    pub fn frames_lost(&self) -> Option<Percentiles> {
        Percentiles::of(self.crashes.iter().filter(|crash| !crash.is_hang()).filter_map(|crash| crash.lost))
    }

    /// The loss of a meter's rate by crashes, as a fraction: spans with crashes against calm ones of the same
    /// run.
    pub fn loss(&self, meter: usize) -> Option<f64> {
        let calm = self.rate(meter, |span| span.calm)?;
        let crashing = self.rate(meter, |span| !span.calm)?;
        (calm > 0.0).then(|| 1.0 - crashing / calm)
    }

    /// Outages by fault, in the order of first occurrence.
    pub fn by_fault(&self) -> Vec<(String, Percentiles)> {
        let mut names: Vec<&str> = Vec::new();
        for crash in &self.crashes {
            if !names.contains(&crash.fault.as_str()) {
                names.push(&crash.fault);
            }
        }
        let outages = |name: &str| {
            let same = self.crashes.iter().filter(|crash| crash.fault == name);
            Some((name.to_owned(), Percentiles::of(same.map(|crash| crash.outage_ns))?))
        };
        names.into_iter().filter_map(outages).collect()
    }

    /// Returns true if the system has printed its last line.
    pub fn has_ended(&self) -> bool {
        self.counted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample_log;
    use super::*;

    #[test]
    fn ticks_become_rates() {
        let log = sample_log();
        assert_eq!(log.spans.len(), 4);
        assert_eq!(log.rate(0, |_| true), Some(9500.0));
        assert!((log.loss(0).expect("there are spans of both kinds") - 0.1).abs() < 1e-9);
        assert_eq!(log.loss(1).map(|loss| loss.abs() < 1e-9), Some(true));
    }

    #[test]
    fn outages_are_separated_from_the_start_of_the_next_instance() {
        let log = sample_log();
        let outages = log.outages().expect("there were crashes");
        assert_eq!((outages.n, outages.p50, outages.max), (2, 100, 200));
        assert_eq!(log.overheads().map(|times| times.max), Some(150));
        assert_eq!(log.by_fault().len(), 2);
        assert!(log.hangs().is_none());
    }

    #[test]
    fn hangs_are_separated_from_other_outages() {
        let mut log = sample_log();
        log.crashes[1].died = "Deadline".into();
        assert_eq!(log.outages().map(|times| (times.n, times.max)), Some((1, 100)));
        assert_eq!(log.hangs().map(|times| (times.n, times.max)), Some((1, 200)));
        assert_eq!(log.overheads().map(|times| times.n), Some(1));
    }

    #[test]
    fn a_malformed_line_is_a_violation() {
        let mut log = sample_log();
        assert!(log.ingest_line("@demo/1 {\"tick\":{}}"));
        assert!(log.ingest_line("@demo {\"end\":{\"us\":1,\"crashes\":4}}"));
        assert_eq!(log.broken.len(), 2);
        assert!(!log.ingest_line("an ordinary line"));
    }

    #[test]
    fn a_log_without_lines_has_no_figures() {
        let log = RunLog::default();
        assert!(log.outages().is_none() && log.loss(0).is_none() && log.rate(0, |_| true).is_none());
        assert!(!log.has_ended());
    }
}
