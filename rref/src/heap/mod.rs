//! The shared heap: size-class spans, per-CPU caches, and the sweep after a crash.
//!
//! - [`class_of`] maps a value's size to a size class while the domain is compiled.
//! - [`SharedHeap`] allocates and frees objects. The fast path is a push or a pop in the calling CPU's
//!   [`Cache`], with no lock and no atomic read-modify-write; about every 32nd call moves a batch to or from
//!   the spans under a lock.
//! - [`SharedHeap::sweep`] takes back everything that a dead domain owned. It visits the spans in which that
//!   domain may own something (`lists`), in pieces between which it can pause (`walk`).
//! - Objects for devices lie in spans of their own (`zone`); the class says so.
//! - [`Quotas`] are charged for each slot that leaves the spans. A slot that waits in a cache stays charged
//!   to its last payer (R9), so that a domain which makes and drops objects pays once; when the slot goes to
//!   another domain, or back to its span, the charge goes with it.
//! - [`SharedHeap::charges`] counts exactly, when a quota seems exhausted.
//!
//! A span is naturally aligned, so the span of an object is found by masking its address. Rejected: owner
//! lists (an object in a list per domain), which would make the move of ownership more than one store.

mod audit;
mod class;
mod kept;
mod lists;
mod payers;
mod span;
mod sweep;
mod walk;
mod zone;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::{DomainId, Refusal};

use crate::header::bucket;
#[cfg(test)]
use crate::model::Relax;
use crate::{Header, Payer, Quotas};
pub use audit::Counted;
pub use class::{CLASSES, LARGE, class_of, dma_class_of};
use class::{is_dma, slot_size};
use lists::Spans;
pub use payers::ChargeWalk;
pub use span::SPAN_BYTES;
use span::{List, Span, SpanList};
pub use sweep::{Sweep, World, share_bucket};
use walk::Walk;
use zone::DmaZone;
pub use zone::REGION_BYTES;

#[cfg(not(test))]
use spin::relax::Spin as Relax;

/// Held for the length of a batch or of a piece of a walk, inside a kernel section.
type Mutex<T> = spin::mutex::SpinMutex<T, Relax>;

/// A held [`Mutex`].
type Guard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Relax>;

/// Maximum number of free objects of one class in a CPU's cache, so that a magazine is 512 bytes and found by
/// a shift.
const CACHE_SLOTS: usize = 63;

/// Maximum bytes of free objects of one class in a CPU's cache. They stay charged to one domain and are of no
/// use to another.
const CACHE_BYTES: usize = 128 * 1024;

/// Maximum number of spans of one large object, limited by the size field of a span.
const MOST_SPANS: usize = u32::MAX as usize / SPAN_BYTES;

/// Maximum number of free objects per class, from both limits: at least 4.
const CAPACITY: [usize; CLASSES] = {
    let mut capacity = [CACHE_SLOTS; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        if CACHE_BYTES / slot_size(class) < CACHE_SLOTS {
            capacity[class] = CACHE_BYTES / slot_size(class);
        }
        class += 1;
    }
    capacity
};

/// The source of spans: the kernel's frames.
///
/// # Safety
/// `take` returns memory as documented, which no other code uses until it is given back.
pub unsafe trait SpanSource {
    /// Returns memory of `count` spans, with any content. It is aligned to the next power of two of its size,
    /// or to [`REGION_BYTES`] if that is less.
    fn take(&self, count: usize) -> Option<NonNull<u8>>;
    /// Takes back memory of `count` spans from [`Self::take`].
    fn give(&self, memory: NonNull<u8>, count: usize);
}

/// One CPU's free objects, by class.
pub struct Cache {
    magazines: [Magazine; CLASSES],
}

const _: () = assert!(size_of::<Magazine>().is_power_of_two());

struct Magazine {
    len: usize,
    values: [Option<NonNull<u8>>; CACHE_SLOTS],
}

// SAFETY: a cache owns the free objects that it lists; no other reference to them exists.
unsafe impl Send for Cache {}

impl Cache {
    /// Makes an empty cache.
    pub const fn new() -> Self {
        const EMPTY: Magazine = Magazine { len: 0, values: [None; CACHE_SLOTS] };
        Self { magazines: [EMPTY; CLASSES] }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory of the shared heap in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Objects.
    pub objects: usize,
    /// Bytes, headers and rounding included.
    pub bytes: usize,
}

/// The shared heap.
pub struct SharedHeap<S> {
    pub(crate) source: S,
    /// Spans of each class that have free objects.
    partial: [Mutex<SpanList>; CLASSES],
    /// The lists that walks go through. Taken after a `partial` lock, never before one.
    spans: Mutex<Spans>,
    /// The spans that devices reach. Its lock is taken after a `partial` lock, and never together with that
    /// of `spans`.
    zone: DmaZone,
    /// The number of slots that walks have visited.
    visited: AtomicU64,
}

impl<S: SpanSource> SharedHeap<S> {
    /// An empty heap that grows from `source`.
    pub const fn new(source: S) -> Self {
        Self {
            source,
            partial: [const { Mutex::new(SpanList::new(List::Partial)) }; CLASSES],
            spans: Mutex::new(Spans::new()),
            zone: DmaZone::new(),
            visited: AtomicU64::new(0),
        }
    }

    /// Allocates an object of `class` (from [`class_of`] for this size and alignment) for `owner`, which pays
    /// for it. Returns its value's address.
    ///
    /// # Errors
    /// The exhausted resource: memory, or the owner's quota.
    #[inline(always)]
    pub fn alloc(
        &self,
        cache: &mut Cache,
        quotas: &mut impl Quotas,
        owner: DomainId,
        class: usize,
        size: usize,
        align: usize,
    ) -> Result<NonNull<u8>, Refusal> {
        let payer = Payer::of(owner);
        let value = if class >= LARGE {
            self.alloc_large(quotas, owner, class, size, align)?
        } else {
            let magazine = &mut cache.magazines[class];
            if magazine.len == 0 {
                self.refill(class, magazine);
            }
            let last = magazine.len.checked_sub(1).ok_or(Refusal::Memory)?;
            let value = magazine.values[last].ok_or(Refusal::Memory)?;
            // SAFETY: a free object of this heap.
            let header = unsafe { Header::of(value) };
            if header.payer() != payer && !self.change_payer(header, quotas, owner, slot_size(class)) {
                return Err(Refusal::Quota);
            }
            magazine.len = last;
            value
        };
        // SAFETY: as above.
        unsafe { Header::of(value) }.reset(owner);
        Ok(value)
    }

    /// Frees an object without running a destructor.
    ///
    /// # Safety
    /// `value` came from [`Self::alloc`] of this heap and is not used any more.
    #[inline]
    pub unsafe fn free(&self, cache: &mut Cache, quotas: &mut impl Quotas, value: NonNull<u8>) {
        // SAFETY: by the caller's promise a live object of this heap.
        let header = unsafe { Header::of(value) };
        // SAFETY: R3: no other code holds it. R1: the slot is free from here on.
        unsafe { header.set_owner(DomainId::NONE) };
        // SAFETY: as above.
        let span = unsafe { Span::of(value) };
        let class = span.class();
        if class >= LARGE {
            return self.free_large(quotas, header.payer(), span);
        }
        let magazine = &mut cache.magazines[class];
        if magazine.len == CAPACITY[class] {
            self.spill(class, magazine, quotas, CAPACITY[class] / 2);
        }
        magazine.values[magazine.len] = Some(value);
        magazine.len += 1;
    }

    #[cold]
    fn alloc_large(
        &self,
        quotas: &mut impl Quotas,
        owner: DomainId,
        class: usize,
        size: usize,
        align: usize,
    ) -> Result<NonNull<u8>, Refusal> {
        let (payer, offset) = (Payer::of(owner), class::large_offset(align));
        let mut count = offset.checked_add(size).ok_or(Refusal::Memory)?.div_ceil(SPAN_BYTES);
        if is_dma(class) {
            count = DmaZone::round(count);
        }
        let bytes = count.checked_mul(SPAN_BYTES).filter(|_| count <= MOST_SPANS).ok_or(Refusal::Memory)?;
        if !quotas.charge(payer, bytes) {
            return Err(Refusal::Quota);
        }
        let Some(memory) = self.take(class, count) else {
            quotas.credit(payer, bytes);
            return Err(Refusal::Memory);
        };
        // SAFETY: fresh memory from the source, of `count` spans.
        let span = unsafe { Span::new_large(memory, class, count, offset) };
        span.header(0).set_payer(payer);
        let mut spans = self.spans.lock();
        spans.add(span);
        spans.remember(span.header(0), owner);
        Ok(span.slot(0))
    }

    #[cold]
    fn free_large(&self, quotas: &mut impl Quotas, payer: Payer, span: Span) {
        quotas.credit(payer, span.count() * SPAN_BYTES);
        let mut spans = self.spans.lock();
        span.free_large();
        // Else the walk that leaves the span gives it back.
        if !span.is_pinned() {
            spans.remove(span);
            drop(spans);
            self.give(span);
        }
    }

    /// Ends a walk's stay at `span`, and gives the span back if it has become unused. The caller
    /// holds no lock of the heap.
    fn unpin(&self, span: Span) {
        // The lock of the class keeps the count of slots in use as it is; for a large object that of the
        // lists does.
        let mut partial = (!span.is_large()).then(|| self.partial[span.class()].lock());
        let mut spans = self.spans.lock();
        span.unpin();
        if span.is_pinned() || !span.is_unused() {
            return;
        }
        spans.remove(span);
        drop(spans);
        if let Some(partial) = &mut partial {
            partial.remove(span);
        }
        self.give(span);
    }

    /// Takes memory of `count` spans for objects of `class`.
    fn take(&self, class: usize, count: usize) -> Option<NonNull<u8>> {
        if is_dma(class) { self.zone.take(&self.source, count) } else { self.source.take(count) }
    }

    /// Gives back the memory of a span that is in no list.
    fn give(&self, span: Span) {
        if span.is_dma() {
            self.zone.give(&self.source, span.memory(), span.count());
        } else {
            self.source.give(span.memory(), span.count());
        }
    }

    /// Fills half of an empty magazine.
    #[cold]
    fn refill(&self, class: usize, magazine: &mut Magazine) {
        let mut partial = self.partial[class].lock();
        while magazine.len < CAPACITY[class] / 2 {
            let span = match partial.first() {
                Some(span) => span,
                None => {
                    let Some(memory) = self.take(class, 1) else { return };
                    // SAFETY: fresh memory from the source, of one span.
                    let span = unsafe { Span::new(memory, class, slot_size(class)) };
                    self.spans.lock().add(span);
                    partial.push(span);
                    span
                }
            };
            while magazine.len < CAPACITY[class] / 2 {
                let Some(value) = span.pop() else { break };
                magazine.values[magazine.len] = Some(value);
                magazine.len += 1;
            }
            if span.is_full() {
                partial.remove(span);
            }
        }
    }

    /// Returns objects to their spans until `keep` are left.
    #[cold]
    fn spill(&self, class: usize, magazine: &mut Magazine, quotas: &mut impl Quotas, keep: usize) {
        let mut partial = self.partial[class].lock();
        while magazine.len > keep {
            magazine.len -= 1;
            let Some(value) = magazine.values[magazine.len].take() else { continue };
            // SAFETY: a free object of this heap.
            let header = unsafe { Header::of(value) };
            quotas.credit(header.payer(), slot_size(class));
            header.set_payer(Payer::NONE);
            // SAFETY: as above.
            let span = unsafe { Span::of(value) };
            if span.is_full() {
                partial.push(span);
            }
            span.push(value);
            if span.is_unused() {
                let mut spans = self.spans.lock();
                if !span.is_pinned() {
                    spans.remove(span);
                    drop(spans);
                    partial.remove(span);
                    self.give(span);
                }
            }
        }
    }

    /// Returns all objects in a CPU's cache to the spans, and unused spans to the source.
    pub fn flush(&self, cache: &mut Cache, quotas: &mut impl Quotas) {
        for (class, magazine) in cache.magazines.iter_mut().enumerate() {
            self.spill(class, magazine, quotas, 0);
        }
    }

    /// Counts the objects that `owner` owns at the root. Calls `pause` between pieces.
    pub fn usage(&self, owner: DomainId, mut pause: impl FnMut()) -> Usage {
        let mut usage = Usage::default();
        let mut walk = Walk::new(self, List::Bucket(bucket(owner)), false);
        while let Some(mut piece) = walk.next() {
            piece.for_each(|_, header, bytes| {
                if header.owner() == owner {
                    usage.objects += 1;
                    usage.bytes += bytes;
                }
            });
            drop(piece);
            pause();
        }
        usage
    }

    /// Returns the number of slots that walks have visited since the heap was made, without those of
    /// [`Self::census`] and [`Self::audit`].
    pub fn visited(&self) -> u64 {
        self.visited.load(Ordering::Relaxed)
    }

    /// Visits the owner of each object in use, with the object's bytes, all at once: for use while the world
    /// is stopped. `visit` must not call the heap.
    pub fn census(&self, mut visit: impl FnMut(DomainId, usize)) {
        for_each_object(&self.spans.lock(), |header, bytes| visit(header.owner(), bytes));
    }

    /// Returns the owner of each object in use.
    #[cfg(test)]
    pub(crate) fn owners(&self) -> std::vec::Vec<DomainId> {
        let mut owners = std::vec::Vec::new();
        self.census(|owner, _| owners.push(owner));
        owners
    }

    /// Returns the bytes of memory that the heap has taken from its source.
    pub fn footprint(&self) -> usize {
        let spans = self.spans.lock();
        spans
            .iter()
            .filter(|span| !zone::shares_region(*span))
            .map(|span| span.count() * SPAN_BYTES)
            .sum::<usize>()
            + self.zone.regions() * REGION_BYTES
    }

    /// Charges `owner` for a free slot instead of its previous payer. Returns false if the quota does not
    /// allow it.
    #[inline(never)]
    fn change_payer(&self, header: &Header, quotas: &mut impl Quotas, owner: DomainId, bytes: usize) -> bool {
        let payer = Payer::of(owner);
        if !quotas.charge(payer, bytes) {
            return false;
        }
        quotas.credit(header.payer(), bytes);
        if !header.is_remembered(owner) {
            self.spans.lock().remember(header, owner);
        }
        header.set_payer(payer);
        true
    }
}

/// Visits every slot in `spans`, with its size in bytes.
fn for_each_slot(spans: &Spans, mut visit: impl FnMut(&Header, usize)) {
    for span in spans.iter() {
        for index in 0..span.slots() {
            visit(span.header(index), span.slot_bytes());
        }
    }
}

/// Visits every object in use in `spans`, with its size in bytes.
fn for_each_object(spans: &Spans, mut visit: impl FnMut(&Header, usize)) {
    for_each_slot(spans, |header, bytes| {
        if header.owner() != DomainId::NONE {
            visit(header, bytes);
        }
    });
}

#[cfg(test)]
mod tests;
