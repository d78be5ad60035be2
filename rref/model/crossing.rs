//! The modelled half: threads, crossings, and terminations as the kernel does them.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

use coppice_abi::DomainId;
use coppice_abi::crossing::Status;

use super::mock::{Kernel, run_as};
use super::{Mutation, Section, cpu, run, step, switch};
use crate::Shareable;
use crate::heap::World;

/// One thread, on a CPU of its own.
#[derive(Default)]
pub(super) struct Thread {
    /// The domain whose code runs; `None` before and after.
    current: Cell<Option<DomainId>>,
    continuations: RefCell<Vec<Continuation>>,
    /// Section depth.
    pub(super) sections: Cell<u32>,
    /// Its domain has died; it continues at its innermost live caller.
    pub(super) killed: Cell<bool>,
    /// It is on its way there. This takes unwinding of frames that the real kernel just abandons.
    pub(super) unwinding: Cell<bool>,
}

struct Continuation {
    caller: DomainId,
    status: Cell<u32>,
    borrows: Vec<NonNull<u8>>,
}

/// The payload of an unwinding: the number of the continuation that it goes to, or `None` for the start of
/// the thread.
struct Evicted(Option<usize>);

/// The error of a call whose callee died.
#[derive(Debug)]
pub(super) struct Gone;

/// Runs `program` as a thread of `home`; `None` if that domain died.
pub(super) fn thread<R>(home: DomainId, program: impl FnOnce() -> R) -> Option<R> {
    let run = run().expect("a scenario runs");
    let thread = &run.threads[cpu()];
    if !Kernel::get().is_alive(home) {
        return None;
    }
    thread.current.set(Some(home));
    run_as(home);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let result = program();
        step();
        result
    }));
    thread.unwinding.set(false);
    thread.current.set(None);
    run_as(DomainId::KERNEL);
    match result {
        Ok(result) => Some(result),
        Err(payload) => {
            assert_eq!(arrival(payload), None, "every continuation was passed");
            None
        }
    }
}

/// Returns the target of an unwinding. A failed assertion continues to unwind.
fn arrival(payload: Box<dyn Any + Send>) -> Option<usize> {
    match payload.downcast::<Evicted>() {
        Ok(evicted) => evicted.0,
        Err(payload) => resume_unwind(payload),
    }
}

/// Calls `body` in `callee`; a crash of the callee ends here.
pub(super) fn call<A: Shareable, R: Shareable>(
    callee: DomainId,
    arguments: A,
    borrows: &[NonNull<u8>],
    body: impl FnOnce(A) -> R,
) -> Result<R, Gone> {
    let run = run().expect("a scenario runs");
    let thread = &run.threads[cpu()];
    let caller = thread.current.get().expect("a crossing has a caller");
    let number = thread.continuations.borrow().len();
    let outcome = catch_unwind(AssertUnwindSafe(|| deliver(callee, arguments, borrows, body)));
    outcome.unwrap_or_else(|payload| {
        let target = arrival(payload);
        if target != Some(number) {
            resume_unwind(Box::new(Evicted(target)));
        }
        thread.unwinding.set(false);
        run_as(caller);
        Err(Gone)
    })
}

/// A crossing, step for step as `call` and `deliver` of `coppice_interfaces::crossing`.
fn deliver<A: Shareable, R: Shareable>(
    callee: DomainId,
    arguments: A,
    borrows: &[NonNull<u8>],
    body: impl FnOnce(A) -> R,
) -> Result<R, Gone> {
    let run = run().expect("a scenario runs");
    let kernel = Kernel::get();
    let thread = &run.threads[cpu()];
    let mutation = run.mutation.get();
    let section_if = |roots| (roots && mutation != Mutation::MoveOutsideSection).then(Section::enter);
    let caller = thread.current.get().expect("a crossing has a caller");

    step();
    let section = section_if(A::ROOTS);
    step();
    let status = Cell::new(Status::RETURNED);
    thread.continuations.borrow_mut().push(Continuation { caller, status, borrows: borrows.to_vec() });
    step();
    thread.current.set(Some(callee));
    step();
    mark(thread);
    if !kernel.is_alive(callee) {
        step();
        thread.current.set(Some(caller));
        let continuation = pop(thread);
        drop(section);
        step();
        drop(arguments);
        if has_died(&continuation) {
            abandon(&continuation)
        }
        return Err(Gone);
    }
    // SAFETY: as in `deliver`.
    arguments.for_each_root(&mut |root| unsafe { root.pass_to(callee) });
    drop(section);

    run_as(callee);
    step();
    let result = body(arguments);
    step();

    let section = section_if(R::ROOTS);
    let died = thread.continuations.borrow().last().is_some_and(has_died);
    if R::ROOTS && died && mutation != Mutation::ResultToDeadCaller {
        drop(section);
        drop(result);
        step();
        thread.current.set(Some(caller));
        abandon(&pop(thread))
    }
    // SAFETY: as in `deliver`.
    result.for_each_root(&mut |root| unsafe { root.pass_to(caller) });
    step();
    thread.current.set(Some(caller));
    let continuation = pop(thread);
    drop(section);
    run_as(caller);
    if has_died(&continuation) {
        drop(result);
        abandon(&continuation)
    }
    step();
    Ok(result)
}

/// Lets a watch tick see the call. A real one may come at any step; after the earliest possible mark, every
/// later check of the status has to ignore it.
fn mark(thread: &Thread) {
    let continuations = thread.continuations.borrow();
    let status = &continuations.last().expect("this crossing has pushed one").status;
    status.set(status.get() | 1 << Status::TIMESTAMP_SHIFT);
}

/// Returns true if the kernel has marked a continuation as one of a dead caller.
fn has_died(continuation: &Continuation) -> bool {
    continuation.status.get() & Status::CALLER_DIED != 0
}

/// Takes the innermost continuation off the stack, as a step.
fn pop(thread: &Thread) -> Continuation {
    step();
    thread.continuations.borrow_mut().pop().expect("each crossing has pushed one")
}

/// The continuation of a proxy whose caller died.
fn abandon(continuation: &Continuation) -> ! {
    step();
    {
        let _section = Section::enter();
        release(continuation);
    }
    leave_dead_domain()
}

fn release(continuation: &Continuation) {
    if run().expect("a scenario runs").mutation.get() != Mutation::NoRetain {
        let kernel = Kernel::get();
        // SAFETY: retained by `evict`.
        unsafe { kernel.heap.release(continuation.borrows.iter().copied(), &*kernel) };
    }
}

/// Continues at the innermost live caller.
pub(super) fn leave_dead_domain() -> ! {
    let run = run().expect("a scenario runs");
    let thread = &run.threads[cpu()];
    thread.sections.set(1);
    let target = loop {
        let Some(continuation) = thread.continuations.borrow_mut().pop() else { break None };
        if Kernel::get().is_alive(continuation.caller) {
            thread.current.set(Some(continuation.caller));
            break Some(thread.continuations.borrow().len());
        }
        if has_died(&continuation) {
            release(&continuation);
        }
    };
    thread.sections.set(0);
    thread.unwinding.set(true);
    resume_unwind(Box::new(Evicted(target)))
}

/// Ends `victim`.
pub(super) fn kill(victim: DomainId) {
    let run = run().expect("a scenario runs");
    let kernel = Kernel::get();
    let mutation = run.mutation.get();
    if mutation == Mutation::DeadBeforeStopped {
        kernel.end_instance(victim);
    }
    step();
    if mutation != Mutation::NoStop {
        // Each other CPU is outside any section, or waits here itself.
        let here = cpu();
        let is_busy = |number: usize| number != here && run.threads[number].sections.get() > 0;
        while (0..run.threads.len()).any(is_busy) {
            switch(loom::thread::yield_now);
        }
    }
    // No step until the world continues.
    run.stopped.set(true);
    if !kernel.is_alive(victim) && mutation != Mutation::DeadBeforeStopped {
        run.stopped.set(false);
        return;
    }
    kernel.end_instance(victim);
    for thread in &run.threads {
        evict(thread, victim, &kernel, mutation);
    }
    // The section in which the kernel stopped the world.
    run.threads[cpu()].sections.set(1);
    run.stopped.set(false);
    // SAFETY: no code runs in `victim` any more.
    unsafe { kernel.heap.sweep(victim, &*kernel) };
    run.threads[cpu()].sections.set(0);
}

/// Makes `thread` leave `victim`, if it is inside, and marks its continuations.
fn evict(thread: &Thread, victim: DomainId, kernel: &Kernel, mutation: Mutation) {
    let mut unwinding = thread.current.get() == Some(victim);
    if unwinding {
        thread.killed.set(true);
    }
    for continuation in thread.continuations.borrow().iter().rev() {
        unwinding = unwinding && !kernel.is_alive(continuation.caller);
        if !unwinding && continuation.caller == victim {
            continuation.status.set(continuation.status.get() | Status::CALLER_DIED);
            if mutation != Mutation::NoRetain {
                // SAFETY: the callee reads live objects, and the world is stopped.
                unsafe { kernel.heap.retain(continuation.borrows.iter().copied()) };
            }
        }
    }
}

/// Ends the running domain, from inside.
pub(super) fn crash() -> ! {
    let run = run().expect("a scenario runs");
    kill(run.threads[cpu()].current.get().expect("a domain runs"));
    step();
    unreachable!("its domain has died")
}
