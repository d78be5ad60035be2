//! [`Pair`]: two wires' ends that are each other's.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::queue::{Mailbox, lock};
use crate::{End, Frame, LossCounters, Waker};

/// Frames on their way to one side; more are lost, as in any device that is too slow.
const FRAMES: usize = 4096;

/// What two sides share.
struct Both {
    /// Frames to each side.
    boxes: [Mailbox; 2],
    is_there: [AtomicBool; 2],
}

/// One of two ends that meet by a name in one process: what one takes the other gives. The link is up while both are there.
pub struct Pair {
    both: Arc<Both>,
    side: usize,
    current: Vec<u8>,
    losses: Arc<LossCounters>,
}

/// Pairs by name. They live as long as one of their sides.
static PAIRS: Mutex<BTreeMap<String, Weak<Both>>> = Mutex::new(BTreeMap::new());

impl Pair {
    /// Takes a side of the pair of this name.
    ///
    /// # Errors
    /// If both are taken.
    pub fn join(name: &str) -> io::Result<Self> {
        let mut pairs = lock(&PAIRS);
        let both = pairs.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let both = Arc::new(Both {
                boxes: [Mailbox::new(FRAMES), Mailbox::new(FRAMES)],
                is_there: [AtomicBool::new(false), AtomicBool::new(false)],
            });
            pairs.insert(name.into(), Arc::downgrade(&both));
            both
        });
        let side = (0..2).find(|&side| !both.is_there[side].swap(true, Ordering::AcqRel));
        let side = side.ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrInUse, "two devices are plugged into it already")
        })?;
        both.boxes[1 - side].wake();
        Ok(Self { both, side, current: Vec::new(), losses: Arc::default() })
    }
}

impl End for Pair {
    fn take(&mut self, frame: &[u8], _: u64) {
        if !self.is_up() {
            self.losses.no_peer.add(1);
        } else if !self.both.boxes[1 - self.side].push(frame) {
            self.losses.end_full.add(1);
        }
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.both.boxes[self.side].pop(&mut self.current)
    }

    fn due_ns(&self) -> Option<u64> {
        self.both.boxes[self.side].due_ns()
    }

    fn is_up(&self) -> bool {
        self.both.is_there[1 - self.side].load(Ordering::Acquire)
    }

    fn attach(&mut self, waker: Waker) {
        self.both.boxes[self.side].attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.both.is_there[self.side].store(false, Ordering::Release);
        // They were for this side's device. The next to take this side begins with an empty box.
        self.losses.abandoned.add(self.both.boxes[self.side].clear() as u64);
        self.both.boxes[1 - self.side].wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::Losses;

    #[test]
    fn what_one_side_takes_the_other_gives() {
        let mut left = Pair::join("cable").expect("the first side");
        let woken = Arc::new(AtomicUsize::new(0));
        let seen = woken.clone();
        left.attach(Arc::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        }));
        assert!(!left.is_up());
        left.take(&[1; 60], 0);
        let mut right = Pair::join("cable").expect("the second side");
        assert!(left.is_up() && right.is_up() && woken.load(Ordering::Relaxed) == 1);
        assert_eq!(right.give(0), None, "nobody was there");
        assert_eq!(
            Pair::join("cable").err().map(|error| error.to_string()).as_deref(),
            Some("two devices are plugged into it already")
        );
        right.take(&[2; 60], 0);
        right.take(&[3; 61], 0);
        assert_eq!(woken.load(Ordering::Relaxed), 2, "once for both");
        assert_eq!(left.due_ns(), Some(0));
        assert_eq!(left.give(0).map(|frame| frame.bytes.to_vec()), Some(vec![2; 60]));
        assert_eq!(left.give(0).map(|frame| frame.bytes.to_vec()), Some(vec![3; 61]));
        assert_eq!((left.due_ns(), left.give(0)), (None, None));
        drop(right);
        assert!(!left.is_up() && woken.load(Ordering::Relaxed) == 3);
        assert!(Pair::join("cable").is_ok());
    }

    #[test]
    fn frames_that_do_not_reach_the_other_side_are_counted() {
        let mut left = Pair::join("short cable").expect("the first side");
        left.take(&[1; 60], 0);
        assert_eq!(left.losses.read(), Losses { no_peer: 1, ..Losses::default() });
        let mut right = Pair::join("short cable").expect("the second side");
        (0..FRAMES + 3).for_each(|_| left.take(&[2; 60], 0));
        assert_eq!(left.losses.read(), Losses { no_peer: 1, end_full: 3, ..Losses::default() });
        assert!(right.give(0).is_some());
        let losses = right.losses();
        drop(right);
        assert_eq!(losses.read(), Losses { abandoned: FRAMES as u64 - 1, ..Losses::default() });
        let mut right = Pair::join("short cable").expect("the second side");
        assert_eq!(right.give(0), None, "those were for another device");
    }
}
