//! [`Watch`]: which commands have been in flight for too long.

use alloc::boxed::Box;

use crate::slots::Slots;

/// Looks at the commands in flight from time to time. A command that is there at two looks has been for at least the time
/// between them; so nothing has to be noted when a command is submitted, and no clock read.
pub(crate) struct Watch {
    noted: Box<[Noted]>,
    timeout_ns: u64,
    next_look_ns: u64,
}

#[derive(Clone, Copy)]
struct Noted {
    /// [`Slots`] never has that one.
    id: u16,
    aborted: bool,
    since_ns: u64,
}

const NOTHING: Noted = Noted { id: u16::MAX, aborted: false, since_ns: 0 };

/// A command that has been in flight for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdue {
    /// Which.
    pub(crate) id: u16,
    /// Whether [`Watch::aborted`] was told of it, a time-out ago.
    pub(crate) aborted: bool,
}

impl Watch {
    /// Of `slots` slots.
    pub(crate) fn new(slots: usize, timeout_ns: u64) -> Self {
        Self { noted: (0..slots).map(|_| NOTHING).collect(), timeout_ns, next_look_ns: 0 }
    }

    /// When to look again, at the latest, to notice in time.
    pub(crate) fn next_look_ns(&self) -> u64 {
        self.next_look_ns
    }

    /// Looks, if it is time to, and answers one command that is overdue.
    pub(crate) fn look<T>(&mut self, slots: &Slots<T>, now_ns: u64) -> Option<Overdue> {
        if now_ns < self.next_look_ns {
            return None;
        }
        self.next_look_ns = now_ns.saturating_add(self.timeout_ns / 8);
        let mut overdue = None;
        for (index, noted) in self.noted.iter_mut().enumerate() {
            let Some(id) = slots.id(index) else { continue };
            if noted.id != id {
                *noted = Noted { id, aborted: false, since_ns: now_ns };
            } else if now_ns.saturating_sub(noted.since_ns) >= self.timeout_ns {
                overdue = Some(Overdue { id, aborted: noted.aborted });
            }
        }
        overdue
    }

    /// An overdue command was aborted: it has as much time again.
    pub(crate) fn aborted(&mut self, id: u16, now_ns: u64) {
        if let Some(noted) = self.noted.iter_mut().find(|noted| noted.id == id) {
            *noted = Noted { id, aborted: true, since_ns: now_ns };
        }
        self.next_look_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_overdue_after_its_time_and_only_that_one() {
        let mut slots = Slots::new(4);
        let mut watch = Watch::new(4, 800);
        let late = slots.occupy(());
        assert_eq!(watch.look(&slots, 1000), None);
        let young = slots.occupy(());
        assert_eq!(watch.look(&slots, 1700), None);
        assert_eq!(watch.look(&slots, 1750), None, "not before it is time to look");
        assert_eq!(watch.look(&slots, 1800), Some(Overdue { id: late, aborted: false }));
        watch.aborted(late, 1800);
        slots.release(young);
        assert_eq!(watch.look(&slots, 2599), None);
        assert_eq!(watch.look(&slots, 2700), Some(Overdue { id: late, aborted: true }));
    }

    #[test]
    fn a_slot_that_is_used_again_and_again_is_never_overdue() {
        let mut slots = Slots::new(1);
        let mut watch = Watch::new(1, 800);
        for look in 0..100 {
            let id = slots.occupy(());
            assert_eq!(watch.look(&slots, look * 10_000), None);
            slots.release(id);
        }
    }
}
