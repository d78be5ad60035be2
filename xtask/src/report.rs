//! What benchmarks leave behind: `target/reports/NAME.json`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::baseline;
use crate::machine::Kind;
use crate::ui::table;

/// How a benchmark's line on the console begins; the rest is a [`Measurement`] in JSON.
const MARK: &str = "@bench ";

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// What was measured, as `group/name`.
    pub(crate) id: String,
    /// Of the figures below, such as `tsc_cycles`.
    pub(crate) unit: String,
    /// How often.
    pub(crate) n: u64,
    /// Half were at most this.
    pub(crate) median: f64,
    /// 99 of 100 were at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<f64>,
    /// The smallest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min: Option<f64>,
    /// What else the benchmark says, such as batch and depth.
    #[serde(flatten)]
    pub(crate) rest: serde_json::Map<String, serde_json::Value>,
}

impl Measurement {
    /// Reads a line of the console: `None` if it is no figure, an error if it tries to be one.
    pub(crate) fn from_console(line: &str) -> Option<Result<Self, serde_json::Error>> {
        // A log prefix may stand in front.
        let (_, json) = line.split_once(MARK)?;
        Some(serde_json::from_str(json))
    }
}

/// Where figures were taken.
#[derive(Clone, Serialize)]
pub(crate) struct Host {
    cpu: String,
    cores: usize,
    /// Of the time-stamp counter, measured.
    tsc_hz: u64,
    /// Of the core at the time, as Linux reports it; absent where it does not.
    core_mhz: Option<f64>,
    /// `hosted`, `bare`, or `bare icount`, where the guest's counter counts instructions.
    kernel: &'static str,
}

impl Host {
    /// This one.
    pub(crate) fn here(kind: Kind, count_instructions: bool) -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Self {
            cpu: field("model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            tsc_hz: baseline::tsc_hz(),
            core_mhz: field("cpu MHz").and_then(|text| text.parse().ok()),
            kernel: match (kind, count_instructions) {
                (Kind::Hosted, _) => "hosted",
                (Kind::Bare, false) => "bare",
                (Kind::Bare, true) => "bare icount",
            },
        }
    }
}

/// One benchmark's figures.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: Host,
    commit: String,
    date: String,
    /// Its figures and the baselines of the same run.
    pub(crate) results: Vec<Measurement>,
}

impl Report {
    /// A report of figures taken just now on `machine`, from the tree at `root`.
    pub(crate) fn new(machine: Host, root: &Path, results: Vec<Measurement>) -> Self {
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { machine, commit: commit(root), date, results }
    }

    /// The figures, aligned.
    pub(crate) fn table(&self) -> String {
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

    /// Whether cycles are those of the machine that it ran on.
    pub(crate) fn is_native(&self) -> bool {
        self.machine.kernel == "hosted"
    }

    /// Where and when they were taken.
    pub(crate) fn place(&self) -> String {
        let Host { cpu, cores, tsc_hz, kernel, .. } = &self.machine;
        let clock = *tsc_hz as f64 / 1e9;
        format!("{kernel} on {cpu}, {cores} cores, TSC {clock:.2} GHz, {}", self.date)
    }
}

/// The commit, marked if the tree has changed since; a tree without git has none.
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
        let line = r#"@bench {"id": "crossing/null", "unit": "tsc_cycles", "n": 1000, "median": 10.1, "p99": 14, "depth": 1}"#;
        let figure = Measurement::from_console(line).expect("it is marked").expect("it is valid");
        assert_eq!((figure.id.as_str(), figure.median, figure.p99), ("crossing/null", 10.1, Some(14.0)));
        assert_eq!(figure.rest["depth"], 1);
        assert!(serde_json::to_string(&figure).expect("it came from JSON").contains(r#""depth":1"#));
    }

    #[test]
    fn a_broken_figure_is_an_error_and_not_ignored() {
        assert!(Measurement::from_console("@bench {\"id\": 3}").expect("it is marked").is_err());
        assert!(Measurement::from_console("bench of oak").is_none());
    }
}
