//! The report of the benchmark `nvme`: figures of one load side by side by configuration, the aims and their
//! results, and a drawing of throughput by depth.
//!
//! The figures' names are `KIND/LOAD/CONFIGURATION`, where a load is `null`'s `b32`, or
//! `4k/rand/read/d32/b32`.

use std::fmt::Write;

use super::curves::{self, Line, Panel};
use super::loads::{self, Aim, Loads, rest};
use crate::measurement::{Measurement, Report};
use crate::table::table;

/// The name of the benchmark.
pub const NAME: &str = "nvme";

/// The configurations in the order of the columns. The first one has no isolation.
const CONFIGURATIONS: [&str; 3] = ["static", "domain", "shadow"];
const COLOURS: [&str; CONFIGURATIONS.len()] = ["#888888", "#3a6ea5", "#4a7a4a"];
const BATCHES: [&str; 2] = ["b32", "b1"];

/// The most throughput that the shadow may lose against the driver as a library at batch 32, in percent.
const THROUGHPUT_PERCENT: f64 = 5.0;
/// The most cycles that isolation may add to a request at batch 1.
const ISOLATION_CYCLES: f64 = 60.0;
/// The most cycles that a request through the shadow may cost at batch 32.
const BUSY_CYCLES: f64 = 245.0;

/// Draws throughput by depth, of all streams among `results`.
pub fn draw(title: &str, results: &[Measurement]) -> String {
    let styles = CONFIGURATIONS.iter().zip(COLOURS);
    let lines: Vec<Line> = styles
        .flat_map(|(name, colour)| {
            BATCHES.map(|batch| Line { name: format!("{name} {batch}"), colour, is_dashed: batch == "b1" })
        })
        .collect();
    curves::draw(&format!("{title}: requests per second by depth"), &lines, &panels(results))
}

fn panels(results: &[Measurement]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for (load, figures) in Loads::of("stream", results).0 {
        let Some((rest, batch)) = load.rsplit_once('/') else { continue };
        let Some((title, depth)) = rest.rsplit_once('/') else { continue };
        let Some(depth) = depth.strip_prefix('d').and_then(|depth| depth.parse().ok()) else { continue };
        if !panels.iter().any(|panel| panel.title == title) {
            let curves = vec![Vec::new(); CONFIGURATIONS.len() * BATCHES.len()];
            panels.push(Panel { title: title.to_owned(), curves });
        }
        let panel = panels.iter_mut().find(|panel| panel.title == title).expect("it was just put there");
        for (index, curve) in panel.curves.iter_mut().enumerate() {
            let (name, line) = (CONFIGURATIONS[index / BATCHES.len()], BATCHES[index % BATCHES.len()]);
            // Depth 1 has a single batch size, at which both lines begin.
            let figure = figures.get(name).filter(|_| line == batch || depth == 1);
            curve.extend(figure.map(|figure| (depth, figure.median)));
        }
    }
    panels
}

/// The tables, and the results of the aims.
pub fn show(report: &Report) -> String {
    let results = &report.results;
    let mut text = String::new();
    let unit = results.iter().find(|figure| figure.id.starts_with("null/")).map_or("", |figure| &figure.unit);
    let cycles = |plain: f64, shadow: f64| format!("{:+.1}", shadow - plain);
    for (kind, title) in
        [("null", "a queue that completes at once"), ("busy", "busy, without the device's time")]
    {
        let loads = Loads::of(kind, results);
        if !loads.0.is_empty() {
            let rows = loads.rows(&format!("{title}: {unit} per request"), &CONFIGURATIONS, 1, cycles);
            writeln!(text, "{}", table(&rows)).expect("writing to a String succeeds");
        }
    }
    let streams = Loads::of("stream", results);
    if !streams.0.is_empty() {
        let percent = |plain: f64, shadow: f64| format!("{:+.1} %", (shadow / plain - 1.0) * 100.0);
        let mut rows = streams.rows("requests per second", &CONFIGURATIONS, 0, percent);
        rows[0].extend(["p50 µs", "p99 µs", "p99.9 µs (shadow)"].map(str::to_owned));
        for (row, (_, figures)) in rows[1..].iter_mut().zip(&streams.0) {
            let Some(shadow) = figures.get("shadow") else { continue };
            let us = |name| rest(shadow, name).map_or_else(String::new, |ns| format!("{:.1}", ns / 1e3));
            row.extend(["p50_ns", "p99_ns", "p999_ns"].map(us));
        }
        writeln!(text, "{}", table(&rows)).expect("writing to a String succeeds");
    }
    text += &loads::lone(results);
    text += &loads::verdicts(&aims(results, report.is_native()));
    format!("{text}{}\n", report.place())
}

fn aims(results: &[Measurement], is_timed: bool) -> Vec<Aim> {
    let mut aims = Vec::new();
    // Instructions are not cycles, and an emulator's cycles are not the machine's.
    aims.extend(throughput(&Loads::of("stream", results)));
    let busy = Loads::of("busy", results);
    let figure =
        |load, configuration| busy.get(load, configuration).filter(|_| is_timed).map(|figure| figure.median);
    if let (Some(plain), Some(shadow)) = (figure(ONE_BY_ONE, "static"), figure(ONE_BY_ONE, "shadow")) {
        aims.push(Aim {
            is_met: shadow - plain <= ISOLATION_CYCLES,
            summary: format!(
                "{:.1} cycles more than static at batch 1, aim {ISOLATION_CYCLES}",
                shadow - plain
            ),
        });
    }
    if let Some(shadow) = figure(BY_THE_BATCH, "shadow") {
        aims.push(Aim {
            is_met: shadow <= BUSY_CYCLES,
            summary: format!("{shadow:.1} busy cycles per request through the shadow, depth 32, batch 32, aim {BUSY_CYCLES}"),
        });
    }
    aims.extend(loads::of_crashes(results));
    aims
}

/// The loads of the aims.
const ONE_BY_ONE: &str = "4k/rand/read/d1/b1";
const BY_THE_BATCH: &str = "4k/rand/read/d32/b32";

/// The shadow's throughput relative to the static driver's: the geometric mean over all loads of batch 32.
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
        summary: format!(
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
    use super::super::loads::tests::figure;
    use super::*;

    fn verdicts(results: &[Measurement]) -> Vec<bool> {
        aims(results, true).into_iter().map(|aim| aim.is_met).collect()
    }

    #[test]
    fn each_kind_of_load_has_a_panel_and_each_configuration_a_line() {
        let mut results = Vec::new();
        for load in
            ["4k/rand/read/d1/b1", "4k/rand/read/d32/b1", "4k/rand/read/d32/b32", "512b/seq/write/d1/b1"]
        {
            let of_all = CONFIGURATIONS.map(|name| figure(&format!("stream/{load}/{name}"), "iops", 1000.0));
            results.extend(of_all);
        }
        let panels = panels(&results);
        assert_eq!(
            panels.iter().map(|panel| &*panel.title).collect::<Vec<_>>(),
            ["4k/rand/read", "512b/seq/write"]
        );
        // In each configuration both batches begin at depth 1 and end at depth 32.
        assert!(panels[0].curves.iter().all(|curve| curve[..] == [(1, 1000.0), (32, 1000.0)]));
        assert_eq!(draw("nvme", &results).matches("<polyline").count(), 12);
    }

    #[test]
    fn aims_are_judged_by_the_measurements() {
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
    fn an_emulators_cycles_are_not_judged() {
        let slow = [figure("busy/4k/rand/read/d32/b32/shadow", "tsc_cycles", 900.0)];
        assert!(aims(&slow, false).is_empty() && aims(&slow, true).len() == 1);
    }
}
