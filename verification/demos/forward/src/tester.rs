//! [`TesterClient`]: control requests to the tester. Any thread can make one. The forwarder's thread sends it
//! between the frames that it forwards, and finds the report among the frames that it receives.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use coppice_runtime::sync::Mutex;
use coppice_runtime::time;
use coppice_traffic::{Ask, Control, Report};

/// The interval at which an unanswered request is sent again: a crash may have lost the request or its
/// report.
const RESEND_INTERVAL: Duration = Duration::from_millis(5);
/// The interval at which a thread other than the forwarder's checks for its report.
const POLL_INTERVAL: Duration = Duration::from_micros(50);
/// The request number of the forwarder's periodic requests. All other requests have higher numbers.
const PERIODIC: u32 = 0;

/// The number of the stream that is forwarded.
pub(crate) const STREAM: u16 = 1;

impl PendingRequest {
    /// Keeps `report` if its number is that of the pending request.
    fn accept(&mut self, report: &Report) {
        if self.request.is_some_and(|request| report.answers(&request)) {
            self.report = Some(*report);
        }
    }
}

/// The channel to the tester, which carries one request at a time.
#[derive(Default)]
pub(crate) struct TesterClient {
    /// Serialises requests: held from a request to its report. Contains the number of the last request.
    last_request: Mutex<u32>,
    pending: Mutex<PendingRequest>,
    /// Set while the pending request waits to be sent.
    is_send_due: AtomicBool,
    /// The tester's count of sent frames, from its latest report.
    sent: AtomicU64,
}

#[derive(Default)]
struct PendingRequest {
    request: Option<Control>,
    report: Option<Report>,
}

impl TesterClient {
    /// Sends a request repeatedly until its report arrives. Returns `None` after `timeout`.
    ///
    /// `request` makes the request from its number; `wait` is called between checks. Threads take turns. The
    /// forwarder's thread must not call this while another thread may: it would wait for that thread's
    /// request, which only the forwarder's thread can send.
    ///
    /// # Errors
    /// The error of `wait`.
    pub(crate) fn ask<E>(
        &self,
        request: impl FnOnce(u32) -> Control,
        timeout: Duration,
        mut wait: impl FnMut() -> Result<(), E>,
    ) -> Result<Option<Report>, E> {
        let mut number = self.last_request.lock();
        *number = number.wrapping_add(1).max(PERIODIC + 1);
        *self.pending.lock() = PendingRequest { request: Some(request(*number)), report: None };
        let began = time::now();
        let mut due = began;
        loop {
            let now = time::now();
            if now >= due {
                self.is_send_due.store(true, Ordering::Release);
                due = now + RESEND_INTERVAL;
            }
            let waited = wait();
            let mut pending = self.pending.lock();
            let report = pending.report.take();
            if report.is_some() || waited.is_err() || now - began > timeout {
                pending.request = None;
                return waited.map(|()| report);
            }
        }
    }

    /// Requests a report. For any thread except the forwarder's.
    pub(crate) fn report(&self, timeout: Duration) -> Option<Report> {
        let wait = || {
            time::sleep(POLL_INTERVAL);
            Ok::<(), core::convert::Infallible>(())
        };
        self.ask(|request| Control::Ask(Ask { stream: STREAM, request }), timeout, wait).unwrap_or_default()
    }

    /// Returns the request to send now, if any. For the forwarder.
    #[inline]
    pub(crate) fn next_to_send(&self) -> Option<Control> {
        if !self.is_send_due.load(Ordering::Relaxed) {
            return None;
        }
        self.is_send_due.store(false, Ordering::Relaxed);
        self.pending.lock().request
    }

    /// Schedules the request again, because no packet was free for it. For the forwarder.
    #[cold]
    pub(crate) fn defer(&self) {
        self.is_send_due.store(true, Ordering::Relaxed);
    }

    /// Returns the periodic request, which keeps [`sent`](Self::sent) up to date. For the forwarder.
    pub(crate) fn periodic() -> Control {
        Control::Ask(Ask { stream: STREAM, request: PERIODIC })
    }

    /// Takes in a report of the tester. For the forwarder.
    pub(crate) fn deliver(&self, report: &Report) {
        if report.stream != STREAM {
            return;
        }
        self.sent.store(report.sent, Ordering::Relaxed);
        self.pending.lock().accept(report);
    }

    /// Returns the number of frames that the tester had sent by its latest report.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_packet_is_sent_with_the_next() {
        let tester = TesterClient::default();
        *tester.pending.lock() = PendingRequest { request: Some(TesterClient::periodic()), report: None };
        tester.is_send_due.store(true, Ordering::Relaxed);
        assert_eq!(tester.next_to_send(), Some(TesterClient::periodic()));
        assert_eq!(tester.next_to_send(), None);
        tester.defer();
        assert_eq!(tester.next_to_send(), Some(TesterClient::periodic()));
    }

    #[test]
    fn a_report_answers_only_the_request_with_its_number() {
        let ask = |request| Control::Ask(Ask { stream: STREAM, request });
        let mut pending = PendingRequest { request: Some(ask(7)), report: None };
        for other in [TesterClient::periodic(), ask(6), ask(8)] {
            pending.accept(&Report::to(&other));
            assert!(pending.report.is_none(), "a report to {other:?} was accepted");
        }
        pending.accept(&Report::to(&ask(7)));
        assert_eq!(pending.report.map(|report| report.request), Some(7));
    }
}
