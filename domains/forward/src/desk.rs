//! [`Desk`]: what is asked of the tester. Any thread asks; the station's sends it between the frames that it forwards, and finds
//! the answer among those that it receives.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_runtime::sync::Mutex;
use coppice_runtime::time;
use coppice_traffic::{Ask, Control, Report};

/// When what nobody has answered is asked again: a crash has taken it, or its answer.
const AGAIN: Duration = Duration::from_millis(5);
/// How often it is looked whether there is an answer.
const GLANCE: Duration = Duration::from_micros(50);
/// The station's own requests have this number; others have higher ones.
const ROUTINE: u32 = 0;

/// The stream that is forwarded.
pub(crate) const STREAM: u16 = 1;

/// What is asked of the tester.
#[derive(Default)]
pub(crate) struct Desk {
    /// Who asks, while it does: one at a time. It holds how many have.
    asker: Mutex<u32>,
    exchange: Mutex<Exchange>,
    /// There is something to send.
    is_open: AtomicBool,
    /// Of the latest report.
    sent: AtomicU64,
}

#[derive(Default)]
struct Exchange {
    request: Option<Control>,
    answer: Option<Report>,
}

impl Desk {
    /// Asks, again and again, until there is an answer. `request` is given the number that it is to have; `pass` passes the time.
    /// `None` if there was no answer for so long.
    pub(crate) fn ask<E>(
        &self,
        request: impl FnOnce(u32) -> Control,
        patience: Duration,
        mut pass: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<Report>, E> {
        let mut asker = self.asker.lock();
        *asker = asker.wrapping_add(1).max(ROUTINE + 1);
        *self.exchange.lock() = Exchange { request: Some(request(*asker)), answer: None };
        let began = time::now();
        let mut due = began;
        loop {
            let now = time::now();
            if now >= due {
                self.is_open.store(true, Ordering::Release);
                due = now + AGAIN;
            }
            let passed = pass();
            let mut exchange = self.exchange.lock();
            let answer = exchange.answer.take();
            if answer.is_some() || passed.is_err() || now - began > patience {
                exchange.request = None;
                return passed.map(|()| answer);
            }
        }
    }

    /// Asks for a report, from any thread but the station's.
    pub(crate) fn report(&self, patience: Duration) -> Option<Report> {
        let pass = || {
            time::sleep(GLANCE);
            Ok::<(), core::convert::Infallible>(())
        };
        self.ask(|request| Control::Ask(Ask { stream: STREAM, request }), patience, pass).unwrap_or_default()
    }

    /// For the station: what is to be sent now.
    #[inline]
    pub(crate) fn to_send(&self) -> Option<Control> {
        if !self.is_open.load(Ordering::Relaxed) {
            return None;
        }
        self.is_open.store(false, Ordering::Relaxed);
        self.exchange.lock().request
    }

    /// For the station: what it asks now and then, so that somebody knows how things stand.
    pub(crate) fn routine() -> Control {
        Control::Ask(Ask { stream: STREAM, request: ROUTINE })
    }

    /// For the station: an answer has come.
    pub(crate) fn deliver(&self, report: &Report) {
        if report.stream != STREAM {
            return;
        }
        self.sent.store(report.sent, Ordering::Relaxed);
        let mut exchange = self.exchange.lock();
        if exchange.request.is_some_and(|request| report.answers(&request)) {
            exchange.answer = Some(*report);
        }
    }

    /// How many frames the tester had sent, the last time that it was asked.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(request: &Control, sent: u64) -> Report {
        Report { sent, ..Report::to(request) }
    }

    #[test]
    fn an_answer_is_for_who_asked_and_routine_ones_are_for_nobody() {
        let desk = Desk::default();
        assert!(desk.to_send().is_none());
        let ask = |request| Control::Ask(Ask { stream: STREAM, request });
        let report = desk.ask(ask, Duration::from_secs(20), || {
            let Some(request) = desk.to_send() else { return Ok::<(), ()>(()) };
            desk.deliver(&answer(&Desk::routine(), 3));
            assert_eq!(desk.sent(), 3);
            desk.deliver(&answer(&ask(request.request() + 1), 4));
            desk.deliver(&answer(&request, 5));
            Ok(())
        });
        assert_eq!(report.map(|report| report.map(|report| report.sent)), Ok(Some(5)));
        assert_eq!(desk.sent(), 5);
    }

    #[test]
    fn what_nobody_answers_is_asked_again_and_then_given_up() {
        let desk = Desk::default();
        let mut asked = 0;
        let ask = |request| Control::Ask(Ask { stream: STREAM, request });
        let report = desk.ask(ask, 4 * AGAIN, || {
            asked += u32::from(desk.to_send().is_some());
            Ok::<(), ()>(())
        });
        assert_eq!(report, Ok(None));
        assert!((2..=5).contains(&asked), "{asked} times");
    }

    #[test]
    fn what_breaks_while_somebody_waits_is_heard() {
        let desk = Desk::default();
        let ask = |request| Control::Ask(Ask { stream: STREAM, request });
        assert_eq!(desk.ask(ask, Duration::MAX, || Err("gone")), Err("gone"));
    }
}
