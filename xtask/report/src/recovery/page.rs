//! Reports of runs: throughput over time with a mark at each crash, outages as a histogram and by kind of
//! fault, and the verdicts; as a self-contained page, and the drawings alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use coppice_run_protocol::trial::{Consequence, Unit};

use super::display::{rate, rate_in_full};
use super::run_log::{Percentiles, RunLog};
use super::verdict::{Verdict, unexpected_end};
use crate::axes::{HEIGHT, LEFT, TOP, WIDTH, decades, frame, polyline, time, x, y};
use crate::markup::escape;

/// The colours of the meters, in order.
const COLOURS: [&str; 4] = ["#3567a8", "#b5541c", "#4a7a4a", "#7a4a7a"];
/// Bars of the histogram in each power of two.
const PER_OCTAVE: f64 = 4.0;
/// The height of a drawing's heading.
const HEADING: f64 = 30.0;
/// The greatest number of points in a curve: more would be finer than a page's resolution.
const POINTS: usize = 400;
const INFALLIBLE: &str = "writing to a String succeeds";

/// One run.
pub struct Section<'a> {
    /// The description of the run.
    pub heading: &'a str,
    /// Its lines.
    pub log: &'a RunLog,
    /// Its verdicts.
    pub verdicts: &'a [Verdict],
}

/// Draws the page.
pub fn draw(title: &str, place: &str, sections: &[Section<'_>]) -> String {
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Coppice: {title}</title>\n\
         <style>body {{ font: 14px sans-serif; margin: 2em }} table {{ border-collapse: collapse }} \
         td, th {{ padding: 2px 12px; text-align: right; border-bottom: 1px solid #ddd }} \
         td:first-child, th:first-child {{ text-align: left }} .broken {{ background: #fbe3d6 }}</style>\n\
         <h1>{title}</h1>\n<p>{}</p>\n",
        escape(place),
        title = escape(title),
    );
    for Section { heading, log, verdicts } in sections {
        write!(
            page,
            "<h2>{}</h2>\n<p>{}</p>\n{}\n<h3>Throughput, and a mark at each crash</h3>\n{}\n\
             <h3>Outage: from the fault to the next instance's first answer</h3>\n{}\n{}",
            escape(heading),
            escape(&summary(log)).replace('\n', "<br>\n"),
            table_of_verdicts(verdicts),
            throughput(log),
            histogram(log),
            table_of_faults(log),
        )
        .expect(INFALLIBLE);
    }
    page
}

/// Draws all runs one below the other, as one picture.
pub fn picture(sections: &[Section<'_>]) -> String {
    let step = HEIGHT + HEADING;
    let drawings: Vec<(String, String)> = sections
        .iter()
        .flat_map(|section| {
            [
                (format!("{}: throughput", section.heading), throughput(section.log)),
                (format!("{}: outages", section.heading), histogram(section.log)),
            ]
        })
        .collect();
    let height = step * drawings.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, (heading, drawing)) in drawings.iter().enumerate() {
        let at = place as f64 * step;
        write!(
            svg,
            "<text x=\"10\" y=\"{}\" font-size=\"14\" font-weight=\"bold\">{}</text>\n\
             <g transform=\"translate(0,{})\">{}</g>\n",
            at + 20.0,
            escape(heading),
            at + HEADING,
            // On a page, a drawing without data is a sentence; in a picture it is left out, because text
            // needs a position.
            if drawing.starts_with("<svg") { drawing.clone() } else { String::new() },
        )
        .expect(INFALLIBLE);
    }
    svg + "</svg>\n"
}

/// The figures of a run, in a few lines.
pub fn summary(log: &RunLog) -> String {
    let seconds = log.elapsed_us() as f64 / 1e6;
    let (answers, what) = log.answers();
    let mut text = format!("{seconds:.1} s, {} crashes, {answers} {what}", log.crashes.len());
    for (number, meter) in log.meters.iter().enumerate() {
        if let Some(all) = log.rate(number, |_| true) {
            write!(text, ", {} {}", meter.name, rate_in_full(meter, all)).expect(INFALLIBLE);
        }
    }
    if let Some(Percentiles { n, p50, p99, max }) = log.outages() {
        let [p50, p99, max] = [p50, p99, max].map(|ns| time(ns as f64));
        write!(text, "\noutage: p50 {p50}, p99 {p99}, max {max} (n {n})").expect(INFALLIBLE);
    }
    if let Some(Percentiles { n, p50, max, .. }) = log.hangs() {
        let [p50, max] = [p50, max].map(|ns| time(ns as f64));
        write!(text, "\nhangs, ended by a deadline: p50 {p50}, max {max} (n {n})").expect(INFALLIBLE);
    }
    if let Some(Percentiles { p50, p99, max, .. }) = log.overheads() {
        let [p50, p99, max] = [p50, p99, max].map(|ns| time(ns as f64));
        write!(text, "\nwithout the driver's own start: p50 {p50}, p99 {p99}, max {max}").expect(INFALLIBLE);
    }
    if let Some(Percentiles { n, p50, p99, max }) = log.frames_lost() {
        write!(text, "\nframes lost per crash: p50 {p50}, p99 {p99}, max {max} (n {n})").expect(INFALLIBLE);
    }
    for end in &log.unexpected {
        write!(text, "\nended without an injected fault: {}", unexpected_end(end)).expect(INFALLIBLE);
    }
    for Consequence { domain, generation, record } in &log.consequences {
        write!(text, "\nended as a consequence of the fault: {domain} #{generation} died of {record}")
            .expect(INFALLIBLE);
    }
    for note in &log.notes {
        write!(text, "\n{}", note.text).expect(INFALLIBLE);
    }
    for (number, meter) in log.meters.iter().enumerate() {
        let (calm, crashing) = (log.rate(number, |span| span.calm), log.rate(number, |span| !span.calm));
        if let (Some(calm), Some(crashing), Some(loss)) = (calm, crashing, log.loss(number)) {
            write!(
                text,
                "\n{}: {} without crashes, {} with them: {:.1} % lost",
                meter.name,
                rate_in_full(meter, calm),
                rate_in_full(meter, crashing),
                100.0 * loss
            )
            .expect(INFALLIBLE);
        }
    }
    text
}

fn table_of_verdicts(verdicts: &[Verdict]) -> String {
    let mut table = "<table>\n".to_owned();
    for Verdict { what, holds, detail } in verdicts {
        let (class, word) = if *holds { ("", "ok") } else { (" class=\"broken\"", "BROKEN") };
        writeln!(
            table,
            "<tr{class}><td>{}</td><td>{word}</td><td>{}</td></tr>",
            escape(what),
            escape(detail)
        )
        .expect(INFALLIBLE);
    }
    table + "</table>\n"
}

fn table_of_faults(log: &RunLog) -> String {
    let mut table =
        "<table>\n<tr><th>fault</th><th>crashes</th><th>p50</th><th>p99</th><th>max</th></tr>\n".to_owned();
    for (name, Percentiles { n, p50, p99, max }) in log.by_fault() {
        let [p50, p99, max] = [p50, p99, max].map(|ns| time(ns as f64));
        writeln!(
            table,
            "<tr><td>{}</td><td>{n}</td><td>{p50}</td><td>{p99}</td><td>{max}</td></tr>",
            escape(&name)
        )
        .expect(INFALLIBLE);
    }
    for fault in log.faults.iter().filter(|fault| fault.absent) {
        writeln!(
            table,
            "<tr><td>{}</td><td colspan=\"4\">not raised on this machine</td></tr>",
            escape(&fault.name)
        )
        .expect(INFALLIBLE);
    }
    table + "</table>\n"
}

/// A label of the vertical axis, at a fraction of the frame's height.
fn left(share: f64, text: &str) -> String {
    format!(
        "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
        x(1.0),
        LEFT - 6.0,
        y(share) + 4.0,
        at = y(share),
    )
}

/// A label of the horizontal axis, at a fraction of the frame's width.
fn below(share: f64, text: &str) -> String {
    format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>\n", x(share), y(0.0) + 16.0)
}

fn throughput(log: &RunLog) -> String {
    let end = log.spans.last().map_or(0, |span| span.to_us) as f64;
    let most = (0..log.meters.len())
        .flat_map(|meter| log.spans.iter().map(move |span| span.rate(meter)))
        .fold(0.0, f64::max);
    if end == 0.0 || most == 0.0 {
        return "<p>There are no measurements.</p>".to_owned();
    }
    // All meters of a system have the same unit.
    let unit = log.meters.first().map_or(Unit::Bytes, |meter| meter.unit);
    let mut ticks = String::new();
    for span in log.spans.iter().filter(|span| span.calm) {
        let (from, to) = (x(span.from_us as f64 / end), x(span.to_us as f64 / end));
        writeln!(
            ticks,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#eef4ee\"/>",
            to - from,
            y(0.0) - TOP
        )
        .expect(INFALLIBLE);
    }
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        ticks += &left(share, &rate(unit, most * share));
        ticks += &below(share, &format!("{:.1} s", end * share / 1e6));
    }
    let mut inside = String::new();
    for crash in &log.crashes {
        let at = x((crash.us.saturating_sub(log.begun_us()) as f64 / end).min(1.0));
        writeln!(
            inside,
            "<line class=\"crash\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c22\" stroke-width=\"0.7\"/>",
            y(0.0),
            y(0.05)
        )
        .expect(INFALLIBLE);
    }
    let together = log.spans.len().div_ceil(POINTS).max(1);
    for (number, meter) in log.meters.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = log
            .spans
            .chunks(together)
            .map(|spans| {
                let (from, to) = (spans[0].from_us, spans[spans.len() - 1].to_us);
                let amount: u64 = spans.iter().map(|span| span.amount(number)).sum();
                let rate = amount as f64 * 1e6 / (to - from).max(1) as f64;
                (x((from + to) as f64 / 2.0 / end), y((rate / most).min(1.0)))
            })
            .collect();
        inside += &polyline(&points, colour, false);
        writeln!(
            inside,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            LEFT + 10.0 + 90.0 * number as f64,
            TOP - 4.0,
            escape(&meter.name)
        )
        .expect(INFALLIBLE);
    }
    frame(&ticks, &inside)
}

fn histogram(log: &RunLog) -> String {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for crash in &log.crashes {
        let bucket = ((crash.outage_ns.max(1) as f64).log2() * PER_OCTAVE).floor() as i64;
        *counts.entry(bucket).or_default() += 1;
    }
    let (Some((&first, _)), Some((&last, _))) = (counts.first_key_value(), counts.last_key_value()) else {
        return "<p>There was no crash.</p>".to_owned();
    };
    // An empty bucket on each side, so that a single one is drawn as a bar of ordinary width.
    let (low, high) = ((first - 2) as f64, (last + 3) as f64);
    let most = counts.values().copied().max().unwrap_or(1);
    let begin = |bucket: f64| 2_f64.powf(bucket / PER_OCTAVE);
    let share = |bucket: f64| (bucket - low) / (high - low);
    let mut ticks = left(1.0, &most.to_string());
    let marks = decades(begin(low), begin(high)).flat_map(|ns| [ns, 2.0 * ns, 5.0 * ns]);
    for ns in marks.filter(|&ns| ns <= begin(high)) {
        ticks += &below(share(ns.log2() * PER_OCTAVE), &time(ns));
    }
    let bars: String = counts
        .iter()
        .map(|(&bucket, &count)| {
            let (from, to) = (x(share(bucket as f64)), x(share((bucket + 1) as f64)));
            let top = y(count as f64 / most as f64);
            format!(
                "<rect class=\"bar\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#c22\"/>\n",
                (to - from - 1.0).max(0.5),
                y(0.0) - top
            )
        })
        .collect();
    frame(&ticks, &bars)
}

#[cfg(test)]
mod tests {
    use coppice_run_protocol::trial::Unexpected;

    use super::super::sample_log;
    use super::*;

    #[test]
    fn a_page_has_the_figures_a_mark_for_each_crash_and_the_violations() {
        let log = sample_log();
        let verdicts = [Verdict::new("a <promise>", false, "7"), Verdict::new("another", true, "")];
        let sections = [Section { heading: "one & only", log: &log, verdicts: &verdicts }];
        let page = draw("Demo", "somewhere", &sections);
        assert_eq!(page.matches("class=\"crash\"").count(), 2);
        assert_eq!(page.matches("<polyline").count(), 2);
        assert_eq!(page.matches("class=\"broken\"").count(), 1);
        assert!(page.contains("one &amp; only") && page.contains("a &lt;promise&gt;"), "{page}");
        assert!(page.contains("as fast as it goes"), "{page}");
        assert!(page.contains("read: 10.0 KB/s without crashes, 9.0 KB/s with them: 10.0 % lost"), "{page}");
        // The page refers to no other file.
        assert!(!page.contains("src=") && !page.contains("href="));
        let picture = picture(&sections);
        assert_eq!(picture.matches("<svg").count(), 3);
        assert_eq!(picture.matches("</svg>").count(), 3);
    }

    #[test]
    fn each_unexpected_end_is_listed_with_its_record() {
        let mut log = sample_log();
        for (domain, record) in [("orders", "Panic at 1.5 s: a < b"), ("shadow", "Deadline at 2.0 s: x")] {
            log.unexpected.push(Unexpected { domain: domain.into(), generation: 3, record: record.into() });
        }
        let page = draw("Demo", "x", &[Section { heading: "x", log: &log, verdicts: &[] }]);
        assert!(page.contains("orders #3 died of Panic at 1.5 s: a &lt; b"), "{page}");
        assert!(page.contains("shadow #3 died of Deadline at 2.0 s: x"), "{page}");
    }

    #[test]
    fn a_run_without_lines_can_be_reported() {
        let log = RunLog::default();
        let sections = [Section { heading: "x", log: &log, verdicts: &[] }];
        let page = draw("Demo", "x", &sections);
        assert!(page.contains("There was no crash") && page.contains("There are no measurements"));
        assert_eq!(picture(&sections).matches("<svg").count(), 1);
    }
}
