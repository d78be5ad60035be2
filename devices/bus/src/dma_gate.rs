//! [`DmaGate`], which bus mastering opens and closes.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::{hint, thread};

/// The number of polls after which a wait for accesses yields its CPU between polls.
const SPINS: u32 = 100_000;

/// A gate for concurrent DMA accesses; closing it waits for all of them to finish.
///
/// The wait lasts for a few copies, some microseconds, and is part of the cost of a driver's crash. So it
/// spins: with a lock of the standard library the thread would sleep, and wake up later than the accesses
/// have ended.
#[derive(Default)]
pub(crate) struct DmaGate {
    is_open: AtomicBool,
    accesses: AtomicU32,
}

/// An access under way: the gate does not close before it is dropped.
pub(crate) struct DmaGuard<'a>(&'a DmaGate);

impl DmaGate {
    /// Begins an access, if the gate is open.
    #[inline]
    pub(crate) fn enter(&self) -> Option<DmaGuard<'_>> {
        // SeqCst on both sides: either this thread sees that the gate is closed, or the closing thread sees
        // the access.
        self.accesses.fetch_add(1, Ordering::SeqCst);
        let guard = DmaGuard(self);
        self.is_open.load(Ordering::SeqCst).then_some(guard)
    }

    /// Opens the gate, or closes it and waits for the accesses under way.
    pub(crate) fn set_open(&self, open: bool) {
        self.is_open.store(open, Ordering::SeqCst);
        let mut spins = 0;
        while !open && self.is_busy() {
            spins += 1;
            if spins < SPINS { hint::spin_loop() } else { thread::yield_now() }
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    /// Returns true if an access is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.accesses.load(Ordering::SeqCst) != 0
    }
}

impl Drop for DmaGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.accesses.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_the_gate_waits_for_all_accesses() {
        let gate = DmaGate::default();
        assert!(gate.enter().is_none() && !gate.is_busy());
        let (working, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        if let Some(_guard) = gate.enter() {
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
                assert_eq!(
                    working.load(Ordering::Relaxed),
                    0,
                    "an access is under way although the gate is closed"
                );
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(!gate.is_busy());
    }
}
