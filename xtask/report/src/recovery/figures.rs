//! [`figures`]: the figures of all runs of a demonstration.

use coppice_run_protocol::trial::Unit;

use super::page::Section;
use super::run_log::Percentiles;
use crate::measurement::Measurement;

/// The figures of all runs; those of further runs have the heading in their names.
pub fn figures(stem: &str, runs: &[Section<'_>]) -> Vec<Measurement> {
    let mut figures = Vec::new();
    for (number, Section { heading, log, .. }) in runs.iter().enumerate() {
        let group =
            if number == 0 { stem.to_owned() } else { format!("{stem}/{}", heading.replace(' ', "-")) };
        let spread = |name: &str, unit: &str, percentiles: Option<Percentiles>| {
            percentiles.map(|Percentiles { n, p50, p99, max }| {
                let mut figure = figure(format!("{group}/{name}"), unit, n as u64, p50 as f64);
                figure.p99 = Some(p99 as f64);
                figure.rest.insert("max".to_owned(), max.into());
                figure
            })
        };
        let times = |name: &str, times| spread(name, "ns", times);
        figures.extend(times("outage", log.outages()));
        figures.extend(times("outage-beside-start", log.overheads()));
        figures.extend(times("hang", log.hangs()));
        for (fault, percentiles) in log.by_fault() {
            figures.extend(times(&format!("outage/{fault}"), Some(percentiles)));
        }
        figures.extend(spread("frames-lost", "frames", log.frames_lost()));
        for (number, meter) in log.meters.iter().enumerate() {
            let spans = log.spans.len() as u64;
            let (name, unit) = (&meter.name, per_second(meter.unit));
            let rate = log.rate(number, |_| true);
            figures.extend(rate.map(|rate| figure(format!("{group}/{name}"), unit, spans, rate)));
            let loss = log.loss(number);
            figures.extend(
                loss.map(|loss| figure(format!("{group}/{name}/loss"), "percent", spans, 100.0 * loss)),
            );
        }
    }
    figures
}

/// The unit of a meter's rate in a report.
const fn per_second(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes_per_second",
        Unit::Frames => "frames_per_second",
    }
}

fn figure(id: String, unit: &str, n: u64, median: f64) -> Measurement {
    Measurement { id, unit: unit.to_owned(), n, median, p99: None, min: None, rest: Default::default() }
}

#[cfg(test)]
mod tests {
    use super::super::sample_log;
    use super::*;

    #[test]
    fn each_run_has_its_figures() {
        let log = sample_log();
        let run = |heading| Section { heading, log: &log, verdicts: &[] };
        let figures = figures("demo", &[run("a"), run("a crash every 1s")]);
        let find = |id: &str| figures.iter().find(|figure| figure.id == id).map(|figure| figure.median);
        assert_eq!(find("demo/outage"), Some(100.0));
        assert_eq!(find("demo/outage/Panic"), Some(200.0));
        assert_eq!(find("demo/a-crash-every-1s/read"), Some(9500.0));
        assert!(find("demo/read/loss").is_some_and(|loss| (loss - 10.0).abs() < 1e-6));
    }
}
