//! The watchdog: ends domains that exceed a deadline, and records CPUs that do not react ([`latency`]).
//!
//! A crossing records no start time. Instead each CPU that runs threads has a *watch tick*: in its checkpoint
//! it scans the calls of the threads that it runs or keeps waiting, sets the timestamp of each call that has
//! a deadline and no timestamp yet ([`call_timestamp`]), and finds calls that are overdue. An idle CPU has
//! one more tick, and then ticks only when the first deadline of a call with a timestamp passes: no new call
//! can begin there. Systems whose limits are all generous, as by default, have a longer tick.
//!
//! Calls that the kernel makes (entry functions, destructors of exported objects) are few, so they are
//! registered ([`kernel_calls`]) and need no tick.
//!
//! A tick runs on the small stack that a diverted thread has left, so it only queues a [`Suspect`]. A kernel
//! thread of the most urgent priority stops the world, checks again, since the call may have returned, and
//! ends the domain. Of several overdue calls on one thread it ends the innermost: the callers get until the
//! next tick to handle the error (docs/decisions/012).

use coppice_abi::crossing::Continuation;
use coppice_abi::{CrashKind, DomainId};
use coppice_control::DomainState;
use coppice_interfaces::Text;
use coppice_manifest::Nanoseconds;

use crate::domain::{self, kernel_calls};
use crate::fault::{crash_log, terminate};
use crate::platform::latency;
use crate::platform::machine::machine;
use crate::policy::suspects::{self, Suspect, WORK_KEY};
use crate::policy::{call_timestamp, cpu_share};
use crate::sched::cpu::Cpu;
use crate::sched::thread::{self, NoMemory, State, Thread, URGENT, Work};
use crate::sched::watch_tick::{self, WatchTick};
use crate::sched::{liveness, wait, world};

/// The period of the watch tick. Together with the rounding of timestamps, a hang is found within a
/// millisecond after its deadline: a call gets its timestamp up to one tick after its begin, and its deadline
/// is timed exactly from there.
const TICK_NS: u64 = 11 * call_timestamp::UNIT_NS;

/// The period in a system whose shortest deadline is [`LONG_DEADLINE_NS`] or longer: 50 ms. It is shorter
/// than the window of a CPU quota ([`cpu_share::WINDOW_NS`]).
const COARSE_TICK_NS: u64 = 763 * call_timestamp::UNIT_NS;
const LONG_DEADLINE_NS: u64 = 10_000_000_000;

const _: () = assert!(COARSE_TICK_NS < cpu_share::WINDOW_NS);

/// Starts the watchdog's thread.
pub(crate) fn start() -> Result<(), NoMemory> {
    const STACK: usize = 128 * 1024;
    Thread::spawn(DomainId::KERNEL, URGENT, u64::MAX, STACK, Work::Kernel(worker)).map(drop)
}

/// Enables watch ticks. Called once the domain table exists, inside a section.
pub(crate) fn init() {
    let is_tight = |domain: &domain::Domain| {
        domain.manifest.deadline_ns.is_some_and(|deadline_ns| deadline_ns < LONG_DEADLINE_NS)
            || cpu_share::limits(domain)
    };
    let is_tight = domain::all().iter().any(is_tight);
    watch_tick::enable(if is_tight { TICK_NS } else { COARSE_TICK_NS });
}

/// Scans this CPU's threads, if its tick is due. Called by the checkpoint after each timer interrupt, when
/// CPU time has just been charged.
pub(crate) fn tick(cpu: &'static Cpu) {
    let now_ns = machine().now_ns();
    if now_ns < watch_tick::next_ns(cpu) {
        return;
    }
    latency::find_lockups(machine().cpu_count());
    let mut scan = Scan { now_ns, next_due_ns: u64::MAX, has_suspects: false };
    let running = thread::current();
    let is_idle = running.is_idle();
    if !is_idle {
        scan.thread(running, State::Running);
        if let Some(excess) = cpu_share::check(running.domain, now_ns) {
            scan.add(Suspect::Share(excess));
        }
    }
    let mut queue = None;
    thread::for_each(|thread| {
        // Taken after the thread table's lock, by the lock order.
        queue.get_or_insert_with(|| cpu.queue.lock());
        // SAFETY: T2: if the thread is on this CPU, the lock is held; if it is not, it does not become a
        // thread of this CPU during the scan.
        let fields = unsafe { thread.fields() };
        if fields.cpu == cpu.number && matches!(fields.state, State::Ready | State::Blocked) {
            scan.thread(thread, fields.state);
        }
    });
    drop(queue);
    let tick_ns = now_ns + watch_tick::period_ns();
    let next_ns = if is_idle { scan.next_due_ns } else { scan.next_due_ns.min(tick_ns) };
    watch_tick::set(cpu, WatchTick { next_ns, is_paused: is_idle });
    if scan.has_suspects {
        wait::wake(WORK_KEY, 1);
    }
}

/// Wakes the watchdog's thread, because there is a lockup.
pub(crate) fn wake() {
    wait::wake(WORK_KEY, 1);
}

/// One scan of a CPU's threads.
struct Scan {
    now_ns: u64,
    /// The earliest time at which a scanned call is due.
    next_due_ns: u64,
    has_suspects: bool,
}

impl Scan {
    /// Scans the calls of a thread that stands still.
    fn thread(&mut self, thread: &'static Thread, state: State) {
        for (continuation, callee) in calls(thread) {
            let Some(limit_ns) = limit(continuation, callee) else { continue };
            let due_ns = call_timestamp::seen_since(continuation, self.now_ns) + limit_ns;
            if due_ns <= self.now_ns {
                self.add(Suspect::Call { thread: thread.id, state });
            } else {
                self.next_due_ns = self.next_due_ns.min(due_ns);
            }
        }
    }

    fn add(&mut self, suspect: Suspect) {
        suspects::note(suspect);
        self.has_suspects = true;
        // If the call does not return, a later tick finds it again.
        self.next_due_ns = self.next_due_ns.min(self.now_ns + watch_tick::period_ns());
    }
}

/// The calls under way on a thread that stands still, innermost first, with their callees.
#[allow(clippy::mut_from_ref, reason = "a thread's continuations belong to the code that keeps it still")]
fn calls(thread: &'static Thread) -> impl Iterator<Item = (&'static mut Continuation, DomainId)> {
    let control = thread.control();
    let (mut callee, mut at) = (control.current(), control.top());
    core::iter::from_fn(move || {
        // SAFETY: C1, and the thread stands still while the iterator is in use.
        let continuation = unsafe { at.as_mut() }?;
        at = continuation.previous();
        Some((core::mem::replace(&mut callee, continuation.caller()), continuation))
    })
    .map(|(callee, continuation)| (continuation, callee))
}

/// The deadline of that call, if it has one. Calls of the kernel have none here: either they are registered
/// ([`kernel_calls`]), or they are the body of a thread that the callee has spawned, and no call.
fn limit(continuation: &Continuation, callee: DomainId) -> Option<u64> {
    if continuation.caller() == DomainId::KERNEL {
        return None;
    }
    let domain = domain::get(callee.slot())?;
    let limit_ns = domain.manifest.deadline_ns?;
    // A dead callee is not ended again: the thread is further in, or on its way out.
    (domain.instance() == Some(callee)).then_some(limit_ns)
}

/// The body of the watchdog's thread.
fn worker() {
    loop {
        let until_ns = kernel_calls::sleep_until_first_due();
        let is_idle = || suspects::is_empty() && kernel_calls::is_quiet() && !latency::has_lockups();
        wait::block(WORK_KEY, is_idle, until_ns);
        if latency::has_lockups() {
            latency::take_lockups(crash_log::record_lockup);
            crash_log::announce();
        }
        loop {
            let suspect = suspects::take();
            match suspect {
                Some(Suspect::Call { thread, state }) => end_overdue_call(thread, state),
                Some(Suspect::Share(excess)) => cpu_share::demand_less(excess),
                None => break,
            }
        }
        while end_overdue_kernel_call() {}
    }
}

/// Ends the callee of the innermost overdue call on that thread, if there still is one.
fn end_overdue_call(id: u64, state: State) {
    let stopped = world::stop();
    let now_ns = machine().now_ns();
    let verdict = thread::with(id, |thread| {
        let is_overdue = |continuation: &Continuation, limit_ns| {
            call_timestamp::since(continuation, now_ns).is_some_and(|since_ns| since_ns + limit_ns <= now_ns)
        };
        let overdue = calls(thread).find_map(|(continuation, callee)| {
            let limit_ns = limit(continuation, callee)?;
            is_overdue(continuation, limit_ns).then_some((callee, continuation.caller(), limit_ns))
        });
        overdue.map(|(callee, caller, limit_ns)| {
            let text = Text::format(format_args!(
                "a call from {} took longer than {}; its thread {} {}{}",
                domain::name(caller),
                Nanoseconds(limit_ns),
                state_phrase(state),
                domain::name(thread.control().current()),
                Chain(thread)
            ));
            (callee, text)
        })
    });
    if let Some((victim, text)) = verdict.flatten() {
        terminate::terminate_while_stopped(stopped, victim, CrashKind::Deadline, text);
    }
}

/// Ends the callee of one overdue call of the kernel. Returns false if there was none.
fn end_overdue_kernel_call() -> bool {
    let stopped = world::stop();
    let now_ns = machine().now_ns();
    let Some(call) = kernel_calls::take_overdue(&stopped, now_ns) else { return false };
    let (id, victim, limit_ns) = (call.thread, call.callee, call.limit_ns);
    if !liveness::is_alive(victim) {
        return true;
    }
    let text = thread::with(id, |thread| {
        let callee_code = match domain::get(victim.slot()).map(domain::Domain::state) {
            Some(DomainState::Starting) => "its entry function",
            _ => "a call from the kernel",
        };
        // SAFETY: T2: the world is stopped.
        let state = unsafe { thread.fields() }.state;
        Text::format(format_args!(
            "{callee_code} took longer than {}; its thread {} {}{}",
            Nanoseconds(limit_ns),
            state_phrase(state),
            domain::name(thread.control().current()),
            Chain(thread)
        ))
    });
    terminate::terminate_while_stopped(
        stopped,
        victim,
        CrashKind::Deadline,
        text.unwrap_or_else(|| Text::new("it took too long")),
    );
    true
}

fn state_phrase(state: State) -> &'static str {
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
