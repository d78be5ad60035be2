//! [`Spans`]: the lists that walks go through, and the remembered sets.
//!
//! The *remembered set* of a domain is the list of the spans in which the domain may own something, or be
//! charged for something. A span enters it when the first object in it goes to the domain
//! ([`SharedHeap::remember`]), and leaves it when the sweep of a dead instance has passed. So the sweep, the
//! usage and the count of a domain visit these spans only (docs/rref.md, R11).
//!
//! Domains share the lists of a [`bucket`](crate::header::bucket) if a system has more domains than buckets;
//! then the walks of one visit the spans of the other too.

use core::ptr::NonNull;

use coppice_abi::DomainId;

use super::span::{List, Span, SpanList};
use super::{SPAN_BYTES, SharedHeap, SpanSource};
use crate::Header;
use crate::header::{BUCKETS, bucket};

/// The lists of spans, under one lock.
pub(super) struct Spans {
    all: SpanList,
    limbo: SpanList,
    buckets: [SpanList; BUCKETS],
    /// Bytes of the spans in each bucket's list.
    bytes: [usize; BUCKETS],
}

impl Spans {
    pub(super) const fn new() -> Self {
        let mut buckets = [const { SpanList::new(List::Bucket(0)) }; BUCKETS];
        let mut index = 0;
        while index < BUCKETS {
            buckets[index] = SpanList::new(List::Bucket(index));
            index += 1;
        }
        Self {
            all: SpanList::new(List::All),
            limbo: SpanList::new(List::Limbo),
            buckets,
            bytes: [0; BUCKETS],
        }
    }

    /// Adds a new span.
    pub(super) fn add(&mut self, span: Span) {
        self.all.push(span);
    }

    /// Removes a span from all lists.
    pub(super) fn remove(&mut self, span: Span) {
        self.all.remove(span);
        let mut buckets = span.buckets();
        while buckets != 0 {
            self.forget(span, buckets.trailing_zeros() as usize);
            buckets &= buckets - 1;
        }
        self.forget_limbo(span);
    }

    /// Returns the list that a walk goes through.
    pub(super) fn list(&self, list: List) -> &SpanList {
        match list {
            List::Bucket(bucket) => &self.buckets[bucket],
            List::Limbo => &self.limbo,
            _ => &self.all,
        }
    }

    /// Returns all spans.
    pub(super) fn iter(&self) -> impl Iterator<Item = Span> {
        self.all.iter()
    }

    /// Makes the sweep of `owner` find the object (R11).
    pub(super) fn remember(&mut self, header: &Header, owner: DomainId) {
        // SAFETY: the object lies in a live span.
        let span = unsafe { Span::of(header.value()) };
        let (bucket, buckets) = (bucket(owner), span.buckets());
        if buckets & (1 << bucket) == 0 {
            span.set_buckets(buckets | 1 << bucket);
            self.buckets[bucket].push(span);
            self.bytes[bucket] += span.count() * SPAN_BYTES;
        }
        header.set_remembered(owner);
    }

    /// Removes a span from the list of `bucket`, if it is in there.
    pub(super) fn forget(&mut self, span: Span, bucket: usize) {
        let buckets = span.buckets();
        if buckets & (1 << bucket) != 0 {
            span.set_buckets(buckets & !(1 << bucket));
            self.buckets[bucket].remove(span);
            self.bytes[bucket] -= span.count() * SPAN_BYTES;
        }
    }

    /// Makes [`SharedHeap::release`] find the objects in limbo in `span`.
    pub(super) fn remember_limbo(&mut self, span: Span) {
        if !self.limbo.contains(span) {
            self.limbo.push(span);
        }
    }

    /// Removes a span without objects in limbo from their list, if it is in there.
    pub(super) fn forget_limbo(&mut self, span: Span) {
        if self.limbo.contains(span) {
            self.limbo.remove(span);
        }
    }
}

impl<S: SpanSource> SharedHeap<S> {
    /// Makes the sweep of `owner` find the object of `value` (R11): the service behind the first transfer of
    /// an object to a domain.
    ///
    /// # Safety
    /// `value` is a live object of this heap, or a slot in the CPU's cache. The caller is inside a kernel
    /// section, so that the instance is not swept during the call.
    pub unsafe fn remember(&self, value: NonNull<u8>, owner: DomainId) {
        // SAFETY: the caller's promise.
        let header = unsafe { Header::of(value) };
        self.spans.lock().remember(header, owner);
    }

    /// Returns the bytes of the spans in which `owner` may own something: an upper bound of its objects.
    pub fn remembered_bytes(&self, owner: DomainId) -> usize {
        self.spans.lock().bytes[bucket(owner)]
    }
}
