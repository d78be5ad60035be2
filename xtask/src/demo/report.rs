//! The reports of demonstrations: `target/reports/NAME.json`, `.svg` and `.html`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use coppice_run_protocol::trial::Unit;
use serde::Serialize;

use super::{Run, Workload};
use crate::image::write_if_changed;
use crate::machine::Kind;
use crate::recovery::RunLog;
use crate::recovery::course::Percentiles;
use crate::recovery::page::{self, Section};
use crate::recovery::verdict::Verdict;
use crate::report::{Host, Measurement, Report};
use crate::workspace::Workspace;

/// The content of the JSON report.
#[derive(Serialize)]
struct DemoReport<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(flatten)]
    about: BTreeMap<&'static str, String>,
    runs: Vec<RunReport<'a>>,
}

#[derive(Serialize)]
struct RunReport<'a> {
    heading: &'a str,
    verdicts: &'a [Verdict],
    #[serde(flatten)]
    log: &'a RunLog,
}

/// Writes all files, and prints the JSON if `json` is set.
pub(crate) fn write(
    workspace: &Workspace,
    kind: Kind,
    workload: &dyn Workload,
    runs: &[Run],
    json: bool,
) -> Result<()> {
    let stem = workload.stem();
    let report = Report::new(Host::here(kind, false), &workspace.root, figures(stem, runs));
    let folder = workspace.target.join("reports");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let (line, about) = workload.description();
    let text = serde_json::to_string_pretty(&DemoReport {
        report: &report,
        about: about.into_iter().collect(),
        runs: runs
            .iter()
            .map(|run| RunReport { heading: &run.heading, verdicts: &run.verdicts, log: &run.log })
            .collect(),
    })
    .context("writing the report")?;
    let sections: Vec<_> = runs
        .iter()
        .map(|run| Section { heading: &run.heading, log: &run.log, verdicts: &run.verdicts })
        .collect();
    let place = format!("{}\n{line}", report.place());
    for (name, content) in [
        ("json", &text),
        ("svg", &page::picture(&sections)),
        ("html", &page::draw(workload.title(), &place, &sections)),
    ] {
        write_if_changed(&folder.join(format!("{stem}.{name}")), content.as_bytes())?;
    }
    if json {
        println!("{text}");
    }
    eprintln!("report: {}, .svg, .json", folder.join(format!("{stem}.html")).display());
    Ok(())
}

/// The figures of all runs; those of further runs have the heading in their names.
pub(crate) fn figures(stem: &str, runs: &[Run]) -> Vec<Measurement> {
    let mut figures = Vec::new();
    for (number, Run { heading, log, .. }) in runs.iter().enumerate() {
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
