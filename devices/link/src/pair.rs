//! [`Pair`]: connects the wires of two devices in one process.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::mailbox::lock;
use crate::{Frame, LossCounters, Mailbox, Peer, Waker};

/// Frames queued to one side; more are lost, as in any device that is too slow.
const FRAMES: usize = 4096;

/// The state that both sides share.
struct Shared {
    /// The frames to each side.
    mailboxes: [Mailbox; 2],
    is_connected: [AtomicBool; 2],
}

/// One of two peers that are connected by a name. Each returns the frames that the other takes. The link is
/// up while both exist.
pub struct Pair {
    shared: Arc<Shared>,
    side: usize,
    current: Vec<u8>,
    losses: Arc<LossCounters>,
}

/// Pairs by name. A pair exists while one of its sides does.
static PAIRS: Mutex<BTreeMap<String, Weak<Shared>>> = Mutex::new(BTreeMap::new());

impl Pair {
    /// Takes a side of the pair with this name.
    ///
    /// # Errors
    /// `AddrInUse` if both sides are taken.
    pub fn join(name: &str) -> io::Result<Self> {
        let mut pairs = lock(&PAIRS);
        let shared = pairs.get(name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Arc::new(Shared {
                mailboxes: [Mailbox::new(FRAMES), Mailbox::new(FRAMES)],
                is_connected: [AtomicBool::new(false), AtomicBool::new(false)],
            });
            pairs.insert(name.into(), Arc::downgrade(&shared));
            shared
        });
        let side = (0..2).find(|&side| !shared.is_connected[side].swap(true, Ordering::AcqRel));
        let side =
            side.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "it connects two devices already"))?;
        shared.mailboxes[1 - side].wake();
        Ok(Self { shared, side, current: Vec::new(), losses: Arc::default() })
    }
}

impl Peer for Pair {
    fn take(&mut self, frame: &[u8], _: u64) {
        if !self.is_up() {
            self.losses.not_connected.add(1);
        } else if !self.shared.mailboxes[1 - self.side].push(frame) {
            self.losses.peer_full.add(1);
        }
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.shared.mailboxes[self.side].pop(&mut self.current)
    }

    fn due_ns(&self) -> Option<u64> {
        self.shared.mailboxes[self.side].due_ns()
    }

    fn is_up(&self) -> bool {
        self.shared.is_connected[1 - self.side].load(Ordering::Acquire)
    }

    fn attach(&mut self, waker: Waker) {
        self.shared.mailboxes[self.side].attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.shared.is_connected[self.side].store(false, Ordering::Release);
        // The queued frames are for this side's device. The next device on this side begins with an empty
        // mailbox.
        self.losses.abandoned.add(self.shared.mailboxes[self.side].clear() as u64);
        self.shared.mailboxes[1 - self.side].wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::Losses;

    #[test]
    fn each_side_gives_the_frames_that_the_other_takes() {
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
        assert_eq!(right.give(0), None, "it was not connected yet");
        assert_eq!(
            Pair::join("cable").err().map(|error| error.to_string()).as_deref(),
            Some("it connects two devices already")
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
        assert_eq!(left.losses.read(), Losses { not_connected: 1, ..Losses::default() });
        let mut right = Pair::join("short cable").expect("the second side");
        (0..FRAMES + 3).for_each(|_| left.take(&[2; 60], 0));
        assert_eq!(left.losses.read(), Losses { not_connected: 1, peer_full: 3, ..Losses::default() });
        assert!(right.give(0).is_some());
        let losses = right.losses();
        drop(right);
        assert_eq!(losses.read(), Losses { abandoned: FRAMES as u64 - 1, ..Losses::default() });
        let mut right = Pair::join("short cable").expect("the second side");
        assert_eq!(right.give(0), None, "those were for another device");
    }
}
