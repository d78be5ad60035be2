//! [`Measurement`]: one figure. [`Report`]: the figures of a run, as in `target/reports/NAME.json`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use coppice_run_protocol::LineError;
use coppice_run_protocol::bench::{Figure, Line};
use serde::{Deserialize, Serialize};

use crate::table::table;

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Measurement {
    /// The name of the figure, as `group/name`.
    pub id: String,
    /// The unit of the values below, such as `tsc_cycles`.
    pub unit: String,
    /// The number of samples.
    pub n: u64,
    /// The median of the samples.
    pub median: f64,
    /// Their 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Their minimum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Further values of the benchmark, such as batch and depth.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

impl From<Figure> for Measurement {
    fn from(figure: Figure) -> Self {
        let Figure { id, unit, n, min, median, p99, more } = figure;
        let number = |value: f64| match value as i64 {
            // A count stays one.
            whole if whole as f64 == value => whole.into(),
            _ => value.into(),
        };
        let rest = more.into_iter().map(|(name, value)| (name, number(value))).collect();
        Self { id, unit, n, median, p99, min, rest }
    }
}

impl Measurement {
    /// Parses a line of the console: `None` if it is not marked as a figure, an error if it is malformed.
    pub fn from_console(line: &str) -> Option<Result<Self, LineError>> {
        Some(Line::from_console(line)?.map(|Line::Figure(figure)| figure.into()))
    }
}

/// The machine that figures were measured on.
#[derive(Clone, Serialize)]
pub struct Host {
    cpu: String,
    cores: usize,
    /// The rate of the time-stamp counter, measured.
    tsc_hz: u64,
    /// The core's clock at the time, as Linux reports it; absent where Linux does not.
    core_mhz: Option<f64>,
    /// `hosted`, `bare`, or `bare icount`, where the guest's counter counts instructions.
    kernel: &'static str,
}

impl Host {
    /// This host, whose time-stamp counter has the rate `tsc_hz`, with a system on the machine `kernel`.
    pub fn here(kernel: &'static str, tsc_hz: u64) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Self {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            tsc_hz,
            core_mhz: field("cpu MHz").and_then(|text| text.parse().ok()),
            kernel,
        }
    }
}

/// One benchmark's figures.
#[derive(Serialize)]
pub struct Report {
    machine: Host,
    commit: String,
    date: String,
    /// Its figures and the baselines of the same run.
    pub results: Vec<Measurement>,
}

impl Report {
    /// A report of figures that were just measured on `machine`, from the tree at `root`.
    pub fn new(machine: Host, root: &Path, results: Vec<Measurement>) -> Self {
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { machine, commit: commit(root), date, results }
    }

    /// The figures as a table.
    pub fn table(&self) -> String {
        let mut rows = vec![["", "median", "p99", "min", "unit", "n"].map(str::to_owned).to_vec()];
        let figure = |figure: Option<f64>| figure.map_or_else(String::new, |figure| format!("{figure:.1}"));
        for result in &self.results {
            rows.push(vec![
                result.id.clone(),
                figure(Some(result.median)),
                figure(result.p99),
                figure(result.min),
                result.unit.clone(),
                result.n.to_string(),
            ]);
        }
        format!("{}{}\n", table(&rows), self.place())
    }

    /// Returns true if cycles are those of the host's CPU.
    pub fn is_native(&self) -> bool {
        self.machine.kernel == "hosted"
    }

    /// The machine and the date of the measurement.
    pub fn place(&self) -> String {
        let Host { cpu, cores, tsc_hz, kernel, .. } = &self.machine;
        let clock = *tsc_hz as f64 / 1e9;
        format!("{kernel} on {cpu}, {cores} cores, TSC {clock:.2} GHz, {}", self.date)
    }
}

/// The commit, marked if the tree has uncommitted changes; empty for a tree without git.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match git(&["rev-parse", "HEAD"]) {
        Some(commit) if git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty()) => commit,
        Some(commit) => format!("{commit}-dirty"),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_console_becomes_a_figure() {
        let line = r#"@bench/1 {"figure":{"id":"crossing/null","unit":"tsc_cycles","n":1000,"median":10.1,"p99":14,"depth":1}}"#;
        let figure = Measurement::from_console(line).expect("it is marked").expect("it is valid");
        assert_eq!((figure.id.as_str(), figure.median, figure.p99), ("crossing/null", 10.1, Some(14.0)));
        assert_eq!(figure.rest["depth"], 1);
        assert!(serde_json::to_string(&figure).expect("it came from JSON").contains(r#""depth":1"#));
    }

    #[test]
    fn a_broken_figure_is_an_error_and_not_ignored() {
        assert!(
            Measurement::from_console("@bench/1 {\"figure\":{\"id\":3}}").expect("it is marked").is_err()
        );
        assert!(Measurement::from_console("bench of oak").is_none());
        assert!(
            Measurement::from_console("[   0.1] echo: @bench/1 {\"figure\":{}}").is_none(),
            "a log record"
        );
    }
}
