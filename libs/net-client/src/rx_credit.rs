//! [`RxCredit`]: the number of spare packets to give to a queue. The interface does not report its capacity.

/// An estimate of a queue's capacity. A queue takes as many packets as its rings have room for and returns
/// the others. This keeps it full without passing the same surplus packets back and forth in each exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RxCredit {
    /// Packets that the queue holds.
    held: usize,
    /// The number that it held when it last returned spare packets.
    limit: usize,
    /// Exchanges until the limit is raised.
    until_probe: u32,
}

/// Exchanges between two attempts to raise the limit: a queue that was sending when it returned packets has
/// room for more later.
const PROBE_INTERVAL: u32 = 64;
/// Packets by which an attempt raises the limit.
const PROBE_STEP: usize = 32;

impl RxCredit {
    pub(crate) fn new(limit: usize) -> Self {
        Self { held: 0, limit, until_probe: PROBE_INTERVAL }
    }

    /// The number of packets that the queue holds.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Returns the number of spare packets to give in an exchange, besides the `given` ones. Called once per
    /// exchange.
    #[inline(always)]
    pub(crate) fn available(&mut self, given: usize) -> usize {
        self.until_probe -= 1;
        if self.until_probe == 0 {
            self.until_probe = PROBE_INTERVAL;
            self.limit += PROBE_STEP;
        }
        self.limit.saturating_sub(self.held + given)
    }

    /// Counts packets given to the queue.
    #[inline(always)]
    pub(crate) fn give(&mut self, count: usize) {
        self.held += count;
    }

    /// Counts packets that the queue has returned.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: usize) {
        // A faulty queue may return more than it was given; that is no reason for the client to panic.
        self.held = self.held.saturating_sub(count);
    }

    /// Sets the limit to the present number of packets: the queue has returned spare ones, so it is full.
    #[inline(always)]
    pub(crate) fn mark_saturated(&mut self) {
        self.limit = self.held;
    }

    /// Starts again for a new, empty queue. Returns the number of packets that the last one held.
    pub(crate) fn restart(&mut self, limit: usize) -> usize {
        core::mem::replace(self, Self::new(limit)).held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exchanges spare packets with a queue of capacity `room`. Returns the number of packets that came
    /// straight back.
    fn run(credit: &mut RxCredit, room: usize, exchanges: u32) -> usize {
        let mut surplus = 0;
        for _ in 0..exchanges {
            let count = credit.available(0).min(256);
            credit.give(count);
            let back = credit.held().saturating_sub(room);
            credit.take(back);
            if back > 0 {
                credit.mark_saturated();
                surplus += back;
            }
        }
        surplus
    }

    #[test]
    fn a_full_queue_gets_no_surplus_packets_but_for_probes() {
        let mut credit = RxCredit::new(1024);
        run(&mut credit, 500, 4);
        assert_eq!(credit.held(), 500);
        // One step per probe.
        assert!(run(&mut credit, 500, 640) <= 10 * PROBE_STEP);
        assert_eq!(credit.held(), 500);
    }

    #[test]
    fn a_queue_whose_room_grows_gets_more_packets() {
        let mut credit = RxCredit::new(1024);
        run(&mut credit, 100, 4);
        assert_eq!(credit.held(), 100);
        run(&mut credit, 500, 64 * 20);
        assert_eq!(credit.held(), 500);
    }

    #[test]
    fn a_new_queue_starts_with_full_credit() {
        let mut credit = RxCredit::new(1024);
        run(&mut credit, 100, 4);
        assert_eq!(credit.restart(1024), 100);
        assert_eq!((credit.held(), credit.available(24)), (0, 1000));
    }
}
