//! Walks visit the spans that a domain uses or has used, and no more (R11); and they can pause.

use std::ptr::NonNull;

use coppice_abi::DomainId;

use super::{charged, count, owner, owner_at, pass_to, value_of};
use crate::heap::{Cache, REGION_BYTES, SharedHeap, Usage, class_of, dma_class_of};
use crate::model::mock::{A, B, C, ExclusiveKernel, Host, Kernel, inside};
use crate::{Buffer, LentDeque, RRef, RRefDeque};

/// Has `domain` own `count` objects of several sizes, large ones included.
fn hoard(kernel: &Kernel, domain: DomainId, count: usize) {
    for number in 0..count {
        let size = [8, 64, 200, 1000, 4000, 20_000, 100_000][if number % 100 == 0 { 6 } else { number % 6 }];
        let mut cache = kernel.caches[0].borrow_mut();
        kernel.heap.alloc(&mut cache, &mut (), domain, class_of(size, 8), size, 8).expect("memory");
    }
}

/// The slots that a sweep of `A` visits, a usage count, and a count of charges, when `A` has ten objects and
/// `B` as many as requested.
fn visited_beside(foreign: usize) -> [u64; 3] {
    let kernel = ExclusiveKernel::new();
    // Five objects in fresh spans, and five in spans that are full of others.
    (0..5).for_each(|number| std::mem::forget(RRef::new([number; 4])));
    hoard(&kernel, B, foreign);
    (0..5).for_each(|number| std::mem::forget(RRef::new([number; 4])));
    let before = kernel.heap.visited();
    assert_eq!(kernel.objects(A), 10);
    let usage = kernel.heap.visited() - before;
    assert!(count(&kernel, Some(A)));
    let charges = kernel.heap.visited() - before - usage;
    let sweep = kernel.kill(A);
    assert_eq!(sweep.visited as u64, kernel.heap.visited() - before - usage - charges);
    assert_eq!((sweep.freed, kernel.objects(B)), (10, foreign));
    kernel.kill(B);
    kernel.check_empty();
    [sweep.visited as u64, usage, charges]
}

#[test]
fn a_walk_for_a_domain_does_not_visit_the_objects_of_others() {
    let alone = visited_beside(0);
    let beside = visited_beside(30_000);
    for (alone, beside) in alone.into_iter().zip(beside) {
        // Ten objects lie in two spans instead of one.
        assert!(beside <= 2 * alone, "{beside} slots visited, and {alone} without objects of others");
    }
}

#[test]
fn a_domain_is_found_in_spans_that_it_got_objects_in_by_any_way() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefDeque<u64, 4>>();
    kernel.register::<LentDeque<[u8; 700], 4>>();
    hoard(&kernel, C, 1000);
    // By a move, out of a container that moved, and by the return of an object that it lent on in its place,
    // which is the only one of its size.
    let moved = pass_to(B, RRef::new([1u8; 300]));
    let mut deque = RRef::new(RRefDeque::<u64, 4>::new());
    deque.push_back(RRef::new(2)).expect("it has room");
    let mut deque = pass_to(B, deque);
    let popped = inside(B, || deque.pop_front().expect("it is there"));
    let (loan, lent) = RRef::new([3u8; 700]).lend();
    let mut batch = RRef::new(LentDeque::<[u8; 700], 4>::new());
    batch.push_back(lent).unwrap_or_else(|_| panic!("it has room"));
    let mut batch = pass_to(B, batch);
    let subloan = inside(B, || batch.lend_at(0)).expect("it is there");
    std::mem::forget((moved, deque, popped, subloan, pass_to(C, batch)));
    assert!(kernel.kill(C).freed > 1000);
    let sweep = kernel.kill(B);
    assert_eq!((sweep.freed, sweep.returned), (3, 1));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some([3; 700]));
    kernel.check_empty();
}

#[test]
fn an_object_that_was_with_an_earlier_instance_is_found_again() {
    let kernel = ExclusiveKernel::new();
    let [first, second] = [DomainId::new(3, 0), DomainId::new(3, 1)];
    let object = pass_to(A, pass_to(first, RRef::new(7u64)));
    assert_eq!(kernel.kill(first).freed, 0);
    // The remembered set is empty now.
    assert_eq!(kernel.heap.remembered_bytes(second), 0);
    let value = value_of(&object);
    std::mem::forget(pass_to(second, object));
    let mut found = Vec::new();
    kernel.audit(&mut |finding| found.push(finding.to_string()));
    assert_eq!(found, [""; 0]);
    assert_eq!(kernel.kill(second).freed, 1);
    assert_eq!(owner_at(value), DomainId::NONE);
    kernel.check_empty();
}

#[test]
fn domains_that_share_a_bucket_are_swept_apart() {
    let kernel = ExclusiveKernel::new();
    kernel.shared_buckets.set(true);
    let other = DomainId::new(A.slot() as u32 + 64, 0);
    let [kept, given] = [pass_to(other, RRef::new(7u64)), pass_to(other, RRef::new(8u64))];
    let given = pass_to(A, given);
    assert_eq!((owner(&kept), owner(&given)), (other, A));
    std::mem::forget((kept, given));
    assert_eq!((kernel.kill(A).freed, kernel.objects(other)), (1, 1));
    assert_eq!(kernel.kill(other).freed, 1);
    kernel.check_empty();
}

#[test]
fn the_audit_finds_an_owner_that_is_not_remembered() {
    let kernel = ExclusiveKernel::new();
    let object = RRef::new(7u64);
    // SAFETY: no other code uses it.
    unsafe { object.header().set_owner(B) };
    let mut found = String::new();
    kernel.audit(&mut |finding| found += &finding.to_string());
    assert!(found.contains("is not remembered for its owner"), "{found}");
    // SAFETY: as above.
    unsafe { object.header().set_owner(A) };
    drop(object);
    kernel.check_empty();
}

#[test]
fn a_container_of_another_domain_makes_the_count_of_the_maker_incomplete() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefDeque<[u8; 500], 4>>();
    let mut deque = inside(B, || RRef::new(RRefDeque::<[u8; 500], 4>::new()));
    // Each in a size of its own, so that the container is not in a span of the maker's.
    inside(B, || deque.push_back(pass_to(B, inside(A, || RRef::new([1; 500]))))).expect("it has room");
    assert_eq!(charged(&kernel), [1, 1, 0]);
    assert!(!count(&kernel, Some(A)), "the object is inside an object that A has never had");
    assert_eq!(charged(&kernel), [1, 1, 0]);
    assert!(count(&kernel, None));
    assert_eq!(charged(&kernel), [0, 2, 0]);
    assert!(count(&kernel, Some(A)));
    inside(B, || drop(deque));
    kernel.check_empty();
}

/// Allocates for `A` directly.
fn alloc(heap: &SharedHeap<Host>, cache: &mut Cache, class: usize, size: usize) -> NonNull<u8> {
    heap.alloc(cache, &mut (), A, class, size, 8).expect("the host has memory")
}

#[test]
fn objects_freed_while_a_walk_pauses_return_to_the_source() {
    for size in [8, 30_000, 100_000] {
        let heap = SharedHeap::new(Host::default());
        let mut cache = Cache::new();
        let mut values: Vec<_> =
            (0..1000).map(|_| alloc(&heap, &mut cache, class_of(size, 8), size)).collect();
        let mut pauses = 0;
        let usage = heap.usage(A, || {
            pauses += 1;
            // SAFETY: allocated above, freed once.
            values.drain(..).for_each(|value| unsafe { heap.free(&mut cache, &mut (), value) });
            heap.flush(&mut cache, &mut ());
        });
        assert!(usage.objects < 1000 && pauses > 0, "the walk paused {pauses} times");
        assert_eq!((heap.usage(A, || ()), heap.footprint()), (Usage::default(), 0));
        assert_eq!(heap.source.taken.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

#[test]
fn a_walk_pauses_after_a_bounded_number_of_slots() {
    let heap = SharedHeap::new(Host::default());
    let mut cache = Cache::new();
    (0..5000).for_each(|_| _ = alloc(&heap, &mut cache, class_of(8, 8), 8));
    let mut last = heap.visited();
    heap.usage(A, || {
        assert!(heap.visited() - last <= 64);
        last = heap.visited();
    });
    assert!(heap.visited() >= 5000);
}

#[test]
fn objects_for_devices_lie_in_regions_of_their_own() {
    let heap = SharedHeap::new(Host::default());
    let mut cache = Cache::new();
    let region = |value: NonNull<u8>| value.as_ptr() as usize / REGION_BYTES;
    let (mut plain, mut dma) = (Vec::new(), Vec::new());
    for round in 0..2000 {
        let size = [8, 500, 4000, 30_000, 100_000, 3_000_000][if round % 250 == 0 { 5 } else { round % 5 }];
        plain.push(alloc(&heap, &mut cache, class_of(size, 8), size));
        dma.push(alloc(&heap, &mut cache, dma_class_of(size, 8), size));
    }
    let mut regions: Vec<_> = dma.iter().map(|&value| region(value)).collect();
    regions.sort_unstable();
    regions.dedup();
    assert!(plain.iter().all(|&value| regions.binary_search(&region(value)).is_err()));
    assert!(regions.len() * REGION_BYTES < 2 * dma.len() / 5 * 130_000, "{} regions", regions.len());
    assert_eq!(
        heap.footprint() / crate::heap::SPAN_BYTES,
        heap.source.taken.load(std::sync::atomic::Ordering::Relaxed)
    );
    for value in plain.into_iter().chain(dma) {
        // SAFETY: allocated above, freed once.
        unsafe { heap.free(&mut cache, &mut (), value) };
    }
    heap.flush(&mut cache, &mut ());
    assert_eq!((heap.footprint(), heap.source.taken.load(std::sync::atomic::Ordering::Relaxed)), (0, 0));
}

#[test]
fn only_a_buffer_that_was_made_with_its_bytes_has_bytes_for_devices() {
    let kernel = ExclusiveKernel::new();
    let buffer = RRef::<Buffer<[u64; 8]>>::with_capacity([1; 8], 100);
    let mut found = String::new();
    kernel.audit(&mut |finding| found += &finding.to_string());
    assert_eq!(found, "");
    let moved = RRef::new(buffer.into_inner());
    assert_eq!((moved.capacity(), moved.bytes().len()), (0, 0));
    // SAFETY: no byte is accessed.
    unsafe { moved.header().set_extent(100) };
    kernel.audit(&mut |finding| found += &finding.to_string());
    assert!(found.contains("outside of the memory for devices"), "{found}");
    drop(moved);
    kernel.check_empty();
}
