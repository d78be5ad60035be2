//! [`CallLog`]: the calls that configured the target of a shadow, to be replayed to its next instance.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{RpcError, RpcResult};

/// The calls of a method that a log keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// All calls: each adds to the earlier ones.
    Every,
    /// The latest call: it makes the earlier ones obsolete.
    Last,
}

/// Makes a call. Returns true if the callee accepted it.
pub(super) type Call<I> = Box<dyn Fn(&I) -> RpcResult<bool> + Send>;

/// Calls in the order in which they succeeded.
pub(super) struct CallLog<I: ?Sized>(Vec<Entry<I>>);

struct Entry<I: ?Sized> {
    method: &'static str,
    call: Call<I>,
}

/// The outcome of a replay.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Replay {
    /// All calls succeeded.
    Done,
    /// A call of `method` did not succeed, and none was made after it.
    Stopped {
        method: &'static str,
        /// The error of the crossing; `None` if the callee refused the call.
        error: Option<RpcError>,
    },
}

impl<I: ?Sized> CallLog<I> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a call that has succeeded.
    pub(super) fn record(&mut self, method: &'static str, keep: Keep, call: Call<I>) {
        if keep == Keep::Last {
            self.0.retain(|entry| entry.method != method);
        }
        self.0.push(Entry { method, call });
    }

    /// Makes all calls after the first `made` to `target`, until one does not succeed. Counts them in `made`.
    pub(super) fn replay(&self, made: &mut usize, target: &I) -> Replay {
        for Entry { method, call } in &self.0[*made..] {
            match call(target) {
                Ok(true) => *made += 1,
                Ok(false) => return Replay::Stopped { method, error: None },
                Err(error) => return Replay::Stopped { method, error: Some(error) },
            }
        }
        Replay::Done
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use super::*;

    /// The calls that a target received.
    type Received = RefCell<Vec<&'static str>>;

    fn call(word: &'static str) -> Call<Received> {
        Box::new(move |received: &Received| {
            received.borrow_mut().push(word);
            Ok(word != "refused")
        })
    }

    fn replayed(log: &CallLog<Received>) -> (Replay, Vec<&'static str>) {
        let received = Received::default();
        (log.replay(&mut 0, &received), received.into_inner())
    }

    #[test]
    fn calls_are_replayed_in_the_order_in_which_they_succeeded() {
        let mut log = CallLog::new();
        log.record("append", Keep::Every, call("a"));
        log.record("set", Keep::Last, call("b"));
        log.record("append", Keep::Every, call("c"));
        assert_eq!(replayed(&log), (Replay::Done, ["a", "b", "c"].into()));
        assert_eq!(replayed(&log), (Replay::Done, ["a", "b", "c"].into()), "a second time");
    }

    #[test]
    fn the_last_call_of_a_method_replaces_only_calls_of_that_method() {
        let mut log = CallLog::new();
        log.record("set", Keep::Last, call("a"));
        log.record("append", Keep::Every, call("b"));
        log.record("tune", Keep::Last, call("c"));
        log.record("set", Keep::Last, call("d"));
        // At the end: the calls in between were received before it.
        assert_eq!(replayed(&log), (Replay::Done, ["b", "c", "d"].into()));
    }

    #[test]
    fn a_replay_continues_where_it_stopped() {
        let mut log = CallLog::new();
        for word in ["a", "refused", "c"] {
            log.record("append", Keep::Every, call(word));
        }
        let (received, mut made) = (Received::default(), 0);
        assert_ne!(log.replay(&mut made, &received), Replay::Done);
        assert_eq!(made, 1);
        made += 1;
        assert_eq!(log.replay(&mut made, &received), Replay::Done);
        assert_eq!((made, received.into_inner()), (3, ["a", "refused", "c"].into()));
    }

    #[test]
    fn a_refusal_stops_a_replay() {
        let mut log = CallLog::new();
        for (method, word) in [("one", "a"), ("two", "refused"), ("three", "c")] {
            log.record(method, Keep::Every, call(word));
        }
        let stopped = Replay::Stopped { method: "two", error: None };
        assert_eq!(replayed(&log), (stopped, ["a", "refused"].into()));
    }
}
