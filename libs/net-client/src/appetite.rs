//! [`Appetite`]: how many packets to give to a queue, which nobody is told.

/// A queue takes as many packets as its rings have room for, and gives back what is too much. This keeps it full without handing
/// it the same packets again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Appetite {
    /// How many the queue has.
    has: usize,
    /// With how many it was full, the last time it gave some back.
    full: usize,
    /// Exchanges until it is offered more than that.
    pause: u32,
}

/// After so many exchanges it is offered more: while it was sending, it could have kept more than it said.
const PAUSE: u32 = 64;
/// How many more.
const STEP: usize = 32;

impl Appetite {
    pub(crate) fn new(most: usize) -> Self {
        Self { has: 0, full: most, pause: PAUSE }
    }

    /// How many packets the queue has.
    pub(crate) fn has(&self) -> usize {
        self.has
    }

    /// How many spare packets to give besides `given`.
    #[inline(always)]
    pub(crate) fn wants(&mut self, given: usize) -> usize {
        self.pause -= 1;
        if self.pause == 0 {
            self.pause = PAUSE;
            self.full += STEP;
        }
        self.full.saturating_sub(self.has + given)
    }

    /// The queue is handed so many.
    #[inline(always)]
    pub(crate) fn give(&mut self, count: usize) {
        self.has += count;
    }

    /// It has given so many back.
    #[inline(always)]
    pub(crate) fn take(&mut self, count: usize) {
        // One that gives back more than it was given is not ours to judge, and no reason to end.
        self.has = self.has.saturating_sub(count);
    }

    /// It has given back spare ones.
    #[inline(always)]
    pub(crate) fn is_full(&mut self) {
        self.full = self.has;
    }

    /// There is another queue in its place, which has none. Answers how many the last one had.
    pub(crate) fn begin_anew(&mut self, most: usize) -> usize {
        core::mem::replace(self, Self::new(most)).has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exchanges of spare packets with a queue that has room for `room`; answers how many crossed to no purpose.
    fn run(appetite: &mut Appetite, room: usize, exchanges: u32) -> usize {
        let mut in_vain = 0;
        for _ in 0..exchanges {
            let count = appetite.wants(0).min(256);
            appetite.give(count);
            let back = appetite.has().saturating_sub(room);
            appetite.take(back);
            if back > 0 {
                appetite.is_full();
                in_vain += back;
            }
        }
        in_vain
    }

    #[test]
    fn a_queue_is_filled_and_then_left_alone() {
        let mut appetite = Appetite::new(1024);
        run(&mut appetite, 500, 4);
        assert_eq!(appetite.has(), 500);
        // A step each now and then.
        assert!(run(&mut appetite, 500, 640) <= 10 * STEP);
        assert_eq!(appetite.has(), 500);
    }

    #[test]
    fn a_queue_that_has_more_room_later_gets_more() {
        let mut appetite = Appetite::new(1024);
        run(&mut appetite, 100, 4);
        assert_eq!(appetite.has(), 100);
        run(&mut appetite, 500, 64 * 20);
        assert_eq!(appetite.has(), 500);
    }

    #[test]
    fn a_new_queue_is_fed_from_the_beginning() {
        let mut appetite = Appetite::new(1024);
        run(&mut appetite, 100, 4);
        assert_eq!(appetite.begin_anew(1024), 100);
        assert_eq!((appetite.has(), appetite.wants(24)), (0, 1000));
    }
}
