//! The allocator on host memory. Ownership is `crate::tests`' subject.

use std::sync::atomic::Ordering;

use super::*;
use crate::mock::Host;

fn domain(slot: u32) -> DomainId {
    DomainId::new(slot, 0)
}

fn alloc(heap: &SharedHeap<Host>, cache: &mut Cache, owner: DomainId, size: usize) -> Option<NonNull<u8>> {
    heap.alloc(cache, owner, class_of(size, 8), size, 8)
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
    let value = heap.alloc(&mut Cache::new(), domain(2), class_of(4096, 4096), 4096, 4096).expect("memory");
    assert_eq!(value.as_ptr() as usize % 4096, 0);
}

#[test]
fn all_memory_goes_back_when_all_is_freed() {
    let heap = SharedHeap::new(Host::default());
    let mut cache = Cache::new();
    let values: Vec<_> =
        (0..5000).map(|i| alloc(&heap, &mut cache, domain(2), i * 7 % 40_000).expect("memory")).collect();
    assert_eq!(heap.usage(domain(2)).objects, 5000);
    for value in values {
        // SAFETY: allocated above, freed once.
        unsafe { heap.free(&mut cache, value) };
    }
    heap.flush(&mut cache);
    assert_eq!((heap.usage(domain(2)), heap.footprint()), (Usage::default(), 0));
    assert_eq!(heap.source.taken.load(Ordering::Relaxed), 0);
}

#[test]
fn exhaustion_is_an_answer_and_nothing_is_lost_by_it() {
    let heap = SharedHeap::new(Host { limit: Some(2), ..Host::default() });
    let mut cache = Cache::new();
    let mut values = Vec::new();
    while let Some(value) = alloc(&heap, &mut cache, domain(2), 1000) {
        values.push(value);
    }
    assert_eq!(values.len(), 2 * (SPAN_BYTES / 1088));
    // SAFETY: allocated above, freed once.
    unsafe { heap.free(&mut cache, values.pop().expect("some were allocated")) };
    assert!(alloc(&heap, &mut cache, domain(2), 1000).is_some());
    assert!(alloc(&heap, &mut cache, domain(2), 1 << 20).is_none());
}

#[test]
fn a_size_goes_to_the_smallest_class_that_holds_it() {
    assert_eq!(class_of(32, 8), 0);
    assert_eq!(class_of(33, 8), 1);
    assert_eq!(class_of(32 * 1024, 8), LARGE);
    assert_eq!(class_of(8, 4096), LARGE);
}

/// A value's address, on its way to another CPU.
struct Passed(NonNull<u8>);

// SAFETY: the sender does not use it any more.
unsafe impl Send for Passed {}

#[test]
fn objects_that_cpus_pass_to_each_other_go_back_whole() {
    const ROUNDS: usize = 20_000;
    let heap = SharedHeap::new(Host::default());
    let (to_first, from_second) = std::sync::mpsc::sync_channel(200);
    let (to_second, from_first) = std::sync::mpsc::sync_channel(200);
    let cpu = |me: DomainId,
               to: std::sync::mpsc::SyncSender<Passed>,
               from: std::sync::mpsc::Receiver<Passed>| {
        let mut cache = Cache::new();
        for round in 0..ROUNDS {
            // Small, middling, and now and then one with spans of its own.
            let size = if round % 500 == 0 { 70_000 } else { round * 37 % 3000 };
            let value = alloc(&heap, &mut cache, me, size.max(8)).expect("the host has memory");
            // SAFETY: a fresh object of at least 8 bytes.
            unsafe { value.cast::<usize>().write(round) };
            to.send(Passed(value)).expect("the other CPU listens");
            let Passed(value) = from.recv().expect("the other CPU sends");
            // SAFETY: the other CPU wrote it.
            assert_eq!(unsafe { value.cast::<usize>().read() }, round, "somebody else has this object too");
            // SAFETY: ours now, and freed once.
            unsafe { heap.free(&mut cache, value) };
        }
        heap.flush(&mut cache);
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
    unsafe { heap.free(&mut cache, small) };
    assert!(alloc(&heap, &mut cache, domain(2), 8).is_some());
}
