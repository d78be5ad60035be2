//! Figures of a benchmark that measures one load on several configurations: tables side by side, and the aims
//! with their results.
//!
//! The figures' names are `KIND/LOAD/CONFIGURATION`, where a load may contain slashes.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::measurement::Measurement;

/// The most throughput that one crash per second may cost, in percent.
const LOSS_PERCENT: f64 = 1.0;
/// The longest outage beside the device's own reset, at p50 and at p99.
const OUTAGE_NS: [f64; 2] = [200_000.0, 1_000_000.0];

/// Figures of one kind by load, each by configuration.
pub struct Loads<'a>(pub Vec<(&'a str, BTreeMap<&'a str, &'a Measurement>)>);

impl<'a> Loads<'a> {
    /// The figures of `kind`, in the order of measurement.
    pub fn of(kind: &str, results: &'a [Measurement]) -> Self {
        let mut loads: Vec<(&str, BTreeMap<&str, &Measurement>)> = Vec::new();
        for result in results {
            let Some(rest) = result.id.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/')) else {
                continue;
            };
            let Some((load, configuration)) = rest.rsplit_once('/') else { continue };
            match loads.iter_mut().find(|(known, _)| *known == load) {
                Some((_, figures)) => _ = figures.insert(configuration, result),
                None => loads.push((load, [(configuration, result)].into())),
            }
        }
        Self(loads)
    }

    pub fn get(&self, load: &str, configuration: &str) -> Option<&'a Measurement> {
        let (_, figures) = self.0.iter().find(|(known, _)| *known == load)?;
        figures.get(configuration).copied()
    }

    /// A row for each load, with medians to `digits` digits, and the shadow's difference from the driver as a
    /// library.
    pub fn rows(
        &self,
        title: &str,
        configurations: &[&str],
        digits: usize,
        difference: impl Fn(f64, f64) -> String,
    ) -> Vec<Vec<String>> {
        let mut rows = vec![vec![title.to_owned()]];
        rows[0].extend(configurations.iter().map(|&name| name.to_owned()));
        rows[0].push("shadow - static".to_owned());
        for (load, figures) in &self.0 {
            let median = |name: &str| figures.get(name).map(|figure| figure.median);
            let cell =
                |&name: &&str| median(name).map_or_else(String::new, |figure| format!("{figure:.digits$}"));
            let mut row = vec![(*load).to_owned()];
            row.extend(configurations.iter().map(cell));
            let added = median("static").zip(median("shadow"));
            row.push(added.map_or_else(String::new, |(plain, shadow)| difference(plain, shadow)));
            rows.push(row);
        }
        rows
    }
}

/// A further value of a figure, by its name.
pub fn rest(figure: &Measurement, name: &str) -> Option<f64> {
    figure.rest.get(name).and_then(serde_json::Value::as_f64)
}

/// A line for each figure without configurations: those of crashes, and of the device itself.
pub fn lone(results: &[Measurement]) -> String {
    let mut text = String::new();
    for figure in results {
        let kind = figure.id.split('/').next().unwrap_or_default();
        if !["reset", "outage", "loss"].contains(&kind) {
            continue;
        }
        let (value, unit) = match figure.unit.as_str() {
            "ns" => (1e3, "µs"),
            unit => (1.0, unit),
        };
        let show =
            |figure: Option<f64>| figure.map_or_else(String::new, |figure| format!("{:.2}", figure / value));
        let [p99, mean, max] = [figure.p99, rest(figure, "mean"), rest(figure, "max")].map(show);
        let (id, n) = (&figure.id, figure.n);
        let median = show(Some(figure.median));
        writeln!(text, "{id}: p50 {median} {unit}, p99 {p99}, max {max}, mean {mean}, n {n}")
            .expect("writing to a String succeeds");
    }
    text
}

/// An aim for which figures were measured.
pub struct Aim {
    pub is_met: bool,
    pub summary: String,
}

/// A line for each aim.
pub fn verdicts(aims: &[Aim]) -> String {
    let mut text = String::new();
    for aim in aims {
        let verdict = if aim.is_met { "met" } else { "missed" };
        writeln!(text, "{verdict}: {}", aim.summary).expect("writing to a String succeeds");
    }
    text
}

/// The aims of `loss/…` and `outage/…`. Outages exclude the device's own reset; those of `null` have no
/// device.
pub fn of_crashes(results: &[Measurement]) -> Vec<Aim> {
    let mut aims = Vec::new();
    let reset = results.iter().find(|figure| figure.id == "reset/device").map(|figure| figure.median);
    for figure in results {
        if figure.id.starts_with("loss/") {
            let loss = rest(figure, "mean").unwrap_or(figure.median);
            aims.push(Aim {
                is_met: loss < LOSS_PERCENT,
                summary: format!(
                    "{}: {loss:.2} % lost at one crash a second (mean), aim under {LOSS_PERCENT} %",
                    figure.id
                ),
            });
        } else if figure.id.starts_with("outage/") {
            let own = reset.filter(|_| !figure.id.starts_with("outage/null/")).unwrap_or(0.0);
            let beside = [figure.median - own, figure.p99.unwrap_or(figure.median) - own];
            aims.push(Aim {
                is_met: beside.into_iter().zip(OUTAGE_NS).all(|(ns, most)| ns <= most),
                summary: format!(
                    "{}: beside the device's reset ({:.1} µs) p50 {:.1} µs, p99 {:.1} µs, aims {:.0} and {:.0} µs",
                    figure.id,
                    own / 1e3,
                    beside[0] / 1e3,
                    beside[1] / 1e3,
                    OUTAGE_NS[0] / 1e3,
                    OUTAGE_NS[1] / 1e3,
                ),
            });
        }
    }
    aims
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A figure for tests.
    pub(crate) fn figure(id: &str, unit: &str, median: f64) -> Measurement {
        let (unit, rest) = (unit.to_owned(), Default::default());
        Measurement { id: id.to_owned(), unit, n: 1, median, p99: Some(median), min: None, rest }
    }

    #[test]
    fn figures_of_one_load_are_in_one_row() {
        let results = [
            figure("stream/4k/rand/read/d32/b32/static", "iops", 100.0),
            figure("busy/4k/rand/read/d1/b1/static", "tsc_cycles", 5.0),
            figure("stream/4k/rand/read/d32/b32/shadow", "iops", 90.0),
        ];
        let loads = Loads::of("stream", &results);
        let rows = loads
            .rows("x", &["static", "domain", "shadow"], 0, |plain, shadow| format!("{}", shadow - plain));
        assert_eq!(rows[1], ["4k/rand/read/d32/b32", "100", "", "90", "-10"]);
    }

    #[test]
    fn an_outage_excludes_the_devices_own_reset() {
        let is_met = |ns| {
            let results = [figure("reset/device", "ns", 50_000.0), figure("outage/x/shadow", "ns", ns)];
            of_crashes(&results).into_iter().map(|aim| aim.is_met).collect::<Vec<_>>()
        };
        assert_eq!((is_met(250_000.0), is_met(251_000.0)), (vec![true], vec![false]));
    }
}
