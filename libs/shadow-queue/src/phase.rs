//! [`Phase`]: the state of a shadow's queue.

use core::time::Duration;

/// The state of a shadow's queue. `Q` is the handle of the driver's queue, which exists in two of the phases.
///
/// ```text
///            lose                   reconnect                 finish
/// Healthy ─────────▶ Reconnecting ─────────────▶ Resubmitting ────────▶ Healthy
///                      │      ▲                    │      ▲
///              give_up │      └────────────────────┘      │
///                      ▼               lose               │
///                    GivenUp ─────────────────────────────┘
///                                   reconnect
/// ```
///
/// A shadow with nothing to resubmit finishes at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase<Q> {
    /// The driver has answered its last call.
    Healthy(Q),
    /// The driver's queue is lost.
    Reconnecting {
        /// The time of the last answer or, if there was none in this outage, of the loss.
        since: Duration,
    },
    /// The restarted driver gets the requests of its predecessor. It has not yet shown that it can complete
    /// them.
    Resubmitting {
        /// The queue of the restarted driver.
        queue: Q,
        /// As in [`Self::Reconnecting`]. A driver that crashes again in this phase does not extend the
        /// outage.
        since: Duration,
        /// True once this driver has answered a request.
        has_answered: bool,
    },
    /// The outage has lasted for the recovery timeout, or the driver has another device: requests fail. A
    /// driver that comes back nevertheless is used again.
    GivenUp {
        /// As in [`Self::Reconnecting`].
        since: Duration,
    },
}

impl<Q> Phase<Q> {
    /// Returns true in [`Self::Healthy`].
    #[inline(always)]
    pub fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy(_))
    }

    /// The driver's queue, if there is one.
    #[inline(always)]
    pub fn queue(&self) -> Option<&Q> {
        match self {
            Self::Healthy(queue) | Self::Resubmitting { queue, .. } => Some(queue),
            Self::Reconnecting { .. } | Self::GivenUp { .. } => None,
        }
    }

    /// Drops the driver's queue. The outage begins `now`, unless it has begun before.
    #[cold]
    pub fn lose(&mut self, now: Duration) {
        match *self {
            Self::Healthy(_) => *self = Self::Reconnecting { since: now },
            Self::Resubmitting { since, .. } => *self = Self::Reconnecting { since },
            Self::Reconnecting { .. } | Self::GivenUp { .. } => {}
        }
    }

    /// Starts to resubmit to `queue`. After a [`Self::GivenUp`] the outage begins `now`: requests that arrive
    /// from then on get the whole recovery timeout.
    #[cold]
    pub fn reconnect(&mut self, queue: Q, now: Duration) {
        let since = match *self {
            Self::Reconnecting { since } | Self::Resubmitting { since, .. } => since,
            Self::Healthy(_) | Self::GivenUp { .. } => now,
        };
        *self = Self::Resubmitting { queue, since, has_answered: false };
    }

    /// Records that the driver has answered a request. The outage counts from `now` on.
    #[cold]
    pub fn record_answer(&mut self, now: Duration) {
        match self {
            Self::Resubmitting { since, has_answered, .. } => (*since, *has_answered) = (now, true),
            // The driver answered some requests in the same exchange in which it failed others.
            Self::Reconnecting { since } => *since = now,
            Self::Healthy(_) | Self::GivenUp { .. } => {}
        }
    }

    /// Returns true while resubmitting to a driver that has answered.
    pub fn has_answered(&self) -> bool {
        matches!(self, Self::Resubmitting { has_answered: true, .. })
    }

    /// Ends the outage, if there is a queue.
    #[cold]
    pub fn finish(&mut self) {
        // The queue has to be moved out of a borrowed phase: another one stands in for that moment.
        *self = match core::mem::replace(self, Self::GivenUp { since: Duration::ZERO }) {
            Self::Resubmitting { queue, .. } => Self::Healthy(queue),
            other => other,
        };
    }

    /// Gives up, unless there is a queue.
    #[cold]
    pub fn give_up(&mut self) {
        if let Self::Reconnecting { since } = *self {
            *self = Self::GivenUp { since };
        }
    }

    /// Returns the length of the outage, if requests are to fail: in [`Self::GivenUp`], and in
    /// [`Self::Reconnecting`] after `timeout`. A driver with a queue is not given up, however long it does
    /// not answer: it still has the requests.
    pub fn overdue(&self, now: Duration, timeout: Duration) -> Option<Duration> {
        match *self {
            Self::GivenUp { since } => Some(now.saturating_sub(since)),
            Self::Reconnecting { since } => {
                Some(now.saturating_sub(since)).filter(|&waited| waited >= timeout)
            }
            Self::Healthy(_) | Self::Resubmitting { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_queue_is_healthy_again_after_a_crash_and_a_resubmission() {
        let mut phase = Phase::Healthy('a');
        phase.lose(at(10));
        assert_eq!((phase, phase.queue()), (Phase::Reconnecting { since: at(10) }, None));
        phase.reconnect('b', at(11));
        assert_eq!((phase.is_healthy(), phase.queue(), phase.has_answered()), (false, Some(&'b'), false));
        phase.record_answer(at(12));
        assert!(phase.has_answered());
        phase.finish();
        assert_eq!(phase, Phase::Healthy('b'));
    }

    #[test]
    fn a_driver_that_crashes_without_an_answer_does_not_extend_the_outage() {
        let mut phase = Phase::Healthy('a');
        phase.lose(at(10));
        for second in 11..15 {
            phase.reconnect('b', at(second));
            phase.lose(at(second));
            assert_eq!(phase.overdue(at(second), TIMEOUT), None);
        }
        assert_eq!(phase.overdue(at(15), TIMEOUT), Some(at(5)));
    }

    #[test]
    fn an_answer_restarts_the_recovery_timeout() {
        let mut phase = Phase::Healthy('a');
        phase.lose(at(10));
        phase.reconnect('b', at(11));
        phase.record_answer(at(14));
        phase.lose(at(14));
        assert_eq!(phase, Phase::Reconnecting { since: at(14) });
        assert_eq!((phase.overdue(at(18), TIMEOUT), phase.overdue(at(19), TIMEOUT)), (None, Some(at(5))));
        phase.record_answer(at(16));
        assert_eq!(phase, Phase::Reconnecting { since: at(16) });
        // The next driver has to show again that it works.
        phase.reconnect('c', at(20));
        assert!(!phase.has_answered());
    }

    #[test]
    fn a_queue_that_was_given_up_fails_at_once_until_a_driver_comes_back() {
        let mut phase = Phase::Healthy('a');
        phase.lose(at(10));
        phase.give_up();
        phase.lose(at(12));
        assert_eq!(phase, Phase::GivenUp { since: at(10) });
        assert_eq!(phase.overdue(at(11), TIMEOUT), Some(at(1)));
        phase.reconnect('b', at(20));
        phase.lose(at(21));
        // The new outage gets its own timeout.
        assert_eq!(phase.overdue(at(24), TIMEOUT), None);
    }

    #[test]
    fn a_driver_with_a_queue_is_neither_overdue_nor_given_up() {
        let mut phase = Phase::Reconnecting { since: at(1) };
        phase.reconnect('b', at(2));
        phase.give_up();
        assert_eq!((phase.queue(), phase.overdue(at(1000), TIMEOUT)), (Some(&'b'), None));
        phase.finish();
        phase.give_up();
        assert_eq!((phase, phase.overdue(at(1000), TIMEOUT)), (Phase::Healthy('b'), None));
    }

    #[test]
    fn an_outage_without_a_queue_cannot_be_finished() {
        let mut phase = Phase::<char>::Reconnecting { since: at(1) };
        phase.finish();
        assert_eq!(phase, Phase::Reconnecting { since: at(1) });
    }
}
