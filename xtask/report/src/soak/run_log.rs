//! [`RunLog`]: the lines that a soak has printed so far, and the guarantees that they show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coppice_run_protocol::LineError;
use coppice_run_protocol::soak::{
    self as protocol, Begin, Broken, End, Latency, Line, Lost, Method, Progress, Series, WINDOWS,
};
use serde::Serialize;

use super::times::Times;
use crate::json;
use crate::measurement::Measurement;
use crate::table::table;

/// The factor by which restarts may not slow down, and the number of times that a tenth of the run must hold
/// for the comparison to be significant.
const MAX_SLOWDOWN: u64 = 2;
const SIGNIFICANT: u64 = 10_000;

/// Times of a hundredth of the run.
#[derive(Default)]
pub struct Window {
    /// From the fault or kill until the thread that caused it continues.
    pub ending: Times,
    /// From there to the next instance's first correct reply.
    pub restart: Times,
}

/// The state of a run.
#[derive(Serialize)]
pub struct RunLog {
    /// The random seed.
    pub seed: u64,
    wanted: u64,
    /// Instances that ended and were followed by another.
    pub cycles: u64,
    answers: u64,
    errors: u64,
    clients: u32,
    killers: u32,
    seconds: f64,
    #[serde(serialize_with = "json::list")]
    pub lost: Vec<Lost>,
    #[serde(serialize_with = "json::list")]
    methods: Vec<Method>,
    #[serde(serialize_with = "json::list")]
    latencies: Vec<Latency>,
    #[serde(serialize_with = "json::option")]
    pub broken: Option<Broken>,
    #[serde(skip)]
    pub windows: BTreeMap<u64, Window>,
    #[serde(skip)]
    begun: Option<Instant>,
    #[serde(skip)]
    has_ended: bool,
}

impl RunLog {
    /// The log of a run with `wanted` planned cycles.
    pub fn new(wanted: u64) -> Self {
        Self {
            seed: 0,
            wanted,
            cycles: 0,
            answers: 0,
            errors: 0,
            clients: 0,
            killers: 0,
            seconds: 0.0,
            lost: Vec::new(),
            methods: Vec::new(),
            latencies: Vec::new(),
            broken: None,
            windows: BTreeMap::new(),
            begun: None,
            has_ended: false,
        }
    }

    /// Parses a line of the console: `None` if it is not one of the soak's, else true if it shows progress.
    pub fn ingest_line(&mut self, line: &str) -> Option<Result<bool, LineError>> {
        Some(Line::from_console(line)?.map(|line| self.apply(line)))
    }

    fn apply(&mut self, line: Line) -> bool {
        match line {
            Line::Begin(Begin { seed, clients, killers, .. }) => {
                (self.seed, self.clients, self.killers) = (seed, clients, killers);
                self.begun = Some(Instant::now());
            }
            Line::Progress(Progress { cycles, answers, errors, .. }) => {
                // Progress of a client while all killers hang does not count.
                let moved = cycles != self.cycles;
                (self.cycles, self.answers, self.errors) = (cycles, answers, errors);
                return moved;
            }
            Line::Times(protocol::Times { window, series, counts }) => {
                let window = self.windows.entry(window).or_default();
                match series {
                    Series::Ending => window.ending.add(&counts),
                    Series::Restart => window.restart.add(&counts),
                }
            }
            Line::Lost(lost) => self.lost.push(lost),
            Line::Method(method) => self.methods.push(method),
            Line::Latency(latency) => self.latencies.push(latency),
            Line::Broken(broken) => self.broken = Some(broken),
            Line::End(End { cycles, answers, errors }) => {
                (self.cycles, self.answers, self.errors) = (cycles, answers, errors);
                self.has_ended = true;
            }
        }
        true
    }

    /// Records a violation that the domain could not report; the first one counts.
    pub fn record_violation(&mut self, what: String) {
        let cycle = self.cycles;
        self.broken.get_or_insert(Broken { cycle, what });
    }

    /// Checks the guarantees about the whole run, which ended after `time`.
    pub fn end(&mut self, time: Duration) {
        self.seconds = self.begun.map_or(time, |begun| begun.elapsed()).as_secs_f64();
        if self.has_ended && self.cycles == 0 {
            self.record_violation("no cycle was done".to_owned());
        }
        let [first, last] = [self.tenth(0), self.tenth(9)];
        if let (Some(a), Some(b)) = (first.percentiles(), last.percentiles())
            && a.n.min(b.n) >= SIGNIFICANT
            && b.p50 > MAX_SLOWDOWN * a.p50
        {
            self.record_violation(format!(
                "restarts become slower: {} ns in the first tenth, {} ns in the last",
                a.p50, b.p50
            ));
        }
    }

    /// Returns true if the last line was printed.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns true if the run was stopped before all cycles were done.
    pub fn is_partial(&self) -> bool {
        self.cycles < self.wanted
    }

    /// Restarts of a tenth of the run.
    pub fn tenth(&self, number: u64) -> Times {
        let tenth = number * WINDOWS / 10..(number + 1) * WINDOWS / 10;
        Times::all(self.windows.range(tenth).map(|(_, window)| &window.restart))
    }

    /// The figures of its report.
    pub fn figures(&self) -> Vec<Measurement> {
        let all = |series: fn(&Window) -> &Times| Times::all(self.windows.values().map(series));
        let times = [
            ("soak/ending", all(|window| &window.ending)),
            ("soak/restart", all(|window| &window.restart)),
            ("soak/restart/first_tenth", self.tenth(0)),
            ("soak/restart/last_tenth", self.tenth(9)),
        ];
        times.iter().filter_map(|(id, times)| times.figure(id)).collect()
    }

    fn rate(&self) -> f64 {
        let seconds = self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        self.cycles as f64 / if self.has_ended { self.seconds } else { seconds }.max(0.001)
    }

    /// The progress as one line.
    pub fn status(&self) -> String {
        let (rate, rest) = (self.rate(), self.wanted.saturating_sub(self.cycles));
        let share = 100.0 * self.cycles as f64 / self.wanted as f64;
        let left = if rate > 0.0 { format!(", {:.0} s left", rest as f64 / rate) } else { String::new() };
        format!(
            "{} of {} cycles ({share:.1} %), {rate:.0}/s{left}; {} answers, {} errors",
            self.cycles, self.wanted, self.answers, self.errors
        )
    }

    /// The result, in lines.
    pub fn summary(&self) -> String {
        let Self { seed, cycles, seconds, answers, errors, clients, killers, .. } = self;
        let mut text = format!(
            "seed {seed}: {cycles} cycles in {seconds:.1} s ({:.0}/s) by {killers} killers; {clients} clients got \
             {answers} good answers and {errors} clean errors\n",
            self.rate()
        );
        if self.is_partial() {
            text += &format!("stopped early: {} cycles were requested\n", self.wanted);
        }
        text += &match self.lost.last() {
            Some(Lost { cycles, bytes, objects, threads, kernel }) => format!(
                "lost after {cycles} cycles: {bytes} bytes, {objects} objects, {threads} threads, {kernel} bytes of \
                 the kernel's heap\n"
            ),
            None => "the resource balance was never reported\n".to_owned(),
        };
        for Latency { cpu, kind, count, p9999_ns, longest_ns, place } in &self.latencies {
            let [p9999, longest] = [p9999_ns, longest_ns].map(|&ns| ns as f64 / 1e3);
            text += &format!(
                "CPU {cpu}, {kind}: {count} times, p99.99 {p9999:.1} µs, longest {longest:.1} µs from {place}\n"
            );
        }
        if let Some(Broken { cycle, what }) = &self.broken {
            text += &format!("BROKEN around cycle {cycle}: {what}\n");
        }
        text
    }

    /// The number of instances that each method ended.
    pub fn methods(&self) -> impl Iterator<Item = (&str, String)> {
        self.methods.iter().map(|Method { name, cycles, missed, absent }| {
            let count = match (absent, missed) {
                (true, _) => format!("{cycles}, not raised here ({missed} restarted instead)"),
                (false, 0) => cycles.to_string(),
                (false, _) => format!("{cycles} ({missed} more after a deadline had come first)"),
            };
            (name.as_str(), count)
        })
    }

    /// The same as a table.
    pub fn methods_table(&self) -> String {
        let mut rows = vec![["", "instances ended"].map(str::to_owned).to_vec()];
        rows.extend(self.methods().map(|(name, count)| vec![name.to_owned(), count]));
        table(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingest(log: &mut RunLog, line: &str) -> bool {
        log.ingest_line(line).expect("it is marked").expect("it is valid")
    }

    #[test]
    fn lines_are_collected_in_the_log() {
        let mut log = RunLog::new(1000);
        assert!(log.ingest_line("[   0.1] kernel: something else").is_none());
        ingest(&mut log, r#"@soak/1 {"begin": {"seed": 7, "cycles": 1000, "clients": 2, "killers": 2}}"#);
        let progress = r#"@soak/1 {"progress": {"ms": 5, "cycles": 10, "answers": 4, "errors": 1}}"#;
        assert!(ingest(&mut log, progress));
        assert!(!ingest(&mut log, progress), "nothing has moved");
        for window in [0, 95] {
            let line = format!(
                r#"@soak/1 {{"times": {{"window": {window}, "series": "restart", "counts": [[100,3],[900,1]]}}}}"#
            );
            ingest(&mut log, &line);
        }
        assert_eq!((log.tenth(0).total(), log.tenth(9).total(), log.tenth(5).total()), (4, 4, 0));
        ingest(&mut log, r#"@soak/1 {"end": {"cycles": 1000, "answers": 40, "errors": 2}}"#);
        log.end(Duration::from_secs(1));
        assert!(log.broken.is_none() && !log.is_partial());
        let latency =
            r#"{"cpu":1,"kind":"section","count":9,"p9999_ns":2500,"longest_ns":7000,"place":"a.rs:5"}"#;
        ingest(&mut log, &format!("@soak/1 {{\"latency\": {latency}}}"));
        assert!(log.summary().contains("CPU 1, section: 9 times, p99.99 2.5 µs, longest 7.0 µs from a.rs:5"));
        assert!(log.ingest_line("[   0.1] echo: @soak/1 {\"end\": 3}").is_none(), "a log record");
        assert!(log.ingest_line("@soak/1 {\"end\": 3}").expect("it is marked").is_err());
    }

    #[test]
    fn no_cycles_and_slower_restarts_are_violations() {
        let mut idle = RunLog::new(10);
        ingest(&mut idle, r#"@soak/1 {"end": {"cycles": 0, "answers": 1, "errors": 0}}"#);
        idle.end(Duration::ZERO);
        assert!(idle.broken.is_some_and(|broken| broken.what.contains("no cycle")));

        let mut slow = RunLog::new(10);
        ingest(
            &mut slow,
            r#"@soak/1 {"times": {"window": 1, "series": "restart", "counts": [[100,20000]]}}"#,
        );
        ingest(
            &mut slow,
            r#"@soak/1 {"times": {"window": 99, "series": "restart", "counts": [[201,20000]]}}"#,
        );
        slow.end(Duration::ZERO);
        assert!(slow.broken.is_some_and(|broken| broken.what.contains("slower")));
    }

    #[test]
    fn the_first_violation_is_kept() {
        let mut log = RunLog::new(10);
        ingest(&mut log, r#"@soak/1 {"broken": {"cycle": 5, "what": "a wrong answer"}}"#);
        log.record_violation("it ended in failure".to_owned());
        assert_eq!(log.broken.map(|broken| broken.cycle), Some(5));
    }
}
