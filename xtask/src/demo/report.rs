//! The reports of demonstrations: `target/reports/NAME.json`, `.svg` and `.html`.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;
use xtask_report::measurement::Report;
use xtask_report::recovery::RunLog;
use xtask_report::recovery::figures::figures;
use xtask_report::recovery::page::{self, Section};
use xtask_report::recovery::verdict::Verdict;

use super::{Run, Workload};
use crate::baseline;
use crate::image::write_if_changed;
use crate::machine::Kind;
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
    let sections: Vec<_> = runs
        .iter()
        .map(|run| Section { heading: &run.heading, log: &run.log, verdicts: &run.verdicts })
        .collect();
    let report = Report::new(baseline::host(kind, false), &workspace.root, figures(stem, &sections));
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
