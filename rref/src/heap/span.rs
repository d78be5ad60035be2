//! [`Span`]: naturally aligned memory, divided into equal slots.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a header is written through a raw pointer, and each of its fields would count"
)]

use core::cell::Cell;
use core::mem::offset_of;
use core::ptr::{self, NonNull};

use super::class::{LARGE, VALUE_ALIGN, is_dma};
use crate::Header;
use crate::header::BUCKETS;

/// Size and alignment of a span. A large object takes several, of which the first is its span.
pub const SPAN_BYTES: usize = 64 * 1024;

/// Bytes of a span's header.
pub(super) const SPAN_HEADER: usize = size_of::<Fields>();

/// The lists that a span is linked in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The spans of its class that have free slots.
    Partial,
    /// All spans.
    All,
    /// The regions of the DMA zone, by their first spans.
    Regions,
    /// The spans with objects that a dead domain owned and a call still reads.
    Limbo,
    /// The spans in which a domain of that bucket may own something.
    Bucket(usize),
}

#[derive(Default)]
struct Links {
    next: Cell<SpanNumber>,
    previous: Cell<SpanNumber>,
}

/// A span's address in units of [`SPAN_BYTES`], so that a span has room for the links of many lists; 0 for
/// none. Addresses have 48 bits, sign-extended.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct SpanNumber(u32);

impl SpanNumber {
    fn of(span: Option<Span>) -> Self {
        Self(span.map_or(0, |span| (span.0.as_ptr().expose_provenance() / SPAN_BYTES) as u32))
    }

    fn span(self) -> Option<Span> {
        let address = (self.0 as i32 as isize as usize).wrapping_mul(SPAN_BYTES);
        NonNull::new(ptr::with_exposed_provenance_mut(address)).map(Span)
    }
}

/// The header of a span.
///
/// # Invariants
/// - **S1** It is aligned to [`SPAN_BYTES`], so that masking a value's address finds it.
/// - **S2** `class`, `count`, `slot_bytes`, `slots` and `first` never change.
/// - **S3** `in_use`, `free` and the links of `partial` are touched under the lock of the class (of a large
///   object's span: under that of the lists); `region` under the lock of the DMA zone; `buckets`, `pins` and
///   the other links under the lock of the lists of spans.
/// - **S4** `free` chains the free slots that no cache holds, through the first word of their values.
/// - **S5** A span with `pins` is not given back to the source.
#[repr(C, align(64))]
struct Fields {
    class: u32,
    count: u32,
    slot_bytes: u32,
    slots: u16,
    in_use: Cell<u16>,
    first: usize,
    free: Cell<Option<NonNull<u8>>>,
    /// The buckets whose lists the span is in.
    buckets: Cell<u64>,
    /// The number of walks that are at this span.
    pins: Cell<u32>,
    partial: Links,
    all: Links,
    limbo: Links,
    bucket: [Links; BUCKETS],
    /// Not the span's own: the record of the region that begins with this span.
    region: Region,
}

/// The record of a region: adjacent spans of the DMA zone. It lies in the header of the region's first span,
/// also while that span is free.
#[repr(C)]
struct Region {
    /// The spans in use, one bit each.
    used: Cell<u32>,
    links: Links,
}

/// A reference to a span.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(NonNull<Fields>);

impl Span {
    /// Cuts `memory` into slots of `class`.
    ///
    /// # Safety
    /// `memory` is [`SPAN_BYTES`] long and aligned (S1), and belongs to the caller.
    pub(super) unsafe fn new(memory: NonNull<u8>, class: usize, slot_bytes: usize) -> Self {
        let first = (SPAN_HEADER + Header::SIZE).next_multiple_of(VALUE_ALIGN);
        let slots = (SPAN_BYTES + Header::SIZE - first) / slot_bytes;
        // SAFETY: the caller's promise.
        let span = unsafe { Self::describe(memory, class, 1, slot_bytes, slots, first) };
        for index in (0..slots).rev() {
            span.push_link(span.slot(index));
        }
        span
    }

    /// Makes one slot of `count` spans, with its value at `offset`.
    ///
    /// # Safety
    /// As [`Self::new`], for `count` times as much memory.
    pub(super) unsafe fn new_large(memory: NonNull<u8>, class: usize, count: usize, offset: usize) -> Self {
        // SAFETY: the caller's promise.
        let span = unsafe { Self::describe(memory, class, count, count * SPAN_BYTES, 1, offset) };
        span.fields().in_use.set(1);
        span
    }

    /// Notes that a large object's slot is free, under the lock of the lists.
    pub(super) fn free_large(&self) {
        self.fields().in_use.set(0);
    }

    /// Writes the header of the span and those of its slots, and no other memory: it may have any content.
    ///
    /// # Safety
    /// As [`Self::new_large`].
    unsafe fn describe(
        memory: NonNull<u8>,
        class: usize,
        count: usize,
        slot_bytes: usize,
        slots: usize,
        first: usize,
    ) -> Self {
        // SAFETY: the caller's promise.
        let span = unsafe { Self::clear(memory) };
        let place = span.0.as_ptr();
        // SAFETY: the memory is the caller's. The fields are written one by one, because another CPU may be
        // changing the record of a region.
        unsafe {
            (&raw mut (*place).class).write(class as u32);
            (&raw mut (*place).count).write(count as u32);
            (&raw mut (*place).slot_bytes).write(slot_bytes as u32);
            (&raw mut (*place).slots).write(slots as u16);
            (&raw mut (*place).first).write(first);
        }
        for index in 0..slots {
            // SAFETY: a header lies in front of each slot, in the caller's memory.
            let header = unsafe { span.slot(index).cast::<Header>().sub(1) };
            // SAFETY: as above. All zero is the header of a free slot.
            unsafe { header.write_bytes(0, 1) };
        }
        span
    }

    /// Clears the header, except for the record of a region.
    ///
    /// # Safety
    /// `memory` is long enough for a span's header, aligned (S1), and belongs to the caller.
    unsafe fn clear(memory: NonNull<u8>) -> Self {
        // Another CPU may be changing the record at the same time.
        // SAFETY: the caller's promise; all zero is valid for every field.
        unsafe { memory.write_bytes(0, offset_of!(Fields, region)) };
        Self(memory.cast())
    }

    /// Makes the record of a region whose spans are all free. Returns the region's first span.
    ///
    /// # Safety
    /// `memory` is a region's, aligned (S1), and belongs to the caller.
    pub(super) unsafe fn new_region(memory: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        let span = unsafe { Self::clear(memory) };
        let region = Region { used: Cell::new(0), links: Links::default() };
        // SAFETY: as above.
        let place = unsafe { memory.add(offset_of!(Fields, region)) };
        // SAFETY: as above.
        unsafe { place.cast::<Region>().write(region) };
        span
    }

    /// Returns the bits of the spans in use of the region that begins here.
    pub(super) fn region_used(&self) -> u32 {
        self.region().used.get()
    }

    /// Sets the bits of the spans in use of the region that begins here.
    pub(super) fn set_region_used(&self, used: u32) {
        self.region().used.set(used);
    }

    fn region(&self) -> &Region {
        // SAFETY: the memory of a region's first span belongs to the zone while the region exists, also while
        // the other fields of the header are rewritten; hence no reference to all of them.
        let place = unsafe { self.0.cast::<u8>().add(offset_of!(Fields, region)) };
        // SAFETY: as above; `new_region` wrote it. Shared access is serialised by S3.
        unsafe { place.cast::<Region>().as_ref() }
    }

    /// Returns the span of a value.
    ///
    /// # Safety
    /// `value` is a slot of a span that is not given back while the result is used.
    #[inline(always)]
    pub(super) unsafe fn of(value: NonNull<u8>) -> Self {
        // A large object's value lies in its first span too: its offset is at most a page.
        let start = value.as_ptr().map_addr(|address| address & !(SPAN_BYTES - 1));
        // SAFETY: the start of a live span is not null.
        Self(unsafe { NonNull::new_unchecked(start.cast()) })
    }

    #[inline(always)]
    fn fields(&self) -> &Fields {
        // SAFETY: S1; a `Span` is used only while its memory belongs to the heap (`Span::of`'s contract, and
        // the lists hold live spans only). Shared access to the cells is serialised by S3.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(super) fn class(&self) -> usize {
        self.fields().class as usize
    }

    /// Returns true for the span of a large object.
    #[inline(always)]
    pub(super) fn is_large(&self) -> bool {
        self.class() >= LARGE
    }

    /// Returns true if devices reach the span.
    pub(super) fn is_dma(&self) -> bool {
        is_dma(self.class())
    }

    pub(super) fn count(&self) -> usize {
        self.fields().count as usize
    }

    pub(super) fn slots(&self) -> usize {
        self.fields().slots as usize
    }

    pub(super) fn slot_bytes(&self) -> usize {
        self.fields().slot_bytes as usize
    }

    pub(super) fn memory(&self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Returns the value's address in slot `index`.
    pub(super) fn slot(&self, index: usize) -> NonNull<u8> {
        debug_assert!(index < self.slots());
        let fields = self.fields();
        // SAFETY: the slot lies in the span's memory (`new`, `new_large`).
        unsafe { self.0.cast::<u8>().add(fields.first + index * fields.slot_bytes as usize) }
    }

    /// Returns the header of slot `index`.
    pub(super) fn header(&self, index: usize) -> &Header {
        // SAFETY: every slot of a span has a header (`describe`).
        unsafe { Header::of(self.slot(index)) }
    }

    /// Returns true if no slot is free.
    pub(super) fn is_full(&self) -> bool {
        self.fields().free.get().is_none()
    }

    /// Counts the free chain, for the audit: at most one more than there are slots.
    pub(super) fn count_free(&self) -> usize {
        // SAFETY: S4: as in `pop`.
        let next = |value: &NonNull<u8>| unsafe { value.cast::<Option<NonNull<u8>>>().read() };
        core::iter::successors(self.fields().free.get(), next).take(self.slots() + 1).count()
    }

    /// Returns the number of slots that have left the span.
    pub(super) fn in_use(&self) -> usize {
        self.fields().in_use.get().into()
    }

    /// Returns true if all slots are free.
    pub(super) fn is_unused(&self) -> bool {
        self.fields().in_use.get() == 0
    }

    /// Takes a free slot.
    pub(super) fn pop(&self) -> Option<NonNull<u8>> {
        let fields = self.fields();
        let value = fields.free.get()?;
        // SAFETY: S4: the first word of a chained slot is the next one; every slot holds at least 32 bytes.
        fields.free.set(unsafe { value.cast::<Option<NonNull<u8>>>().read() });
        fields.in_use.set(fields.in_use.get() + 1);
        Some(value)
    }

    /// Returns a slot.
    pub(super) fn push(&self, value: NonNull<u8>) {
        self.push_link(value);
        self.fields().in_use.set(self.fields().in_use.get() - 1);
    }

    fn push_link(&self, value: NonNull<u8>) {
        let fields = self.fields();
        // SAFETY: the slot is free, so its value's memory belongs to the span; it is 64-byte aligned.
        unsafe { value.cast::<Option<NonNull<u8>>>().write(fields.free.get()) };
        fields.free.set(Some(value));
    }

    /// Returns the buckets whose lists the span is in.
    pub(super) fn buckets(&self) -> u64 {
        self.fields().buckets.get()
    }

    /// Sets the buckets whose lists the span is in.
    pub(super) fn set_buckets(&self, buckets: u64) {
        self.fields().buckets.set(buckets);
    }

    /// Returns true if a walk is at this span (S5).
    pub(super) fn is_pinned(&self) -> bool {
        self.fields().pins.get() > 0
    }

    pub(super) fn pin(&self) {
        self.fields().pins.set(self.fields().pins.get() + 1);
    }

    pub(super) fn unpin(&self) {
        self.fields().pins.set(self.fields().pins.get() - 1);
    }

    fn links(&self, list: List) -> &Links {
        match list {
            List::Partial => &self.fields().partial,
            List::All => &self.fields().all,
            List::Limbo => &self.fields().limbo,
            List::Bucket(bucket) => &self.fields().bucket[bucket],
            List::Regions => &self.region().links,
        }
    }
}

/// A doubly linked list of spans.
pub(super) struct SpanList {
    list: List,
    first: Option<Span>,
}

// SAFETY: the list owns the links of the spans in it (S3); spans are heap memory that any CPU may use.
unsafe impl Send for SpanList {}

impl SpanList {
    pub(super) const fn new(list: List) -> Self {
        Self { list, first: None }
    }

    pub(super) fn first(&self) -> Option<Span> {
        self.first
    }

    /// Returns the span behind `span`; `None` if `span` is the last one or in no list.
    pub(super) fn next(&self, span: Span) -> Option<Span> {
        span.links(self.list).next.get().span()
    }

    pub(super) fn push(&mut self, span: Span) {
        let links = span.links(self.list);
        links.previous.set(SpanNumber::default());
        links.next.set(SpanNumber::of(self.first));
        if let Some(first) = self.first {
            first.links(self.list).previous.set(SpanNumber::of(Some(span)));
        }
        self.first = Some(span);
    }

    /// Unlinks `span`, which is in this list.
    pub(super) fn remove(&mut self, span: Span) {
        let links = span.links(self.list);
        let (next, previous) = (links.next.take(), links.previous.take());
        match previous.span() {
            Some(previous) => previous.links(self.list).next.set(next),
            None => self.first = next.span(),
        }
        if let Some(next) = next.span() {
            next.links(self.list).previous.set(previous);
        }
    }

    /// Returns true if `span` is in this list.
    pub(super) fn contains(&self, span: Span) -> bool {
        self.first == Some(span) || span.links(self.list).previous.get() != SpanNumber::default()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Span> {
        core::iter::successors(self.first, |span| self.next(*span))
    }
}
