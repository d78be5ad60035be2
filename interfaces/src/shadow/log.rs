//! [`Log`]: the calls that configured what a shadow wraps, to be made again.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{RpcError, RpcResult};

/// Which calls of a method a log keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// All: each adds to those before.
    Every,
    /// The latest: it makes those before obsolete.
    Last,
}

/// Makes a call, and answers whether the callee did what it was told.
pub(super) type Call<I> = Box<dyn Fn(&I) -> RpcResult<bool> + Send>;

/// Calls in the order in which they succeeded.
pub(super) struct Log<I: ?Sized>(Vec<Entry<I>>);

struct Entry<I: ?Sized> {
    method: &'static str,
    call: Call<I>,
}

/// How a replay ended.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Replay {
    /// All calls have succeeded.
    Done,
    /// A call of `method` has not, and none was made after it.
    Stopped {
        method: &'static str,
        /// Why there was no answer; `None` if the answer was a refusal.
        error: Option<RpcError>,
    },
}

impl<I: ?Sized> Log<I> {
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

    /// Makes the calls to `target` that come after the first `made`, until one does not succeed; counts on in `made`.
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

    /// What a target was told.
    type Told = RefCell<Vec<&'static str>>;

    fn tell(word: &'static str) -> Call<Told> {
        Box::new(move |told: &Told| {
            told.borrow_mut().push(word);
            Ok(word != "refused")
        })
    }

    fn replayed(log: &Log<Told>) -> (Replay, Vec<&'static str>) {
        let told = Told::default();
        (log.replay(&mut 0, &told), told.into_inner())
    }

    #[test]
    fn calls_are_replayed_in_the_order_in_which_they_succeeded() {
        let mut log = Log::new();
        log.record("append", Keep::Every, tell("a"));
        log.record("set", Keep::Last, tell("b"));
        log.record("append", Keep::Every, tell("c"));
        assert_eq!(replayed(&log), (Replay::Done, ["a", "b", "c"].into()));
        assert_eq!(replayed(&log), (Replay::Done, ["a", "b", "c"].into()), "a second time");
    }

    #[test]
    fn the_last_call_of_a_method_takes_the_place_of_none_but_its_own() {
        let mut log = Log::new();
        log.record("set", Keep::Last, tell("a"));
        log.record("append", Keep::Every, tell("b"));
        log.record("tune", Keep::Last, tell("c"));
        log.record("set", Keep::Last, tell("d"));
        // At the end: what was told in between was told before it.
        assert_eq!(replayed(&log), (Replay::Done, ["b", "c", "d"].into()));
    }

    #[test]
    fn a_replay_goes_on_where_it_stopped() {
        let mut log = Log::new();
        for word in ["a", "refused", "c"] {
            log.record("append", Keep::Every, tell(word));
        }
        let (told, mut made) = (Told::default(), 0);
        assert_ne!(log.replay(&mut made, &told), Replay::Done);
        assert_eq!(made, 1);
        made += 1;
        assert_eq!(log.replay(&mut made, &told), Replay::Done);
        assert_eq!((made, told.into_inner()), (3, ["a", "refused", "c"].into()));
    }

    #[test]
    fn a_refusal_stops_a_replay() {
        let mut log = Log::new();
        for (method, word) in [("one", "a"), ("two", "refused"), ("three", "c")] {
            log.record(method, Keep::Every, tell(word));
        }
        let stopped = Replay::Stopped { method: "two", error: None };
        assert_eq!(replayed(&log), (stopped, ["a", "refused"].into()));
    }
}
