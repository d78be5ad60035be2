//! The scenarios: in each test one thread does something, and another kills domains at the same time.
//!
//! At the end of each run everything that running domains hold is dropped; then every object must have been
//! freed, once.

use std::cell::RefCell;
use std::ptr::NonNull;
use std::rc::Rc;

use coppice_abi::DomainId;

use super::crossing::{call, crash, kill, thread};
use super::mock::{A, B, C, Kernel, inside};
use super::{CPU, Mutation, check};
use crate::heap::World;
use crate::{Lent, Loan, RRef, RRefDeque, Shareable, Subloan};

/// Starts a thread of `home` on CPU `number`.
fn spawn(number: usize, home: DomainId, program: impl FnOnce() + 'static) -> loom::thread::JoinHandle<()> {
    loom::thread::spawn(move || {
        CPU.set(number);
        thread(home, program);
    })
}

/// Starts a thread that kills `victims`, one after the other.
fn spawn_killer(number: usize, victims: &'static [DomainId]) -> loom::thread::JoinHandle<()> {
    spawn(number, DomainId::KERNEL, move || victims.iter().copied().for_each(kill))
}

fn join(handle: loom::thread::JoinHandle<()>) {
    super::switch(|| handle.join().expect("the thread has not panicked"));
}

/// Runs `program` as a thread of `A` while another thread kills `victims`.
fn against_kill(kernel: &Rc<Kernel>, victims: &'static [DomainId], program: impl FnOnce(&Kernel)) {
    let killer = spawn_killer(1, victims);
    thread(A, || program(kernel));
    join(killer);
}

/// A value in a domain's private heap: dropped by the domain, or lost with it.
struct Private<T>(Rc<RefCell<Option<T>>>);

impl<T> Clone for Private<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Private<T> {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(None)))
    }
    fn put(&self, value: T) {
        *self.0.borrow_mut() = Some(value);
    }
    fn take(&self) -> Option<T> {
        self.0.borrow_mut().take()
    }
    /// Ends the run: drops the value if `owner` is alive.
    fn end(self, kernel: &Kernel, owner: DomainId) {
        if let Some(value) = self.take() {
            if kernel.is_alive(owner) {
                inside(owner, || drop(value));
            } else {
                std::mem::forget(value);
            }
        }
    }
}

fn value_of<T: Shareable>(object: &RRef<T>) -> NonNull<u8> {
    object.header().value()
}

fn moves_there_and_back(mutation: Mutation, victims: &'static [DomainId]) {
    check(mutation, move |kernel| {
        against_kill(kernel, victims, |kernel| {
            let object = RRef::new(7u64);
            if let Ok(object) = call(B, object, &[], |object| object) {
                kernel.check(*object == 7, "a moved object has another value");
            }
        });
    });
}

#[test]
fn an_object_that_moves_there_and_back_survives_a_kill_of_its_caller() {
    moves_there_and_back(Mutation::None, &[A]);
}

#[test]
fn an_object_that_moves_there_and_back_survives_a_kill_of_its_callee() {
    moves_there_and_back(Mutation::None, &[B]);
}

#[test]
#[should_panic(expected = "freed")]
fn the_checker_finds_a_result_that_goes_to_a_dead_caller() {
    moves_there_and_back(Mutation::ResultToDeadCaller, &[A]);
}

#[test]
#[should_panic(expected = "lost")]
fn the_checker_finds_a_move_outside_a_section() {
    moves_there_and_back(Mutation::MoveOutsideSection, &[B]);
}

#[test]
#[should_panic(expected = "freed")]
fn the_checker_finds_a_sweep_without_a_stop() {
    moves_there_and_back(Mutation::NoStop, &[A]);
}

fn callee_keeps_the_object(victims: &'static [DomainId]) {
    check(Mutation::None, move |kernel| {
        let kept = Private::new();
        let store = kept.clone();
        against_kill(kernel, victims, |_| {
            let _ = call(B, RRef::new(7u64), &[], |object| store.put(object));
        });
        kept.end(kernel, B);
    });
}

#[test]
fn an_object_that_the_callee_keeps_survives_a_kill_of_its_caller() {
    callee_keeps_the_object(&[A]);
}

#[test]
fn an_object_that_the_callee_keeps_is_freed_with_the_callee() {
    callee_keeps_the_object(&[B]);
}

fn chain_of_three(victims: &'static [DomainId]) {
    check(Mutation::None, move |kernel| {
        against_kill(kernel, victims, |kernel| {
            let answer = call(B, RRef::new(7u64), &[], |object| call(C, object, &[], |object| object).ok());
            if let Ok(Some(object)) = answer {
                kernel.check(*object == 7, "a moved object has another value");
            }
        });
    });
}

#[test]
fn a_chain_of_three_survives_a_kill_of_the_middle() {
    chain_of_three(&[B]);
}

#[test]
fn a_chain_of_three_survives_the_death_of_both_callers() {
    chain_of_three(&[A, B]);
}

#[test]
fn a_chain_of_three_survives_the_death_of_both_callees() {
    chain_of_three(&[C, B]);
}

fn callee_reads(mutation: Mutation, victims: &'static [DomainId]) {
    check(mutation, move |kernel| {
        kernel.register::<RRefDeque<u64, 2>>();
        against_kill(kernel, victims, |kernel| {
            let mut batch = RRef::new(RRefDeque::<u64, 2>::new());
            let _ = batch.push_back(RRef::new(7));
            let object = batch.get(0).expect("just put there");
            // SAFETY: the proxy's copy, for the length of the call.
            let copy = unsafe { object.alias() };
            let _ = call(B, (), &[value_of(object)], |()| {
                super::step();
                kernel
                    .check(!kernel.was_freed(value_of(&copy)) && **copy == 7, "a borrowed object was freed");
            });
        });
    });
}

#[test]
fn a_borrowed_object_inside_another_outlives_its_owner_until_the_call_ends() {
    callee_reads(Mutation::None, &[A]);
}

#[test]
fn a_borrowed_object_stays_with_its_owner_when_the_reader_dies() {
    callee_reads(Mutation::None, &[B]);
}

#[test]
#[should_panic(expected = "freed")]
fn the_checker_finds_a_borrow_that_is_not_retained() {
    callee_reads(Mutation::NoRetain, &[A]);
}

fn borrow_is_passed_on(victims: &'static [DomainId]) {
    check(Mutation::None, move |kernel| {
        against_kill(kernel, victims, |kernel| {
            let object = RRef::new(7u64);
            // SAFETY: the proxies' copy, for the length of the call.
            let copy = unsafe { object.alias() };
            let borrows = [value_of(&object)];
            let _ = call(B, (), &borrows, |()| {
                let _ = call(C, (), &borrows, |()| {
                    super::step();
                    kernel.check(!kernel.was_freed(borrows[0]) && **copy == 7, "a borrowed object was freed");
                });
            });
        });
    });
}

#[test]
fn a_borrow_that_was_passed_on_outlives_the_domain_that_passed_it_on() {
    borrow_is_passed_on(&[B]);
}

#[test]
fn a_borrow_that_was_passed_on_outlives_both_callers() {
    borrow_is_passed_on(&[B, A]);
}

#[test]
fn readers_that_return_at_the_same_time_free_the_object_once() {
    check(Mutation::None, |kernel| {
        kernel.register::<(RRef<u64>, RRef<u64>)>();
        let object = inside(A, || RRef::new((RRef::new(7u64), RRef::new(8u64))));
        let values = [value_of(&object.0), value_of(&object.1)];
        std::mem::forget(object);
        // SAFETY: live objects, and no other code runs yet.
        unsafe { kernel.heap.retain(values.into_iter()) };
        kernel.kill(A);
        let reader = |value: NonNull<u8>, kernel: Rc<Kernel>| {
            let _section = super::Section::enter();
            // SAFETY: retained above.
            unsafe { kernel.heap.release([value].into_iter(), &*kernel) };
        };
        let (other, its_kernel) = (values[1], kernel.clone());
        let second = spawn(1, DomainId::KERNEL, move || reader(other, its_kernel));
        thread(DomainId::KERNEL, || reader(values[0], kernel.clone()));
        join(second);
    });
}

#[test]
fn a_callee_that_crashes_while_its_caller_is_killed_frees_the_objects_of_both() {
    check(Mutation::None, |kernel| {
        against_kill(kernel, &[A], |_| {
            let object = RRef::new(7u64);
            let copy = value_of(&object);
            let _ = call(B, RRef::new(8u64), &[copy], |_object| -> () { crash() });
        });
    });
}

#[test]
fn a_kill_at_any_step_of_a_container_operation_loses_nothing() {
    check(Mutation::None, |kernel| {
        kernel.register::<RRefDeque<u64, 2>>();
        against_kill(kernel, &[A], |kernel| {
            let mut batch = RRef::new(RRefDeque::<u64, 2>::new());
            let _ = batch.push_back(RRef::new(7));
            let _ = batch.push_back(RRef::new(8));
            let object = batch.pop_front().expect("two were put there");
            kernel.check(*object == 7, "the wrong object");
        });
    });
}

#[test]
fn a_kill_at_any_step_of_an_update_loses_nothing() {
    check(Mutation::None, |kernel| {
        kernel.register::<(RRef<u64>, Option<RRef<u64>>)>();
        against_kill(kernel, &[A], |kernel| {
            let mut pair = RRef::new((RRef::new(7u64), Some(RRef::new(8u64))));
            let second = pair.update(|(first, second)| {
                std::mem::swap(first, second.as_mut().expect("there are two"));
                second.take()
            });
            kernel.check(second.is_some_and(|second| *second == 7), "the wrong object");
            let (first, _) = pair.into_inner();
            kernel.check(*first == 8, "the wrong object");
        });
    });
}

#[test]
fn a_kill_at_any_step_of_a_drop_loses_nothing() {
    check(Mutation::None, |kernel| {
        kernel.register::<(RRef<u64>, RRef<(RRef<u64>, u64)>)>();
        against_kill(kernel, &[A], |_| {
            let object = RRef::new((RRef::new(7u64), RRef::new((RRef::new(8u64), 9u64))));
            drop(object);
        });
    });
}

#[test]
fn a_lent_object_comes_back_when_the_borrower_dies() {
    check(Mutation::None, |kernel| {
        let (mine, theirs) = (Private::new(), Private::new());
        against_kill(kernel, &[B], |_| {
            let (loan, lent) = RRef::new(7u64).lend();
            mine.put(loan);
            let _ = call(B, lent, &[], |lent| theirs.put(lent));
        });
        inside(A, || {
            let loan = mine.take().expect("the lender is alive");
            let object = loan.redeem().unwrap_or_else(|_| panic!("a loan to a dead borrower is not back"));
            kernel.check(*object == 7, "a lent object has another value");
        });
        theirs.end(kernel, B);
    });
}

#[test]
fn a_lent_object_is_left_to_its_borrower_when_the_lender_dies() {
    check(Mutation::None, |kernel| {
        let (mine, theirs) = (Private::new(), Private::new());
        against_kill(kernel, &[A], |_| {
            let (loan, lent) = RRef::new(7u64).lend();
            mine.put(loan);
            let _ = call(B, lent, &[], |lent| theirs.put(lent));
        });
        theirs.end(kernel, B);
        mine.end(kernel, A);
    });
}

/// Lends an object of `A` to `B`, before the other threads start.
fn lent_to_b() -> (Private<Loan<u64>>, Private<Lent<u64>>) {
    let (mine, theirs) = (Private::new(), Private::new());
    let (loan, lent) = inside(A, || RRef::new(7u64).lend());
    // SAFETY: the crossing.
    lent.for_each_root(&mut |root| unsafe { root.pass_to(B) });
    mine.put(loan);
    theirs.put(lent);
    (mine, theirs)
}

/// `B` returns the object while `A` does `with_loan` and another thread kills `victims`.
fn return_against(
    mutation: Mutation,
    victims: &'static [DomainId],
    with_loan: fn(&Kernel, Private<Loan<u64>>),
) {
    check(mutation, move |kernel| {
        let (mine, theirs) = lent_to_b();
        let lender = {
            let (kernel, mine) = (kernel.clone(), mine.clone());
            spawn(1, A, move || with_loan(&kernel, mine))
        };
        let killer = (!victims.is_empty()).then(|| spawn_killer(2, victims));
        thread(B, || drop(theirs.take()));
        join(lender);
        killer.into_iter().for_each(join);
        theirs.end(kernel, B);
        mine.end(kernel, A);
    });
}

fn let_go(_: &Kernel, loan: Private<Loan<u64>>) {
    drop(loan.take());
}

fn try_to_redeem(kernel: &Kernel, mine: Private<Loan<u64>>) {
    let Some(loan) = mine.take() else { return };
    match loan.redeem() {
        Ok(object) => {
            super::step();
            kernel.check(!kernel.was_freed(value_of(&object)) && *object == 7, "a redeemed object was freed");
        }
        Err(loan) => mine.put(loan),
    }
}

#[test]
fn return_and_letting_go_free_the_object_once() {
    return_against(Mutation::None, &[], let_go);
}

#[test]
fn return_and_letting_go_free_the_object_once_when_the_lender_dies() {
    return_against(Mutation::None, &[A], let_go);
}

#[test]
fn return_and_letting_go_free_the_object_once_when_the_borrower_dies() {
    return_against(Mutation::None, &[B], let_go);
}

#[test]
fn a_redeemed_object_belongs_to_the_lender_alone() {
    return_against(Mutation::None, &[], try_to_redeem);
}

#[test]
fn a_redeemed_object_belongs_to_the_lender_alone_when_the_lender_dies() {
    return_against(Mutation::None, &[A], try_to_redeem);
}

#[test]
fn a_redeemed_object_belongs_to_the_lender_alone_when_the_borrower_dies() {
    return_against(Mutation::None, &[B], try_to_redeem);
}

#[test]
#[should_panic(expected = "freed")]
fn the_checker_finds_a_lender_that_is_taken_for_dead_while_it_runs() {
    return_against(Mutation::DeadBeforeStopped, &[A], try_to_redeem);
}

/// The halves: lender's, middle's, second borrower's.
type Three = (Private<Loan<u64>>, Private<Subloan<u64>>, Private<Lent<u64>>);

/// Lends an object of `A` to `B`, and on to `C`, before the other threads start.
fn lent_on_to_c() -> Three {
    let (mine, between) = lent_to_b();
    let lent = between.take().expect("just put there");
    let (subloan, lent) = inside(B, || lent.lend()).unwrap_or_else(|_| panic!("lent on once"));
    // SAFETY: the crossing.
    lent.for_each_root(&mut |root| unsafe { root.pass_to(C) });
    let (middle, theirs) = (Private::new(), Private::new());
    middle.put(subloan);
    theirs.put(lent);
    (mine, middle, theirs)
}

/// `C` returns the object while `B` does `with_subloan` and another thread kills `victims`. Afterwards `A`,
/// if it is alive, has the object, or `B` if it holds it.
fn return_on_against(
    mutation: Mutation,
    victims: &'static [DomainId],
    with_subloan: fn(&Kernel, Private<Subloan<u64>>),
) {
    check(mutation, move |kernel| {
        let (mine, middle, theirs) = lent_on_to_c();
        let borrower = {
            let (kernel, middle) = (kernel.clone(), middle.clone());
            spawn(1, B, move || with_subloan(&kernel, middle))
        };
        let killer = (!victims.is_empty()).then(|| spawn_killer(2, victims));
        thread(C, || drop(theirs.take()));
        join(borrower);
        killer.into_iter().for_each(join);
        theirs.end(kernel, C);
        middle.end(kernel, B);
        if kernel.is_alive(A) {
            let loan = mine.take().expect("the lender is alive");
            let object = inside(A, || loan.redeem());
            kernel.check(object.is_ok(), "no borrower holds the object, but it is not back");
            inside(A, || drop(object));
        }
        mine.end(kernel, A);
    });
}

fn let_go_between(_: &Kernel, subloan: Private<Subloan<u64>>) {
    drop(subloan.take());
}

/// Redeems an object that is back, reads it, and returns it to the lender.
fn try_to_redeem_between(kernel: &Kernel, middle: Private<Subloan<u64>>) {
    let Some(subloan) = middle.take() else { return };
    match subloan.redeem() {
        Ok(lent) => {
            super::step();
            let value = NonNull::from(&*lent).cast();
            kernel.check(!kernel.was_freed(value) && *lent == 7, "a redeemed object was freed");
        }
        Err(subloan) => middle.put(subloan),
    }
}

#[test]
fn an_object_lent_on_and_let_go_returns_once() {
    return_on_against(Mutation::None, &[], let_go_between);
}

#[test]
fn an_object_lent_on_and_let_go_returns_once_when_the_middle_dies() {
    return_on_against(Mutation::None, &[B], let_go_between);
}

#[test]
fn an_object_lent_on_and_let_go_returns_once_when_the_second_borrower_dies() {
    return_on_against(Mutation::None, &[C], let_go_between);
}

#[test]
fn an_object_lent_on_and_let_go_is_freed_once_when_the_lender_dies() {
    return_on_against(Mutation::None, &[A], let_go_between);
}

#[test]
fn an_object_redeemed_by_the_middle_belongs_to_the_middle_alone() {
    return_on_against(Mutation::None, &[], try_to_redeem_between);
}

#[test]
fn an_object_redeemed_by_the_middle_goes_to_the_lender_when_the_middle_dies() {
    return_on_against(Mutation::None, &[B], try_to_redeem_between);
}

#[test]
fn an_object_redeemed_by_the_middle_stays_with_it_when_the_second_borrower_dies() {
    return_on_against(Mutation::None, &[C], try_to_redeem_between);
}

#[test]
fn an_object_redeemed_by_the_middle_is_freed_once_when_the_lender_dies() {
    return_on_against(Mutation::None, &[A], try_to_redeem_between);
}

#[test]
#[should_panic(expected = "freed")]
fn the_checker_finds_a_middle_that_is_taken_for_dead_while_it_runs() {
    return_on_against(Mutation::DeadBeforeStopped, &[B], try_to_redeem_between);
}

/// All three domains do at the same time all that they may do with the object.
#[test]
fn three_that_let_go_at_once_free_the_object_once() {
    check(Mutation::None, |_| {
        let (mine, middle, theirs) = lent_on_to_c();
        let lender = spawn(1, A, move || drop(mine.take()));
        let borrower = spawn(2, B, move || drop(middle.take()));
        thread(C, || drop(theirs.take()));
        join(lender);
        join(borrower);
    });
}

/// Both borrowers are swept at once, after one stop as for a parent and its child, or after one each.
#[test]
fn two_borrowers_that_die_at_once_leave_the_object_to_the_lender() {
    check(Mutation::None, |kernel| {
        let (mine, middle, theirs) = lent_on_to_c();
        let first = spawn(1, DomainId::KERNEL, || kill(B));
        let second = spawn(2, DomainId::KERNEL, || kill(C));
        join(first);
        join(second);
        middle.end(kernel, B);
        theirs.end(kernel, C);
        inside(A, || {
            let loan = mine.take().expect("the lender is alive");
            let object = loan.redeem();
            kernel.check(object.is_ok(), "both borrowers are dead, but the object is not back");
            drop(object);
        });
    });
}

/// A complete request: lent, lent on, returned and settled on the way back, with a kill at any step.
fn a_request_against(victims: &'static [DomainId]) {
    check(Mutation::None, move |kernel| {
        let (mine, middle) = (Private::new(), Private::new());
        against_kill(kernel, victims, |kernel| {
            let (loan, lent) = RRef::new(7u64).lend();
            mine.put(loan);
            let between = middle.clone();
            let answer = call(B, lent, &[], |lent| {
                let Ok((subloan, lent)) = lent.lend() else {
                    kernel.check(false, "an object that is lent once is not lent on");
                    return None;
                };
                between.put(subloan);
                let lent = call(C, lent, &[], |lent| lent).ok()?;
                let subloan = between.take().expect("just put there");
                subloan.settle(lent).ok()
            });
            if let Ok(Some(lent)) = answer {
                let loan = mine.take().expect("just put there");
                let object = loan.settle(lent);
                kernel.check(object.is_ok_and(|object| *object == 7), "the halves of a request do not fit");
            }
        });
        middle.end(kernel, B);
        if kernel.is_alive(A)
            && let Some(loan) = mine.take()
        {
            inside(A, || drop(loan.redeem().map_err(|_| kernel.check(false, "a request is not back"))));
        }
        mine.end(kernel, A);
    });
}

#[test]
fn a_request_comes_back_when_the_driver_dies_at_any_step() {
    a_request_against(&[C]);
}

#[test]
fn a_request_comes_back_when_the_shadow_dies_at_any_step() {
    a_request_against(&[B]);
}

#[test]
fn a_request_comes_back_when_both_die_at_any_step() {
    a_request_against(&[B, C]);
}

#[test]
fn a_request_is_freed_once_when_its_client_dies_at_any_step() {
    a_request_against(&[A]);
}
