//! [`KernelHeap`]: the allocator behind `Box` and `Vec` in the kernel, on both machines, and the exact count
//! of its bytes by payer and purpose.
//!
//! Each allocation has a record in front of it: its bytes, the slot of the domain that pays for it, and its
//! purpose. So the counts are exact at any time, and a byte stays charged until it is freed, whatever has
//! become of the instance that caused it. Memory on behalf of a domain is allocated by [`try_box`],
//! [`try_copy`] and [`try_reserve`]: they charge the domain's slot, and they fail when its quota or the
//! machine's memory is used up. All other allocations are the kernel's own. They come out of the frames that
//! are reserved for the kernel.
//!
//! A domain's quota is the manifest's `kernel-heap`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicUsize, Ordering};

use coppice_abi::{DomainId, SLOT_LIMIT};
use spin::mutex::SpinMutex;
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

use crate::memory::frames::{self, FrameOwner};
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::Relax;

/// The minimum number of frames that the heap takes at once.
const STEP: usize = 64;

/// The kernel's allocator, for `#[global_allocator]`. It works once [`crate::entry::boot()`] has taken over
/// the memory; before that every allocation fails.
pub struct KernelHeap;

/// The purpose of an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// The kernel's permanent structures, and temporary values.
    General,
    /// Growing tables of the kernel, whose capacity the audit knows: of threads, timers and calls.
    Table,
    /// Proxies.
    Proxy,
    /// Thread records.
    Thread,
    /// The bodies of threads.
    ThreadBody,
    /// Lists of the blocks of a private heap.
    HeapList,
    /// Records of a loaded image: its imports, and the initial content of its data.
    Image,
    /// Stop orders of devices.
    StopOrder,
}

impl Purpose {
    /// All purposes, in the order of their numbers.
    pub(crate) const ALL: [Self; 8] = [
        Self::General,
        Self::Table,
        Self::Proxy,
        Self::Thread,
        Self::ThreadBody,
        Self::HeapList,
        Self::Image,
        Self::StopOrder,
    ];

    /// Returns true for the purposes of lists that grow and keep their capacity, with which the audit
    /// compares the count.
    pub(crate) const fn is_audited_list(self) -> bool {
        matches!(self, Self::Table | Self::HeapList)
    }

    /// The name for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::Table => "tables",
            Self::Proxy => "proxies",
            Self::Thread => "threads",
            Self::ThreadBody => "thread bodies",
            Self::HeapList => "heap lists",
            Self::Image => "image records",
            Self::StopOrder => "stop orders",
        }
    }
}

/// The payer and the purpose of an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Charge {
    slot: u16,
    purpose: Purpose,
}

impl Charge {
    /// A charge to the slot of `domain`.
    pub(crate) const fn to(domain: DomainId, purpose: Purpose) -> Self {
        Self::to_slot(domain.slot(), purpose)
    }

    /// A charge to the domain in `slot`.
    pub(crate) const fn to_slot(slot: usize, purpose: Purpose) -> Self {
        assert!(slot < SLOT_LIMIT);
        Self { slot: slot as u16, purpose }
    }

    /// A charge to the kernel itself, which has no quota.
    pub(crate) const fn to_kernel(purpose: Purpose) -> Self {
        Self::to(DomainId::KERNEL, purpose)
    }

    fn is_kernels(self) -> bool {
        usize::from(self.slot) == DomainId::KERNEL.slot()
    }
}

/// The record in front of each allocation.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Record {
    /// Bytes of the allocation, this record included.
    bytes: usize,
    charge: Charge,
}

/// Allocations, and their bytes with their records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Count {
    pub(crate) objects: usize,
    pub(crate) bytes: usize,
}

impl core::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.objects += other.objects;
        self.bytes += other.bytes;
    }
}

/// The account of one slot.
struct Account {
    /// The maximum of `bytes`, for a domain.
    quota: AtomicUsize,
    bytes: AtomicUsize,
    by_purpose: [(AtomicUsize, AtomicUsize); Purpose::ALL.len()],
}

impl Account {
    const fn new() -> Self {
        Self {
            quota: AtomicUsize::new(usize::MAX),
            bytes: AtomicUsize::new(0),
            by_purpose: [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; Purpose::ALL.len()],
        }
    }

    /// Charges an allocation. Returns false, and charges nothing, if the quota is too small.
    fn charge(&self, purpose: Purpose, bytes: usize) -> bool {
        let quota = self.quota.load(Ordering::Relaxed);
        let add = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= quota);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err() {
            return false;
        }
        let (objects, of_purpose) = &self.by_purpose[purpose as usize];
        objects.fetch_add(1, Ordering::Relaxed);
        of_purpose.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn credit(&self, purpose: Purpose, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let (objects, of_purpose) = &self.by_purpose[purpose as usize];
        objects.fetch_sub(1, Ordering::Relaxed);
        of_purpose.fetch_sub(bytes, Ordering::Relaxed);
    }
}

static ACCOUNTS: [Account; SLOT_LIMIT] = [const { Account::new() }; SLOT_LIMIT];

fn account(charge: Charge) -> &'static Account {
    &ACCOUNTS[usize::from(charge.slot)]
}

/// Sets the quota of the domain in `slot`.
pub(crate) fn set_quota(slot: usize, bytes: u64) {
    ACCOUNTS[slot].quota.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
}

/// The bytes that are charged to `slot`.
pub(crate) fn charged(slot: usize) -> usize {
    ACCOUNTS[slot].bytes.load(Ordering::Relaxed)
}

/// The allocations of one purpose that are charged to `slot`.
pub(crate) fn count(slot: usize, purpose: Purpose) -> Count {
    let (objects, bytes) = &ACCOUNTS[slot].by_purpose[purpose as usize];
    Count { objects: objects.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
}

/// The bytes that `list` takes in the heap: for comparisons with [`count()`].
pub(crate) fn list_bytes<T>(list: &Vec<T>) -> usize {
    match list.capacity() {
        0 => 0,
        capacity => capacity * size_of::<T>() + offset(Layout::new::<T>()),
    }
}

#[derive(Debug)]
struct FrameSource;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The number of frames that the heap has taken.
pub(crate) fn frames() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

static HEAP: TalcLock<SpinMutex<(), Relax>, FrameSource> = TalcLock::new(FrameSource);

// SAFETY: `acquire` claims frames that stay the kernel's for good, and does not allocate.
unsafe impl Source for FrameSource {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let pages = pages_for(layout).max(STEP);
        let memory = frames::take(pages, FrameOwner::KERNEL).ok_or(())?;
        TAKEN.fetch_add(pages, Ordering::Relaxed);
        // SAFETY: the frames are the kernel's and never given back.
        unsafe { talc.claim(memory.as_ptr(), pages * PAGE_SIZE) }.map(drop).ok_or(())
    }
}

/// The frames that hold an allocation of `layout` in any case: twice the size leaves room for the alignment
/// and for talc's own tables.
fn pages_for(layout: Layout) -> usize {
    layout.size().saturating_mul(2).saturating_add(layout.align()).div_ceil(PAGE_SIZE)
}

/// The distance from the start of an allocation's memory to its value.
const fn offset(layout: Layout) -> usize {
    if layout.align() > size_of::<Record>() { layout.align() } else { size_of::<Record>() }
}

/// The layout of an allocation with its record; `None` if it is larger than any memory.
fn with_record(layout: Layout) -> Option<Layout> {
    let bytes = layout.size().checked_add(offset(layout))?;
    Layout::from_size_align(bytes, layout.align().max(align_of::<Record>())).ok()
}

/// Returns the record of an allocation.
///
/// # Safety
/// `value` came from [`allocate`] and has not been released.
unsafe fn record_of(value: *mut u8) -> Record {
    // SAFETY: the caller's promise: `allocate` put a record directly in front of it.
    let record = unsafe { value.cast::<Record>().sub(1) };
    // SAFETY: as above.
    unsafe { record.read() }
}

/// Allocates memory for a value of `layout`. Returns null if the payer's quota is used up or there is no
/// memory for it.
fn allocate(charge: Charge, layout: Layout) -> *mut u8 {
    let Some(whole) = with_record(layout) else { return ptr::null_mut() };
    // Quotas may add up to more than the machine has. What is left then is for the kernel's own allocations,
    // which cannot fail.
    if !charge.is_kernels() && !frames::has_beside_reserve(pages_for(whole)) {
        return ptr::null_mut();
    }
    if !account(charge).charge(charge.purpose, whole.size()) {
        return ptr::null_mut();
    }
    // SAFETY: `whole` is not empty.
    let Some(memory) = NonNull::new(unsafe { HEAP.alloc(whole) }) else {
        account(charge).credit(charge.purpose, whole.size());
        return ptr::null_mut();
    };
    // SAFETY: within the memory, which begins with at least a record.
    let value = unsafe { memory.add(offset(layout)) };
    // SAFETY: as above; `offset` is a multiple of the record's size, which is its alignment.
    let record = unsafe { value.cast::<Record>().sub(1) };
    // SAFETY: as above.
    unsafe { record.write(Record { bytes: whole.size(), charge }) };
    value.as_ptr()
}

/// Frees an allocation.
///
/// # Safety
/// `value` came from [`allocate`] with `layout` and is not used any more.
unsafe fn release(value: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise.
    let Record { bytes, charge } = unsafe { record_of(value) };
    account(charge).credit(charge.purpose, bytes);
    let align = layout.align().max(align_of::<Record>());
    // SAFETY: the size and the alignment are those that `allocate` requested.
    let whole = unsafe { Layout::from_size_align_unchecked(bytes, align) };
    // SAFETY: the start of the memory that `allocate` got.
    let memory = unsafe { value.sub(offset(layout)) };
    // SAFETY: as above.
    unsafe { HEAP.dealloc(memory, whole) };
}

// SAFETY: `allocate` returns memory of the layout behind a record, and talc hands out none twice. Callers are
// in a section, as all kernel code is, so the lock's holder always runs.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocate(Charge::to_kernel(Purpose::General), layout)
    }
    unsafe fn dealloc(&self, value: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { release(value, layout) };
    }
    unsafe fn realloc(&self, value: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let charge = unsafe { record_of(value) }.charge;
        // SAFETY: the caller's promise.
        let grown = allocate(charge, unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) });
        if !grown.is_null() {
            // SAFETY: both have at least that many bytes, and they are two allocations.
            unsafe { grown.copy_from_nonoverlapping(value, layout.size().min(new_size)) };
            // SAFETY: the caller's promise.
            unsafe { release(value, layout) };
        }
        grown
    }
}

/// Moves `value` to the heap at the expense of `charge`'s slot. Returns `None` if the quota or the memory is
/// used up.
pub(crate) fn try_box<T>(charge: Charge, value: T) -> Option<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    let memory = NonNull::new(allocate(charge, Layout::new::<T>()))?.cast::<T>();
    // SAFETY: fresh memory for a value.
    unsafe { memory.write(value) };
    // SAFETY: a value in memory of its layout, which `dealloc` of the global allocator releases: that is this
    // heap (`check_is_global`).
    Some(unsafe { Box::from_raw(memory.as_ptr()) })
}

/// Copies `values` to the heap at the expense of `charge`'s slot. Returns `None` if the quota or the memory
/// is used up.
pub(crate) fn try_copy<T: Copy>(charge: Charge, values: &[T]) -> Option<Vec<T>> {
    let mut copy = Vec::new();
    if !try_reserve(charge, &mut copy, values.len()) {
        return None;
    }
    copy.extend_from_slice(values);
    Some(copy)
}

/// Makes room for `additional` values in `list` at the expense of `charge`'s slot. Returns false if the quota
/// or the memory is used up.
pub(crate) fn try_reserve<T>(charge: Charge, list: &mut Vec<T>, additional: usize) -> bool {
    const { assert!(size_of::<T>() > 0) };
    let Some(needed) = list.len().checked_add(additional) else { return false };
    if needed <= list.capacity() {
        return true;
    }
    let capacity = needed.max(list.capacity().saturating_mul(2));
    let Ok(layout) = Layout::array::<T>(capacity) else { return false };
    let Some(memory) = NonNull::new(allocate(charge, layout)) else { return false };
    // SAFETY: memory for `capacity` values, none of which is initialised; released as in `try_box`.
    let mut grown = unsafe { Vec::from_raw_parts(memory.cast::<T>().as_ptr(), 0, capacity) };
    grown.append(list);
    *list = grown;
    true
}

/// Checks that `Box` and `Vec` allocate from this heap.
///
/// # Panics
/// When the kernel image has another global allocator.
pub(crate) fn check_is_global() {
    let general = || count(DomainId::KERNEL.slot(), Purpose::General).objects;
    let before = general();
    let probe = core::hint::black_box(Box::new(0_u64));
    assert!(general() == before + 1, "the kernel image's global allocator is not `KernelHeap`");
    drop(probe);
}

/// Compares the two records of each account, and reports each difference. The world is stopped, so no
/// allocation is under way.
pub(crate) fn audit(add_finding: &mut dyn FnMut(core::fmt::Arguments<'_>)) {
    for (slot, account) in ACCOUNTS.iter().enumerate() {
        let sum: usize = Purpose::ALL.into_iter().map(|purpose| count(slot, purpose).bytes).sum();
        let (charged, quota) = (charged(slot), account.quota.load(Ordering::Relaxed));
        if sum != charged {
            add_finding(format_args!(
                "slot {slot} is charged {charged} bytes of the kernel's heap, but {sum} by purpose"
            ));
        }
        if charged > quota {
            add_finding(format_args!(
                "slot {slot} is charged {charged} bytes of the kernel's heap, but its quota is {quota}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_refuses_what_exceeds_its_quota_and_counts_by_purpose() {
        let account = Account::new();
        account.quota.store(1000, Ordering::Relaxed);
        assert!(account.charge(Purpose::Proxy, 600));
        assert!(!account.charge(Purpose::Thread, 401));
        assert!(!account.charge(Purpose::Thread, usize::MAX), "a sum beyond the range of the counter");
        assert!(account.charge(Purpose::Thread, 400));
        account.credit(Purpose::Proxy, 600);
        assert_eq!(account.bytes.load(Ordering::Relaxed), 400);
        let counts = |purpose: Purpose| {
            let (objects, bytes) = &account.by_purpose[purpose as usize];
            (objects.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
        };
        assert_eq!((counts(Purpose::Proxy), counts(Purpose::Thread)), ((0, 0), (1, 400)));
    }

    #[test]
    fn a_record_lies_directly_in_front_of_a_value_of_any_alignment() {
        for align in [1, 2, 8, 16, 64, 4096] {
            let layout = Layout::from_size_align(40, align).expect("it is a power of two");
            let (offset, whole) = (offset(layout), with_record(layout).expect("it is small"));
            assert!(offset.is_multiple_of(align) && offset >= size_of::<Record>(), "alignment {align}");
            assert_eq!(whole.size(), offset + 40);
            assert!(whole.align() >= align && whole.align() >= align_of::<Record>());
        }
        let huge = Layout::from_size_align(isize::MAX as usize - 8, 8).expect("it is just allowed");
        assert_eq!(with_record(huge), None);
    }
}
