//! The live display: throughput now and over the last seconds, a mark at each crash, the last outages, and
//! all domains with their memory. Without a terminal, a plain line each second.
//!
//! `indicatif`, which shows the tool's other steps too, redraws a block of lines in place; a full terminal
//! interface library would bring more code than this needs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use coppice_run_protocol::trial::{Meter, Unit};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::RunLog;
use super::verdict::unexpected_end;
use crate::axes::time;

/// The intervals of drawing the terminal and of printing plain lines.
const REDRAW: Duration = Duration::from_millis(100);
const PLAIN: Duration = Duration::from_secs(1);
/// The number of latest crashes that are shown.
const LATEST: usize = 3;
/// The width of a line if the terminal's is unknown, and its greatest width.
const COLUMNS: usize = 80;
const WIDEST: usize = 110;
/// The width of a curve's label: the meter's name and its rate.
const LABEL: usize = 24;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN_TEXT: &str = "\x1b[0m";

/// The display of a run.
pub struct Display {
    label: String,
    bar: Option<ProgressBar>,
    drawn: Instant,
}

impl Display {
    /// Begins the display; with `plain` it prints lines even on a terminal.
    pub fn start(label: String, plain: bool) -> Self {
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

    /// Shows the current state, if the interval has passed.
    pub fn update(&mut self, log: &RunLog) {
        let interval = if self.bar.is_some() { REDRAW } else { PLAIN };
        if self.drawn.elapsed() < interval {
            return;
        }
        self.drawn = Instant::now();
        match &self.bar {
            Some(bar) => bar.set_message(screen(&self.label, log, columns()).join("\n")),
            None => eprintln!("{}", plain(log)),
        }
    }

    /// Prints a line of its own.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Ends the display; the last state stays on the terminal.
    pub fn finish(self, log: &RunLog) {
        match &self.bar {
            Some(bar) => bar.abandon_with_message(screen(&self.label, log, columns()).join("\n")),
            None => eprintln!("{}", plain(log)),
        }
    }
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.map_or(COLUMNS, |size| usize::from(size.ws_col)).clamp(40, WIDEST)
}

/// A rate in a readable unit.
pub fn rate(unit: Unit, units: f64) -> String {
    match (unit, units) {
        (Unit::Bytes, bytes) if bytes < 1e6 => format!("{:.1} KB/s", bytes / 1e3),
        (Unit::Bytes, bytes) if bytes < 1e9 => format!("{:.1} MB/s", bytes / 1e6),
        (Unit::Bytes, bytes) => format!("{:.2} GB/s", bytes / 1e9),
        (Unit::Frames, frames) if frames < 1e6 => format!("{:.1} Kpps", frames / 1e3),
        (Unit::Frames, frames) => format!("{:.2} Mpps", frames / 1e6),
    }
}

/// The rate of a meter, with the share of the wire's capacity where that is known.
pub fn rate_in_full(meter: &Meter, units: f64) -> String {
    let short = rate(meter.unit, units);
    match meter.wire_bytes {
        None => short,
        Some(bytes) => format!("{short} ({:.2} Gb/s)", 8.0 * units * f64::from(bytes) / 1e9),
    }
}

/// An amount of memory in a readable unit.
fn memory(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 1 << 20 => format!("{} KiB", bytes >> 10),
        bytes => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    }
}

/// The rate of the last second.
fn now(log: &RunLog, meter: usize) -> f64 {
    let from = log.elapsed_us().saturating_sub(1_000_000);
    log.rate(meter, |span| span.from_us >= from).unwrap_or(0.0)
}

/// The state as one line.
fn plain(log: &RunLog) -> String {
    let rates: Vec<_> = log
        .meters
        .iter()
        .enumerate()
        .map(|(number, meter)| format!("{} {}", meter.name, rate_in_full(meter, now(log, number))))
        .collect();
    let mut text = format!("{:.1} s: {}", log.elapsed_us() as f64 / 1e6, rates.join(", "));
    text += &format!(", {} crashes", log.crashes.len());
    if let (Some(outages), Some(last)) = (log.outages(), log.crashes.last()) {
        let [p50, max, latest] = [outages.p50, outages.max, last.outage_ns].map(|ns| time(ns as f64));
        text += &format!(", outage p50 {p50}, max {max}, last {latest} ({})", last.fault);
    }
    if !log.unexpected.is_empty() {
        text += &format!(", {} unexpected ends", log.unexpected.len());
    }
    if !log.broken.is_empty() {
        text += &format!(", {} violations", log.broken.len());
    }
    text
}

/// All lines of the display, none wider than `columns`.
fn screen(label: &str, log: &RunLog, columns: usize) -> Vec<String> {
    let mut lines = vec![painted(BOLD, &title(label, log), columns)];
    let shown = &log.spans[log.spans.len().saturating_sub(columns.saturating_sub(LABEL))..];
    for (number, meter) in log.meters.iter().enumerate() {
        let rates: Vec<f64> = shown.iter().map(|span| span.rate(number)).collect();
        let head = format!("  {:<9}{:>11}  ", meter.name, rate(meter.unit, now(log, number)));
        lines.push(cut(&(head + &curve(&rates)), columns));
    }
    let marks: String = shown.iter().map(|span| if span.crashes > 0 { '▲' } else { ' ' }).collect();
    lines.push(painted(RED, &format!("  {:<width$}{marks}", "crashes", width = LABEL - 2), columns));
    if let Some(outages) = log.outages() {
        let [p50, p99, max] = [outages.p50, outages.p99, outages.max].map(|ns| time(ns as f64));
        let lost = log
            .frames_lost()
            .map_or_else(String::new, |lost| format!("   frames lost p50 {} max {}", lost.p50, lost.max));
        lines.push(cut(&format!("  outage   p50 {p50}   p99 {p99}   max {max}{lost}"), columns));
    }
    for crash in log.crashes.iter().rev().take(LATEST) {
        let start =
            crash.start_ns.map_or_else(String::new, |ns| format!(", of which its start {}", time(ns as f64)));
        let text = format!(
            "    {:>6.1} s  {:<22} {} recovered after {}{start}",
            crash.us.saturating_sub(log.begun_us()) as f64 / 1e6,
            crash.fault,
            log.begin.as_ref().map_or("", |begin| &begin.driver),
            time(crash.outage_ns as f64),
        );
        lines.push(cut(&text, columns));
    }
    let domains = log.domains.values().map(|domain| format!("{} #{}", domain.name, domain.generation));
    lines.extend(wrapped("domains", domains, columns));
    let owners = log.domains.values().map(|domain| (&domain.name, domain.bytes));
    let owners = owners.chain(log.memory.iter().map(|(owner, &bytes)| (owner, bytes)));
    lines.extend(wrapped(
        "memory",
        owners.map(|(owner, bytes)| format!("{owner} {}", memory(bytes))),
        columns,
    ));
    if let Some(end) = log.unexpected.last() {
        let text = format!("  BROKEN   ended without an injected fault: {}", unexpected_end(end));
        lines.push(painted(RED, &text, columns));
    }
    if let Some(broken) = log.broken.last() {
        lines.push(painted(RED, &format!("  BROKEN   {}", broken.what), columns));
    }
    lines
}

fn title(label: &str, log: &RunLog) -> String {
    let seconds = log.elapsed_us() as f64 / 1e6;
    let of = log.begin.as_ref().map_or(0.0, |begin| begin.duration_us as f64 / 1e6);
    let passes = match log.passes.len() {
        0 => String::new(),
        n => format!("  all read {n}×"),
    };
    format!("{label}  {seconds:.1} s of {of:.0} s  {} crashes{passes}", log.crashes.len())
}

/// Each value as a bar; the highest value has the highest bar.
fn curve(values: &[f64]) -> String {
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let bar = |value: f64| BARS[((value / most * 8.0).ceil() as usize).clamp(1, 8) - 1];
    values.iter().map(|&value| bar(value)).collect()
}

/// Words after a label, in as many lines as they need.
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
    use super::super::sample_log;
    use super::*;

    #[test]
    fn a_screen_shows_everything_and_no_line_is_too_wide() {
        let log = sample_log();
        for columns in [40, 80, 110] {
            let lines = screen("disk", &log, columns);
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
    fn a_violation_is_shown() {
        let mut log = sample_log();
        log.record_violation("a block with wrong contents".into());
        assert!(screen("disk", &log, 80).join("\n").contains("a block with wrong contents"));
        assert!(plain(&log).contains("1 violations"));
    }

    #[test]
    fn an_empty_log_can_be_shown() {
        assert!(screen("disk", &RunLog::default(), 80).len() >= 2);
        assert!(plain(&RunLog::default()).contains("0 crashes"));
    }

    #[test]
    fn the_highest_value_has_the_highest_bar() {
        assert_eq!(curve(&[0.0, 4.0, 8.0]), "▁▄█");
        assert_eq!(curve(&[0.0]), "▁");
    }
}
