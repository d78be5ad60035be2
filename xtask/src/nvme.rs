//! The benchmark `nvme` as people read it: figures of one load side by side, configuration by configuration, the aims with
//! what came of them, and a drawing of throughput by depth.
//!
//! The figures' names say what they are: `KIND/LOAD/CONFIGURATION`, where a load is `null`'s `b32`, or
//! `4k/rand/read/d32/b32`.

mod curves;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::report::{Measurement, Report};
use crate::ui::table;

pub(crate) use curves::draw;

/// The benchmark whose figures these are.
pub(crate) const NAME: &str = "nvme";

/// In the order in which they stand side by side. The first is the one without isolation.
const CONFIGURATIONS: [&str; 3] = ["static", "domain", "shadow"];

/// The shadow is to come so close to the driver as a library, at batch 32.
const THROUGHPUT_PERCENT: f64 = 5.0;
/// A request is to cost so many cycles more, one by one.
const ISOLATION_CYCLES: f64 = 60.0;
/// A request through the shadow is to cost so many cycles, 32 at a time.
const BUSY_CYCLES: f64 = 245.0;
/// One crash a second is to take away less.
const LOSS_PERCENT: f64 = 1.0;
/// Beside the device's own reset half of all outages are to be over by then, and 99 of 100.
const OUTAGE_NS: [f64; 2] = [200_000.0, 1_000_000.0];

/// Figures of one kind by load, each with one of each configuration that was measured.
struct Loads<'a>(Vec<(&'a str, BTreeMap<&'a str, &'a Measurement>)>);

impl<'a> Loads<'a> {
    /// In the order in which they were measured.
    fn of(kind: &str, results: &'a [Measurement]) -> Self {
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

    fn get(&self, load: &str, configuration: &str) -> Option<&'a Measurement> {
        let (_, figures) = self.0.iter().find(|(known, _)| *known == load)?;
        figures.get(configuration).copied()
    }

    /// A line for each, with medians to so many `digits`, and what the shadow adds to the first configuration that there is.
    fn rows(&self, title: &str, digits: usize, difference: impl Fn(f64, f64) -> String) -> Vec<Vec<String>> {
        let mut rows = vec![vec![title.to_owned()]];
        rows[0].extend(CONFIGURATIONS.map(str::to_owned));
        rows[0].push("shadow - static".to_owned());
        for (load, figures) in &self.0 {
            let median = |name| figures.get(name).map(|figure| figure.median);
            let cell = |name| median(name).map_or_else(String::new, |figure| format!("{figure:.digits$}"));
            let mut row = vec![(*load).to_owned()];
            row.extend(CONFIGURATIONS.map(cell));
            let added = median("static").zip(median("shadow"));
            row.push(added.map_or_else(String::new, |(plain, shadow)| difference(plain, shadow)));
            rows.push(row);
        }
        rows
    }
}

fn rest(figure: &Measurement, name: &str) -> Option<f64> {
    figure.rest.get(name).and_then(serde_json::Value::as_f64)
}

/// The tables, and which aims are met.
pub(crate) fn show(report: &Report) -> String {
    let results = &report.results;
    let mut text = String::new();
    let unit = results.iter().find(|figure| figure.id.starts_with("null/")).map_or("", |figure| &figure.unit);
    let cycles = |plain: f64, shadow: f64| format!("{:+.1}", shadow - plain);
    for (kind, title) in
        [("null", "a queue that answers at once"), ("busy", "busy, without the device's time")]
    {
        let loads = Loads::of(kind, results);
        if !loads.0.is_empty() {
            let rows = loads.rows(&format!("{title}: {unit} per request"), 1, cycles);
            writeln!(text, "{}", table(&rows)).expect("writing to a String succeeds");
        }
    }
    let streams = Loads::of("stream", results);
    if !streams.0.is_empty() {
        let percent = |plain: f64, shadow: f64| format!("{:+.1} %", (shadow / plain - 1.0) * 100.0);
        let mut rows = streams.rows("requests per second", 0, percent);
        rows[0].extend(["p50 µs", "p99 µs", "p99.9 µs (shadow)"].map(str::to_owned));
        for (row, (_, figures)) in rows[1..].iter_mut().zip(&streams.0) {
            let Some(shadow) = figures.get("shadow") else { continue };
            let us = |name| rest(shadow, name).map_or_else(String::new, |ns| format!("{:.1}", ns / 1e3));
            row.extend(["p50_ns", "p99_ns", "p999_ns"].map(us));
        }
        writeln!(text, "{}", table(&rows)).expect("writing to a String succeeds");
    }
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
    for aim in aims(results, report.is_native()) {
        let verdict = if aim.is_met { "met" } else { "missed" };
        writeln!(text, "{verdict}: {}", aim.what).expect("writing to a String succeeds");
    }
    format!("{text}{}\n", report.place())
}

/// One aim, where it was measured.
struct Aim {
    is_met: bool,
    what: String,
}

fn aims(results: &[Measurement], is_timed: bool) -> Vec<Aim> {
    let mut aims = Vec::new();
    // Instructions are no cycles, and an emulator's cycles are not the machine's.
    aims.extend(throughput(&Loads::of("stream", results)));
    let busy = Loads::of("busy", results);
    let figure =
        |load, configuration| busy.get(load, configuration).filter(|_| is_timed).map(|figure| figure.median);
    if let (Some(plain), Some(shadow)) = (figure(ONE_BY_ONE, "static"), figure(ONE_BY_ONE, "shadow")) {
        aims.push(Aim {
            is_met: shadow - plain <= ISOLATION_CYCLES,
            what: format!("{:.1} cycles more than static at batch 1, aim {ISOLATION_CYCLES}", shadow - plain),
        });
    }
    if let Some(shadow) = figure(BY_THE_BATCH, "shadow") {
        aims.push(Aim {
            is_met: shadow <= BUSY_CYCLES,
            what: format!("{shadow:.1} busy cycles per request through the shadow, depth 32, batch 32, aim {BUSY_CYCLES}"),
        });
    }
    let reset = results.iter().find(|figure| figure.id == "reset/device").map(|figure| figure.median);
    for figure in results {
        if figure.id.starts_with("loss/") {
            let loss = rest(figure, "mean").unwrap_or(figure.median);
            aims.push(Aim {
                is_met: loss < LOSS_PERCENT,
                what: format!(
                    "{}: {loss:.2} % lost at one crash a second (mean), aim under {LOSS_PERCENT} %",
                    figure.id
                ),
            });
        } else if figure.id.starts_with("outage/") {
            // A queue that answers at once has no device.
            let own = reset.filter(|_| !figure.id.starts_with("outage/null/")).unwrap_or(0.0);
            let beside = [figure.median - own, figure.p99.unwrap_or(figure.median) - own];
            aims.push(Aim {
                is_met: beside.into_iter().zip(OUTAGE_NS).all(|(ns, most)| ns <= most),
                what: format!(
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

/// The loads that aims are about.
const ONE_BY_ONE: &str = "4k/rand/read/d1/b1";
const BY_THE_BATCH: &str = "4k/rand/read/d32/b32";

/// The shadow's throughput beside the static driver's, over all loads of batch 32: their geometric mean.
fn throughput(streams: &Loads<'_>) -> Option<Aim> {
    let ratios: Vec<f64> = streams
        .0
        .iter()
        .filter(|(load, _)| load.ends_with("/b32"))
        .filter_map(|(_, figures)| Some(figures.get("shadow")?.median / figures.get("static")?.median))
        .collect();
    let worst = ratios.iter().copied().reduce(f64::min)?;
    let mean = (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp();
    let percent = |ratio: f64| (1.0 - ratio) * 100.0;
    Some(Aim {
        is_met: percent(mean) <= THROUGHPUT_PERCENT,
        what: format!(
            "{:.1} % fewer requests per second through the shadow than static at batch 32 (mean of {} loads; worst {:.1} %), \
             aim {THROUGHPUT_PERCENT} %",
            percent(mean),
            ratios.len(),
            percent(worst)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(id: &str, unit: &str, median: f64) -> Measurement {
        let (unit, rest) = (unit.to_owned(), Default::default());
        Measurement { id: id.to_owned(), unit, n: 1, median, p99: Some(median), min: None, rest }
    }

    fn verdicts(results: &[Measurement]) -> Vec<bool> {
        aims(results, true).into_iter().map(|aim| aim.is_met).collect()
    }

    #[test]
    fn figures_of_one_load_stand_side_by_side() {
        let results = [
            figure("stream/4k/rand/read/d32/b32/static", "iops", 100.0),
            figure("busy/4k/rand/read/d1/b1/static", "tsc_cycles", 5.0),
            figure("stream/4k/rand/read/d32/b32/shadow", "iops", 90.0),
        ];
        let loads = Loads::of("stream", &results);
        let rows = loads.rows("x", 0, |plain, shadow| format!("{}", shadow - plain));
        assert_eq!(rows[1], ["4k/rand/read/d32/b32", "100", "", "90", "-10"]);
    }

    #[test]
    fn an_aim_is_judged_by_what_was_measured() {
        let streams = |shadow| {
            [
                figure("stream/4k/rand/read/d32/b32/static", "iops", 100.0),
                figure("stream/4k/rand/read/d32/b32/shadow", "iops", shadow),
            ]
        };
        assert_eq!(verdicts(&streams(96.0)), [true]);
        assert_eq!(verdicts(&streams(90.0)), [false]);
        let busy = |shadow| {
            [
                figure("busy/4k/rand/read/d1/b1/static", "tsc_cycles", 300.0),
                figure("busy/4k/rand/read/d1/b1/shadow", "tsc_cycles", shadow),
            ]
        };
        assert_eq!((verdicts(&busy(360.0)), verdicts(&busy(361.0))), (vec![true], vec![false]));
        assert!(verdicts(&[]).is_empty());
    }

    #[test]
    fn an_outage_counts_beside_the_devices_own_reset() {
        let outage = |ns| [figure("reset/device", "ns", 50_000.0), figure("outage/x/shadow", "ns", ns)];
        assert_eq!(verdicts(&outage(250_000.0)), [true]);
        assert_eq!(verdicts(&outage(251_000.0)), [false]);
    }

    #[test]
    fn an_emulators_cycles_are_not_judged() {
        let slow = [figure("busy/4k/rand/read/d32/b32/shadow", "tsc_cycles", 900.0)];
        assert!(aims(&slow, false).is_empty() && aims(&slow, true).len() == 1);
    }
}
