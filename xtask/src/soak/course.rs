//! [`Course`]: what a soak has said of itself so far, and what that means.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::times::Times;
use crate::report::Measurement;
use crate::ui::table;

/// How a line of the soak's begins; the rest is a [`Line`] in JSON.
const MARK: &str = "@soak ";
/// Into how many windows the domain cuts a run.
pub(crate) const WINDOWS: u64 = 100;
/// What counts as slower, and how many times a tenth of the run must hold for that to mean anything.
const SLOWER: u64 = 2;
const MEANINGFUL: u64 = 10_000;

/// What the domain says.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Begin { seed: u64, clients: u32, killers: u32 },
    Progress { cycles: u64, answers: u64, errors: u64 },
    Times { window: u64, series: Series, counts: Vec<(u64, u64)> },
    Lost(Lost),
    Method(Method),
    Broken(Broken),
    End { cycles: u64, answers: u64, errors: u64 },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Series {
    Ending,
    Restart,
}

/// What is missing after so many cycles, compared with the beginning.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Lost {
    pub(crate) cycles: u64,
    pub(crate) bytes: i64,
    pub(crate) objects: i64,
    pub(crate) threads: i64,
    /// Not lost: what the kernel's own heap has taken meanwhile, and keeps.
    pub(crate) kernel: u64,
}

/// A way to end, and how many lives ended so.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) cycles: u64,
    /// How often it was drawn in vain: a deadline came first, or it is absent and the instance was restarted instead.
    #[serde(default)]
    pub(crate) missed: u64,
    /// It was tried and is not to be had on this machine.
    pub(crate) absent: bool,
}

/// A broken promise.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Broken {
    pub(crate) cycle: u64,
    pub(crate) what: String,
}

/// Times of a hundredth of the run.
#[derive(Default)]
pub(crate) struct Window {
    /// From fault or kill until the one who brought it about goes on.
    pub(crate) ending: Times,
    /// From there to the next instance's first good answer.
    pub(crate) restart: Times,
}

/// What is known of a run.
#[derive(Serialize)]
pub(crate) struct Course {
    /// What chance was made of.
    pub(crate) seed: u64,
    wanted: u64,
    /// Lives that ended and were followed by another.
    pub(crate) cycles: u64,
    answers: u64,
    errors: u64,
    clients: u32,
    killers: u32,
    seconds: f64,
    pub(crate) lost: Vec<Lost>,
    methods: Vec<Method>,
    pub(crate) broken: Option<Broken>,
    #[serde(skip)]
    pub(crate) windows: BTreeMap<u64, Window>,
    #[serde(skip)]
    begun: Option<Instant>,
    #[serde(skip)]
    has_ended: bool,
}

impl Course {
    /// Of a run that is to have so many cycles.
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
            broken: None,
            windows: BTreeMap::new(),
            begun: None,
            has_ended: false,
        }
    }

    /// Takes a line of the console: `None` if it is none of the soak's, else whether it says that anything has moved.
    pub(crate) fn hear(&mut self, line: &str) -> Option<Result<bool, serde_json::Error>> {
        let (_, json) = line.split_once(MARK)?;
        let line = match serde_json::from_str(json) {
            Ok(line) => line,
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(self.take(line)))
    }

    fn take(&mut self, line: Line) -> bool {
        match line {
            Line::Begin { seed, clients, killers } => {
                (self.seed, self.clients, self.killers) = (seed, clients, killers);
                self.begun = Some(Instant::now());
            }
            Line::Progress { cycles, answers, errors } => {
                // A client that goes on while all killers hang is no progress.
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
            Line::Broken(broken) => self.broken = Some(broken),
            Line::End { cycles, answers, errors } => {
                (self.cycles, self.answers, self.errors) = (cycles, answers, errors);
                self.has_ended = true;
            }
        }
        true
    }

    /// Something is wrong that the domain could not say itself. The first of such things counts.
    pub(crate) fn break_off(&mut self, what: String) {
        let cycle = self.cycles;
        self.broken.get_or_insert(Broken { cycle, what });
    }

    /// The system has ended after that time: the promises that are about the whole run.
    pub(crate) fn end(&mut self, time: Duration) {
        self.seconds = self.begun.map_or(time, |begun| begun.elapsed()).as_secs_f64();
        if self.has_ended && self.cycles == 0 {
            self.break_off("not one cycle was done".to_owned());
        }
        let [first, last] = [self.tenth(0), self.tenth(9)];
        if let (Some(a), Some(b)) = (first.percentiles(), last.percentiles())
            && a.n.min(b.n) >= MEANINGFUL
            && b.p50 > SLOWER * a.p50
        {
            self.break_off(format!("restarts become slower: {} ns at first, {} ns at last", a.p50, b.p50));
        }
    }

    /// Whether it said all that it had to say.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether it was stopped before it was done.
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

    /// How far it has come.
    pub(crate) fn status(&self) -> String {
        let (rate, rest) = (self.rate(), self.wanted.saturating_sub(self.cycles));
        let share = 100.0 * self.cycles as f64 / self.wanted as f64;
        let left = if rate > 0.0 { format!(", {:.0} s left", rest as f64 / rate) } else { String::new() };
        format!(
            "{} of {} cycles ({share:.1} %), {rate:.0}/s{left}; {} answers, {} errors",
            self.cycles, self.wanted, self.answers, self.errors
        )
    }

    /// What came of it, in lines.
    pub(crate) fn summary(&self) -> String {
        let Self { seed, cycles, seconds, answers, errors, clients, killers, .. } = self;
        let mut text = format!(
            "seed {seed}: {cycles} cycles in {seconds:.1} s ({:.0}/s) by {killers} killers; {clients} clients got \
             {answers} good answers and {errors} clean errors\n",
            self.rate()
        );
        if self.is_partial() {
            text += &format!("stopped early: {} cycles were asked for\n", self.wanted);
        }
        text += &match self.lost.last() {
            Some(Lost { cycles, bytes, objects, threads, kernel }) => format!(
                "lost after {cycles} cycles: {bytes} bytes, {objects} objects, {threads} threads; the kernel's heap \
                 grew by {kernel} bytes\n"
            ),
            None => "the balance was never taken\n".to_owned(),
        };
        if let Some(Broken { cycle, what }) = &self.broken {
            text += &format!("BROKEN around cycle {cycle}: {what}\n");
        }
        text
    }

    /// How lives ended.
    pub(crate) fn methods(&self) -> impl Iterator<Item = (&str, String)> {
        self.methods.iter().map(|Method { name, cycles, missed, absent }| {
            let count = match (absent, missed) {
                (true, _) => format!("{cycles}, not raised here ({missed} restarted instead)"),
                (false, 0) => cycles.to_string(),
                (false, _) => format!("{cycles} ({missed} more when a deadline had come first)"),
            };
            (name.as_str(), count)
        })
    }

    /// As a table.
    pub(crate) fn methods_table(&self) -> String {
        let mut rows = vec![["", "lives ended"].map(str::to_owned).to_vec()];
        rows.extend(self.methods().map(|(name, count)| vec![name.to_owned(), count]));
        table(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(course: &mut Course, line: &str) -> bool {
        course.hear(line).expect("it is marked").expect("it is valid")
    }

    #[test]
    fn a_run_is_followed_by_its_lines() {
        let mut course = Course::new(1000);
        assert!(course.hear("[   0.1] kernel: something else").is_none());
        hear(&mut course, r#"@soak {"begin": {"seed": 7, "cycles": 1000, "clients": 2, "killers": 2}}"#);
        let progress = r#"@soak {"progress": {"ms": 5, "cycles": 10, "answers": 4, "errors": 1}}"#;
        assert!(hear(&mut course, progress));
        assert!(!hear(&mut course, progress), "nothing has moved");
        for window in [0, 95] {
            let line = format!(
                r#"@soak {{"times": {{"window": {window}, "series": "restart", "counts": [[100,3],[900,1]]}}}}"#
            );
            hear(&mut course, &line);
        }
        assert_eq!((course.tenth(0).len(), course.tenth(9).len(), course.tenth(5).len()), (4, 4, 0));
        hear(&mut course, r#"@soak {"end": {"cycles": 1000, "answers": 40, "errors": 2}}"#);
        course.end(Duration::from_secs(1));
        assert!(course.broken.is_none() && !course.is_partial());
        assert!(course.hear("@soak {\"end\": 3}").expect("it is marked").is_err());
    }

    #[test]
    fn no_cycles_and_slower_restarts_are_broken_promises() {
        let mut idle = Course::new(10);
        hear(&mut idle, r#"@soak {"end": {"cycles": 0, "answers": 1, "errors": 0}}"#);
        idle.end(Duration::ZERO);
        assert!(idle.broken.is_some_and(|broken| broken.what.contains("not one")));

        let mut slow = Course::new(10);
        hear(&mut slow, r#"@soak {"times": {"window": 1, "series": "restart", "counts": [[100,20000]]}}"#);
        hear(&mut slow, r#"@soak {"times": {"window": 99, "series": "restart", "counts": [[201,20000]]}}"#);
        slow.end(Duration::ZERO);
        assert!(slow.broken.is_some_and(|broken| broken.what.contains("slower")));
    }

    #[test]
    fn the_first_thing_that_goes_wrong_counts() {
        let mut course = Course::new(10);
        hear(&mut course, r#"@soak {"broken": {"cycle": 5, "what": "a wrong answer"}}"#);
        course.break_off("it ended in failure".to_owned());
        assert_eq!(course.broken.map(|broken| broken.cycle), Some(5));
    }
}
