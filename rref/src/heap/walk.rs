//! [`Walk`]: a walk over a list of spans in pieces, which can pause between any two of them.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::lists::Spans;
use super::span::{List, Span};
use super::{Guard, SharedHeap, SpanSource};
use crate::Header;

/// Maximum number of slots of a piece: a few microseconds, if no header is in the CPU's cache.
const PIECE_SLOTS: usize = 64;

/// A walk. Its position is a pinned span, which is not given back; other spans may come and go. A span that
/// enters the list during the walk may be missed.
pub(super) struct Walk<'a, S: SpanSource> {
    heap: &'a SharedHeap<S>,
    list: List,
    /// The spans leave the list as the walk passes, unless `keep` is set.
    empties: bool,
    /// The present span stays in the list. Set by the visitor, for the present span only.
    pub(super) keep: bool,
    state: State,
    /// The next slot of the present span.
    index: usize,
    /// Number of slots visited.
    pub(super) visited: usize,
}

#[derive(Clone, Copy)]
enum State {
    NotBegun,
    At(Span),
    Ended,
}

/// Some slots of one span, under the lock of the lists.
pub(super) struct Piece<'a> {
    pub(super) spans: Guard<'a, Spans>,
    pub(super) span: Span,
    slots: Range<usize>,
}

impl Piece<'_> {
    /// Visits each slot, with the lists and the slot's bytes.
    pub(super) fn for_each(&mut self, mut visit: impl FnMut(&mut Spans, &Header, usize)) {
        for index in self.slots.clone() {
            visit(&mut self.spans, self.span.header(index), self.span.slot_bytes());
        }
    }
}

impl<'a, S: SpanSource> Walk<'a, S> {
    /// A walk over `list`, which empties it if `empties`.
    pub(super) fn new(heap: &'a SharedHeap<S>, list: List, empties: bool) -> Self {
        Self { heap, list, empties, keep: false, state: State::NotBegun, index: 0, visited: 0 }
    }

    /// Returns the next piece. The caller drops it before it calls this again, destroys an object, or pauses.
    pub(super) fn next(&mut self) -> Option<Piece<'a>> {
        let at = match self.state {
            State::At(span) if self.index < span.slots() => Some(span),
            State::At(span) => self.advance(Some(span)),
            State::NotBegun => self.advance(None),
            State::Ended => None,
        };
        let Some(span) = at else {
            self.state = State::Ended;
            return None;
        };
        self.state = State::At(span);
        let end = (self.index + PIECE_SLOTS).min(span.slots());
        let slots = self.index..end;
        self.index = end;
        self.visited += slots.len();
        self.heap.visited.fetch_add(slots.len() as u64, Ordering::Relaxed);
        Some(Piece { spans: self.heap.spans.lock(), span, slots })
    }

    /// Moves the pin from `span` to the next span.
    fn advance(&mut self, span: Option<Span>) -> Option<Span> {
        let mut spans = self.heap.spans.lock();
        let list = spans.list(self.list);
        let next = span.map_or_else(|| list.first(), |span| list.next(span));
        if let Some(next) = next {
            next.pin();
        }
        if let Some(span) = span {
            if self.empties && !self.keep {
                match self.list {
                    List::Bucket(bucket) => spans.forget(span, bucket),
                    _ => spans.forget_limbo(span),
                }
            }
            drop(spans);
            self.heap.unpin(span);
        }
        self.keep = false;
        self.index = 0;
        next
    }
}

impl<S: SpanSource> Drop for Walk<'_, S> {
    fn drop(&mut self) {
        if let State::At(span) = self.state {
            self.heap.unpin(span);
        }
    }
}
