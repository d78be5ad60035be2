//! Objects from creation to destruction, one domain at a time. `model` tests several CPUs.

mod remembered;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use coppice_abi::DomainId;

use crate::heap::Sweep;
use crate::model::mock::{A, ALLOCATIONS_LEFT, B, C, ExclusiveKernel, Kernel, inside};
use crate::{
    AnyBits, Buffer, Bytes, Flat, Header, Lent, LentDeque, Loan, MAX_BUFFER, Payer, RRef, RRefArray,
    RRefDeque, Shareable, Subloan, TooLong,
};

fn owner<T: Shareable>(object: &RRef<T>) -> DomainId {
    object.header().owner()
}

/// The owner of an object whose reference is in a dead domain's private heap.
fn owner_at(value: NonNull<u8>) -> DomainId {
    // SAFETY: the kernel of these tests keeps the memory of every object until the test ends.
    unsafe { Header::of(value) }.owner()
}

fn value_of<T: Shareable>(object: &RRef<T>) -> NonNull<u8> {
    object.header().value()
}

/// Gives `value` to `domain`, like a crossing.
fn pass_to<T: Shareable>(domain: DomainId, value: T) -> T {
    // SAFETY: R3: the caller gives it away.
    value.for_each_root(&mut |root| unsafe { root.pass_to(domain) });
    value
}

/// Sets the owner of the object inside `object` by hand, as a kill between two stores leaves it.
fn leave_owned(object: &RRef<u64>, owner: DomainId) {
    // SAFETY: no other code uses it.
    unsafe { object.header().set_owner(owner) };
}

#[test]
fn a_dropped_object_is_freed() {
    let kernel = ExclusiveKernel::new();
    let object = RRef::new(7u64);
    assert_eq!((*object, owner(&object)), (7, A));
    drop(object);
    kernel.check_empty();
}

#[test]
fn into_inner_frees_the_place_and_not_the_value() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(u8, RRef<u64>)>();
    let object = RRef::new((1u8, RRef::new(7u64)));
    let (_, inside) = object.into_inner();
    assert_eq!((*inside, owner(&inside), kernel.objects(A)), (7, A, 1));
    drop(inside);
    kernel.check_empty();
}

#[test]
fn an_object_put_into_another_is_nested_and_the_root_is_not() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, RRef<(u8, RRef<u64>)>)>();
    let object = RRef::new((RRef::new(7u64), RRef::new((1u8, RRef::new(8u64)))));
    assert_eq!(owner(&object), A);
    assert_eq!([owner(&object.0), owner(&object.1), owner(&object.1.1)], [DomainId::NESTED; 3]);
    drop(object);
    kernel.check_empty();
}

#[test]
fn update_owns_the_references_during_the_change_and_nests_them_after() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, Option<RRef<u64>>)>();
    let mut object = RRef::new((RRef::new(7u64), Some(RRef::new(8u64))));
    let taken = object.update(|(first, second)| {
        assert_eq!([owner(first), second.as_ref().map_or(A, owner)], [A, A]);
        second.take()
    });
    assert_eq!(taken.as_ref().map(owner), Some(A));
    assert_eq!(owner(&object.0), DomainId::NESTED);
    drop((object, taken));
    kernel.check_empty();
}

#[test]
fn the_sweep_does_not_visit_a_value_killed_in_an_update() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, u64)>();
    let mut object = RRef::new((RRef::new(7u64), 0u64)).leak();
    let cut =
        catch_unwind(AssertUnwindSafe(|| object.update(|_| resume_unwind(Box::new(kernel.kill(A)))))).err();
    // Two roots: a half-written value would be useless to the sweep.
    assert_eq!(cut.and_then(|sweep| sweep.downcast::<Sweep>().ok()).map(|sweep| sweep.freed), Some(2));
    kernel.check_empty();
}

#[test]
fn a_refused_allocation_returns_the_value() {
    let kernel = ExclusiveKernel::new();
    ALLOCATIONS_LEFT.set(0);
    assert_eq!(RRef::try_new(7u64).err(), Some(7));
    kernel.check_empty();
}

/// The number of objects charged to each owner by an exact count.
fn counted(kernel: &Kernel) -> [usize; 3] {
    count(kernel, None);
    charged(kernel)
}

/// Counts the objects that `only` owns or pays for, or all. Returns true if the count was complete.
fn count(kernel: &Kernel, only: Option<DomainId>) -> bool {
    let mut walk = kernel.heap.charges(only);
    let mut transfer = |_, owner, bytes| {
        assert!(bytes >= Header::SIZE + size_of::<u64>());
        if [A, B, C].contains(&owner) { Payer::of(owner) } else { Payer::NONE }
    };
    // SAFETY: there is no other thread, and this one is not inside the heap.
    while unsafe { walk.step(kernel, &mut transfer) } {}
    !walk.is_incomplete()
}

/// The number of objects charged to each owner.
fn charged(kernel: &Kernel) -> [usize; 3] {
    let mut objects = [0; 3];
    // SAFETY: as above.
    unsafe {
        kernel.heap.for_each_charge(|header, _| {
            let payer = [A, B, C].iter().position(|&known| Payer::of(known) == header.payer());
            if let Some(index) = payer.filter(|_| header.owner() != DomainId::NONE) {
                objects[index] += 1;
            }
        });
    }
    objects
}

#[test]
fn the_owner_of_the_root_is_charged_for_nested_objects() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(u8, RRef<(RRef<u64>, u64)>)>();
    kernel.register::<RRefDeque<u64, 4>>();
    let nested = RRef::new((1u8, RRef::new((RRef::new(7u64), 0u64))));
    let mut deque = inside(C, || RRef::new(RRefDeque::<u64, 4>::new()));
    inside(C, || deque.push_back(RRef::new(8)).expect("it has room"));
    let alone = inside(B, || RRef::new(9u64));
    let alone = pass_to(A, alone);
    assert_eq!(alone.header().payer(), Payer::of(B), "its maker pays until the count");
    assert_eq!(counted(&kernel), [4, 0, 2]);
    let alone = pass_to(B, alone);
    assert_eq!(counted(&kernel), [3, 1, 2]);
    let nested = pass_to(B, nested);
    assert_eq!(counted(&kernel), [0, 4, 2]);
    let payers = [nested.header(), nested.1.header(), nested.1.0.header(), alone.header()].map(Header::payer);
    assert_eq!(payers, [Payer::of(B); 4]);
    assert_eq!(deque.get(0).map(|message| message.header().payer()), Some(Payer::of(C)));
    inside(B, || drop((nested, alone)));
    inside(C, || drop(deque));
    kernel.check_empty();
}

#[test]
fn a_linked_object_that_is_not_yet_marked_is_charged_once() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, u64)>();
    let object = RRef::new((RRef::new(7u64), 0u64));
    leave_owned(&object.0, A);
    assert_eq!(counted(&kernel), [2, 0, 0]);
    leave_owned(&object.0, DomainId::NESTED);
    assert_eq!(counted(&kernel), [2, 0, 0]);
    drop(object);
    kernel.check_empty();
}

#[test]
#[should_panic(expected = "no interface mentions")]
fn a_type_with_references_that_no_interface_mentions_is_refused() {
    let _kernel = ExclusiveKernel::new();
    let _ = RRef::new((RRef::new(7u64), 1u16));
}

#[test]
fn bytes_have_the_length_that_was_set() {
    let kernel = ExclusiveKernel::new();
    let mut buffer = Bytes::<8>::shared_from(b"seven").expect("it fits");
    assert_eq!(&**buffer, b"seven");
    assert_eq!(buffer.set(b"nine bytes"), Err(TooLong { len: 10, capacity: 8 }));
    assert_eq!(&**buffer, b"seven");
    assert_eq!(buffer.set_len(8), Ok(()));
    assert_eq!(&**buffer, b"seven\0\0\0");
    drop(buffer);
    kernel.check_empty();
}

#[test]
fn an_array_nests_its_objects_and_gives_up_those_it_returns() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefArray<u64, 2>>();
    let mut array = RRef::new(RRefArray::<u64, 2>::new());
    assert!(array.replace(0, RRef::new(7)).is_none());
    let old = array.replace(0, RRef::new(8)).expect("one was there");
    assert_eq!((*old, owner(&old)), (7, A));
    assert_eq!(array.get(0).map(|object| (**object, owner(object))), Some((8, DomainId::NESTED)));
    *array.get_mut(0).expect("one is there") = 9;
    let taken = array.take(0).expect("one is there");
    assert_eq!((*taken, owner(&taken)), (9, A));
    assert!(array.take(0).is_none() && array.take(2).is_none() && array.get(2).is_none());
    drop((array, old, taken));
    kernel.check_empty();
}

#[test]
fn a_deque_keeps_order_when_its_index_wraps() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefDeque<u64, 4>>();
    let mut deque = RRef::new(RRefDeque::<u64, 4>::new());
    let (mut next_in, mut next_out) = (0, 0);
    for fill in [3, 1, 4, 2, 4, 0] {
        while deque.len() < fill {
            assert!(deque.push_back(RRef::new(next_in)).is_ok());
            next_in += 1;
        }
        assert!(deque.iter().map(|object| **object).eq(next_out..next_in));
        assert!(deque.iter().all(|object| owner(object) == DomainId::NESTED));
        while deque.len() > fill / 2 {
            let object = deque.pop_front().expect("it is not empty");
            assert_eq!((*object, owner(&object)), (next_out, A));
            next_out += 1;
        }
    }
    assert!(deque.is_empty() && deque.pop_front().is_none() && deque.pop_back().is_none());
    drop(deque);
    kernel.check_empty();
}

#[test]
fn a_full_deque_gives_the_object_back() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefDeque<u64, 2>>();
    let mut deque = RRef::new(RRefDeque::<u64, 2>::new());
    assert!(deque.push_back(RRef::new(1)).is_ok() && deque.push_back(RRef::new(2)).is_ok());
    assert!(deque.is_full());
    let refused = deque.push_back(RRef::new(3)).expect_err("it is full");
    assert_eq!((*refused, owner(&refused)), (3, A));
    assert_eq!(deque.pop_back().map(RRef::into_inner), Some(2));
    *deque.get_mut(0).expect("one is left") += 10;
    assert!(deque.get_mut(1).is_none() && deque.get(1).is_none());
    assert_eq!(deque.pop_front().map(RRef::into_inner), Some(11));
    drop((deque, refused));
    kernel.check_empty();
}

#[test]
fn usage_counts_roots_of_each_owner() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefArray<u64, 2>>();
    let mut array = RRef::new(RRefArray::<u64, 2>::new());
    let _ = array.replace(0, RRef::new(7));
    let other = pass_to(B, RRef::new([0u8; 100]));
    assert_eq!((kernel.objects(A), kernel.objects(B), kernel.owners().len()), (1, 1, 3));
    // 100 bytes and a header take a slot of 192.
    assert_eq!(kernel.heap.usage(B, || ()).bytes, 192);
    drop(array);
    inside(B, || drop(other));
    kernel.check_empty();
}

#[test]
fn a_crash_frees_the_objects_of_the_domain_and_no_others() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefDeque<RRefArray<u64, 2>, 4>>();
    let mut deque = RRef::new(RRefDeque::<RRefArray<u64, 2>, 4>::new());
    for number in 0..3 {
        let mut array = RRef::new(RRefArray::new());
        let _ = array.replace(1, RRef::new(number));
        assert!(deque.push_back(array).is_ok());
    }
    std::mem::forget(deque);
    let other = pass_to(B, RRef::new(9u64));
    let sweep = kernel.kill(A);
    assert_eq!((sweep.freed, sweep.returned, sweep.deferred), (1, 0, 0));
    assert_eq!((kernel.owners(), *other), (vec![B], 9));
    inside(B, || drop(other));
    kernel.check_empty();
}

#[test]
fn an_object_without_a_published_type_is_freed_and_not_destroyed() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(u8, RRef<u64>)>();
    let (inner, outer) = (RRef::new(7u64), RRef::new((1u8, RRef::new(8u64))));
    // As a kill before the type is published leaves it: the objects inside are still owned by the maker.
    leave_owned(&outer.1, A);
    // SAFETY: R4.
    unsafe { outer.header().set_type(crate::header::UNTYPED) };
    std::mem::forget((inner, outer));
    assert_eq!(kernel.kill(A).freed, 3);
    kernel.check_empty();
}

#[test]
fn a_linked_object_that_is_not_yet_marked_is_freed_once() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<RRefDeque<u64, 2>>();
    let mut deque = RRef::new(RRefDeque::<u64, 2>::new());
    let _ = deque.push_back(RRef::new(7));
    // The same as marked and not yet unlinked.
    leave_owned(deque.get(0).expect("one is there"), A);
    std::mem::forget(deque);
    assert_eq!(kernel.kill(A).freed, 1);
    kernel.check_empty();
}

#[test]
fn objects_nested_three_deep_are_freed_once_after_a_kill() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(u8, RRef<(u8, RRef<u64>)>)>();
    let object = RRef::new((1u8, RRef::new((2u8, RRef::new(3u64)))));
    leave_owned(&object.1.1, A);
    // SAFETY: no other code uses it.
    unsafe { object.1.header().set_owner(A) };
    std::mem::forget(object);
    assert_eq!(kernel.kill(A).freed, 1);
    kernel.check_empty();
}

/// Lets a call of `A` continue to read `values` when `A` dies.
fn retain(kernel: &Kernel, values: &[NonNull<u8>]) {
    // SAFETY: live objects, and there is no other thread.
    unsafe { kernel.heap.retain(values.iter().copied()) };
}

fn release(kernel: &Kernel, values: &[NonNull<u8>]) {
    // SAFETY: retained before.
    unsafe { kernel.heap.release(values.iter().copied(), kernel) };
}

#[test]
fn a_borrowed_object_outlives_its_owner_until_the_last_reader_returns() {
    let kernel = ExclusiveKernel::new();
    let value = value_of(&RRef::new(7u64).leak());
    retain(&kernel, &[value]);
    retain(&kernel, &[value]);
    let sweep = kernel.kill(A);
    assert_eq!((sweep.freed, sweep.deferred), (0, 1));
    release(&kernel, &[value]);
    assert_eq!(owner_at(value), DomainId::LIMBO);
    release(&kernel, &[value]);
    kernel.check_empty();
}

#[test]
fn a_borrow_of_an_inner_object_keeps_the_outer_object() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, RRef<(u8, RRef<u64>)>)>();
    let object = RRef::new((RRef::new(7u64), RRef::new((1u8, RRef::new(8u64)))));
    let values = [value_of(&object.1.1), value_of(&object.0)];
    std::mem::forget(object);
    retain(&kernel, &values);
    assert_eq!(kernel.kill(A).deferred, 1);
    assert_eq!(kernel.owners().len(), 4);
    release(&kernel, &values[..1]);
    assert_eq!(kernel.owners().len(), 4);
    release(&kernel, &values[1..]);
    kernel.check_empty();
}

#[test]
fn the_slot_of_a_dead_owner_pays_for_an_object_until_its_last_reader_returns() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(u8, RRef<u64>)>();
    let object = pass_to(A, inside(B, || RRef::new((1u8, RRef::new(7u64)))));
    let values = [value_of(&object), value_of(&object.1)];
    std::mem::forget(object);
    retain(&kernel, &values[1..]);
    assert_eq!(payers(values), [Payer::of(B); 2]);
    assert_eq!(kernel.kill(A).deferred, 1);
    assert_eq!(payers(values), [Payer::of_slot(A.slot()); 2]);
    // An exact count changes nothing about it.
    for only in [None, Some(A)] {
        count(&kernel, only);
        assert_eq!(payers(values), [Payer::of_slot(A.slot()); 2], "{only:?}");
    }
    release(&kernel, &values[1..]);
    kernel.check_empty();
}

fn payers<const N: usize>(values: [NonNull<u8>; N]) -> [Payer; N] {
    // SAFETY: the callers' objects are in use.
    values.map(|value| unsafe { Header::of(value) }.payer())
}

#[test]
fn a_reader_that_returns_before_the_sweep_leaves_the_object_to_it() {
    let kernel = ExclusiveKernel::new();
    let value = value_of(&RRef::new(7u64).leak());
    retain(&kernel, &[value]);
    release(&kernel, &[value]);
    assert_eq!(owner_at(value), A);
    assert_eq!(kernel.kill(A).freed, 1);
    kernel.check_empty();
}

#[test]
fn a_release_frees_no_other_borrowed_object() {
    let kernel = ExclusiveKernel::new();
    let (first, second) = (value_of(&RRef::new(7u64).leak()), value_of(&RRef::new(8u64).leak()));
    retain(&kernel, &[first, second]);
    assert_eq!(kernel.kill(A).deferred, 2);
    release(&kernel, &[first]);
    assert_eq!((owner_at(first), owner_at(second)), (DomainId::NONE, DomainId::LIMBO));
    release(&kernel, &[second]);
    kernel.check_empty();
}

#[test]
fn a_borrow_that_was_passed_on_does_not_free_the_object_of_a_running_owner() {
    let kernel = ExclusiveKernel::new();
    let object = RRef::new(7u64);
    retain(&kernel, &[value_of(&object)]);
    // `B` had passed on an object that it had from `A`.
    assert_eq!(kernel.kill(B), Sweep::default());
    release(&kernel, &[value_of(&object)]);
    assert_eq!((*object, owner(&object)), (7, A));
    drop(object);
    kernel.check_empty();
}

#[test]
fn a_loan_is_redeemed_after_the_return_and_not_before() {
    let kernel = ExclusiveKernel::new();
    let (loan, mut lent) = RRef::new(7u64).lend();
    lent = pass_to(B, lent);
    assert!(!loan.is_back());
    let loan = loan.redeem().expect_err("it is not back");
    inside(B, || {
        *lent += 1;
        drop(lent);
    });
    assert!(loan.is_back());
    let object = loan.redeem().unwrap_or_else(|_| panic!("it is back"));
    assert_eq!((*object, owner(&object), object.header().lender()), (8, A, DomainId::NONE));
    drop(object);
    kernel.check_empty();
}

#[test]
fn a_loan_that_is_let_go_leaves_the_object_to_the_borrower() {
    let kernel = ExclusiveKernel::new();
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    drop(loan);
    assert_eq!((*lent, kernel.objects(B)), (7, 1));
    inside(B, || drop(lent));
    kernel.check_empty();
}

#[test]
fn a_loan_that_is_let_go_after_the_return_frees_the_object() {
    let kernel = ExclusiveKernel::new();
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    inside(B, || drop(lent));
    assert_eq!(kernel.objects(A), 1);
    drop(loan);
    kernel.check_empty();
}

#[test]
fn a_lent_object_goes_back_when_the_borrower_dies() {
    let kernel = ExclusiveKernel::new();
    let (loan, lent) = RRef::new(7u64).lend();
    std::mem::forget(pass_to(B, lent));
    let sweep = kernel.kill(B);
    assert_eq!((sweep.freed, sweep.returned), (0, 1));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_lent_object_stays_with_the_borrower_when_the_lender_dies() {
    let kernel = ExclusiveKernel::new();
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    std::mem::forget(loan);
    assert_eq!(kernel.kill(A).freed, 0);
    assert_eq!(*lent, 7);
    inside(B, || drop(lent));
    kernel.check_empty();
}

#[test]
fn a_lent_object_is_freed_when_both_die() {
    for [first, second] in [[A, B], [B, A]] {
        let kernel = ExclusiveKernel::new();
        let (loan, lent) = RRef::new(7u64).lend();
        std::mem::forget((loan, pass_to(B, lent)));
        let _ = kernel.kill(first);
        let _ = kernel.kill(second);
        kernel.check_empty();
    }
}

#[test]
fn a_lent_object_whose_lender_holds_both_halves_is_freed_with_the_lender() {
    let kernel = ExclusiveKernel::new();
    std::mem::forget(RRef::new(7u64).lend());
    assert_eq!(kernel.kill(A).freed, 1);
    kernel.check_empty();
}

#[test]
fn a_lent_object_inside_another_goes_back_when_that_is_destroyed() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(Lent<u64>, u8)>();
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    inside(B, || std::mem::forget(RRef::new((lent, 1u8))));
    assert!(!loan.is_back());
    assert_eq!(kernel.kill(B).freed, 1);
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_lent_object_inside_a_lent_object_goes_back_to_each_lender() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(Lent<u64>, u8)>();
    let (inner_loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    let outer_loan = inside(B, || {
        let (loan, lent) = RRef::new((lent, 1u8)).lend();
        std::mem::forget(pass_to(C, lent));
        loan
    });
    assert_eq!(kernel.kill(C).returned, 1);
    assert!(!inner_loan.is_back());
    inside(B, || drop(outer_loan.redeem()));
    assert_eq!(inner_loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_lent_object_that_is_read_goes_back_when_the_reader_returns() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(u8, RRef<u64>)>();
    let (loan, lent) = RRef::new((1u8, RRef::new(7u64))).lend();
    let lent = pass_to(B, lent);
    let inner = value_of(&lent.1);
    std::mem::forget(lent);
    retain(&kernel, &[inner]);
    assert_eq!(kernel.kill(B).deferred, 1);
    assert!(!loan.is_back());
    assert_eq!(payers([inner]), [Payer::of_slot(B.slot())]);
    release(&kernel, &[inner]);
    assert_eq!(payers([inner]), [Payer::of(A)], "the lender has it back");
    assert_eq!(loan.redeem().map(|object| *object.into_inner().1).ok(), Some(7));
    kernel.check_empty();
}

/// Lends a 7 of `A` to `B`, and on to `C`.
fn lent_on() -> (Loan<u64>, Subloan<u64>, Lent<u64>) {
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    let (subloan, lent) = inside(B, || lent.lend()).unwrap_or_else(|_| panic!("lent on once"));
    (loan, subloan, pass_to(C, lent))
}

/// Loses a value with a dead domain's private heap.
fn forget<T>(value: T) {
    std::mem::forget(value);
}

/// The owner, the middle domain and the lender.
fn state(value: NonNull<u8>) -> [DomainId; 3] {
    // SAFETY: as `owner_at`.
    let header = unsafe { Header::of(value) };
    [header.owner(), header.middle(), header.lender()]
}

#[test]
fn an_object_lent_on_comes_back_in_steps() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, mut lent) = lent_on();
    let value = lent.header().value();
    assert_eq!(state(value), [C, B, A]);
    assert!(!loan.is_back() && !inside(B, || subloan.is_back()));
    let subloan = inside(B, || subloan.redeem()).err().expect("it is not back");
    inside(C, || {
        *lent += 1;
        drop(lent);
    });
    assert_eq!(state(value), [B, DomainId::NONE, A]);
    assert!(!loan.is_back());
    inside(B, || {
        let lent = subloan.redeem().unwrap_or_else(|_| panic!("it is back"));
        assert_eq!(*lent, 8);
        // The middle may lend it on again and again, one after the other.
        let (subloan, lent) = lent.lend().unwrap_or_else(|_| panic!("lent on again"));
        drop(pass_to(C, lent));
        drop(subloan.redeem());
    });
    assert_eq!(state(value), [A, DomainId::NONE, DomainId::NONE]);
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(8));
    kernel.check_empty();
}

#[test]
fn a_third_lender_is_refused_and_keeps_the_object() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, lent) = lent_on();
    let lent = inside(C, || lent.lend()).err().expect("two have lent it");
    assert_eq!((state(lent.header().value()), *lent), ([C, B, A], 7));
    inside(C, || drop(lent));
    inside(B, || drop(subloan.redeem()));
    drop(loan.redeem());
    kernel.check_empty();
}

#[test]
fn an_object_lent_on_returns_to_the_nearest_surviving_lender() {
    // The domains that die, in this order (the second borrower at any position), and the domain that has the
    // object in the end.
    let cases: [(&[DomainId], DomainId); 11] = [
        (&[C], B),
        (&[C, B], A),
        (&[B, C], A),
        (&[A, C], B),
        (&[C, A], B),
        (&[A, C, B], DomainId::NONE),
        (&[C, A, B], DomainId::NONE),
        (&[A, B, C], DomainId::NONE),
        (&[B, A, C], DomainId::NONE),
        (&[B, C, A], DomainId::NONE),
        (&[C, B, A], DomainId::NONE),
    ];
    for (victims, last) in cases {
        let kernel = ExclusiveKernel::new();
        let (loan, subloan, lent) = lent_on();
        let value = lent.header().value();
        forget(lent);
        for &victim in victims {
            let _ = kernel.kill(victim);
        }
        assert_eq!(owner_at(value), last, "after the deaths of {victims:?}");
        if last == B {
            assert!(victims.contains(&A) || !loan.is_back());
            inside(B, || {
                let lent = subloan.redeem().unwrap_or_else(|_| panic!("it is back"));
                assert_eq!(*lent, 7);
                // No trace of the old loan is left: it can be lent on again.
                let (subloan, lent) = lent.lend().unwrap_or_else(|_| panic!("lent on again"));
                drop((lent, subloan));
            });
        } else {
            forget(subloan);
        }
        if victims.contains(&A) {
            forget(loan);
        } else {
            assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
        }
        kernel.check_empty();
    }
}

#[test]
fn both_borrowers_that_die_in_one_sweep_leave_the_object_to_the_lender() {
    for victims in [[B, C], [C, B]] {
        let kernel = ExclusiveKernel::new();
        let (loan, subloan, lent) = lent_on();
        forget((subloan, lent));
        // A parent ends with its child: both are over before either is swept.
        victims.iter().for_each(|&victim| kernel.end_instance(victim));
        // SAFETY: there is no other thread.
        let returned = victims.map(|victim| unsafe { kernel.heap.sweep(victim, &*kernel) }.returned);
        assert_eq!(returned.iter().sum::<usize>(), 1);
        let object = loan.redeem().unwrap_or_else(|_| panic!("it is back"));
        assert_eq!((*object, state(value_of(&object))), (7, [A, DomainId::NONE, DomainId::NONE]));
        // No trace of the old loans stands in the way of new ones.
        let (loan, lent) = object.lend();
        let (subloan, lent) = lent.lend().unwrap_or_else(|_| panic!("lent on again"));
        let lent = subloan.settle(lent).unwrap_or_else(|_| panic!("halves of one"));
        drop(loan.settle(lent));
        kernel.check_empty();
    }
}

#[test]
fn a_second_borrower_returns_the_object_to_the_lender_when_the_middle_is_dead() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, lent) = lent_on();
    forget(subloan);
    let sweep = kernel.kill(B);
    assert_eq!((sweep.freed, sweep.returned, sweep.deferred), (0, 0, 0));
    assert!(!loan.is_back());
    let lent = inside(C, || lent.lend()).err().expect("the dead middle's entry stands in the way");
    inside(C, || drop(lent));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_middle_that_dies_with_both_halves_in_hand_returns_the_object_to_the_lender() {
    let kernel = ExclusiveKernel::new();
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    forget(inside(B, || lent.lend()));
    assert_eq!(kernel.kill(B).returned, 1);
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_middle_that_lets_go_leaves_the_object_between_the_other_two() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, lent) = lent_on();
    inside(B, || drop(subloan));
    assert_eq!(state(lent.header().value()), [C, DomainId::NONE, A]);
    inside(C, || drop(lent));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    // A middle that lets go after the return returns the object.
    let (loan, subloan, lent) = lent_on();
    inside(C, || drop(lent));
    inside(B, || drop(subloan));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_lender_that_lets_go_leaves_the_object_to_the_middle() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, lent) = lent_on();
    drop(loan);
    inside(C, || drop(lent));
    inside(B, || {
        let lent = subloan.redeem().unwrap_or_else(|_| panic!("it is back"));
        assert_eq!((*lent, kernel.objects(B)), (7, 1));
        drop(lent);
    });
    kernel.check_empty();
}

#[test]
fn halves_that_meet_again_are_joined() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, lent) = lent_on();
    let lent = pass_to(B, lent);
    let lent = inside(B, || subloan.settle(lent)).unwrap_or_else(|_| panic!("halves of one"));
    let lent = pass_to(A, lent);
    let object = loan.settle(lent).unwrap_or_else(|_| panic!("halves of one"));
    assert_eq!((*object, state(value_of(&object))), (7, [A, DomainId::NONE, DomainId::NONE]));
    drop(object);
    kernel.check_empty();
}

#[test]
fn halves_of_two_objects_are_not_joined() {
    let kernel = ExclusiveKernel::new();
    let ((loan, lent), (other_loan, other)) = (RRef::new(7u64).lend(), RRef::new(8u64).lend());
    let (loan, other) = loan.settle(other).expect_err("halves of two");
    let (subloan, lent) = lent.lend().unwrap_or_else(|_| panic!("lent on once"));
    let (subloan, other) = subloan.settle(other).err().expect("halves of two");
    let lent = subloan.settle(lent).unwrap_or_else(|_| panic!("halves of one"));
    assert_eq!(loan.settle(lent).map(RRef::into_inner).ok(), Some(7));
    assert_eq!(other_loan.settle(other).map(RRef::into_inner).ok(), Some(8));
    kernel.check_empty();
}

#[test]
fn halves_are_not_joined_while_the_middle_holds_its_subloan() {
    let kernel = ExclusiveKernel::new();
    let (loan, subloan, lent) = lent_on();
    // From the second borrower directly.
    let lent = pass_to(A, lent);
    let (loan, lent) = loan.settle(lent).expect_err("the middle holds its subloan");
    drop(lent);
    let lent = inside(B, || subloan.redeem()).unwrap_or_else(|_| panic!("it is back"));
    inside(B, || drop(lent));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn a_destroyed_deque_of_lent_objects_returns_each_to_its_lender() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<LentDeque<u64, 4>>();
    let mut deque = RRef::new(LentDeque::<u64, 4>::new());
    let mut loans = Vec::new();
    for number in 0..3 {
        let (loan, lent) = RRef::new(number).lend();
        deque.push_back(lent).unwrap_or_else(|_| panic!("it has room"));
        loans.push(loan);
    }
    *deque.get_mut(1).expect("three are there") += 10;
    assert!(deque.get_mut(3).is_none());
    assert!(deque.iter().map(|lent| **lent).eq([0, 11, 2]));
    let last = deque.pop_back().expect("three are there");
    assert_eq!((*last, last.header().owner()), (2, A));
    let first = deque.get(0).expect("two are there");
    assert_eq!(state(first.header().value()), [DomainId::NESTED, DomainId::NONE, A]);
    forget(pass_to(B, deque));
    assert_eq!(kernel.kill(B).freed, 1);
    assert_eq!(loans.iter().map(Loan::is_back).collect::<Vec<_>>(), [true, true, false]);
    drop(last);
    drop(loans);
    kernel.check_empty();
}

#[test]
fn an_object_lent_on_inside_a_deque_goes_back_to_the_middle() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<LentDeque<u64, 4>>();
    let (loan, lent) = RRef::new(7u64).lend();
    let lent = pass_to(B, lent);
    let (subloan, batch) = inside(B, || {
        let (subloan, lent) = lent.lend().unwrap_or_else(|_| panic!("lent on once"));
        let mut batch = RRef::new(LentDeque::<u64, 4>::new());
        batch.push_back(lent).unwrap_or_else(|_| panic!("it has room"));
        (subloan, batch)
    });
    forget(pass_to(C, batch));
    assert_eq!(kernel.kill(C).freed, 1);
    let lent = inside(B, || subloan.redeem()).unwrap_or_else(|_| panic!("it is back"));
    inside(B, || drop(lent));
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[test]
fn an_object_lent_on_in_its_slot_is_settled_in_its_slot() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<LentDeque<u64, 4>>();
    let (loans, lents): (Vec<_>, Vec<_>) = (0..2).map(|number| RRef::new(number).lend()).unzip();
    let mut batch = RRef::new(LentDeque::<u64, 4>::new());
    for lent in lents {
        batch.push_back(lent).unwrap_or_else(|_| panic!("it has room"));
    }
    let mut batch = pass_to(B, batch);
    let (first, second) =
        inside(B, || (batch.lend_at(0).expect("it is there"), batch.lend_at(1).expect("it is there")));
    assert!(inside(B, || batch.lend_at(0)).is_none() && inside(B, || batch.lend_at(2)).is_none());
    let mut batch = pass_to(B, pass_to(C, batch));
    // Each half fits its own object only.
    let first = inside(B, || batch.settle_at(1, first)).expect_err("of another object");
    let first = inside(B, || batch.settle_at(2, first)).expect_err("there is no object");
    assert!(inside(B, || batch.settle_at(0, first)).is_ok());
    assert_eq!(
        batch.get(0).map(|lent| state(lent.header().value())),
        Some([DomainId::NESTED, DomainId::NONE, A])
    );
    // The other one is lost with the driver.
    forget(pass_to(C, batch));
    assert_eq!(kernel.kill(C).freed, 1);
    assert_eq!(loans.iter().map(Loan::is_back).collect::<Vec<_>>(), [true, false]);
    inside(B, || drop(second.redeem()));
    drop(loans);
    kernel.check_empty();
}

#[test]
fn a_middle_that_dies_with_a_lent_on_object_in_its_deque_leaves_it_to_the_lender() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<LentDeque<u64, 4>>();
    let (loan, lent) = RRef::new(7u64).lend();
    let mut batch = RRef::new(LentDeque::<u64, 4>::new());
    batch.push_back(lent).unwrap_or_else(|_| panic!("it has room"));
    let mut batch = pass_to(B, batch);
    forget(inside(B, || batch.lend_at(0)));
    forget(batch);
    assert_eq!(kernel.kill(B).freed, 1);
    assert_eq!(loan.redeem().map(RRef::into_inner).ok(), Some(7));
    kernel.check_empty();
}

#[derive(Shareable, Flat, AnyBits, Clone, Copy, PartialEq, Debug)]
#[repr(C, align(64))]
struct Head {
    words: [u64; 8],
}

#[test]
fn a_buffer_has_the_requested_capacity() {
    let kernel = ExclusiveKernel::new();
    let head = Head { words: [3; 8] };
    for bytes in [0, 1, 512, 4096, 8192, 131_072] {
        let mut buffer = RRef::with_capacity(head, bytes);
        assert_eq!((buffer.capacity(), buffer.bytes().len(), *buffer.head()), (bytes, bytes, head));
        assert_eq!((buffer.bytes_address(), buffer.address() % 64), (buffer.address() + 64, 0));
        assert!(buffer.bytes().iter().all(|&byte| byte == 0));
        buffer.bytes_mut().fill(0xee);
        buffer.head_mut().words[7] = 9;
        let (loan, lent) = buffer.lend();
        let mut lent = pass_to(B, lent);
        assert_eq!((lent.capacity(), lent.head().words[7]), (bytes, 9));
        inside(B, || {
            lent.bytes_mut().fill(0xdd);
            lent.words[0] = 1;
            drop(lent);
        });
        let buffer = loan.redeem().unwrap_or_else(|_| panic!("it is back"));
        assert!(buffer.bytes().iter().all(|&byte| byte == 0xdd) && buffer.words[0] == 1);
    }
    kernel.check_empty();
}

#[test]
fn a_buffer_in_a_deque_is_written_in_its_slot() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<LentDeque<Buffer<u64>, 4>>();
    let (claim, lent) = RRef::with_capacity(0_u64, 5).lend();
    let mut batch = RRef::new(LentDeque::<Buffer<u64>, 4>::new());
    assert!(batch.push_back(lent).is_ok());
    batch.bytes_at_mut(0).expect("it is there").copy_from_slice(b"bytes");
    assert!(batch.bytes_at_mut(1).is_none());
    assert_eq!(batch.get(0).map(|buffer| buffer.bytes()), Some(&b"bytes"[..]));
    let lent = batch.pop_front().expect("it is there");
    drop(batch);
    let Ok(buffer) = claim.settle(lent) else { panic!("they are halves of one object") };
    assert_eq!(buffer.bytes(), b"bytes");
    drop(buffer);
    kernel.check_empty();
}

#[test]
fn a_buffer_taken_out_of_its_rref_is_only_its_head() {
    let kernel = ExclusiveKernel::new();
    let taken = RRef::with_capacity(Head { words: [5; 8] }, 4096).into_inner();
    let again = RRef::new(taken);
    assert_eq!((again.capacity(), again.bytes(), again.head().words), (0, &[][..], [5; 8]));
    assert_eq!(RRef::<Buffer<Head>>::zeroed().capacity(), 0);
    drop(again);
    kernel.check_empty();
}

#[test]
fn a_refused_buffer_returns_its_head() {
    let kernel = ExclusiveKernel::new();
    assert_eq!(RRef::<Buffer<u64>>::try_with_capacity(7, MAX_BUFFER + 1).err(), Some(7));
    ALLOCATIONS_LEFT.set(0);
    assert_eq!(RRef::<Buffer<u64>>::try_with_capacity(7, 8).err(), Some(7));
    kernel.check_empty();
}

impl<T: Shareable> RRef<T> {
    /// Leaves it like a dead domain.
    fn leak(self) -> std::mem::ManuallyDrop<Self> {
        std::mem::ManuallyDrop::new(self)
    }
}

/// The audit's findings about an idle heap.
fn findings(kernel: &Kernel) -> Vec<String> {
    let mut findings = Vec::new();
    kernel.audit(&mut |finding| findings.push(finding.to_string()));
    findings
}

#[test]
fn the_audit_finds_nothing_wrong_with_a_heap_in_order() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, u64)>();
    kernel.register::<RRefDeque<u64, 4>>();
    let object = RRef::new((RRef::new(7u64), 0u64));
    let mut deque = RRef::new(RRefDeque::<u64, 4>::new());
    deque.push_back(RRef::new(8)).expect("it has room");
    let large = inside(B, || RRef::new([1u8; 100_000]));
    let (claim, lent) = RRef::new(9u64).lend();
    assert_eq!(findings(&kernel), [""; 0]);
    drop((object, deque, claim, lent));
    inside(B, || drop(large));
    kernel.check_empty();
    assert_eq!(findings(&kernel), [""; 0]);
}

#[test]
fn the_audit_finds_inconsistent_owners() {
    let kernel = ExclusiveKernel::new();
    kernel.register::<(RRef<u64>, u64)>();
    let object = RRef::new((RRef::new(7u64), 0u64));
    let alone = RRef::new(9u64);
    #[track_caller]
    fn is_found(kernel: &Kernel, object: &RRef<u64>, owner: DomainId, expected: &str) {
        let right = object.header().owner();
        leave_owned(object, owner);
        let found = findings(kernel);
        leave_owned(object, right);
        assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:?}");
        assert_eq!(findings(kernel), [""; 0]);
    }
    is_found(&kernel, &alone, DomainId::NESTED, "2 objects are nested, and other objects hold 1");
    is_found(&kernel, &alone, DomainId::LIMBO, "which does not run");
    is_found(&kernel, &alone, DomainId::NONE, "slots have left their spans");
    is_found(&kernel, &alone, DomainId::new(4000, 0), "which does not run");
    kernel.end_instance(C);
    is_found(&kernel, &object.0, C, "which does not run");
    drop((object, alone));
    kernel.check_empty();
}
