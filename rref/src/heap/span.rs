//! [`Span`]: naturally aligned memory, divided into equal slots.

use core::cell::Cell;
use core::ptr::NonNull;

use super::class::{LARGE, VALUE_ALIGN};
use crate::Header;

/// Size and alignment of a span. A large object takes several, of which the first is its span.
pub const SPAN_BYTES: usize = 64 * 1024;

/// Bytes of a span's header.
pub(super) const SPAN_HEADER: usize = size_of::<Fields>();

/// The lists that a span is linked in.
#[derive(Clone, Copy)]
pub(super) enum List {
    /// The spans of its class that have free slots.
    Partial,
    /// All spans.
    All,
}

#[derive(Default)]
struct Links {
    next: Cell<Option<Span>>,
    previous: Cell<Option<Span>>,
}

/// The header of a span.
///
/// # Invariants
/// - **S1** It is aligned to [`SPAN_BYTES`], so that masking a value's address finds it.
/// - **S2** `class`, `count`, `slot_bytes`, `slots` and `first` never change.
/// - **S3** `in_use`, `free` and `links[Partial]` are touched under the lock of the class, `links[All]` under
///   the lock of the list of all spans.
/// - **S4** `free` chains the free slots that no cache holds, through the first word of their values.
#[repr(C, align(64))]
struct Fields {
    class: u32,
    count: u32,
    slot_bytes: u32,
    slots: u16,
    in_use: Cell<u16>,
    first: usize,
    free: Cell<Option<NonNull<u8>>>,
    links: [Links; 2],
}

/// A reference to a span.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(NonNull<Fields>);

impl Span {
    /// Cuts `memory` into slots of `class`.
    ///
    /// # Safety
    /// `memory` is [`SPAN_BYTES`] long and aligned (S1), zeroed, and belongs to the caller.
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
    pub(super) unsafe fn new_large(memory: NonNull<u8>, count: usize, offset: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::describe(memory, LARGE, count, count * SPAN_BYTES, 1, offset) }
    }

    unsafe fn describe(
        memory: NonNull<u8>,
        class: usize,
        count: usize,
        slot_bytes: usize,
        slots: usize,
        first: usize,
    ) -> Self {
        let span = Self(memory.cast());
        let fields = Fields {
            class: class as u32,
            count: count as u32,
            slot_bytes: slot_bytes as u32,
            slots: slots as u16,
            in_use: Cell::new(0),
            first,
            free: Cell::new(None),
            links: Default::default(),
        };
        // SAFETY: the memory is the caller's, long enough and aligned.
        unsafe { span.0.write(fields) };
        span
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

    fn links(&self, list: List) -> &Links {
        &self.fields().links[list as usize]
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

    pub(super) fn push(&mut self, span: Span) {
        let links = span.links(self.list);
        links.previous.set(None);
        links.next.set(self.first);
        if let Some(first) = self.first {
            first.links(self.list).previous.set(Some(span));
        }
        self.first = Some(span);
    }

    /// Unlinks `span`, which is in this list.
    pub(super) fn remove(&mut self, span: Span) {
        let links = span.links(self.list);
        match links.previous.get() {
            Some(previous) => previous.links(self.list).next.set(links.next.get()),
            None => self.first = links.next.get(),
        }
        if let Some(next) = links.next.get() {
            next.links(self.list).previous.set(links.previous.get());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Span> {
        core::iter::successors(self.first, |span| span.links(self.list).next.get())
    }
}
