//! [`Wait`]: the machine's wait for the process, as a state machine without a clock or memory of its own.

use crate::BEAT_NS;

/// The time between two rings.
const RING_AGAIN_NS: u64 = 10_000_000;

/// The longest time without a change of [`BEAT`](crate::BEAT): many periods, since a busy host may not run
/// the process for a while.
const SILENCE_NS: u64 = 50 * BEAT_NS;

/// The time limit of one request. A process that runs and exceeds it has a model that hangs.
const ANSWER_NS: u64 = 60_000_000_000;

/// The words of the mailbox that the machine reads while it waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signs {
    /// True if [`ASLEEP`](crate::ASLEEP) is set.
    pub is_asleep: bool,
    /// True if [`GONE`](crate::GONE) is set.
    pub is_gone: bool,
    /// [`BEAT`](crate::BEAT).
    pub beat: u32,
    /// [`HEAD`](crate::HEAD).
    pub head: u32,
}

/// The next action of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Check the condition again.
    Look,
    /// Ring the doorbell, then check again.
    Ring,
    /// The device is gone.
    GiveUp,
}

/// One wait of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    began_ns: u64,
    /// The time of the last ring, or of the start.
    rung_ns: u64,
    /// The time at which the process last made progress.
    moved_ns: u64,
    last: Signs,
}

impl Wait {
    /// Starts a wait. The machine has rung already if the process was asleep.
    pub const fn new(now_ns: u64, signs: Signs) -> Self {
        Self { began_ns: now_ns, rung_ns: now_ns, moved_ns: now_ns, last: signs }
    }

    /// Returns the next action, after a check that failed.
    pub const fn step(&mut self, now_ns: u64, signs: Signs) -> Step {
        if signs.beat != self.last.beat || signs.head != self.last.head {
            self.moved_ns = now_ns;
        }
        self.last = signs;
        let is_silent = now_ns.saturating_sub(self.moved_ns) >= SILENCE_NS;
        if signs.is_gone || is_silent || now_ns.saturating_sub(self.began_ns) >= ANSWER_NS {
            return Step::GiveUp;
        }
        if signs.is_asleep && now_ns.saturating_sub(self.rung_ns) >= RING_AGAIN_NS {
            self.rung_ns = now_ns;
            return Step::Ring;
        }
        Step::Look
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const MS: u64 = 1_000_000;
    const ASLEEP: Signs = Signs { is_asleep: true, is_gone: false, beat: 7, head: 3 };

    /// Waits with a check each millisecond until the machine gives up, or until `end_ms`. Returns the times
    /// of the rings and the time of giving up.
    fn script(end_ms: u64, signs: impl Fn(u64) -> Signs) -> (Vec<u64>, Option<u64>) {
        let mut wait = Wait::new(0, signs(0));
        let mut rings = Vec::new();
        for ms in 0..end_ms {
            match wait.step(ms * MS, signs(ms)) {
                Step::Look => {}
                Step::Ring => rings.push(ms),
                Step::GiveUp => return (rings, Some(ms)),
            }
        }
        (rings, None)
    }

    fn beating(ms: u64) -> u32 {
        (ms * MS / BEAT_NS) as u32
    }

    #[test]
    fn a_process_that_sleeps_on_is_rung_again() {
        let (rings, given_up) = script(35, |_| ASLEEP);
        assert_eq!((rings, given_up), (vec![10, 20, 30], None));
    }

    #[test]
    fn a_process_that_is_awake_is_not_rung() {
        let (rings, given_up) = script(100, |ms| Signs { is_asleep: ms < 5, ..ASLEEP });
        assert_eq!((rings, given_up), (vec![], None));
    }

    #[test]
    fn a_process_that_has_left_is_given_up_at_once() {
        let (_, given_up) = script(100, |ms| Signs { is_gone: ms >= 8, ..ASLEEP });
        assert_eq!(given_up, Some(8));
    }

    #[test]
    fn a_process_that_stands_still_is_given_up_and_a_slow_one_is_not() {
        let (_, given_up) = script(10_000, |_| ASLEEP);
        assert_eq!(given_up, Some(SILENCE_NS / MS));
        let (_, given_up) = script(30_000, |ms| Signs { beat: beating(ms), ..ASLEEP });
        assert_eq!(given_up, None, "a beat");
        let (_, given_up) = script(30_000, |ms| Signs { head: beating(ms), ..ASLEEP });
        assert_eq!(given_up, None, "requests that are done");
        let (_, given_up) = script(20_000, |ms| Signs { beat: beating(ms.min(8_000)), ..ASLEEP });
        assert_eq!(given_up, Some(13_000), "a beat that stops");
    }

    #[test]
    fn a_model_that_hangs_is_given_up_in_the_end() {
        let (_, given_up) = script(100_000, |ms| Signs { is_asleep: false, beat: beating(ms), ..ASLEEP });
        assert_eq!(given_up, Some(ANSWER_NS / MS));
    }
}
