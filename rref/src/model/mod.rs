//! A model of crossings and terminations, around this crate's real code.
//!
//! Real are [`Header`], `RRef` and its containers, loans, and the sweep; they come here before each access to a header
//! ([`step`]), because there another CPU may do something first, or an interrupt come in and divert the thread. Modelled
//! are the crossing ([`crossing`], which mirrors `deliver` of `coppice_interfaces::crossing` step for step) and the
//! kernel's part of a termination ([`crossing::kill`]). `loom` runs a scenario in every order of such steps that takes
//! at most [`PREEMPTIONS`] preemptions; [`scenarios`] is the list.
//!
//! All CPUs see one order of stores here. x86 lets a CPU see its own stores early, and nothing else; what that could break
//! is left to the stopping of the world, which is a fence on every CPU (docs/rref.md, R8).

pub(crate) mod atomic;
mod crossing;
mod scenarios;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use coppice_abi::{DomainId, Services, me};

use crate::mock::{Bench, Kernel, run_as};

/// Most CPUs that a scenario has.
pub(crate) const CPUS: usize = 3;

/// How often threads may be preempted in one run. Each mistake in [`Mutation`] shows with three.
const PREEMPTIONS: usize = 4;

/// One run of a scenario.
struct Run {
    /// What every step of every CPU touches, so that loom tries them in every order.
    point: loom::sync::atomic::AtomicUsize,
    threads: [crossing::Thread; CPUS],
    /// The world is stopped.
    stopped: Cell<bool>,
    /// What is broken on purpose.
    mutation: Cell<Mutation>,
}

/// A mistake that the checker has to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutation {
    None,
    /// A crossing moves objects outside a section.
    MoveOutsideSection,
    /// A result goes to a caller that died meanwhile, and is dropped as its.
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
    /// Loom switches threads on one host thread, so this is put right after each switch.
    static CPU: Cell<usize> = const { Cell::new(0) };
}

fn run() -> Option<Rc<Run>> {
    RUN.with_borrow(Clone::clone)
}

/// The CPU that runs.
pub(crate) fn cpu() -> usize {
    CPU.get()
}

/// Whether the frames that are dropped are a dead domain's, which the real kernel just forgets.
pub(crate) fn is_unwinding() -> bool {
    run().is_some_and(|run| run.threads[cpu()].unwinding.get())
}

/// Lets others run by a call of loom's.
fn switch(by: impl FnOnce()) {
    let (cpu, domain) = (CPU.get(), me());
    by();
    CPU.set(cpu);
    run_as(domain);
}

/// A place between two instructions: others may come first, and outside a section a kill may take effect.
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

/// Spins as the heap's locks do.
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

/// The kernel's functions. To call one is a step, here, since the function itself cannot be diverted.
pub(crate) fn services() -> &'static Services {
    step();
    coppice_abi::services()
}

/// A kernel section. That it begins and ends is no [`step`]: the ones before and after do as well.
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

/// Runs `scenario` in every order. It gets a new kernel each time.
fn check(mutation: Mutation, scenario: impl Fn(&Rc<Kernel>) + Sync + Send + 'static) {
    let _turn = Bench::turn();
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
        let scene = Scene;
        scenario(&kernel);
        drop(scene);
        kernel.check_empty();
    });
}

/// What must be gone when a run has ended, well or not.
struct Scene;

impl Drop for Scene {
    fn drop(&mut self) {
        RUN.set(None);
        Kernel::uninstall();
        run_as(DomainId::KERNEL);
    }
}
