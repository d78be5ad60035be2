//! [`Thread`]: a flow of control with its stack. It belongs to the domain that spawned it, and crosses into
//! others.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use coppice_abi::crossing::{self, Continuation, ThreadControl};
use coppice_abi::{DomainId, Refusal};

use crate::memory::heap::{self, Charge, Purpose};
use crate::memory::stack::Stack;
use crate::platform::exception::PendingFault;
use crate::platform::machine::machine;
use crate::platform::sync::{Lock, Section};
use crate::sched::hooks::hooks;
use crate::sched::{liveness, scheduler, switch, wait};

/// The minimum stack for a callee, in bytes: a crossing with less is refused.
pub(crate) const HEADROOM: usize = 24 * 1024;

/// The number of priorities; 0 is the most urgent. Threads of one priority take turns. The first three are
/// the kernel's alone, the others are the four that domains know as 0 to 3.
pub(crate) const PRIORITIES: usize = FIRST_OF_DOMAINS as usize + 4;

/// The priority of the watchdog's thread.
pub(crate) const URGENT: u8 = 0;

/// The priority of the threads that start, restart and clean up domains. A domain's code that such a thread
/// runs has it for a short time only ([`with_priority_of_domain`]).
pub(crate) const RECOVERY: u8 = 1;

/// The priority of the threads that write the log.
pub(crate) const LOG: u8 = 2;

const FIRST_OF_DOMAINS: u8 = 3;

/// The time for which a domain's code that the kernel runs keeps the priority of the kernel's thread: entry
/// functions, upcalls, destructors. Longer than most of them take.
const BOOST_NS: u64 = 10_000_000;

/// Converts a domain's priority, 0 to 3, to the kernel's.
pub(crate) const fn of_domain(priority: u8) -> u8 {
    const LAST: u8 = PRIORITIES as u8 - 1;
    if priority < LAST - FIRST_OF_DOMAINS { FIRST_OF_DOMAINS + priority } else { LAST }
}

/// The scheduling state of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// On a CPU.
    Running,
    /// In the run queue of `Thread::cpu`.
    Ready,
    /// In a wait bucket, or about to be.
    Blocked,
    /// Ended; the next thread on its CPU frees it.
    Ended,
}

/// The state of a thread with respect to the instance that spawned it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Survival {
    /// The instance is alive, or it is the kernel.
    Current,
    /// The instance has ended, and the thread is inside another domain until that releases it.
    Abroad,
    /// The instance has ended, and the thread ends as soon as it gets a CPU.
    Leaving,
}

/// The body of a new thread.
pub(crate) enum Work {
    /// Runs a domain's code, entered by a crossing from the kernel.
    Domain(Box<dyn FnOnce() + Send>),
    /// Runs kernel code, inside a section.
    Kernel(fn()),
    /// The idle loop of a CPU, on the stack that the CPU started with.
    Idle,
}

/// The unit of scheduling: a control block for crossings, scheduling state, and a stack.
///
/// # Invariants
/// - **T1** `control` comes first, so `gs:[0]` is also the address of the thread.
/// - **T2** `state`, `cpu`, `sp` and `next` change under the run queue lock of `cpu`; `waiting` under the
///   lock of the wait bucket.
/// - **T3** `killed`, `charged_slot` and `survival` are written while the world is stopped, or by the thread
///   itself.
/// - **T4** A thread in [`THREADS`] is alive; it is freed after it has left the table and its stack.
#[repr(C)]
pub(crate) struct Thread {
    control: UnsafeCell<ThreadControl>,
    /// Unique; 0 for idle threads.
    pub(crate) id: u64,
    /// The domain that spawned it.
    pub(crate) domain: DomainId,
    /// The priority that it was spawned with.
    base_priority: u8,
    /// The present priority. Changed by the thread itself, while it runs.
    priority: AtomicU8,
    /// The stack address of the frame at whose end no limit of its priority is left; 0 if there is none.
    limiting_frame: AtomicUsize,
    /// The priority that it has from `boost_until_ns` on.
    priority_after_boost: AtomicU8,
    /// `u64::MAX` for never.
    boost_until_ns: AtomicU64,
    /// A bit for each CPU that may run it.
    pub(crate) affinity: u64,
    /// 1 + the number of the wait bucket that it is in; 0 when in none. A hint unless the bucket's lock is
    /// held.
    pub(crate) bucket: AtomicUsize,
    fields: UnsafeCell<Fields>,
    stack: Option<Stack>,
}

/// The mutable part of a thread, guarded by T2 and T3.
pub(crate) struct Fields {
    pub(crate) state: State,
    /// The CPU that runs it or ran it last.
    pub(crate) cpu: usize,
    /// Saved stack pointer while it does not run.
    pub(crate) sp: usize,
    /// Next in the run queue or in the wait bucket.
    pub(crate) next: Option<NonNull<Thread>>,
    /// The event that it waits for.
    pub(crate) waiting: Option<wait::Waiting>,
    /// The slot that its CPU time is charged to, in any code: its domain's, and `NONE`'s once that domain has
    /// died.
    pub(crate) charged_slot: usize,
    /// The domain that it is in has died, so it has to leave.
    pub(crate) killed: bool,
    /// Its state since the instance that spawned it has ended.
    pub(crate) survival: Survival,
    /// The exception that it raised, between the trap and the crash path.
    pub(crate) fault: Option<PendingFault>,
    /// The reason of the last refusal of a shared object.
    pub(crate) refusal: Refusal,
    work: Option<Work>,
}

// SAFETY: the cells are shared by the rules T2 and T3.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

/// All threads but the idle ones, in ascending order of their numbers.
static THREADS: Lock<ThreadTable> = Lock::new(ThreadTable { threads: Vec::new(), next_id: 1 });
/// The number of threads that have left the table.
static ENDED: AtomicU64 = AtomicU64::new(0);

struct ThreadTable {
    threads: Vec<&'static Thread>,
    next_id: u64,
}

impl ThreadTable {
    fn index_of(&self, id: u64) -> Option<usize> {
        self.threads.binary_search_by_key(&id, |thread| thread.id).ok()
    }
}

/// No memory is left for a new thread, or its domain may not use more for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoMemory;

impl Thread {
    fn new(
        domain: DomainId,
        priority: u8,
        affinity: u64,
        stack: Option<Stack>,
        work: Work,
    ) -> Result<Box<Self>, NoMemory> {
        let (limit, sp) = match &stack {
            Some(stack) => (stack.bottom() + HEADROOM, switch::prepare(stack.top())),
            None => (usize::MAX, 0),
        };
        // SAFETY: the headroom is that of a callee, and the hooks are the kernel's own.
        let control = unsafe { ThreadControl::new(limit, hooks().checkpoint, hooks().abandon) };
        let thread = Self {
            control: UnsafeCell::new(control),
            id: 0,
            domain,
            base_priority: priority.min(PRIORITIES as u8 - 1),
            priority: AtomicU8::new(priority.min(PRIORITIES as u8 - 1)),
            limiting_frame: AtomicUsize::new(0),
            priority_after_boost: AtomicU8::new(0),
            boost_until_ns: AtomicU64::new(u64::MAX),
            affinity,
            bucket: AtomicUsize::new(0),
            fields: UnsafeCell::new(Fields {
                state: State::Running,
                cpu: 0,
                sp,
                next: None,
                waiting: None,
                charged_slot: domain.slot(),
                killed: false,
                survival: Survival::Current,
                fault: None,
                refusal: Refusal::Memory,
                work: Some(work),
            }),
            stack,
        };
        heap::try_box(Charge::to(domain, Purpose::Thread), thread).ok_or(NoMemory)
    }

    /// Creates the thread that a CPU starts as.
    ///
    /// # Panics
    /// When there is no memory for it, at boot.
    pub(crate) fn new_idle(cpu: usize) -> &'static Self {
        let idle = Self::new(DomainId::KERNEL, PRIORITIES as u8 - 1, 1 << cpu, None, Work::Idle);
        let idle = Box::leak(idle.expect("there is memory for the thread that a CPU starts as"));
        // SAFETY: the thread is new, so nothing else uses it.
        unsafe { idle.fields() }.cpu = cpu;
        idle
    }

    /// Creates a thread of `domain` and starts it. A domain's threads are counted, so
    /// [`crate::domain::threads`] creates them.
    ///
    /// # Errors
    /// When there is no memory for its stack, its record or its entries in the kernel's tables, or the domain
    /// may not use more of the kernel's heap.
    pub(crate) fn spawn(
        domain: DomainId,
        priority: u8,
        affinity: u64,
        stack_bytes: usize,
        work: Work,
    ) -> Result<u64, NoMemory> {
        let stack = Stack::take(stack_bytes).ok_or(NoMemory)?;
        let possible = affinity & ((1_u128 << machine().cpu_count()) - 1) as u64;
        let affinity = if possible == 0 { u64::MAX } else { possible };
        let mut thread = Self::new(domain, priority, affinity, Some(stack), work)?;
        let mut table = THREADS.lock();
        // A thread that runs needs no memory of the kernel's: it brings its entries in the tables along.
        let room = heap::try_reserve(Charge::to_kernel(Purpose::Table), &mut table.threads, 1)
            && wait::reserve_timers(table.threads.len() + 1);
        if !room {
            return Err(NoMemory);
        }
        thread.id = table.next_id;
        table.next_id += 1;
        let thread: &'static Self = Box::leak(thread);
        table.threads.push(thread);
        drop(table);
        let id = thread.id;
        scheduler::start(thread);
        Ok(id)
    }

    /// The block that crossings use. For the thread itself, or while it is stopped.
    #[allow(clippy::mut_from_ref, reason = "a thread's control block is its own, or the world is stopped")]
    pub(crate) fn control(&self) -> &mut ThreadControl {
        // SAFETY: the running thread is the only user of its block, except for a stopped world (C4), when it
        // is parked.
        unsafe { &mut *self.control.get() }
    }

    /// The calls under way, innermost first.
    ///
    /// # Safety
    /// The thread is the running one, or stopped, while the iterator is in use.
    pub(crate) unsafe fn continuations(&self) -> impl Iterator<Item = &Continuation> {
        let mut at: *const Continuation = self.control().top();
        core::iter::from_fn(move || {
            // SAFETY: C1; the frames that hold continuations do not change, by the caller's promise.
            let continuation = unsafe { at.as_ref() }?;
            at = continuation.previous();
            Some(continuation)
        })
    }

    /// The mutable part.
    ///
    /// # Safety
    /// The caller keeps T2 and T3 for the fields that it touches.
    #[allow(clippy::mut_from_ref, reason = "fields have different owners, by T2 and T3")]
    pub(crate) unsafe fn fields(&self) -> &mut Fields {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.fields.get() }
    }

    /// As [`Self::fields`], for a thread in a queue.
    ///
    /// # Safety
    /// `link` is in a queue or bucket whose lock the caller holds: so the thread is alive (T4), and T2 is
    /// kept.
    pub(crate) unsafe fn fields_of<'a>(link: NonNull<Self>) -> &'a mut Fields {
        // SAFETY: the caller's promise.
        let thread = unsafe { &*link.as_ptr() };
        // SAFETY: the caller's promise.
        unsafe { thread.fields() }
    }

    /// The lowest usable address of its stack; 0 for an idle thread.
    pub(crate) fn stack_bottom(&self) -> usize {
        self.stack.as_ref().map_or(0, Stack::bottom)
    }

    /// Frames of its stack.
    pub(crate) fn stack_frames(&self) -> usize {
        self.stack.as_ref().map_or(0, Stack::frames)
    }

    /// The present priority. Constant while the thread is in a queue.
    pub(crate) fn priority(&self) -> u8 {
        self.priority.load(Ordering::Relaxed)
    }

    /// Lowers the priority if the time of [`with_priority_of_domain`] is over. Returns true if it did. For
    /// the running thread.
    #[inline]
    pub(crate) fn end_boost(&self) -> bool {
        let until_ns = self.boost_until_ns.load(Ordering::Relaxed);
        let is_over = until_ns != u64::MAX && machine().now_ns() >= until_ns;
        if is_over {
            self.boost_until_ns.store(u64::MAX, Ordering::Relaxed);
            self.priority.store(self.priority_after_boost.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        is_over
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.id == 0
    }
}

/// The running thread.
#[inline(always)]
pub(crate) fn current() -> &'static Thread {
    // SAFETY: T1, and a running thread is alive.
    unsafe { &*crossing::thread().cast::<Thread>() }
}

/// Runs `body`, which enters a domain's code from the kernel. The code keeps the running thread's priority
/// for [`BOOST_NS`], so that a restart is not delayed by other domains, and continues with `priority` if that
/// is less urgent, so that it does not delay other domains for longer. Outside any section.
///
/// If the thread leaves `body` by [`Hooks::unwind`](crate::sched::hooks::Hooks), [`restore_priority`] ends
/// this.
pub(crate) fn with_priority_of_domain<R>(priority: u8, body: impl FnOnce() -> R) -> R {
    let thread = current();
    let mark = 0_u8;
    let frame = (&raw const mark).addr();
    // Not in a call inside such a call: the limit of the outer one holds.
    let is_limited = priority > thread.base_priority && thread.limiting_frame.load(Ordering::Relaxed) == 0;
    if is_limited {
        let _section = Section::enter();
        thread.limiting_frame.store(frame, Ordering::Relaxed);
        thread.priority_after_boost.store(priority, Ordering::Relaxed);
        thread.boost_until_ns.store(machine().now_ns() + BOOST_NS, Ordering::Relaxed);
    }
    let result = body();
    if is_limited {
        restore_priority(frame + 1);
    }
    result
}

/// Gives the running thread its base priority again, if the frame that limits it lies below `stack`, the
/// stack pointer with which the thread goes on.
pub(crate) fn restore_priority(stack: usize) {
    let thread = current();
    if (1..stack).contains(&thread.limiting_frame.load(Ordering::Relaxed)) {
        thread.limiting_frame.store(0, Ordering::Relaxed);
        thread.boost_until_ns.store(u64::MAX, Ordering::Relaxed);
        thread.priority.store(thread.base_priority, Ordering::Relaxed);
    }
}

/// Calls `visit` with each thread. The table's lock is held, so the threads stay alive.
pub(crate) fn for_each(mut visit: impl FnMut(&'static Thread)) {
    THREADS.lock().threads.iter().copied().for_each(&mut visit);
}

/// Calls `visit` with thread `id`, if it has not ended.
pub(crate) fn with<R>(id: u64, visit: impl FnOnce(&'static Thread) -> R) -> Option<R> {
    let table = THREADS.lock();
    table.index_of(id).map(|index| visit(table.threads[index]))
}

/// The bytes of the table of threads.
pub(crate) fn table_bytes() -> usize {
    heap::list_bytes(&THREADS.lock().threads)
}

/// Waits until thread `id`, of the caller's domain, has ended.
pub(crate) fn join(id: u64) {
    let domain = current().control().current();
    loop {
        let ended = ENDED.load(Ordering::Acquire);
        if with(id, |thread| thread.domain == domain) != Some(true) {
            return;
        }
        // Not a look at the table: its lock comes before the bucket's.
        let none_ended = || ENDED.load(Ordering::Acquire) == ended;
        wait::block(wait::Key::Thread(id), none_ended, u64::MAX);
    }
}

/// The entry point of every thread but the idle ones: on its own stack, inside a section, with its CPU's
/// queue locked.
pub(crate) extern "C" fn main() -> ! {
    scheduler::finish_switch();
    let thread = current();
    // SAFETY: only the thread itself takes its work.
    match unsafe { thread.fields() }.work.take() {
        Some(Work::Domain(body)) => body(),
        Some(Work::Kernel(body)) => body(),
        Some(Work::Idle) | None => unreachable!("idle threads do not begin here"),
    }
    exit();
}

/// Ends the running thread.
fn exit() -> ! {
    let thread = current();
    {
        let mut table = THREADS.lock();
        let index = table.index_of(thread.id).expect("T4: a thread leaves the table once, here");
        table.threads.remove(index);
    }
    ENDED.fetch_add(1, Ordering::Release);
    wait::wake(wait::Key::Thread(thread.id), u32::MAX);
    scheduler::end();
}

/// The domain that called the code that a thread is in. For the running thread, or one that is stopped.
pub(crate) fn caller_in(control: &ThreadControl) -> Option<DomainId> {
    // SAFETY: C1, and the thread is stopped or the running one.
    unsafe { control.top().as_ref() }.map(Continuation::caller)
}

/// Leaves a kernel object if the domain that called it has died: nothing waits for its result. In the
/// outermost section, owning nothing.
#[inline]
pub(crate) fn leave_if_caller_died() {
    let control = current().control();
    if control.current() == DomainId::KERNEL
        && caller_in(control).is_some_and(|caller| !liveness::is_alive(caller))
    {
        (hooks().unwind)();
    }
}

/// Continues at the innermost live caller if the domain that this thread is in has died. In the outermost
/// section.
#[inline]
pub(crate) fn leave_if_killed() {
    // SAFETY: T3: this thread's own.
    let killed = &mut unsafe { current().fields() }.killed;
    if core::mem::take(killed) {
        (hooks().unwind)();
    }
}

/// Frees a thread that has ended.
///
/// # Safety
/// It is in no table or queue, and no CPU is on its stack.
pub(crate) unsafe fn free(thread: NonNull<Thread>) {
    // SAFETY: `new` leaked a box; the caller's promise.
    drop(unsafe { Box::from_raw(thread.as_ptr()) });
}
