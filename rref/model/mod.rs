//! A model of crossings and terminations, around this crate's real code.
//!
//! [`Header`], `RRef` and its containers, loans, and the sweep are the real code; each access to a header is
//! a [`step`], at which another CPU may do something first, or an interrupt may divert the thread. The
//! crossing ([`crossing`], which mirrors `deliver` of `coppice_interfaces::crossing` step for step) and the
//! kernel's part of a termination ([`crossing::kill`]) are modelled. `loom` runs a scenario in every order of
//! such steps that takes at most [`PREEMPTIONS`] preemptions; [`scenarios`] is the list.
//!
//! The model lies outside `src`, which holds trusted code only.
//!
//! All CPUs see one order of stores here. x86 lets a CPU see its own stores early, and nothing else; that is
//! covered by stopping the world, which is a fence on every CPU (docs/rref.md, R8).

pub(crate) mod atomic;
mod crossing;
pub(crate) mod mock;
mod scenarios;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use coppice_abi::{DomainId, Services, me};

use mock::{ExclusiveKernel, Kernel, run_as};

/// Maximum number of CPUs of a scenario.
pub(crate) const CPUS: usize = 3;

/// Maximum number of preemptions in one run. Three find each mistake in [`Mutation`].
const PREEMPTIONS: usize = 4;

/// One run of a scenario.
struct Run {
    /// Touched by every step of every CPU, so that loom tries the steps in every order.
    point: loom::sync::atomic::AtomicUsize,
    threads: [crossing::Thread; CPUS],
    /// True while the world is stopped.
    stopped: Cell<bool>,
    /// The deliberate mistake.
    mutation: Cell<Mutation>,
}

/// A deliberate mistake that the checker has to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    None,
    /// A crossing moves objects outside a section.
    MoveOutsideSection,
    /// A result goes to a caller that died during the call, and is dropped as its own.
    ResultToDeadCaller,
    /// A domain counts as dead before the world stops.
    DeadBeforeStopped,
    /// Borrowed objects are not retained.
    NoRetain,
    /// The sweep does not wait for CPUs that are in a section.
    NoStop,
}

thread_local! {
    static RUN: RefCell<Option<Rc<Run>>> = const { RefCell::new(None) };
    /// Loom switches threads on one host thread, so this is restored after each switch.
    static CPU: Cell<usize> = const { Cell::new(0) };
}

fn run() -> Option<Rc<Run>> {
    RUN.with_borrow(Clone::clone)
}

/// Returns the running CPU.
pub(crate) fn cpu() -> usize {
    CPU.get()
}

/// Returns true while frames of a dead domain are dropped, which the real kernel just abandons.
pub(crate) fn is_unwinding() -> bool {
    run().is_some_and(|run| run.threads[cpu()].unwinding.get())
}

/// Calls `by`, a function of loom that may run other threads.
fn switch(by: impl FnOnce()) {
    let (cpu, domain) = (CPU.get(), me());
    by();
    CPU.set(cpu);
    run_as(domain);
}

/// A point between two instructions: other CPUs may run first, and outside a section a kill may take effect.
pub(crate) fn step() {
    let Some(run) = run() else { return };
    if run.stopped.get() || is_unwinding() {
        return;
    }
    switch(|| {
        run.point.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    });
    let thread = &run.threads[cpu()];
    if thread.sections.get() == 0 && thread.killed.take() {
        crossing::leave_dead_domain();
    }
}

/// Spins like the heap's locks.
pub(crate) struct Relax;

impl spin::RelaxStrategy for Relax {
    fn relax() {
        if run().is_some() {
            switch(loom::thread::yield_now);
        } else {
            std::thread::yield_now();
        }
    }
}

/// Returns the kernel's functions. A call of one is a step, since the function itself cannot be diverted.
pub(crate) fn services() -> &'static Services {
    step();
    coppice_abi::services()
}

/// A kernel section. Its begin and end are no [`step`]: the ones before and after serve as well.
pub(crate) struct Section(());

impl Section {
    pub(crate) fn enter() -> Self {
        if let Some(run) = run() {
            let sections = &run.threads[cpu()].sections;
            sections.set(sections.get() + 1);
        }
        Self(())
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        if let Some(run) = run() {
            let sections = &run.threads[cpu()].sections;
            sections.set(sections.get() - 1);
        }
    }
}

/// Runs `scenario` in every order, with a new kernel each time.
fn check(mutation: Mutation, scenario: impl Fn(&Rc<Kernel>) + Sync + Send + 'static) {
    let _turn = ExclusiveKernel::turn();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.max_branches = 10_000;
    builder.check(move || {
        let kernel = Kernel::install();
        RUN.set(Some(Rc::new(Run {
            point: loom::sync::atomic::AtomicUsize::new(0),
            threads: Default::default(),
            stopped: Cell::new(false),
            mutation: Cell::new(mutation),
        })));
        CPU.set(0);
        let cleanup = RunCleanup;
        scenario(&kernel);
        drop(cleanup);
        kernel.check_empty();
    });
}

/// Removes the state of a run at its end, also after a failure.
struct RunCleanup;

impl Drop for RunCleanup {
    fn drop(&mut self) {
        RUN.set(None);
        Kernel::uninstall();
        run_as(DomainId::KERNEL);
    }
}
