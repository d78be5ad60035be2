//! The watchdog: ends domains that do not answer in time.
//!
//! A crossing tells nobody that it begins. Instead each CPU that runs threads has a *watch tick*: in its checkpoint
//! it looks at the calls of the threads that it runs or keeps off, marks those that have a deadline and no mark yet
//! ([`crate::mark`]), and finds those whose time is over. A CPU without anything to run looks once more, and then
//! only when the first deadline of a call that it has marked passes: nothing else can come up there. Systems in which
//! the manifest sets no deadline and no share have no watch tick.
//!
//! Calls that the kernel makes (entry functions, destructors of exported objects) are few, so they are written down
//! ([`watched`]) and need no tick.
//!
//! A tick runs on the little stack that a diverted thread has left, so it only notes a [`Suspect`]. A thread of the
//! kernel's that is more urgent than all others stops the world, looks again, since the call may have returned, and
//! ends the domain. Of several calls on one thread whose time is over it ends the innermost: the others get until the
//! next tick to make something of the error (docs/decisions/012).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_abi::crossing::Continuation;
use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::{DomainState, Text};
use coppice_manifest::Nanoseconds;

use crate::cpu::{Cpu, this_cpu};
use crate::machine::machine;
use crate::mark;
use crate::share::{self, Excess};
use crate::sync::{Lock, Section};
use crate::thread::{self, SpawnError, State, Thread, URGENT, Work};
use crate::world::Stopped;
use crate::{domain, scheduler, terminate, wait, world};

/// How often a CPU that runs threads looks at them. With what a mark rounds up, a hang is found within a millisecond
/// after its deadline: the tick that marks a call comes up to one tick after its begin, and its end is timed exactly
/// from there.
const TICK_NS: u64 = 11 * mark::UNIT_NS;

/// Whether the manifest gives ticks anything to do.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// What the thread of the watchdog waits on.
const TROUBLE: wait::Key = wait::Key::Work(wait::Post::Watchdog);

/// When a CPU looks next. Its own business.
pub(crate) struct Watch {
    /// `u64::MAX` for never.
    next_look_ns: u64,
    /// There is nothing to look at before that: the CPU was idle at its last look.
    rests: bool,
}

impl Watch {
    pub(crate) const fn new() -> Self {
        Self { next_look_ns: u64::MAX, rests: true }
    }
}

/// Somebody whom a tick found at fault.
#[derive(Clone, Copy)]
enum Suspect {
    /// A call on this thread, which was seen in this state.
    Call { thread: u64, state: State },
    /// A domain that uses more than its share of the CPU.
    Share(Excess),
}

impl Suspect {
    fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Call { thread, .. }, Self::Call { thread: other, .. }) => thread == other,
            (Self::Share(excess), Self::Share(other)) => excess.instance == other.instance,
            _ => false,
        }
    }
}

/// A call that the kernel makes.
struct KernelCall {
    number: u64,
    thread: u64,
    callee: DomainId,
    limit_ns: u64,
    /// `u64::MAX` once the callee was ended for it.
    due_ns: u64,
}

/// How many suspects are kept. One that finds no place is found again by the next tick.
const SUSPECTS: usize = 32;

/// What the watchdog's thread is told.
struct Board {
    suspects: [Option<Suspect>; SUSPECTS],
    calls: Vec<KernelCall>,
    /// How many calls of the kernel's there were.
    calls_made: u64,
    /// Until when the watchdog's thread sleeps if nobody wakes it.
    sleeps_until_ns: u64,
}

static BOARD: Lock<Board> =
    Lock::new(Board { suspects: [None; SUSPECTS], calls: Vec::new(), calls_made: 0, sleeps_until_ns: 0 });

impl Board {
    fn note(&mut self, suspect: Suspect) {
        let known = self.suspects.iter().flatten().any(|known| known.is_as(&suspect));
        if !known && let Some(place) = self.suspects.iter_mut().find(|place| place.is_none()) {
            *place = Some(suspect);
        }
    }

    fn take(&mut self) -> Option<Suspect> {
        self.suspects.iter_mut().find_map(Option::take)
    }

    fn first_due_ns(&self) -> u64 {
        self.calls.iter().map(|call| call.due_ns).min().unwrap_or(u64::MAX)
    }

    fn is_quiet(&self) -> bool {
        self.suspects.iter().all(Option::is_none) && self.first_due_ns() >= self.sleeps_until_ns
    }
}

/// Starts the watchdog's thread.
pub(crate) fn start() -> Result<(), SpawnError> {
    const STACK: usize = 128 * 1024;
    Thread::spawn(DomainId::KERNEL, URGENT, u64::MAX, STACK, Work::Kernel(keep_watch)).map(drop)
}

/// Begins to watch what the manifest limits. Once the domain table exists, inside a section.
pub(crate) fn init() {
    let is_limited = |domain: &domain::Domain| {
        domain.manifest.deadline_ns.is_some() || domain.manifest.cpu_percent.is_some()
    };
    IS_ON.store(domain::all().iter().any(is_limited), Ordering::Relaxed);
    // Other CPUs have run nothing yet but threads of the kernel's.
    let cpu = this_cpu();
    resume(cpu, scheduler::slice_end(cpu));
}

/// The CPU stops being idle.
#[inline]
pub(crate) fn resume(cpu: &'static Cpu, slice_end_ns: u64) {
    // SAFETY: our CPU's, in a section.
    let watch = unsafe { cpu.watch.get() };
    if watch.rests && IS_ON.load(Ordering::Relaxed) {
        watch.rests = false;
        watch.next_look_ns = watch.next_look_ns.min(machine().now_ns() + TICK_NS);
        wait::arm_timer(cpu, slice_end_ns);
    }
}

/// When this CPU has to look next, for its timer.
pub(crate) fn next_look(cpu: &Cpu) -> u64 {
    // SAFETY: our CPU's, in a section.
    unsafe { cpu.watch.get() }.next_look_ns
}

/// The checkpoint's part, whenever the timer has fired: looks, if it is time to. CPU time has just been charged.
pub(crate) fn tick(cpu: &'static Cpu) {
    let now_ns = machine().now_ns();
    if now_ns < next_look(cpu) {
        return;
    }
    let mut look = Look { now_ns, next_due_ns: u64::MAX, has_found: false };
    let running = thread::current();
    let is_idle = running.is_idle();
    if !is_idle {
        look.at(running, State::Running);
        if let Some(excess) = share::look(running.domain, now_ns) {
            look.found(Suspect::Share(excess));
        }
    }
    let mut queue = None;
    thread::for_each(|thread| {
        // After the table's lock, by the order of locks.
        queue.get_or_insert_with(|| cpu.queue.lock());
        // SAFETY: T2: if it is ours, we hold the lock; and if it is not, it does not become ours meanwhile to be run.
        let fields = unsafe { thread.fields() };
        if fields.cpu == cpu.number && matches!(fields.state, State::Ready | State::Blocked) {
            look.at(thread, fields.state);
        }
    });
    drop(queue);
    let tick_ns = now_ns + TICK_NS;
    // SAFETY: our CPU's, in a section.
    *unsafe { cpu.watch.get() } = Watch {
        next_look_ns: if is_idle { look.next_due_ns } else { look.next_due_ns.min(tick_ns) },
        rests: is_idle,
    };
    if look.has_found {
        wait::wake(TROUBLE, 1);
    }
}

/// One look at the threads of a CPU.
struct Look {
    now_ns: u64,
    /// When to look again for what has been seen.
    next_due_ns: u64,
    has_found: bool,
}

impl Look {
    /// Looks at a thread that stands still.
    fn at(&mut self, thread: &'static Thread, state: State) {
        for (continuation, callee) in calls(thread) {
            let Some(limit_ns) = limit(continuation, callee) else { continue };
            let due_ns = mark::seen_since(continuation, self.now_ns) + limit_ns;
            if due_ns <= self.now_ns {
                self.found(Suspect::Call { thread: thread.id, state });
            } else {
                self.next_due_ns = self.next_due_ns.min(due_ns);
            }
        }
    }

    fn found(&mut self, suspect: Suspect) {
        BOARD.lock().note(suspect);
        self.has_found = true;
        // If it goes on, it is found again.
        self.next_due_ns = self.next_due_ns.min(self.now_ns + TICK_NS);
    }
}

/// The calls under way on a thread that stands still, innermost first, and whom each is into.
#[allow(clippy::mut_from_ref, reason = "a thread's continuations belong to whoever keeps it still")]
fn calls(thread: &'static Thread) -> impl Iterator<Item = (&'static mut Continuation, DomainId)> {
    let control = thread.control();
    let (mut callee, mut at) = (control.current, control.top);
    core::iter::from_fn(move || {
        // SAFETY: C1, and the thread stands still for as long as the caller looks.
        let continuation = unsafe { at.as_mut() }?;
        at = continuation.previous;
        Some((core::mem::replace(&mut callee, continuation.caller), continuation))
    })
    .map(|(callee, continuation)| (continuation, callee))
}

/// The longest time for that call, if there is one. Calls of the kernel's are not counted here: either they are written
/// down ([`watched`]), or they are the body of a thread that the callee has spawned, and no call.
fn limit(continuation: &Continuation, callee: DomainId) -> Option<u64> {
    if continuation.caller == DomainId::KERNEL {
        return None;
    }
    let domain = domain::get(callee.slot())?;
    let limit_ns = domain.manifest.deadline_ns?;
    // Who has died cannot be ended for it once more: the thread is further in, or on its way out.
    (domain.instance() == Some(callee)).then_some(limit_ns)
}

/// Makes a call from the kernel into `callee`: if it does not come back in time, the callee ends. Outside any section.
pub(crate) fn watched<R>(callee: DomainId, call: impl FnOnce() -> R) -> R {
    let Some(domain) = domain::get(callee.slot()) else { return call() };
    let start_ns = domain.manifest.start_deadline_ns;
    let limit_ns = match domain.state() {
        DomainState::Starting => start_ns,
        _ => domain.manifest.deadline_ns.unwrap_or(start_ns),
    };
    let number = write_down(callee, limit_ns);
    let answer = call();
    let _section = Section::enter();
    BOARD.lock().calls.retain(|call| call.number != number);
    answer
}

fn write_down(callee: DomainId, limit_ns: u64) -> u64 {
    let _section = Section::enter();
    let due_ns = machine().now_ns() + limit_ns;
    let mut board = BOARD.lock();
    board.calls_made += 1;
    let number = board.calls_made;
    board.calls.push(KernelCall { number, thread: thread::current().id, callee, limit_ns, due_ns });
    let is_first = due_ns < board.sleeps_until_ns;
    drop(board);
    if is_first {
        wait::wake(TROUBLE, 1);
    }
    number
}

/// The watchdog's thread.
fn keep_watch() {
    loop {
        let until_ns = {
            let mut board = BOARD.lock();
            board.sleeps_until_ns = board.first_due_ns();
            board.sleeps_until_ns
        };
        wait::block(TROUBLE, || BOARD.lock().is_quiet(), until_ns);
        loop {
            let suspect = BOARD.lock().take();
            match suspect {
                Some(Suspect::Call { thread, state }) => judge(thread, state),
                Some(Suspect::Share(excess)) => share::over_share(excess),
                None => break,
            }
        }
        while judge_call_of_kernel() {}
    }
}

/// Ends the domain that the innermost overdue call of that thread is into, if there still is one.
fn judge(id: u64, state: State) {
    let stopped = world::stop();
    let now_ns = machine().now_ns();
    let verdict = thread::with(id, |thread| {
        let is_overdue = |continuation: &Continuation, limit_ns| {
            mark::since(continuation, now_ns).is_some_and(|since_ns| since_ns + limit_ns <= now_ns)
        };
        let overdue = calls(thread).find_map(|(continuation, callee)| {
            let limit_ns = limit(continuation, callee)?;
            is_overdue(continuation, limit_ns).then_some((callee, continuation.caller, limit_ns))
        });
        overdue.map(|(callee, caller, limit_ns)| {
            let text = Text::format(format_args!(
                "a call from {} took longer than {}; its thread {} {}{}",
                domain::name(caller),
                Nanoseconds(limit_ns),
                verb(state),
                domain::name(thread.control().current),
                Chain(thread)
            ));
            (callee, text)
        })
    });
    if let Some((victim, text)) = verdict.flatten() {
        condemn(stopped, victim, CrashKind::Deadline, text);
    }
}

/// Ends the domain of one overdue call of the kernel's. False if there was none.
fn judge_call_of_kernel() -> bool {
    let stopped = world::stop();
    let now_ns = machine().now_ns();
    let mut board = BOARD.lock();
    let Some(call) = board.calls.iter_mut().find(|call| call.due_ns <= now_ns) else { return false };
    call.due_ns = u64::MAX;
    let (id, victim, limit_ns) = (call.thread, call.callee, call.limit_ns);
    drop(board);
    if !domain::is_alive(victim) {
        return true;
    }
    let text = thread::with(id, |thread| {
        let what = match domain::get(victim.slot()).map(domain::Domain::state) {
            Some(DomainState::Starting) => "its entry function",
            _ => "a call from the kernel",
        };
        // SAFETY: T2: the world is stopped.
        let state = unsafe { thread.fields() }.state;
        Text::format(format_args!(
            "{what} took longer than {}; its thread {} {}{}",
            Nanoseconds(limit_ns),
            verb(state),
            domain::name(thread.control().current),
            Chain(thread)
        ))
    });
    condemn(stopped, victim, CrashKind::Deadline, text.unwrap_or_else(|| Text::new("it took too long")));
    true
}

fn verb(state: State) -> &'static str {
    match state {
        State::Running => "runs in",
        State::Ready => "is ready to run in",
        State::Blocked | State::Ended => "is blocked in",
    }
}

/// The domains that a thread is in, outermost first, if there are more than two.
struct Chain(&'static Thread);

impl core::fmt::Display for Chain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let depth = calls(self.0).count();
        if depth < 3 {
            return Ok(());
        }
        f.write_str(" (")?;
        for index in (0..depth).rev() {
            let (_, callee) = calls(self.0).nth(index).expect("the thread stands still");
            let arrow = if index == 0 { ")" } else { " -> " };
            write!(f, "{}{arrow}", domain::name(callee))?;
        }
        Ok(())
    }
}

/// Ends a domain that lives, and says why.
fn condemn(stopped: Stopped, victim: DomainId, kind: CrashKind, text: Text<256>) {
    terminate::terminate_while_stopped(stopped, victim, kind, text);
}
