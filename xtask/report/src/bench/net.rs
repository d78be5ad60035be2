//! The report of the benchmark `net`: figures of one load side by side by configuration, the aims and their
//! results, published figures of other systems, and a drawing of packets per second by frame size.
//!
//! The figures' names are `KIND/LOAD/CONFIGURATION`, where a load is `null`'s `b32`, or `10g/60/b32`: the
//! wire, bytes of a frame without FCS, and frames per exchange.

use std::fmt::Write;

use super::curves::{self, Line, Panel};
use super::loads::{self, Aim, Loads, rest};
use crate::measurement::{Measurement, Report};
use crate::table::table;

/// The name of the benchmark.
pub const NAME: &str = "net";

/// The configurations in the order of the columns. The first one has no isolation.
const CONFIGURATIONS: [&str; 5] = ["static", "domain", "shadow", "relay-domain", "relay-shadow"];
/// The configurations in the drawing, with colours.
const DRAWN: [(&str, &str); 3] = [("static", "#888888"), ("domain", "#3a6ea5"), ("shadow", "#4a7a4a")];
const BATCHES: [&str; 2] = ["b32", "b1"];
const WAYS: [&str; 3] = ["forward", "receive", "transmit"];

/// The most cycles that a null packet may cost through the shadow beyond a virtual call, at batch 1 and 32.
const NULL_CYCLES: [(&str, f64); 2] = [("b1", 60.0), ("b32", 4.0)];
/// The most cycles that a forwarded packet may cost in the driver as a library, at batch 32.
const STATIC_CYCLES: f64 = 70.0;
/// The rate of a 10 Gb/s wire for the shortest frames, in millions per second; and the fraction of it that
/// counts as line rate, because clocks differ.
const LINE_MPPS: f64 = 14.88;
const LINE_SHARE: f64 = 0.998;
/// The most that the shadow may lose against the driver as a library at batch 1, in percent.
const ONE_BY_ONE_PERCENT: f64 = 15.0;

/// Published figures, from other machines: load and figures.
const OTHERS: [(&str, &str); 5] = [
    ("null, batch 1", "RedLeaf 88 cycles (driver) and 722 (two crossings and a shadow)"),
    ("null, batch 32", "RedLeaf 28 cycles (driver) and 47 (two crossings and a shadow)"),
    ("forward, 60 B, batch 1", "RedLeaf 6.5 Mpps (driver) and 2.9 (two crossings and a shadow), DPDK 6.7"),
    ("forward, 60 B, batch 32", "RedLeaf and DPDK 14.2 Mpps (88 bytes on the wire)"),
    ("busy, 60 B, batch 32", "ixy.rs 100 cycles per packet"),
];

/// Draws packets per second by frame size, of all streams among `results`.
pub fn draw(title: &str, results: &[Measurement]) -> String {
    let mut lines: Vec<Line> = DRAWN
        .iter()
        .flat_map(|(name, colour)| {
            BATCHES.map(|batch| Line { name: format!("{name} {batch}"), colour, is_dashed: batch == "b1" })
        })
        .collect();
    lines.push(Line { name: "the wire".into(), colour: "#b04040", is_dashed: true });
    curves::draw(
        &format!("{title}: million packets per second by bytes of a frame, without FCS"),
        &lines,
        &panels(results),
    )
}

fn panels(results: &[Measurement]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for way in WAYS {
        for (load, figures) in Loads::of(way, results).0 {
            let [rate, bytes, batch] = load.split('/').collect::<Vec<_>>()[..] else { continue };
            let Ok(bytes) = bytes.parse() else { continue };
            let title = format!("{way}, {rate}");
            if !panels.iter().any(|panel| panel.title == title) {
                let curves = vec![Vec::new(); DRAWN.len() * BATCHES.len() + 1];
                panels.push(Panel { title: title.clone(), curves });
            }
            let panel = panels.iter_mut().find(|panel| panel.title == title).expect("it was just put there");
            for (index, curve) in panel.curves.iter_mut().enumerate() {
                let Some((name, _)) = DRAWN.get(index / BATCHES.len()) else {
                    // A figure with a `line` value states its percentage of the wire's rate.
                    let wire = figures.values().next().and_then(|figure| {
                        let line = rest(figure, "line").filter(|&line| line > 0.0)?;
                        Some(figure.median * 100.0 / line)
                    });
                    curve.extend(wire.filter(|_| batch == BATCHES[0]).map(|mpps| (bytes, mpps)));
                    continue;
                };
                let figure = figures.get(name).filter(|_| batch == BATCHES[index % BATCHES.len()]);
                curve.extend(figure.map(|figure| (bytes, figure.median)));
            }
        }
    }
    panels
}

/// The tables, and the results of the aims.
pub fn show(report: &Report) -> String {
    let results = &report.results;
    let mut text = String::new();
    let mut add = |rows: &[Vec<String>]| {
        if rows.len() > 1 {
            writeln!(text, "{}", table(rows)).expect("writing to a String succeeds");
        }
    };
    let unit = results.iter().find(|figure| figure.id.starts_with("null/")).map_or("", |figure| &figure.unit);
    let cycles = |plain: f64, shadow: f64| format!("{:+.1}", shadow - plain);
    for (kind, description) in [
        ("null", "no device, packets are returned at once"),
        ("busy-forward", "forwarding, whole batches"),
        ("busy-receive", "receiving, whole batches"),
        ("busy-transmit", "sending, whole batches"),
    ] {
        let title = format!("{description}: {unit} per packet");
        add(&Loads::of(kind, results).rows(&title, &CONFIGURATIONS, 1, cycles));
    }
    let percent = |plain: f64, shadow: f64| format!("{:+.1} %", (shadow / plain - 1.0) * 100.0);
    for kind in streams(results) {
        let streams = Loads::of(&kind, results);
        let title = format!("{kind}: Mpps, by bytes without FCS");
        let mut rows = streams.rows(&title, &CONFIGURATIONS, 2, percent);
        rows[0].extend(["% of line", "lost", "p50 µs", "p99 µs", "p99.9 µs (shadow)"].map(str::to_owned));
        for (row, (_, figures)) in rows[1..].iter_mut().zip(&streams.0) {
            let Some(shadow) = figures.get("shadow") else { continue };
            let line = rest(shadow, "line").filter(|&line| line > 0.0);
            row.push(line.map_or_else(String::new, |line| format!("{line:.1}")));
            row.push(rest(shadow, "lost").map_or_else(String::new, |lost| format!("{lost:.0}")));
            let us = |name| {
                let ns = rest(shadow, name).filter(|&ns| ns > 0.0);
                ns.map_or_else(String::new, |ns| format!("{:.1}", ns / 1e3))
            };
            row.extend(["p50_ns", "p99_ns", "p999_ns"].map(us));
        }
        add(&rows);
    }
    text += &loads::lone(results);
    text += &loads::verdicts(&aims(results, report.is_native()));
    for (load, figures) in OTHERS {
        writeln!(text, "others, {load}: {figures}").expect("writing to a String succeeds");
    }
    format!("{text}{}\n", report.place())
}

/// The kinds of figures in packets per second, in the order of measurement.
fn streams(results: &[Measurement]) -> Vec<String> {
    let mut kinds: Vec<String> = Vec::new();
    for figure in results.iter().filter(|figure| figure.unit == "mpps") {
        let kind = figure.id.split('/').next().unwrap_or_default();
        if !kinds.iter().any(|known| known == kind) {
            kinds.push(kind.to_owned());
        }
    }
    kinds
}

fn aims(results: &[Measurement], is_timed: bool) -> Vec<Aim> {
    let mut aims = Vec::new();
    let median = |kind: &str, load: &str, configuration: &str| {
        Loads::of(kind, results).get(load, configuration).map(|figure| figure.median)
    };
    // Instructions are not cycles, and an emulator's cycles are not the machine's.
    if is_timed {
        for (batch, most) in NULL_CYCLES {
            let both = median("null", batch, "static").zip(median("null", batch, "shadow"));
            aims.extend(both.map(|(plain, shadow)| Aim {
                is_met: shadow - plain <= most,
                summary: format!(
                    "{batch}: {:.1} cycles per null packet more than static, aim {most}",
                    shadow - plain
                ),
            }));
        }
        aims.extend(median("busy-forward", "unlimited/60/b32", "static").map(|cycles| Aim {
            is_met: cycles <= STATIC_CYCLES,
            summary: format!(
                "{cycles:.1} cycles per forwarded packet, static, batch 32, aim {STATIC_CYCLES}"
            ),
        }));
    }
    for configuration in ["domain", "shadow"] {
        aims.extend(median("forward", "10g/60/b32", configuration).map(|mpps| Aim {
            is_met: mpps >= LINE_MPPS * LINE_SHARE,
            summary: format!(
                "{mpps:.2} Mpps forwarded, {configuration}, batch 32, aim {LINE_MPPS} (line rate)"
            ),
        }));
    }
    let one_by_one = |configuration| median("forward", "unlimited/60/b1", configuration);
    aims.extend(one_by_one("static").zip(one_by_one("shadow")).map(|(plain, shadow)| {
        let percent = (1.0 - shadow / plain) * 100.0;
        Aim {
            is_met: percent <= ONE_BY_ONE_PERCENT,
            summary: format!(
                "{percent:.1} % fewer packets through the shadow at batch 1, aim {ONE_BY_ONE_PERCENT} %"
            ),
        }
    }));
    aims.extend(losses(results));
    aims.extend(loads::of_crashes(results));
    aims
}

/// The aim of no losses: at fractions of the wire's rate, and at all of it in batches.
fn losses(results: &[Measurement]) -> Option<Aim> {
    let counts = |figure: &&Measurement| {
        figure.id.starts_with("share-")
            || WAYS
                .iter()
                .any(|way| figure.id.starts_with(&format!("{way}/10g/")) && figure.id.contains("/b32/"))
    };
    let figures: Vec<_> =
        results.iter().filter(counts).filter_map(|figure| Some((figure, rest(figure, "lost")?))).collect();
    let (_, worst) = figures.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1))?;
    let lost: f64 = figures.iter().map(|(_, lost)| lost).sum();
    let sent: f64 = figures.iter().map(|(figure, lost)| figure.n as f64 + lost).sum();
    let loads = figures.iter().filter(|(_, lost)| *lost > 0.0).count();
    Some(Aim {
        is_met: lost == 0.0,
        summary: format!(
            "{lost:.0} of {sent:.0} frames lost at and below line rate, batch 32 ({loads} of {} loads, {worst:.0} in the worst), aim 0",
            figures.len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::loads::tests::figure;
    use super::*;

    fn stream(id: &str, mpps: f64, line: f64, lost: u64) -> Measurement {
        let mut figure = figure(id, "mpps", mpps);
        figure.rest.insert("line".into(), line.into());
        figure.rest.insert("lost".into(), lost.into());
        figure
    }

    fn verdicts(results: &[Measurement]) -> Vec<bool> {
        aims(results, true).into_iter().map(|aim| aim.is_met).collect()
    }

    #[test]
    fn line_rate_is_judged_by_the_rate_of_the_wire() {
        let at = |mpps| verdicts(&[stream("forward/10g/60/b32/shadow", mpps, 100.0, 0)]);
        assert_eq!((at(14.88), at(14.80)), (vec![true, true], vec![false, true]));
    }

    #[test]
    fn one_lost_frame_is_reported() {
        let aim = |lost| {
            let figures = [
                stream("share-50/10g/60/b32/shadow", 7.4, 50.0, lost),
                stream("forward/10g/60/b1/domain", 9.0, 60.0, 7),
            ];
            losses(&figures).expect("there is one that counts")
        };
        assert!(aim(0).is_met && !aim(1).is_met);
        assert!(aim(1).summary.contains("1 of 2 frames lost"), "{}", aim(1).summary);
    }

    #[test]
    fn null_packets_and_the_static_driver_have_aims() {
        let null = |shadow| {
            [figure("null/b32/static", "tsc_cycles", 4.5), figure("null/b32/shadow", "tsc_cycles", shadow)]
        };
        assert_eq!((verdicts(&null(8.5)), verdicts(&null(8.6))), (vec![true], vec![false]));
        let busy = |cycles| [figure("busy-forward/unlimited/60/b32/static", "tsc_cycles", cycles)];
        assert_eq!((verdicts(&busy(70.0)), verdicts(&busy(71.0))), (vec![true], vec![false]));
        assert!(aims(&busy(71.0), false).is_empty(), "an emulator's cycles are not judged");
    }

    #[test]
    fn frame_sizes_make_a_curve_and_the_wire_has_one_too() {
        let results = [
            stream("forward/10g/60/b32/static", 14.88, 100.0, 0),
            stream("forward/10g/60/b1/static", 7.44, 50.0, 0),
            stream("forward/10g/1514/b32/static", 0.8127, 100.0, 0),
            stream("transmit/unlimited/60/b32/shadow", 20.0, 0.0, 0),
        ];
        let panels = panels(&results);
        assert_eq!(
            panels.iter().map(|panel| &*panel.title).collect::<Vec<_>>(),
            ["forward, 10g", "transmit, unlimited"]
        );
        assert_eq!(panels[0].curves[0], [(60, 14.88), (1514, 0.8127)]);
        assert_eq!(panels[0].curves[6], [(60, 14.88), (1514, 0.8127)]);
        assert!(panels[1].curves[6].is_empty());
        assert_eq!(draw("net", &results).matches("<polyline").count(), 4);
    }
}
