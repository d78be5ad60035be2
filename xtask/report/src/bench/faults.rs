//! The table of faults: the outcome of each kind on each machine. `cargo xtask bench faults` measures one
//! machine at a time; the page shows all machines that were measured.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::markup::escape;
use crate::measurement::Measurement;
use crate::table::table;

/// The name of the benchmark.
pub const NAME: &str = "faults";
/// The beginning of a fault's figure, before the fault's name.
const FAULT: &str = "fault/";
/// The reports that the page shows, by their names in `bench`.
const REPORTS: [&str; 2] = ["faults.json", "faults-icount.json"];

/// The longest median time from a panic to its caller's error.
const ERROR_NS: f64 = 20_000.0;
/// The longest time from a hang's deadline to its detection, at p99: a tick of the timer.
const HANG_NS: f64 = 1_000_000.0;
/// The longest time until the next instance's first correct reply, at p99.
const RECOVERY_NS: f64 = 200_000.0;

/// The part of one machine's report that the page needs.
#[derive(Deserialize)]
struct Faults {
    machine: MachineInfo,
    date: String,
    commit: String,
    results: Vec<Measurement>,
}

#[derive(Deserialize)]
struct MachineInfo {
    cpu: String,
    tsc_hz: u64,
    kernel: String,
}

/// The outcome of one kind.
#[derive(Deserialize)]
struct Outcome {
    contained: u64,
    restarted: u64,
    bytes_lost: i64,
    answer_median: f64,
    answer_p99: f64,
}

/// A line of the table: the fault, its outcome, and the aims that it missed.
struct Row {
    cells: Vec<String>,
    missed: Vec<&'static str>,
}

const HEADINGS: [&str; 9] = [
    "fault",
    "n",
    "contained",
    "restarted",
    "bytes lost",
    "to error p50",
    "p99",
    "to good answer p50",
    "p99",
];

impl Faults {
    fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is not a report of faults", path.display()))
    }

    /// Ticks in a readable unit: microseconds, or a plain number where the counter counts instructions.
    fn ticks(&self, ticks: f64, unit: &str) -> String {
        match unit {
            "tsc_cycles" => format!("{:.1} µs", self.ns(ticks) / 1e3),
            _ => format!("{ticks:.0}"),
        }
    }

    fn ns(&self, ticks: f64) -> f64 {
        ticks * 1e9 / self.machine.tsc_hz as f64
    }

    fn rows(&self) -> Result<Vec<Row>> {
        let faults = self.results.iter().filter_map(|figure| Some((figure.id.strip_prefix(FAULT)?, figure)));
        faults.map(|(name, figure)| self.row(name, figure)).collect()
    }

    fn row(&self, name: &str, figure: &Measurement) -> Result<Row> {
        if figure.n == 0 {
            let cells = [name, "0", "not raised here"].map(str::to_owned).to_vec();
            return Ok(Row { cells, missed: Vec::new() });
        }
        let rest = serde_json::Value::Object(figure.rest.clone());
        let outcome: Outcome = serde_json::from_value(rest)
            .with_context(|| format!("the figure {} is incomplete", figure.id))?;
        let Outcome { contained, restarted, bytes_lost, answer_median, answer_p99 } = outcome;
        let (p50, p99) = (figure.median, figure.p99.unwrap_or(figure.median));
        let ticks = |ticks| self.ticks(ticks, &figure.unit);
        let cells = vec![
            name.to_owned(),
            figure.n.to_string(),
            contained.to_string(),
            restarted.to_string(),
            bytes_lost.to_string(),
            ticks(p50),
            ticks(p99),
            ticks(answer_median),
            ticks(answer_p99),
        ];
        let is_hang = matches!(name, "InfiniteLoop" | "LockNeverReleased" | "EndlessWait");
        // Aims for times apply only where figures are times.
        let timed = figure.unit == "tsc_cycles";
        let aims = [
            (contained == figure.n, "contained"),
            (restarted == figure.n, "restarted"),
            (bytes_lost == 0, "bytes lost"),
            (!timed || name != "Panic" || self.ns(p50) <= ERROR_NS, "to error"),
            (!timed || !is_hang || self.ns(p99) <= HANG_NS, "hang noticed"),
            (!timed || self.ns(answer_p99) <= RECOVERY_NS, "to good answer"),
        ];
        let missed = aims.into_iter().filter_map(|(met, name)| (!met).then_some(name)).collect();
        Ok(Row { cells, missed })
    }

    fn caption(&self) -> String {
        let MachineInfo { cpu, kernel, .. } = &self.machine;
        let unit = if kernel.contains("icount") { "times in instructions" } else { "times in µs" };
        format!("{kernel} on {cpu}, {unit}, {}, commit {}", self.date, self.commit)
    }
}

fn aims() -> String {
    format!(
        "aims: all contained and restarted; 0 bytes lost; and hosted: a panic's caller gets its error within {:.0} µs (p50), \
         a hang is noticed within {:.0} ms of its deadline (p99; its times count from there), the next instance replies within \
         {:.0} µs (p99)",
        ERROR_NS / 1e3,
        HANG_NS / 1e6,
        RECOVERY_NS / 1e3
    )
}

/// The figures of the report at `path` as a table, with the missed aims.
///
/// # Errors
/// When the report cannot be read.
pub fn show(path: &Path) -> Result<String> {
    let Some(faults) = Faults::read(path)? else { return Ok(String::new()) };
    let mut lines = vec![HEADINGS.map(str::to_owned).to_vec()];
    let mut missed = String::new();
    for Row { cells, missed: aims } in faults.rows()? {
        if !aims.is_empty() {
            writeln!(missed, "missed by {}: {}", cells[0], aims.join(", "))
                .expect("writing to a String succeeds");
        }
        lines.push(cells);
    }
    Ok(format!("{}{}\n{}\n{missed}", table(&lines), faults.caption(), aims()))
}

/// Draws the page of all reports in `folder`.
///
/// # Errors
/// When a report cannot be read.
pub fn draw(folder: &Path) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Coppice: faults</title>\n\
         <style>body {{ font: 14px sans-serif; margin: 2em }} table {{ border-collapse: collapse }} \
         td, th {{ padding: 2px 12px; text-align: right; border-bottom: 1px solid #ddd }} \
         td:first-child, th:first-child {{ text-align: left }} .missed {{ background: #fbe3d6 }}</style>\n\
         <h1>Faults</h1>\n<p>{}</p>\n",
        escape(&aims())
    );
    for report in REPORTS {
        let Some(faults) = Faults::read(&folder.join(report))? else { continue };
        let headings: String = HEADINGS.iter().map(|heading| format!("<th>{heading}</th>")).collect();
        write!(page, "<h2>{}</h2>\n<table>\n<tr>{headings}<th>missed</th></tr>\n", escape(&faults.caption()))
            .expect("writing to a String succeeds");
        for Row { cells, missed } in faults.rows()? {
            let class = if missed.is_empty() { "" } else { " class=\"missed\"" };
            let mut line: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            line += &"<td></td>".repeat(HEADINGS.len() - cells.len());
            writeln!(page, "<tr{class}>{line}<td>{}</td></tr>", missed.join(", "))
                .expect("writing to a String succeeds");
        }
        page += "</table>\n";
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(contained: u64, median: f64) -> String {
        format!(
            r#"{{"machine": {{"cpu": "x", "cores": 2, "tsc_hz": 1000000000, "kernel": "hosted"}}, "commit": "c",
                "date": "d", "results": [
                {{"id": "healthy/call", "unit": "tsc_cycles", "n": 9, "median": 50}},
                {{"id": "fault/Panic", "unit": "tsc_cycles", "n": 10, "median": {median}, "p99": 30000,
                  "contained": {contained}, "restarted": 10, "bytes_lost": 0, "answer_median": 9000, "answer_p99": 40000}},
                {{"id": "fault/SharedHeap", "unit": "tsc_cycles", "n": 0, "median": 0}}]}}"#
        )
    }

    #[test]
    fn a_fault_that_meets_its_aims_is_not_marked() {
        let folder = tempfile::tempdir().expect("there is room for a report");
        fs::write(folder.path().join(REPORTS[0]), report(10, 8000.0)).expect("there is room for a report");
        let text = show(&folder.path().join(REPORTS[0])).expect("it is a report");
        assert!(
            text.contains("8.0 µs") && text.contains("not raised here") && !text.contains("missed by"),
            "{text}"
        );
        let page = draw(folder.path()).expect("it is a report");
        assert_eq!(page.matches("<table>").count(), 1);
        assert!(!page.contains("class=\"missed\""));
    }

    #[test]
    fn missed_aims_are_named() {
        let folder = tempfile::tempdir().expect("there is room for a report");
        for file in REPORTS {
            fs::write(folder.path().join(file), report(9, 21_000.0)).expect("there is room for a report");
        }
        let text = show(&folder.path().join(REPORTS[0])).expect("it is a report");
        assert!(text.contains("missed by Panic: contained, to error"), "{text}");
        let page = draw(folder.path()).expect("they are reports");
        assert_eq!(page.matches("<table>").count(), 2);
    }
}
