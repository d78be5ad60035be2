//! The soak's report as a page: its result, a histogram of the restarts of the first and the last tenth of
//! the run, and the restart times over the run.
//!
//! Drawn by [`crate::axes`].

use std::fmt::Write;

use coppice_run_protocol::soak::WINDOWS;

use super::run_log::RunLog;
use super::times::Times;
use crate::axes::{LEFT, decades, frame, polyline, time, x, y};
use crate::markup::escape;

/// Bars of the histogram in each power of two.
const PER_OCTAVE: u32 = 4;

/// The first tenth, the last tenth.
const COLOURS: [&str; 2] = ["#4a7a4a", "#b5541c"];

/// Draws the page.
pub fn draw(log: &RunLog, place: &str) -> String {
    let lines = |text: &str| escape(text.trim_end()).replace('\n', "<br>\n");
    let mut methods = String::new();
    for (name, count) in log.methods() {
        writeln!(methods, "<tr><td>{}</td><td class=\"n\">{}</td></tr>", escape(name), escape(&count))
            .expect("writing to a String succeeds");
    }
    let tenths = [log.tenth(0), log.tenth(9)];
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Coppice: soak</title>\n\
         <style>body {{ font: 14px sans-serif; margin: 2em }} td {{ padding: 1px 12px }} .n {{ text-align: right }}\
         </style>\n<h1>Soak</h1>\n<p>{}</p>\n<p>{}</p>\n\
         <h2>Restarts: first and last tenth of the run</h2>\n{}\n<p>{}</p>\n\
         <h2>Restarts in the log of the run: median and 99th percentile</h2>\n{}\n\
         <h2>How instances ended</h2>\n<table>\n{methods}</table>\n",
        lines(&log.summary()),
        escape(place),
        histogram(&tenths),
        escape(&legend(&tenths)),
        over_time(log),
    )
}

fn legend(tenths: &[Times; 2]) -> String {
    let words = ["first", "last"].iter().zip(tenths).map(|(name, times)| match times.percentiles() {
        Some(p) => format!(
            "{name} tenth: p50 {}, p90 {}, p99 {}, p99.9 {}, most {} (n {})",
            time(p.p50 as f64),
            time(p.p90 as f64),
            time(p.p99 as f64),
            time(p.p999 as f64),
            time(p.max as f64),
            p.n
        ),
        None => format!("{name} tenth: none"),
    });
    words.collect::<Vec<_>>().join("; ")
}

fn histogram(tenths: &[Times; 2]) -> String {
    let shares = tenths.each_ref().map(|times| times.shares(PER_OCTAVE));
    let all = || shares.iter().flat_map(|shares| shares.iter());
    let (Some(first), Some(last)) = (all().map(|(&b, _)| b).min(), all().map(|(&b, _)| b).max()) else {
        return "<p>There are no times.</p>".to_owned();
    };
    let (low, high) = (first as f64, (last + 1) as f64);
    let most = all().map(|(_, &share)| share).fold(0.0, f64::max);
    let begin = |bucket: f64| 2_f64.powf(bucket / f64::from(PER_OCTAVE));
    let across = |bucket: f64| x((bucket - low) / (high - low));
    let mut ticks = String::new();
    for ns in decades(begin(low), begin(high)) {
        let at = across(ns.log2() * f64::from(PER_OCTAVE));
        writeln!(
            ticks,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y(0.0),
            y(1.0),
            y(0.0) + 16.0,
            time(ns)
        )
        .expect("writing to a String succeeds");
    }
    writeln!(
        ticks,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
        LEFT - 6.0,
        y(1.0) + 10.0,
        100.0 * most
    )
    .expect("writing to a String succeeds");
    let curves = shares.iter().zip(COLOURS).map(|(shares, colour)| {
        // One step for each bucket, empty ones included.
        let points = (first..=last).flat_map(|bucket| {
            let height = y(shares.get(&bucket).copied().unwrap_or(0.0) / most);
            [(across(bucket as f64), height), (across((bucket + 1) as f64), height)]
        });
        polyline(&points.collect::<Vec<_>>(), colour, false)
    });
    frame(&ticks, &curves.collect::<String>())
}

fn over_time(log: &RunLog) -> String {
    let points: Vec<_> = log
        .windows
        .iter()
        .filter_map(|(&number, window)| Some((number, window.restart.percentiles()?)))
        .collect();
    let (low, high) = points
        .iter()
        .fold((f64::MAX, 1.0_f64), |(low, high), (_, p)| (low.min(p.p50 as f64), high.max(p.p99 as f64)));
    if points.is_empty() {
        return "<p>There are no times.</p>".to_owned();
    }
    // Whole decades, so that the axis has labels.
    let (low, high) =
        (low.max(1.0).log10().floor(), high.log10().ceil().max(low.max(1.0).log10().floor() + 1.0));
    let up = |ns: f64| y((ns.max(1.0).log10() - low) / (high - low));
    let mut ticks = String::new();
    for power in low as i32..=high as i32 {
        let ns = 10_f64.powi(power);
        writeln!(
            ticks,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            x(1.0),
            LEFT - 6.0,
            up(ns) + 4.0,
            time(ns),
            at = up(ns),
        )
        .expect("writing to a String succeeds");
    }
    writeln!(
        ticks,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} cycles</text>",
        x(1.0),
        y(0.0) + 16.0,
        log.cycles
    )
    .expect("writing to a String succeeds");
    let curve = |pick: fn(&super::times::Percentiles) -> u64| {
        let place = |(number, p): &(u64, _)| (x((*number as f64 + 0.5) / WINDOWS as f64), up(pick(p) as f64));
        points.iter().map(place).collect::<Vec<_>>()
    };
    let inside =
        polyline(&curve(|p| p.p50), COLOURS[0], false) + &polyline(&curve(|p| p.p99), COLOURS[1], true);
    frame(&ticks, &inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_both_tenths_and_every_window() {
        let mut log = RunLog::new(1000);
        for window in [0, 50, 95] {
            let line = format!(
                r#"@soak/1 {{"times": {{"window": {window}, "series": "restart", "counts": [[1500,3],[90000,1]]}}}}"#
            );
            assert!(log.ingest_line(&line).expect("it is marked").is_ok());
        }
        let page = draw(&log, "somewhere");
        assert_eq!(page.matches("<polyline").count(), 4);
        assert!(page.contains("10.0 µs") && page.contains("first tenth: p50 1.5 µs"), "{page}");
    }

    #[test]
    fn a_page_without_times_states_it() {
        assert_eq!(draw(&RunLog::new(5), "x").matches("There are no times").count(), 2);
    }
}
