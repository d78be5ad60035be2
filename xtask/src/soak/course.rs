//! [`RunLog`]: the lines that a soak has printed so far, and the guarantees that they show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::times::Times;
use crate::report::Measurement;
use crate::ui::table;

/// The beginning of a line of the soak; the rest is a [`Line`] in JSON.
const MARK: &str = "@soak ";
/// The number of windows that the domain divides a run into.
pub(crate) const WINDOWS: u64 = 100;
/// The factor by which restarts may not slow down, and the number of times that a tenth of the run must hold
/// for the comparison to be significant.
const MAX_SLOWDOWN: u64 = 2;
const SIGNIFICANT: u64 = 10_000;

/// A line that the domain prints.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin { seed: u64, clients: u32, killers: u32 },
    Progress { cycles: u64, answers: u64, errors: u64 },
    Times { window: u64, series: Series, counts: Vec<(u64, u64)> },
    Lost(Lost),
    Method(Method),
    Latency(Latency),
    Broken(Broken),
    End { cycles: u64, answers: u64, errors: u64 },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Series {
    Ending,
    Restart,
}

/// Resources missing after `cycles` cycles, compared with the beginning.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Lost {
    pub(crate) cycles: u64,
    pub(crate) bytes: i64,
    pub(crate) objects: i64,
    pub(crate) threads: i64,
    /// Bytes of the kernel's own heap.
    pub(crate) kernel: i64,
}

/// A way to end an instance, and the number of instances that it ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) cycles: u64,
    /// The number of draws without effect: a deadline came first, or the method is absent and the instance
    /// was restarted instead.
    #[serde(default)]
    pub(crate) missed: u64,
    /// True if it was tried and this machine does not have it.
    pub(crate) absent: bool,
}

/// The times of one kind for which one CPU has not reacted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Latency {
    cpu: u32,
    kind: String,
    count: u64,
    p9999_ns: u64,
    longest_ns: u64,
    /// The code that began the longest.
    place: String,
}

/// A violation of a guarantee.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Broken {
    pub(crate) cycle: u64,
    pub(crate) what: String,
}

/// Times of a hundredth of the run.
#[derive(Default)]
pub(crate) struct Window {
    /// From the fault or kill until the thread that caused it continues.
    pub(crate) ending: Times,
    /// From there to the next instance's first correct reply.
    pub(crate) restart: Times,
}

/// The state of a run.
#[derive(Serialize)]
pub(crate) struct RunLog {
    /// The random seed.
    pub(crate) seed: u64,
    wanted: u64,
    /// Instances that ended and were followed by another.
    pub(crate) cycles: u64,
    answers: u64,
    errors: u64,
    clients: u32,
    killers: u32,
    seconds: f64,
    pub(crate) lost: Vec<Lost>,
    methods: Vec<Method>,
    latencies: Vec<Latency>,
    pub(crate) broken: Option<Broken>,
    #[serde(skip)]
    pub(crate) windows: BTreeMap<u64, Window>,
    #[serde(skip)]
    begun: Option<Instant>,
    #[serde(skip)]
    has_ended: bool,
}

impl RunLog {
    /// The log of a run with `wanted` planned cycles.
    pub(crate) fn new(wanted: u64) -> Self {
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
    pub(crate) fn ingest_line(&mut self, line: &str) -> Option<Result<bool, serde_json::Error>> {
        // At the beginning only: a domain's log record has a prefix before everything that the domain writes.
        let json = line.strip_prefix(MARK)?;
        let line = match serde_json::from_str(json) {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(self.apply(line)))
    }

    fn apply(&mut self, line: Line) -> bool {
        match line {
            Line::Begin { seed, clients, killers } => {
                (self.seed, self.clients, self.killers) = (seed, clients, killers);
                self.begun = Some(Instant::now());
            }
            Line::Progress { cycles, answers, errors } => {
                // Progress of a client while all killers hang does not count.
                let moved = cycles != self.cycles;
                (self.cycles, self.answers, self.errors) = (cycles, answers, errors);
                return moved;
            }
            Line::Times { window, series, counts } => {
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
            Line::End { cycles, answers, errors } => {
                (self.cycles, self.answers, self.errors) = (cycles, answers, errors);
                self.has_ended = true;
            }
        }
        true
    }

    /// Records a violation that the domain could not report; the first one counts.
    pub(crate) fn record_violation(&mut self, what: String) {
        let cycle = self.cycles;
        self.broken.get_or_insert(Broken { cycle, what });
    }

    /// Checks the guarantees about the whole run, which ended after `time`.
    pub(crate) fn end(&mut self, time: Duration) {
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
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns true if the run was stopped before all cycles were done.
    pub(crate) fn is_partial(&self) -> bool {
        self.cycles < self.wanted
    }

    /// Restarts of a tenth of the run.
    pub(crate) fn tenth(&self, number: u64) -> Times {
        let tenth = number * WINDOWS / 10..(number + 1) * WINDOWS / 10;
        Times::all(self.windows.range(tenth).map(|(_, window)| &window.restart))
    }

    /// The figures of its report.
    pub(crate) fn figures(&self) -> Vec<Measurement> {
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
    pub(crate) fn status(&self) -> String {
        let (rate, rest) = (self.rate(), self.wanted.saturating_sub(self.cycles));
        let share = 100.0 * self.cycles as f64 / self.wanted as f64;
        let left = if rate > 0.0 { format!(", {:.0} s left", rest as f64 / rate) } else { String::new() };
        format!(
            "{} of {} cycles ({share:.1} %), {rate:.0}/s{left}; {} answers, {} errors",
            self.cycles, self.wanted, self.answers, self.errors
        )
    }

    /// The result, in lines.
    pub(crate) fn summary(&self) -> String {
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
    pub(crate) fn methods(&self) -> impl Iterator<Item = (&str, String)> {
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
    pub(crate) fn methods_table(&self) -> String {
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
        ingest(&mut log, r#"@soak {"begin": {"seed": 7, "cycles": 1000, "clients": 2, "killers": 2}}"#);
        let progress = r#"@soak {"progress": {"ms": 5, "cycles": 10, "answers": 4, "errors": 1}}"#;
        assert!(ingest(&mut log, progress));
        assert!(!ingest(&mut log, progress), "nothing has moved");
        for window in [0, 95] {
            let line = format!(
                r#"@soak {{"times": {{"window": {window}, "series": "restart", "counts": [[100,3],[900,1]]}}}}"#
            );
            ingest(&mut log, &line);
        }
        assert_eq!((log.tenth(0).len(), log.tenth(9).len(), log.tenth(5).len()), (4, 4, 0));
        ingest(&mut log, r#"@soak {"end": {"cycles": 1000, "answers": 40, "errors": 2}}"#);
        log.end(Duration::from_secs(1));
        assert!(log.broken.is_none() && !log.is_partial());
        let latency = r#"{"cpu": 1, "kind": "section", "count": 9, "p9999_ns": 2500, "longest_ns": 7000, "place": "a.rs:5"}"#;
        ingest(&mut log, &format!("@soak {{\"latency\": {latency}}}"));
        assert!(log.summary().contains("CPU 1, section: 9 times, p99.99 2.5 µs, longest 7.0 µs from a.rs:5"));
        assert!(log.ingest_line("[   0.1] echo: @soak {\"end\": 3}").is_none(), "a log record");
        assert!(log.ingest_line("@soak {\"end\": 3}").expect("it is marked").is_err());
    }

    #[test]
    fn no_cycles_and_slower_restarts_are_violations() {
        let mut idle = RunLog::new(10);
        ingest(&mut idle, r#"@soak {"end": {"cycles": 0, "answers": 1, "errors": 0}}"#);
        idle.end(Duration::ZERO);
        assert!(idle.broken.is_some_and(|broken| broken.what.contains("no cycle")));

        let mut slow = RunLog::new(10);
        ingest(&mut slow, r#"@soak {"times": {"window": 1, "series": "restart", "counts": [[100,20000]]}}"#);
        ingest(&mut slow, r#"@soak {"times": {"window": 99, "series": "restart", "counts": [[201,20000]]}}"#);
        slow.end(Duration::ZERO);
        assert!(slow.broken.is_some_and(|broken| broken.what.contains("slower")));
    }

    #[test]
    fn the_first_violation_is_kept() {
        let mut log = RunLog::new(10);
        ingest(&mut log, r#"@soak {"broken": {"cycle": 5, "what": "a wrong answer"}}"#);
        log.record_violation("it ended in failure".to_owned());
        assert_eq!(log.broken.map(|broken| broken.cycle), Some(5));
    }
}
