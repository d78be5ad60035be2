//! Tests of the allocator on host memory. `crate::tests` covers ownership.

use std::sync::atomic::Ordering;

use super::*;
use crate::model::mock::Host;

fn domain(slot: u32) -> DomainId {
    DomainId::new(slot, 0)
}

fn alloc(heap: &SharedHeap<Host>, cache: &mut Cache, owner: DomainId, size: usize) -> Option<NonNull<u8>> {
    heap.alloc(cache, &mut (), owner, class_of(size, 8), size, 8).ok()
}

#[test]
fn objects_do_not_overlap_and_are_aligned() {
    let heap = SharedHeap::new(Host::default());
    let mut cache = Cache::new();
    let mut seen: Vec<(usize, usize)> = Vec::new();
    for round in 0..40 {
        for size in [1, 32, 33, 100, 288, 1024, 2048, 4096, 16288, 32608, 32609, 100_000] {
            let value = alloc(&heap, &mut cache, domain(2), size + round % 3).expect("the host has memory");
            assert_eq!(value.as_ptr() as usize % 64, 0);
            seen.push((value.as_ptr() as usize - Header::SIZE, value.as_ptr() as usize + size + round % 3));
        }
    }
    seen.sort_unstable();
    assert!(seen.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two objects share bytes");
}

#[test]
fn page_aligned_values_are_page_aligned() {
    let heap = SharedHeap::new(Host::default());
    let value =
        heap.alloc(&mut Cache::new(), &mut (), domain(2), class_of(4096, 4096), 4096, 4096).expect("memory");
    assert_eq!(value.as_ptr() as usize % 4096, 0);
}

#[test]
fn all_memory_returns_to_the_source_when_all_objects_are_freed() {
    let heap = SharedHeap::new(Host::default());
    let mut cache = Cache::new();
    let values: Vec<_> =
        (0..5000).map(|i| alloc(&heap, &mut cache, domain(2), i * 7 % 40_000).expect("memory")).collect();
    assert_eq!(heap.usage(domain(2), || ()).objects, 5000);
    for value in values {
        // SAFETY: allocated above, freed once.
        unsafe { heap.free(&mut cache, &mut (), value) };
    }
    heap.flush(&mut cache, &mut ());
    assert_eq!((heap.usage(domain(2), || ()), heap.footprint()), (Usage::default(), 0));
    assert_eq!(heap.source.taken.load(Ordering::Relaxed), 0);
}

#[test]
fn exhaustion_returns_an_error_and_loses_nothing() {
    let heap = SharedHeap::new(Host { limit: Some(2), ..Host::default() });
    let mut cache = Cache::new();
    let mut values = Vec::new();
    while let Some(value) = alloc(&heap, &mut cache, domain(2), 1000) {
        values.push(value);
    }
    assert_eq!(values.len(), 2 * (SPAN_BYTES / 1152));
    // SAFETY: allocated above, freed once.
    unsafe { heap.free(&mut cache, &mut (), values.pop().expect("some were allocated")) };
    assert!(alloc(&heap, &mut cache, domain(2), 1000).is_some());
    assert!(alloc(&heap, &mut cache, domain(2), 1 << 20).is_none());
    for absurd in [1 << 48, usize::MAX - SPAN_BYTES, usize::MAX - 4096] {
        assert!(alloc(&heap, &mut cache, domain(2), absurd).is_none());
    }
}

#[test]
fn a_size_goes_to_the_smallest_class_that_holds_it() {
    assert_eq!(class_of(64, 8), 0);
    assert_eq!(class_of(65, 8), 1);
    for power in [512, 1024, 2048, 4096, 8192] {
        let class = class_of(64 + power, 64);
        assert_eq!(slot_size(class), Header::SIZE + 64 + power, "a request of {power} bytes fits tightly");
    }
    assert_eq!(class_of(32 * 1024, 8), LARGE);
    assert_eq!(class_of(8, 4096), LARGE);
}

/// A value's address in transit to another CPU.
struct Passed(NonNull<u8>);

// SAFETY: the sender does not use it any more.
unsafe impl Send for Passed {}

#[test]
fn objects_passed_between_cpus_are_freed_intact() {
    const ROUNDS: usize = 20_000;
    let heap = SharedHeap::new(Host::default());
    let (to_first, from_second) = std::sync::mpsc::sync_channel(200);
    let (to_second, from_first) = std::sync::mpsc::sync_channel(200);
    let cpu = |me: DomainId,
               to: std::sync::mpsc::SyncSender<Passed>,
               from: std::sync::mpsc::Receiver<Passed>| {
        let mut cache = Cache::new();
        for round in 0..ROUNDS {
            // Small, medium, and occasionally one with spans of its own.
            let size = if round % 500 == 0 { 70_000 } else { round * 37 % 3000 };
            let value = alloc(&heap, &mut cache, me, size.max(8)).expect("the host has memory");
            // SAFETY: a fresh object of at least 8 bytes.
            unsafe { value.cast::<usize>().write(round) };
            to.send(Passed(value)).expect("the other CPU listens");
            let Passed(value) = from.recv().expect("the other CPU sends");
            // SAFETY: the other CPU wrote it.
            assert_eq!(unsafe { value.cast::<usize>().read() }, round, "another owner wrote to this object");
            // SAFETY: owned by this CPU now, and freed once.
            unsafe { heap.free(&mut cache, &mut (), value) };
        }
        heap.flush(&mut cache, &mut ());
    };
    std::thread::scope(|scope| {
        scope.spawn(|| cpu(domain(2), to_second, from_second));
        scope.spawn(|| cpu(domain(3), to_first, from_first));
    });
    assert_eq!((heap.footprint(), heap.source.taken.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn exhaustion_in_one_class_leaves_the_others_usable() {
    let heap = SharedHeap::new(Host { limit: Some(2), ..Host::default() });
    let mut cache = Cache::new();
    let small = alloc(&heap, &mut cache, domain(2), 8).expect("memory");
    while alloc(&heap, &mut cache, domain(2), 1000).is_some() {}
    // SAFETY: allocated above, freed once.
    unsafe { heap.free(&mut cache, &mut (), small) };
    assert!(alloc(&heap, &mut cache, domain(2), 8).is_some());
}

/// The bytes charged to each of four payers, and the limit of each.
struct TestQuotas([usize; 4], usize);

impl Quotas for TestQuotas {
    fn charge(&mut self, payer: Payer, bytes: usize) -> bool {
        let fits = self.0[payer.slot()] + bytes <= self.1;
        self.0[payer.slot()] += if fits { bytes } else { 0 };
        fits
    }
    fn credit(&mut self, payer: Payer, bytes: usize) {
        if payer != Payer::NONE {
            self.0[payer.slot()] -= bytes;
        }
    }
}

fn alloc_charged(
    heap: &SharedHeap<Host>,
    cache: &mut Cache,
    quotas: &mut TestQuotas,
    owner: DomainId,
    size: usize,
) -> Result<NonNull<u8>, Refusal> {
    heap.alloc(cache, quotas, owner, class_of(size, 8), size, 8)
}

#[test]
fn the_maker_of_an_object_is_charged_until_another_domain_takes_its_slot() {
    let heap = SharedHeap::new(Host::default());
    let (mut cache, mut quotas) = (Cache::new(), TestQuotas([0; 4], usize::MAX));
    let mut made = Vec::new();
    for owner in [2, 3, 2, 3] {
        for size in [8, 1000, 4096, 100_000] {
            let value = alloc_charged(&heap, &mut cache, &mut quotas, domain(owner), size);
            made.push(value.expect("the host has memory"));
        }
    }
    let each = 2 * (128 + 1152 + 4224 + 2 * SPAN_BYTES);
    assert_eq!(quotas.0, [0, 0, each, each]);
    for value in made {
        // SAFETY: allocated above, freed once.
        unsafe { heap.free(&mut cache, &mut quotas, value) };
    }
    // Their slots wait in the cache, charged to their last payer until another domain takes them.
    assert_eq!(quotas.0, [0, 0, 2 * (128 + 1152 + 4224), 2 * (128 + 1152 + 4224)]);
    let again: Vec<_> = (0..4)
        .map(|_| alloc_charged(&heap, &mut cache, &mut quotas, domain(2), 8).expect("memory"))
        .collect();
    assert_eq!(quotas.0, [0, 0, 4 * 128 + 2 * (1152 + 4224), 2 * (1152 + 4224)]);
    for value in again {
        // SAFETY: as above.
        unsafe { heap.free(&mut cache, &mut quotas, value) };
    }
    heap.flush(&mut cache, &mut quotas);
    assert_eq!((quotas.0, heap.footprint()), ([0; 4], 0));
}

#[test]
fn a_refused_allocation_changes_nothing() {
    let heap = SharedHeap::new(Host { limit: Some(4), ..Host::default() });
    let (mut cache, mut quotas) = (Cache::new(), TestQuotas([0; 4], 200_000));
    let mut made = Vec::new();
    let refusal = loop {
        match alloc_charged(&heap, &mut cache, &mut quotas, domain(2), 1000) {
            Ok(value) => made.push(value),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal, made.len(), heap.usage(domain(2), || ()).objects), (Refusal::Quota, 173, 173));
    // Refused for lack of memory after the quota allowed it: the charge is returned.
    let large = alloc_charged(&heap, &mut cache, &mut quotas, domain(3), 150_000);
    assert_eq!((large, quotas.0[3]), (Err(Refusal::Memory), 0));
    // The slot that was refused to one domain goes to another.
    let other = alloc_charged(&heap, &mut cache, &mut quotas, domain(3), 1000).expect("memory");
    for value in made.into_iter().chain([other]) {
        // SAFETY: allocated above, freed once.
        unsafe { heap.free(&mut cache, &mut quotas, value) };
    }
    heap.flush(&mut cache, &mut quotas);
    assert_eq!((quotas.0, heap.footprint()), ([0; 4], 0));
}

#[test]
fn a_cache_keeps_at_most_its_byte_limit_per_class() {
    let heap = SharedHeap::new(Host::default());
    let (mut cache, mut quotas) = (Cache::new(), TestQuotas([0; 4], usize::MAX));
    for size in [8, 2000, 8000, 32_000] {
        let mut made = Vec::new();
        for _ in 0..200 {
            made.push(alloc_charged(&heap, &mut cache, &mut quotas, domain(2), size).expect("memory"));
        }
        for value in made {
            // SAFETY: allocated above, freed once.
            unsafe { heap.free(&mut cache, &mut quotas, value) };
        }
        assert!(quotas.0[2] <= CACHE_BYTES, "{} bytes of free slots stay charged", quotas.0[2]);
        heap.flush(&mut cache, &mut quotas);
        assert_eq!(quotas.0[2], 0);
    }
}
