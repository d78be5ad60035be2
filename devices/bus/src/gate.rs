//! [`Gate`]: what bus mastering opens and closes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::{hint, thread};

/// After so many looks whoever closes the gate lets others have the CPU in between.
const LOOKS: u32 = 100_000;

/// A gate that many go through, and that one closes who then waits for those inside.
///
/// That wait is for a few copies, some microseconds, and it is part of what a driver's crash costs. So it looks again and again; a
/// lock of the standard library's would sleep, and be woken later than what it waits for is over.
#[derive(Default)]
pub(crate) struct Gate {
    is_open: AtomicBool,
    inside: AtomicU32,
}

/// Somebody is inside.
pub(crate) struct Passage<'a>(&'a Gate);

impl Gate {
    /// Goes in, if the gate is open.
    #[inline]
    pub(crate) fn pass(&self) -> Option<Passage<'_>> {
        // Both orders are total: either this sees that the gate was closed, or who closes it sees this.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let passage = Passage(self);
        self.is_open.load(Ordering::SeqCst).then_some(passage)
    }

    /// Opens it, or closes it and waits until nobody is inside.
    pub(crate) fn set_open(&self, open: bool) {
        self.is_open.store(open, Ordering::SeqCst);
        let mut looks = 0;
        while !open && self.is_busy() {
            looks += 1;
            if looks < LOOKS { hint::spin_loop() } else { thread::yield_now() }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    /// Whether somebody is inside at this moment.
    pub(crate) fn is_busy(&self) -> bool {
        self.inside.load(Ordering::SeqCst) != 0
    }
}

impl Drop for Passage<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_inside_when_the_gate_is_closed() {
        let gate = Gate::default();
        assert!(gate.pass().is_none() && !gate.is_busy());
        let (working, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if let Some(_passage) = gate.pass() {
                            working.fetch_add(1, Ordering::Relaxed);
                            working.fetch_sub(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            for _ in 0..1000 {
                gate.set_open(true);
                thread::yield_now();
                gate.set_open(false);
                assert_eq!(working.load(Ordering::Relaxed), 0, "somebody works behind a closed gate");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(!gate.is_busy());
    }
}
