//! The live display: throughput now and a moment ago, a mark at each crash, the last outages, who lives and who has how
//! much. Without a terminal, a plain line each second.
//!
//! `indicatif`, which shows the tool's other steps too, redraws a block of lines in place; a whole terminal interface
//! would bring more than this needs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Course;
use super::line::Unit;
use crate::plot::time;

/// How often the terminal is drawn anew, and a plain line said.
const REDRAW: Duration = Duration::from_millis(100);
const PLAIN: Duration = Duration::from_secs(1);
/// How many of the latest crashes are shown.
const LATEST: usize = 3;
/// What a line has if nobody knows how wide the terminal is, and what it has at most.
const COLUMNS: usize = 80;
const WIDEST: usize = 110;
/// What stands in front of a curve: the meter's name and its rate.
const LABEL: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN_TEXT: &str = "\x1b[0m";

/// Where the course is shown.
pub(crate) struct Display {
    label: String,
    bar: Option<ProgressBar>,
    drawn: Instant,
}

impl Display {
    /// Begins; `plain` even on a terminal.
    pub(crate) fn start(label: String, plain: bool) -> Self {
        let bar = (!plain && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is a constant"));
            bar
        });
        if bar.is_none() {
            eprintln!("{label} ...");
        }
        Self { label, bar, drawn: Instant::now() }
    }

    /// Shows how things stand, if it is time to.
    pub(crate) fn update(&mut self, course: &Course) {
        let interval = if self.bar.is_some() { REDRAW } else { PLAIN };
        if self.drawn.elapsed() < interval {
            return;
        }
        self.drawn = Instant::now();
        match &self.bar {
            Some(bar) => bar.set_message(screen(&self.label, course, columns()).join("\n")),
            None => eprintln!("{}", plain(course)),
        }
    }

    /// Says a line of its own.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Ends; the last state stays on the terminal.
    pub(crate) fn finish(self, course: &Course) {
        match &self.bar {
            Some(bar) => bar.abandon_with_message(screen(&self.label, course, columns()).join("\n")),
            None => eprintln!("{}", plain(course)),
        }
    }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(COLUMNS, |size| usize::from(size.ws_col)).clamp(40, WIDEST)
}

/// So many units a second, as people read them.
pub(crate) fn rate(unit: Unit, units: f64) -> String {
    match (unit, units) {
        (Unit::Bytes, bytes) if bytes < 1e6 => format!("{:.1} KB/s", bytes / 1e3),
        (Unit::Bytes, bytes) if bytes < 1e9 => format!("{:.1} MB/s", bytes / 1e6),
        (Unit::Bytes, bytes) => format!("{:.2} GB/s", bytes / 1e9),
        (Unit::Frames { .. }, frames) if frames < 1e6 => format!("{:.1} Kpps", frames / 1e3),
        (Unit::Frames { .. }, frames) => format!("{:.2} Mpps", frames / 1e6),
    }
}

/// The same, and where that is not all, how much of a wire it takes.
pub(crate) fn rate_in_full(unit: Unit, units: f64) -> String {
    let short = rate(unit, units);
    match unit {
        Unit::Bytes => short,
        Unit::Frames { wire_bytes } => {
            format!("{short} ({:.2} Gb/s)", 8.0 * units * f64::from(wire_bytes) / 1e9)
        }
    }
}

/// Memory, as people read it.
fn memory(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        bytes => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// The rate of the last second.
fn now(course: &Course, meter: usize) -> f64 {
    let from = course.elapsed_us().saturating_sub(1_000_000);
    course.rate(meter, |span| span.from_us >= from).unwrap_or(0.0)
}

/// One line that says how things stand.
fn plain(course: &Course) -> String {
    let rates: Vec<_> = course
        .meters
        .iter()
        .enumerate()
        .map(|(number, meter)| format!("{} {}", meter.name, rate_in_full(meter.unit, now(course, number))))
        .collect();
    let mut text = format!("{:.1} s: {}", course.elapsed_us() as f64 / 1e6, rates.join(", "));
    text += &format!(", {} crashes", course.crashes.len());
    if let (Some(outages), Some(last)) = (course.outages(), course.crashes.last()) {
        let [p50, max, latest] = [outages.p50, outages.max, last.outage_ns].map(|ns| time(ns as f64));
        text += &format!(", outage p50 {p50}, max {max}, last {latest} ({})", last.fault);
    }
    if !course.broken.is_empty() {
        text += &format!(", {} things BROKEN", course.broken.len());
    }
    text
}

/// All lines of the display, none wider than `columns`.
fn screen(label: &str, course: &Course, columns: usize) -> Vec<String> {
    let mut lines = vec![painted(BOLD, &title(label, course), columns)];
    let shown = &course.spans[course.spans.len().saturating_sub(columns.saturating_sub(LABEL))..];
    for (number, meter) in course.meters.iter().enumerate() {
        let rates: Vec<f64> = shown.iter().map(|span| span.rate(number)).collect();
        let head = format!("  {:<9}{:>11}  ", meter.name, rate(meter.unit, now(course, number)));
        lines.push(cut(&(head + &curve(&rates)), columns));
    }
    let marks: String = shown.iter().map(|span| if span.crashes > 0 { '▲' } else { ' ' }).collect();
    lines.push(painted(RED, &format!("  {:<width$}{marks}", "crashes", width = LABEL - 2), columns));
    if let Some(outages) = course.outages() {
        let [p50, p99, max] = [outages.p50, outages.p99, outages.max].map(|ns| time(ns as f64));
        let lost = course
            .frames_lost()
            .map_or_else(String::new, |lost| format!("   frames lost p50 {} max {}", lost.p50, lost.max));
        lines.push(cut(&format!("  outage   p50 {p50}   p99 {p99}   max {max}{lost}"), columns));
    }
    for crash in course.crashes.iter().rev().take(LATEST) {
        let start =
            crash.start_ns.map_or_else(String::new, |ns| format!(", of which its start {}", time(ns as f64)));
        let text = format!(
            "    {:>6.1} s  {:<22} {} answers after {}{start}",
            crash.us.saturating_sub(course.begun_us()) as f64 / 1e6,
            crash.fault,
            course.begin.as_ref().map_or("", |begin| &begin.victim),
            time(crash.outage_ns as f64),
        );
        lines.push(cut(&text, columns));
    }
    let domains = course.domains.values().map(|domain| format!("{} #{}", domain.name, domain.generation));
    lines.extend(wrapped("domains", domains, columns));
    let owners = course.domains.values().map(|domain| (&domain.name, domain.bytes));
    let owners = owners.chain(course.memory.iter().map(|(owner, &bytes)| (owner, bytes)));
    lines.extend(wrapped(
        "memory",
        owners.map(|(owner, bytes)| format!("{owner} {}", memory(bytes))),
        columns,
    ));
    if let Some(broken) = course.broken.last() {
        lines.push(painted(RED, &format!("  BROKEN   {}", broken.what), columns));
    }
    lines
}

fn title(label: &str, course: &Course) -> String {
    let seconds = course.elapsed_us() as f64 / 1e6;
    let of = course.begin.as_ref().map_or(0.0, |begin| begin.duration_us as f64 / 1e6);
    let passes = match course.passes.len() {
        0 => String::new(),
        n => format!("  all read {n}×"),
    };
    format!("{label}  {seconds:.1} s of {of:.0} s  {} crashes{passes}", course.crashes.len())
}

/// Each value as a bar; the highest of them all is the highest bar.
fn curve(values: &[f64]) -> String {
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: f64| BARS[((value / most * 8.0).ceil() as usize).clamp(1, 8) - 1];
    values.iter().map(|&value| bar(value)).collect()
}

/// What belongs together, in as many lines as it takes.
fn wrapped(label: &str, words: impl Iterator<Item = String>, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = format!("  {label:<8}");
    let mut is_empty = true;
    for word in words {
        if !is_empty && line.chars().count() + 3 + word.chars().count() > columns {
            lines.push(core::mem::replace(&mut line, " ".repeat(10)));
            is_empty = true;
        }
        line += if is_empty { " " } else { " · " };
        line += &word;
        is_empty = false;
    }
    if !is_empty {
        lines.push(line);
    }
    lines.iter().map(|line| cut(line, columns)).collect()
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

fn painted(colour: &str, text: &str, columns: usize) -> String {
    format!("{colour}{}{PLAIN_TEXT}", cut(text, columns))
}

#[cfg(test)]
mod tests {
    use super::super::course::tests::told;
    use super::*;

    #[test]
    fn a_screen_shows_everything_and_no_line_is_too_wide() {
        let course = told();
        for columns in [40, 80, 110] {
            let lines = screen("disk", &course, columns);
            for line in &lines {
                let visible: String =
                    [BOLD, RED, PLAIN_TEXT].iter().fold(line.clone(), |text, code| text.replace(code, ""));
                assert!(visible.chars().count() <= columns, "{visible}");
            }
            let all = lines.join("\n");
            for part in ["2 crashes", "▲", "█", "outage   p50 100 ns", "nvme #2", "kernel 4 KiB", "Panic"]
            {
                assert!(all.contains(part), "{part} is missing in\n{all}");
            }
        }
    }

    #[test]
    fn a_broken_run_shows_it() {
        let mut course = told();
        course.breaks("a block that nobody wrote".into());
        assert!(screen("disk", &course, 80).join("\n").contains("a block that nobody wrote"));
        assert!(plain(&course).contains("1 things BROKEN"));
    }

    #[test]
    fn nothing_to_show_yet_is_no_trouble() {
        assert!(screen("disk", &Course::default(), 80).len() >= 2);
        assert!(plain(&Course::default()).contains("0 crashes"));
    }

    #[test]
    fn the_highest_value_has_the_highest_bar() {
        assert_eq!(curve(&[0.0, 4.0, 8.0]), "▁▄█");
        assert_eq!(curve(&[0.0]), "▁");
    }
}
