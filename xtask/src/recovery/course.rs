//! [`Course`]: what is known of a run, and the figures that come of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::line::{Begin, Broken, Check, Crash, Domain, Fault, Line, Memory, Meter, Note, Pass, Tick};

/// What is known of a run.
#[derive(Default, Serialize)]
pub(crate) struct Course {
    /// What was to be done.
    pub(crate) begin: Option<Begin>,
    /// What is counted all the time.
    pub(crate) meters: Vec<Meter>,
    /// Each crash, in order.
    pub(crate) crashes: Vec<Crash>,
    /// Each time that all was read.
    pub(crate) passes: Vec<Pass>,
    /// What was done how often.
    pub(crate) faults: Vec<Fault>,
    /// What is worth knowing.
    pub(crate) notes: Vec<Note>,
    /// What has to be 0.
    pub(crate) checks: Vec<Check>,
    /// What must not have happened, seen by the system or from here.
    pub(crate) broken: Vec<Broken>,
    /// All domains, as they were last.
    pub(crate) domains: BTreeMap<String, Domain>,
    /// What the others have.
    pub(crate) memory: BTreeMap<String, u64>,
    /// Throughput in the course of time.
    pub(crate) spans: Vec<Span>,
    /// How many crashes the system itself counted; `None` until its last line.
    pub(crate) counted: Option<u64>,
    #[serde(skip)]
    last: Option<Tick>,
}

/// What was done from one tick to the next.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Span {
    /// When it began and ended, since the run's beginning.
    pub(crate) from_us: u64,
    pub(crate) to_us: u64,
    /// How many of its units, by meter.
    pub(crate) amounts: Vec<u64>,
    /// How often the driver did what it was asked for.
    pub(crate) answers: u64,
    /// Crashes in it.
    pub(crate) crashes: u64,
    /// Nothing was crashed on purpose.
    pub(crate) calm: bool,
}

impl Span {
    /// Units a second.
    pub(crate) fn rate(&self, meter: usize) -> f64 {
        self.amount(meter) as f64 * 1e6 / (self.to_us - self.from_us).max(1) as f64
    }

    /// How many units.
    pub(crate) fn amount(&self, meter: usize) -> u64 {
        self.amounts.get(meter).copied().unwrap_or(0)
    }
}

/// Some percentiles, mostly of nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) n: usize,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Percentiles {
    /// Of exactly these; `None` of none.
    pub(crate) fn of(times: impl Iterator<Item = u64>) -> Option<Self> {
        let mut times: Vec<u64> = times.collect();
        times.sort_unstable();
        let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).max(1) - 1];
        let &max = times.last()?;
        Some(Self { n: times.len(), p50: at(0.5), p99: at(0.99), max })
    }
}

impl Course {
    /// Takes a line of the console. False if it is not about the run.
    pub(crate) fn hear(&mut self, text: &str) -> bool {
        match Line::from_console(text) {
            None => return false,
            Some(Ok(line)) => self.take(line),
            Some(Err(error)) => self.breaks(format!("a line that is none: {error} in {text}")),
        }
        true
    }

    fn take(&mut self, line: Line) {
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

    /// Notes something that must not have happened.
    pub(crate) fn breaks(&mut self, what: String) {
        let us = self.last.as_ref().map_or(0, |tick| tick.us);
        self.broken.push(Broken { us, what });
    }

    /// When the run began, since boot.
    pub(crate) fn begun_us(&self) -> u64 {
        self.begin.as_ref().map_or(0, |begin| begin.us)
    }

    /// How long it has gone on.
    pub(crate) fn elapsed_us(&self) -> u64 {
        self.last.as_ref().map_or(0, |tick| tick.us.saturating_sub(self.begun_us()))
    }

    /// How often the driver did what it was asked for, and what that is.
    pub(crate) fn answers(&self) -> (u64, &str) {
        let what = self.begin.as_ref().map_or("answers", |begin| &begin.answers);
        (self.last.as_ref().map_or(0, |tick| tick.answers), what)
    }

    /// Units a second over all spans that `wanted` wants; `None` if it wants none.
    pub(crate) fn rate(&self, meter: usize, wanted: impl Fn(&Span) -> bool) -> Option<f64> {
        let mut wanted = self.spans.iter().filter(|span| wanted(span)).peekable();
        wanted.peek()?;
        let (amount, us) = wanted
            .fold((0, 0), |(amount, us), span| (amount + span.amount(meter), us + span.to_us - span.from_us));
        Some(amount as f64 * 1e6 / us.max(1) as f64)
    }

    /// Outages of all crashes but hangs.
    pub(crate) fn outages(&self) -> Option<Percentiles> {
        let crashes = self.crashes.iter().filter(|crash| !crash.is_hang());
        Percentiles::of(crashes.map(|crash| crash.outage_ns))
    }

    /// Outages of hangs, most of which it takes to notice them.
    pub(crate) fn hangs(&self) -> Option<Percentiles> {
        Percentiles::of(self.crashes.iter().filter(|crash| crash.is_hang()).map(|crash| crash.outage_ns))
    }

    /// Of those that are no hangs and say, what of the outage is not the next instance's own beginning.
    pub(crate) fn overheads(&self) -> Option<Percentiles> {
        let beside = |crash: &Crash| Some(crash.outage_ns.saturating_sub(crash.start_ns?));
        Percentiles::of(self.crashes.iter().filter(|crash| !crash.is_hang()).filter_map(beside))
    }

    /// Frames lost by each crash that is no hang, and says so.
    pub(crate) fn frames_lost(&self) -> Option<Percentiles> {
        Percentiles::of(self.crashes.iter().filter(|crash| !crash.is_hang()).filter_map(|crash| crash.lost))
    }

    /// What is lost of a meter's rate by crashes, as a share: spans with them against calm ones of the same run.
    pub(crate) fn loss(&self, meter: usize) -> Option<f64> {
        let calm = self.rate(meter, |span| span.calm)?;
        let crashing = self.rate(meter, |span| !span.calm)?;
        (calm > 0.0).then(|| 1.0 - crashing / calm)
    }

    /// Outages by what was done, in the order in which that came up first.
    pub(crate) fn by_fault(&self) -> Vec<(String, Percentiles)> {
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

    /// Whether the system has said all that it had to say.
    pub(crate) fn has_ended(&self) -> bool {
        self.counted.is_some()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A course of a run that went well, as a system would tell it.
    pub(crate) fn told() -> Course {
        let mut course = Course::default();
        let mut say = |json: String| assert!(course.hear(&format!("@demo {json}")));
        say(r#"{"begin":{"us":1000,"victim":"nvme","answers":"requests answered",
            "every_us":100000,"duration_us":400000,"turn_us":200000}}"#
            .to_owned());
        for name in ["read", "written"] {
            say(format!(r#"{{"meter":{{"name":"{name}","unit":"bytes"}}}}"#));
        }
        for n in 0..5_u64 {
            let (us, calm) = (1000 + n * 100_000, n <= 2);
            let read = if n <= 2 { 1000 * n } else { 2000 + 900 * (n - 2) };
            say(format!(
                r#"{{"tick":{{"us":{us},"totals":[{read},{}],"answers":{n},"crashes":{},"calm":{calm}}}}}"#,
                n * 50,
                n.saturating_sub(2)
            ));
        }
        for (n, fault) in ["Kill", "Panic"].into_iter().enumerate() {
            say(format!(
                r#"{{"crash":{{"us":{},"fault":"{fault}","died":"x","outage_ns":{},"start_ns":50,"generation":{n}}}}}"#,
                250_000 + n * 100_000,
                100 + n * 100
            ));
        }
        say(r#"{"domain":{"name":"nvme","generation":2,"state":"Running","bytes":8192,"threads":1}}"#.into());
        say(r#"{"memory":{"owner":"kernel","bytes":4096}}"#.into());
        say(r#"{"pass":{"us":300000,"hash":"abc","bytes":1000}}"#.into());
        say(r#"{"fault":{"name":"Kill","crashes":1}}"#.into());
        say(r#"{"fault":{"name":"Panic","crashes":1}}"#.into());
        say(r#"{"note":{"text":"as fast as it goes"}}"#.into());
        say(r#"{"check":{"name":"bytes wrong","value":0}}"#.into());
        say(r#"{"end":{"us":401000,"crashes":2}}"#.into());
        course
    }

    #[test]
    fn ticks_become_rates() {
        let course = told();
        assert_eq!(course.spans.len(), 4);
        assert_eq!(course.rate(0, |_| true), Some(9500.0));
        assert!((course.loss(0).expect("there are spans of both kinds") - 0.1).abs() < 1e-9);
        assert_eq!(course.loss(1).map(|loss| loss.abs() < 1e-9), Some(true));
    }

    #[test]
    fn outages_are_told_apart_from_the_start_of_the_next_instance() {
        let course = told();
        let outages = course.outages().expect("there were crashes");
        assert_eq!((outages.n, outages.p50, outages.max), (2, 100, 200));
        assert_eq!(course.overheads().map(|times| times.max), Some(150));
        assert_eq!(course.by_fault().len(), 2);
        assert!(course.hangs().is_none());
    }

    #[test]
    fn a_hang_is_no_outage_like_the_others() {
        let mut course = told();
        course.crashes[1].died = "Deadline".into();
        assert_eq!(course.outages().map(|times| (times.n, times.max)), Some((1, 100)));
        assert_eq!(course.hangs().map(|times| (times.n, times.max)), Some((1, 200)));
        assert_eq!(course.overheads().map(|times| times.n), Some(1));
    }

    #[test]
    fn a_line_that_is_none_breaks_the_run() {
        let mut course = told();
        assert!(course.hear("@demo {\"tick\":{}}"));
        assert_eq!(course.broken.len(), 1);
        assert!(!course.hear("an ordinary line"));
    }

    #[test]
    fn a_course_without_lines_has_no_figures() {
        let course = Course::default();
        assert!(course.outages().is_none() && course.loss(0).is_none() && course.rate(0, |_| true).is_none());
        assert!(!course.has_ended());
    }
}
