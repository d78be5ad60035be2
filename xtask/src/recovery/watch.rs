//! [`watch`]: boots a system, listens until it ends, hangs, or was told to stop by Ctrl-C, and shows its course.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Course;
use super::display::Display;
use crate::machine::{self, Ending, Heard, Input, Launch, Machine};
use crate::ui;

/// A system in which nothing has happened for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that was told to stop may take for its last checks.
const LAST_CHECKS: Duration = Duration::from_secs(30);
/// Lines of the console that are shown of a system that did not end well.
const SHOWN: usize = 30;

/// What came of it.
pub(crate) struct Watched {
    /// What it said.
    pub(crate) course: Course,
    /// How it ended; `None` if that had to be done from here.
    pub(crate) ending: Option<Ending>,
    /// Somebody pressed Ctrl-C.
    pub(crate) is_partial: bool,
}

/// Boots it and listens. Ctrl-C has the system end in order, with all its last checks.
pub(crate) fn watch(machine: &Machine, launch: &Launch, label: &str, plain: bool) -> Result<Watched> {
    let mut session = machine.open(launch, Input::Lines)?;
    let mut display = Display::start(label.to_owned(), plain);
    let mut course = Course::default();
    let mut console: Vec<String> = Vec::new();
    let (mut heard, mut stop_by) = (Instant::now(), None);
    let ending = loop {
        match session.next(Duration::from_millis(100)) {
            Heard::Line(line) => {
                heard = Instant::now();
                if !course.hear(&line) {
                    console.push(line);
                }
                display.update(&course);
            }
            Heard::Silence => {}
            Heard::End => break Some(session.ending()?),
        }
        if machine::interrupted() && stop_by.is_none() {
            display.line("stopping; its last checks take a moment");
            stop_by = Some(Instant::now() + LAST_CHECKS);
            // If it does not listen any more, it is about to end or to be ended.
            let _ = session.say("stop");
        }
        let hangs = heard.elapsed() > PATIENCE;
        if hangs || stop_by.is_some_and(|until| Instant::now() > until) {
            session.kill()?;
            let what = if hangs { "no word" } else { "no end although it was told to stop" };
            course.breaks(format!("{what} for {}", ui::seconds(heard.elapsed())));
            break None;
        }
    };
    if ending != Some(Ending::Success) {
        for line in &console[console.len().saturating_sub(SHOWN)..] {
            display.line(&format!("    {line}"));
        }
    }
    display.finish(&course);
    Ok(Watched { course, ending, is_partial: machine::interrupted() })
}
