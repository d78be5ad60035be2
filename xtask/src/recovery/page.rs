//! Reports of runs: throughput over time with a mark at each crash, outages as a histogram and by kind of fault, and what
//! was promised; as a page that needs nothing beside it, and the drawings alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::course::{Course, Percentiles};
use super::display::{rate, rate_in_full};
use super::line::Unit;
use super::verdict::Verdict;
use crate::chart::escape;
use crate::plot::{HEIGHT, LEFT, TOP, WIDTH, decades, frame, polyline, time, x, y};

/// Of the meters, in their order.
const COLOURS: [&str; 4] = ["#3567a8", "#b5541c", "#4a7a4a", "#7a4a7a"];
/// Bars of the histogram in each power of two.
const PER_OCTAVE: f64 = 4.0;
/// Room for a drawing's heading.
const HEADING: f64 = 30.0;
/// As many points as a curve has at most: more are finer than the paper.
const POINTS: usize = 400;
const NOTHING: &str = "writing to a String succeeds";

/// One run.
pub(crate) struct Section<'a> {
    /// What was tried.
    pub(crate) heading: &'a str,
    /// What it said.
    pub(crate) course: &'a Course,
    /// What became of the promises.
    pub(crate) verdicts: &'a [Verdict],
}

/// The page.
pub(crate) fn draw(title: &str, place: &str, sections: &[Section<'_>]) -> String {
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Coppice: {title}</title>\n\
         <style>body {{ font: 14px sans-serif; margin: 2em }} table {{ border-collapse: collapse }} \
         td, th {{ padding: 2px 12px; text-align: right; border-bottom: 1px solid #ddd }} \
         td:first-child, th:first-child {{ text-align: left }} .broken {{ background: #fbe3d6 }}</style>\n\
         <h1>{title}</h1>\n<p>{}</p>\n",
        escape(place),
        title = escape(title),
    );
    for Section { heading, course, verdicts } in sections {
        write!(
            page,
            "<h2>{}</h2>\n<p>{}</p>\n{}\n<h3>Throughput, and a mark at each crash</h3>\n{}\n\
             <h3>Outage: from the fault to the next instance's first answer</h3>\n{}\n{}",
            escape(heading),
            escape(&summary(course)).replace('\n', "<br>\n"),
            table_of_verdicts(verdicts),
            throughput(course),
            histogram(course),
            table_of_faults(course),
        )
        .expect(NOTHING);
    }
    page
}

/// The drawings of all runs below each other, as one picture.
pub(crate) fn picture(sections: &[Section<'_>]) -> String {
    let step = HEIGHT + HEADING;
    let drawings: Vec<(String, String)> = sections
        .iter()
        .flat_map(|section| {
            [
                (format!("{}: throughput", section.heading), throughput(section.course)),
                (format!("{}: outages", section.heading), histogram(section.course)),
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
            // A picture of its own may say in words that there is nothing; inside another one, words need a place.
            if drawing.starts_with("<svg") { drawing.clone() } else { String::new() },
        )
        .expect(NOTHING);
    }
    svg + "</svg>\n"
}

/// The figures of a run, in a few lines.
pub(crate) fn summary(course: &Course) -> String {
    let seconds = course.elapsed_us() as f64 / 1e6;
    let (answers, what) = course.answers();
    let mut text = format!("{seconds:.1} s, {} crashes, {answers} {what}", course.crashes.len());
    for (number, meter) in course.meters.iter().enumerate() {
        if let Some(all) = course.rate(number, |_| true) {
            write!(text, ", {} {}", meter.name, rate_in_full(meter.unit, all)).expect(NOTHING);
        }
    }
    if let Some(Percentiles { n, p50, p99, max }) = course.outages() {
        let [p50, p99, max] = [p50, p99, max].map(|ns| time(ns as f64));
        write!(text, "\noutage: p50 {p50}, p99 {p99}, max {max} (n {n})").expect(NOTHING);
    }
    if let Some(Percentiles { n, p50, max, .. }) = course.hangs() {
        let [p50, max] = [p50, max].map(|ns| time(ns as f64));
        write!(text, "\nhangs, which a deadline ends: p50 {p50}, max {max} (n {n})").expect(NOTHING);
    }
    if let Some(Percentiles { p50, p99, max, .. }) = course.overheads() {
        let [p50, p99, max] = [p50, p99, max].map(|ns| time(ns as f64));
        write!(text, "\nof which beside the driver's own start: p50 {p50}, p99 {p99}, max {max}")
            .expect(NOTHING);
    }
    if let Some(Percentiles { n, p50, p99, max }) = course.frames_lost() {
        write!(text, "\nframes lost per crash: p50 {p50}, p99 {p99}, max {max} (n {n})").expect(NOTHING);
    }
    if let Some(unasked) = course.faults.iter().find(|fault| fault.name == "unasked") {
        write!(text, "\n{} more lives ended unasked", unasked.crashes).expect(NOTHING);
    }
    for note in &course.notes {
        write!(text, "\n{}", note.text).expect(NOTHING);
    }
    for (number, meter) in course.meters.iter().enumerate() {
        let (calm, crashing) =
            (course.rate(number, |span| span.calm), course.rate(number, |span| !span.calm));
        if let (Some(calm), Some(crashing), Some(loss)) = (calm, crashing, course.loss(number)) {
            write!(
                text,
                "\n{}: {} without crashes, {} with them: {:.1} % lost",
                meter.name,
                rate_in_full(meter.unit, calm),
                rate_in_full(meter.unit, crashing),
                100.0 * loss
            )
            .expect(NOTHING);
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
        .expect(NOTHING);
    }
    table + "</table>\n"
}

fn table_of_faults(course: &Course) -> String {
    let mut table =
        "<table>\n<tr><th>what was done</th><th>crashes</th><th>p50</th><th>p99</th><th>max</th></tr>\n"
            .to_owned();
    for (name, Percentiles { n, p50, p99, max }) in course.by_fault() {
        let [p50, p99, max] = [p50, p99, max].map(|ns| time(ns as f64));
        writeln!(
            table,
            "<tr><td>{}</td><td>{n}</td><td>{p50}</td><td>{p99}</td><td>{max}</td></tr>",
            escape(&name)
        )
        .expect(NOTHING);
    }
    for fault in course.faults.iter().filter(|fault| fault.absent) {
        writeln!(
            table,
            "<tr><td>{}</td><td colspan=\"4\">not raised on this machine</td></tr>",
            escape(&fault.name)
        )
        .expect(NOTHING);
    }
    table + "</table>\n"
}

/// A label of the left axis, at a share of the frame's height.
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

/// A label of the lower axis, at a share of the frame's width.
fn below(share: f64, text: &str) -> String {
    format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>\n", x(share), y(0.0) + 16.0)
}

fn throughput(course: &Course) -> String {
    let end = course.spans.last().map_or(0, |span| span.to_us) as f64;
    let most = (0..course.meters.len())
        .flat_map(|meter| course.spans.iter().map(move |span| span.rate(meter)))
        .fold(0.0, f64::max);
    if end == 0.0 || most == 0.0 {
        return "<p>Nothing was done.</p>".to_owned();
    }
    // All meters of a system count the same.
    let unit = course.meters.first().map_or(Unit::Bytes, |meter| meter.unit);
    let mut ticks = String::new();
    for span in course.spans.iter().filter(|span| span.calm) {
        let (from, to) = (x(span.from_us as f64 / end), x(span.to_us as f64 / end));
        writeln!(
            ticks,
            "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#eef4ee\"/>",
            to - from,
            y(0.0) - TOP
        )
        .expect(NOTHING);
    }
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        ticks += &left(share, &rate(unit, most * share));
        ticks += &below(share, &format!("{:.1} s", end * share / 1e6));
    }
    let mut inside = String::new();
    for crash in &course.crashes {
        let at = x((crash.us.saturating_sub(course.begun_us()) as f64 / end).min(1.0));
        writeln!(
            inside,
            "<line class=\"crash\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#c22\" stroke-width=\"0.7\"/>",
            y(0.0),
            y(0.05)
        )
        .expect(NOTHING);
    }
    let together = course.spans.len().div_ceil(POINTS).max(1);
    for (number, meter) in course.meters.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points: Vec<_> = course
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
        .expect(NOTHING);
    }
    frame(&ticks, &inside)
}

fn histogram(course: &Course) -> String {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for crash in &course.crashes {
        let bucket = ((crash.outage_ns.max(1) as f64).log2() * PER_OCTAVE).floor() as i64;
        *counts.entry(bucket).or_default() += 1;
    }
    let (Some((&first, _)), Some((&last, _))) = (counts.first_key_value(), counts.last_key_value()) else {
        return "<p>There was no crash.</p>".to_owned();
    };
    // A bucket to spare at each side, so that a single one is a bar and not all there is.
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
    use super::super::course::tests::told;
    use super::*;

    #[test]
    fn a_page_has_the_figures_a_mark_for_each_crash_and_what_was_broken() {
        let course = told();
        let verdicts = [Verdict::new("a <promise>", false, "7"), Verdict::new("another", true, "")];
        let sections = [Section { heading: "one & only", course: &course, verdicts: &verdicts }];
        let page = draw("Demo", "somewhere", &sections);
        assert_eq!(page.matches("class=\"crash\"").count(), 2);
        assert_eq!(page.matches("<polyline").count(), 2);
        assert_eq!(page.matches("class=\"broken\"").count(), 1);
        assert!(page.contains("one &amp; only") && page.contains("a &lt;promise&gt;"), "{page}");
        assert!(page.contains("as fast as it goes"), "{page}");
        assert!(page.contains("read: 10.0 KB/s without crashes, 9.0 KB/s with them: 10.0 % lost"), "{page}");
        // It needs nothing that is not in it.
        assert!(!page.contains("src=") && !page.contains("href="));
        let picture = picture(&sections);
        assert_eq!(picture.matches("<svg").count(), 3);
        assert_eq!(picture.matches("</svg>").count(), 3);
    }

    #[test]
    fn a_run_in_which_nothing_happened_can_be_reported() {
        let course = Course::default();
        let sections = [Section { heading: "x", course: &course, verdicts: &[] }];
        let page = draw("Demo", "x", &sections);
        assert!(page.contains("There was no crash") && page.contains("Nothing was done"));
        assert_eq!(picture(&sections).matches("<svg").count(), 1);
    }
}
