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

impl Exchange {
    /// Keeps a report that is the answer.
    fn hear(&mut self, report: &Report) {
        if self.request.is_some_and(|request| report.answers(&request)) {
            self.answer = Some(*report);
        }
    }
}

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
    /// Asks, again and again, until there is an answer. One thread at a time: the station's own only when no other does, as it
    /// passes on what others ask. `request` is given the number that it is to have; `pass` passes the time.
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

    /// For the station: there was no packet for the request. It is to be sent with the next one.
    #[cold]
    pub(crate) fn not_sent(&self) {
        self.is_open.store(true, Ordering::Relaxed);
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
        self.exchange.lock().hear(report);
    }

    /// How many frames the tester had sent, the last time that it was asked.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_packet_is_sent_with_the_next() {
        let desk = Desk::default();
        *desk.exchange.lock() = Exchange { request: Some(Desk::routine()), answer: None };
        desk.is_open.store(true, Ordering::Relaxed);
        assert_eq!(desk.to_send(), Some(Desk::routine()));
        assert_eq!(desk.to_send(), None);
        desk.not_sent();
        assert_eq!(desk.to_send(), Some(Desk::routine()));
    }

    #[test]
    fn an_answer_is_for_who_asked_and_routine_ones_are_for_nobody() {
        let ask = |request| Control::Ask(Ask { stream: STREAM, request });
        let mut exchange = Exchange { request: Some(ask(7)), answer: None };
        for other in [Desk::routine(), ask(6), ask(8)] {
            exchange.hear(&Report::to(&other));
            assert!(exchange.answer.is_none(), "{other:?} was not asked");
        }
        exchange.hear(&Report::to(&ask(7)));
        assert_eq!(exchange.answer.map(|report| report.request), Some(7));
    }
}
