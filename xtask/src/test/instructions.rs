//! Exact instruction counts, so that no change makes a crossing slower unnoticed.
//!
//! On the bare machine with one CPU, under QEMU's instruction counter, a figure is the same on every host and
//! in every run. `benches/NAME/instructions.toml` records the expected figures and the compiler that they
//! hold for. A figure of one call is compared exactly. A figure that covers several large domains depends on
//! the optimizer's choices, which differ by an instruction or two with the build folder: such a file names a
//! margin.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use xtask_report::measurement::Measurement;

use super::Machines;
use super::changed::Scope;
use super::output::Counts;
use super::suite::Suite;
use crate::bench;
use crate::machine::{Kind, Machine};
use crate::qemu::Qemu;
use crate::ui::Step;
use crate::workspace::Workspace;

/// Compares the benchmarks' counts with the recorded ones. Only QEMU counts instructions, and the recorded
/// counts hold for one compiler only: without either, no suite is returned.
pub(super) fn run(workspace: &Workspace, machines: Machines, scope: &Scope) -> Result<Vec<Suite>> {
    if !machines.include(Kind::Bare) || Qemu::find()?.is_none() {
        return Ok(Vec::new());
    }
    let compiler = workspace.compiler()?;
    let mut machine = None;
    let mut suites = Vec::new();
    for name in bench::select(workspace, &[])? {
        let file = workspace.root.join("benches").join(&name).join("instructions.toml");
        if !scope.boots(Kind::Bare, &bench::system(&name)) {
            continue;
        }
        let Some(recorded) = Recorded::read(&file)? else { continue };
        let step = Step::start(format!("counting instructions of {name}"));
        if recorded.compiler != compiler {
            step.done(&format!("left out: recorded for {}, this is {compiler}", recorded.compiler));
            continue;
        }
        let machine = match &machine {
            Some(machine) => machine,
            None => machine.insert(Machine::build(workspace, Kind::Bare, Qemu::find()?)?),
        };
        let measured = bench::count_instructions(workspace, machine, &name, recorded.only.clone())?;
        let mut counts = Counts::default();
        for outcome in recorded.compare(&measured) {
            counts.passed += usize::from(outcome.is_ok());
            counts.failed += usize::from(outcome.is_err());
            if let Err(difference) = outcome {
                step.line(&difference);
            }
        }
        let suite = Suite::new(format!("instructions of {name}"), counts, step.elapsed());
        step.done(&suite.counts.to_string());
        suites.push(suite);
    }
    Ok(suites)
}

/// A benchmark's recorded counts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    /// `rustc --version`.
    compiler: String,
    /// A common part of the names of all figures below, if the benchmark has others that need not be counted
    /// for them.
    only: Option<String>,
    /// The permitted deviation from the recorded count, in percent of it.
    #[serde(default)]
    margin_percent: f64,
    /// Instructions per call, by figure.
    counts: BTreeMap<String, f64>,
}

impl Recorded {
    /// Reads a file; `None` if there is none.
    fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).map(Some).with_context(|| format!("in {}", path.display()))
    }

    /// One result for each recorded figure: an error if the measured one differs.
    fn compare(&self, measured: &[Measurement]) -> Vec<Result<String, String>> {
        let check = |(id, &count): (&String, &f64)| match measured.iter().find(|figure| figure.id == *id) {
            None => Err(format!("{id}: {count} instructions are recorded, but it was not measured")),
            Some(figure) if (figure.median - count).abs() <= count * self.margin_percent / 100.0 => {
                Ok(format!("{id}: {} instructions, {count} recorded", figure.median))
            }
            Some(figure) if figure.median > count => {
                Err(format!("{id}: {} instructions, slower than the {count} recorded", figure.median))
            }
            Some(figure) => Err(format!(
                "{id}: {} instructions, faster than the {count} recorded: record it",
                figure.median
            )),
        };
        self.counts.iter().map(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(id: &str, median: f64) -> Measurement {
        let (unit, rest) = ("instructions".to_owned(), Default::default());
        Measurement { id: id.to_owned(), unit, n: 1, median, p99: None, min: None, rest }
    }

    fn recorded(count: f64, margin_percent: f64) -> Recorded {
        Recorded {
            compiler: String::new(),
            only: None,
            margin_percent,
            counts: [("a".to_owned(), count)].into(),
        }
    }

    #[test]
    fn one_instruction_more_or_less_is_noticed() {
        let recorded = recorded(68.0, 0.0);
        let check = |median| recorded.compare(&[figure("a", median)]).remove(0);
        assert!(check(68.0).is_ok());
        assert!(check(69.0).expect_err("slower").contains("slower than the 68"));
        assert!(check(67.0).expect_err("faster").contains("record it"));
        assert!(recorded.compare(&[]).remove(0).expect_err("missing").contains("not measured"));
    }

    #[test]
    fn a_count_within_the_margin_passes() {
        let recorded = recorded(700.0, 1.0);
        let check = |median| recorded.compare(&[figure("a", median)]).remove(0);
        assert!(check(693.0).is_ok() && check(707.0).is_ok());
        assert!(check(692.0).is_err() && check(708.0).is_err());
    }
}
