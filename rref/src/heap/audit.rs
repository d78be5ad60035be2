//! The audit: checks the heap's records against each other.

use core::fmt;

use coppice_abi::{DomainId, SLOT_LIMIT};

use super::span::Span;
use super::sweep::{for_each_child, is_borrowed};
use super::{CLASSES, Cache, REGION_BYTES, SPAN_BYTES, SharedHeap, SpanSource, World, for_each_slot, zone};
use crate::header::BUCKETS;
use crate::{Header, Payer};

/// The counts of an audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Bytes of all spans.
    pub span_bytes: usize,
    /// Objects in use.
    pub objects: usize,
    /// Free objects in caches.
    pub cached: usize,
}

/// A set of objects, as a count and a checksum by which two sets can be compared without memory.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Set {
    count: usize,
    sum: usize,
}

impl Set {
    fn add(&mut self, header: &Header) {
        self.count += 1;
        // Spread, so that two wrong addresses do not cancel out.
        let address = header.value().as_ptr() as usize;
        self.sum =
            self.sum.wrapping_add(address.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) ^ address);
    }
}

impl<S: SpanSource> SharedHeap<S> {
    /// Compares redundant records: free slots with counters, owners with the running instances, nested
    /// objects with the objects that hold them. Reports each inconsistency to `find`.
    ///
    /// # Safety
    /// The world is stopped, `caches` are those of all CPUs, and the caller is not inside an operation of the
    /// heap.
    pub unsafe fn audit<'a>(
        &self,
        caches: impl Iterator<Item = &'a Cache>,
        world: &impl World,
        find: &mut dyn FnMut(fmt::Arguments<'_>),
    ) -> Counted {
        let mut counted = Counted::default();
        for value in
            caches.flat_map(|cache| &cache.magazines).flat_map(|full| &full.values[..full.len]).flatten()
        {
            counted.cached += 1;
            // SAFETY: a slot of this heap.
            let owner = unsafe { Header::of(*value) }.owner();
            if owner != DomainId::NONE {
                find(format_args!("shared object {value:?} is in a cache, but {owner:?} owns it"));
            }
        }
        let mut partial = [0_usize; CLASSES];
        for (list, count) in self.partial.iter().zip(&mut partial) {
            *count = list.lock().iter().count();
        }
        let spans = self.spans.lock();
        let mut taken = 0;
        counted.span_bytes = self.zone.regions() * REGION_BYTES;
        for span in spans.iter() {
            if !zone::shares_region(span) {
                counted.span_bytes += span.count() * SPAN_BYTES;
            }
            check_remembered(span, find);
            if span.is_large() {
                continue;
            }
            let (free, in_use) = (span.count_free(), span.in_use());
            taken += in_use;
            if free + in_use != span.slots() {
                let slots = span.slots();
                find(format_args!(
                    "span {:?}: {free} slots free and {in_use} not, of {slots}",
                    span.memory()
                ));
            }
            if !span.is_full() {
                partial[span.class()] = partial[span.class()].wrapping_sub(1);
            }
        }
        for (class, rest) in partial.iter().enumerate().filter(|(_, rest)| **rest != 0) {
            find(format_args!(
                "class {class}: its list has {} spans with free slots too many",
                *rest as isize
            ));
        }
        let (mut nested, mut reached, mut small) = (Set::default(), Set::default(), 0);
        for_each_slot(&spans, |header, bytes| {
            let owner = header.owner();
            if owner == DomainId::NONE {
                if header.lender() != DomainId::NONE || header.middle() != DomainId::NONE {
                    find(format_args!("the free slot {:?} has a lender", header.value()));
                }
                return;
            }
            counted.objects += 1;
            small += usize::from(bytes < SPAN_BYTES);
            check(header, world, find);
            if owner == DomainId::NESTED {
                nested.add(header);
            } else {
                add_nested(header, world, &mut reached);
            }
        });
        if taken != small + counted.cached {
            let cached = counted.cached;
            find(format_args!("{taken} slots have left their spans: {small} in use, {cached} in caches"));
        }
        if nested != reached {
            let (nested, reached) = (nested.count, reached.count);
            find(format_args!("{nested} objects are nested, and other objects hold {reached}, not the same"));
        }
        counted
    }

    /// Visits each slot that is charged to an instance or in use, with its size in bytes.
    ///
    /// # Safety
    /// As [`Self::audit`].
    pub unsafe fn for_each_charge(&self, mut visit: impl FnMut(&Header, usize)) {
        for_each_slot(&self.spans.lock(), |header, bytes| {
            if header.payer() != Payer::NONE || header.owner() != DomainId::NONE {
                visit(header, bytes);
            }
        });
    }
}

/// Checks that each domain is remembered for the objects that it owns (R11), and that devices
/// reach the objects with bytes for them only.
fn check_remembered(span: Span, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
    for index in 0..span.slots() {
        let (header, value) = (span.header(index), span.slot(index));
        let owner = header.owner();
        let is_known = |slot: usize| span.buckets() & (1 << (slot % BUCKETS)) != 0;
        if owner != DomainId::NONE
            && owner.slot() < SLOT_LIMIT
            && !(header.is_remembered(owner) && is_known(owner.slot()))
        {
            find(format_args!("shared object {value:?} is not remembered for its owner, {owner:?}"));
        }
        if owner != DomainId::NONE && header.extent() > 0 && !span.is_dma() {
            find(format_args!("buffer {value:?} is outside of the memory for devices"));
        }
    }
}

/// Checks that an object has a valid owner and valid lenders.
fn check(header: &Header, world: &impl World, find: &mut dyn FnMut(fmt::Arguments<'_>)) {
    let (value, owner) = (header.value(), header.owner());
    let has_owner = match owner {
        DomainId::NESTED | DomainId::KERNEL => true,
        // Owned by a dead domain, and still read by a call.
        DomainId::LIMBO => is_borrowed(header, world),
        owner => owner.slot() < SLOT_LIMIT && world.is_alive(owner),
    };
    if !has_owner {
        find(format_args!("shared object {value:?} is owned by {owner:?}, which does not run"));
    }
    for (lender, what) in [(header.lender(), "lent"), (header.middle(), "lent on")] {
        if lender != DomainId::NONE && (lender.slot() >= SLOT_LIMIT || lender == DomainId::KERNEL) {
            find(format_args!("shared object {value:?} is {what} by {lender:?}, which cannot lend"));
        }
    }
}

/// Adds the nested objects of `header`'s object.
fn add_nested(header: &Header, world: &impl World, reached: &mut Set) {
    for_each_child(header, world, &mut |child| {
        if child.owner() == DomainId::NESTED {
            reached.add(child);
            add_nested(child, world, reached);
        }
    });
}
