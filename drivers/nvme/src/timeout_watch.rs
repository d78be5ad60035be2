//! [`TimeoutWatch`]: finds commands that have been in flight for too long.

use alloc::boxed::Box;

use crate::slots::Slots;

/// Scans the commands in flight from time to time. A command found by two scans has been in flight for at
/// least the time between them. So a submission records nothing and reads no clock.
pub(crate) struct TimeoutWatch {
    tracked: Box<[Tracked]>,
    timeout_ns: u64,
    next_scan_ns: u64,
}

#[derive(Clone, Copy)]
struct Tracked {
    /// The command of the slot at its last scan; `u16::MAX`, which [`Slots`] never uses, for none.
    id: u16,
    aborted: bool,
    since_ns: u64,
}

const UNTRACKED: Tracked = Tracked { id: u16::MAX, aborted: false, since_ns: 0 };

/// A command that has been in flight for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdue {
    /// The command identifier.
    pub(crate) id: u16,
    /// True if [`TimeoutWatch::record_abort`] was called for the command, one timeout ago.
    pub(crate) aborted: bool,
}

impl TimeoutWatch {
    /// Creates a watch for `slots` slots.
    pub(crate) fn new(slots: usize, timeout_ns: u64) -> Self {
        Self { tracked: (0..slots).map(|_| UNTRACKED).collect(), timeout_ns, next_scan_ns: 0 }
    }

    /// Returns the time by which the next scan is due.
    pub(crate) fn next_scan_ns(&self) -> u64 {
        self.next_scan_ns
    }

    /// Scans if a scan is due, and returns one overdue command.
    pub(crate) fn scan<T>(&mut self, slots: &Slots<T>, now_ns: u64) -> Option<Overdue> {
        if now_ns < self.next_scan_ns {
            return None;
        }
        self.next_scan_ns = now_ns.saturating_add(self.timeout_ns / 8);
        let mut overdue = None;
        for (index, tracked) in self.tracked.iter_mut().enumerate() {
            let Some(id) = slots.id(index) else { continue };
            if tracked.id != id {
                *tracked = Tracked { id, aborted: false, since_ns: now_ns };
            } else if now_ns.saturating_sub(tracked.since_ns) >= self.timeout_ns {
                overdue = Some(Overdue { id, aborted: tracked.aborted });
            }
        }
        overdue
    }

    /// Gives an overdue command that was aborted one more timeout.
    pub(crate) fn record_abort(&mut self, id: u16, now_ns: u64) {
        if let Some(tracked) = self.tracked.iter_mut().find(|tracked| tracked.id == id) {
            *tracked = Tracked { id, aborted: true, since_ns: now_ns };
        }
        self.next_scan_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_command_past_its_timeout_is_overdue() {
        let mut slots = Slots::new(4);
        let mut watch = TimeoutWatch::new(4, 800);
        let late = slots.occupy(());
        assert_eq!(watch.scan(&slots, 1000), None);
        let young = slots.occupy(());
        assert_eq!(watch.scan(&slots, 1700), None);
        assert_eq!(watch.scan(&slots, 1750), None, "no scan is due yet");
        assert_eq!(watch.scan(&slots, 1800), Some(Overdue { id: late, aborted: false }));
        watch.record_abort(late, 1800);
        slots.release(young);
        assert_eq!(watch.scan(&slots, 2599), None);
        assert_eq!(watch.scan(&slots, 2700), Some(Overdue { id: late, aborted: true }));
    }

    #[test]
    fn a_slot_in_repeated_use_is_never_overdue() {
        let mut slots = Slots::new(1);
        let mut watch = TimeoutWatch::new(1, 800);
        for look in 0..100 {
            let id = slots.occupy(());
            assert_eq!(watch.scan(&slots, look * 10_000), None);
            slots.release(id);
        }
    }
}
