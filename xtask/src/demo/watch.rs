//! [`watch`]: boots a system, reads its console until it ends, hangs or is stopped by Ctrl-C, and shows its
//! run log.

use std::time::{Duration, Instant};

use anyhow::Result;
use xtask_report::recovery::RunLog;
use xtask_report::recovery::display::Display;

use crate::machine::{self, ConsoleEvent, Ending, Input, Launch, Machine};
use crate::ui;

/// The time without any line of the console after which a system is considered hung.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit for the last checks of a system that was told to stop.
const LAST_CHECKS: Duration = Duration::from_secs(30);
/// Lines of the console that are shown if a system did not end in success.
const SHOWN: usize = 30;

/// The result of a run.
pub(crate) struct Watched {
    /// The lines that it printed.
    pub(crate) log: RunLog,
    /// The system's ending; `None` if it was killed from here.
    pub(crate) ending: Option<Ending>,
    /// True if Ctrl-C was pressed.
    pub(crate) is_partial: bool,
}

/// Boots a system and reads its console. On Ctrl-C it tells the system to end in order, with all its last
/// checks.
pub(crate) fn watch(machine: &Machine, launch: &Launch, label: &str, plain: bool) -> Result<Watched> {
    let mut session = machine.open(launch, Input::Lines)?;
    let mut display = Display::start(label.to_owned(), plain);
    let mut log = RunLog::default();
    let mut console: Vec<String> = Vec::new();
    let (mut last_line, mut stop_by) = (Instant::now(), None);
    let ending = loop {
        match session.next(Duration::from_millis(100)) {
            ConsoleEvent::Line(line) => {
                last_line = Instant::now();
                if !log.ingest_line(&line) {
                    console.push(line);
                }
                display.update(&log);
            }
            ConsoleEvent::Timeout => {}
            ConsoleEvent::Ended => break Some(session.ending()?),
        }
        if machine::interrupted() && stop_by.is_none() {
            display.line("stopping; its last checks take a moment");
            stop_by = Some(Instant::now() + LAST_CHECKS);
            // If the system no longer reads its console, it is about to end or to be killed.
            let _ = session.write_line("stop");
        }
        let hangs = last_line.elapsed() > PROGRESS_TIMEOUT;
        if hangs || stop_by.is_some_and(|until| Instant::now() > until) {
            session.kill()?;
            let what = if hangs { "no output" } else { "no end after the stop request" };
            log.record_violation(format!("{what} for {}", ui::seconds(last_line.elapsed())));
            break None;
        }
    };
    if ending != Some(Ending::Success) {
        for line in &console[console.len().saturating_sub(SHOWN)..] {
            display.line(&format!("    {line}"));
        }
    }
    display.finish(&log);
    Ok(Watched { log, ending, is_partial: machine::interrupted() })
}
