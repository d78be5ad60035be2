//! Calls from the kernel into domains, each with a deadline.
//!
//! There are few of them, so they are kept in a list in which the watchdog finds the overdue ones. Crossings
//! between domains are timed without such a list ([`crate::policy::watchdog`]).

use alloc::vec::Vec;

use coppice_abi::DomainId;
use coppice_control::DomainState;

use crate::domain;
use crate::memory::heap::{self, Charge, Purpose};
use crate::platform::machine::machine;
use crate::platform::sync::{Lock, Section};
use crate::sched::thread;
use crate::sched::wait::{self, KernelWorker};
use crate::sched::world::Stopped;

/// A call from the kernel into a domain.
#[derive(Clone, Copy)]
pub(crate) struct KernelCall {
    number: u64,
    pub(crate) thread: u64,
    pub(crate) callee: DomainId,
    pub(crate) limit_ns: u64,
    /// `u64::MAX` once the watchdog has taken the call.
    due_ns: u64,
}

struct KernelCalls {
    calls: Vec<KernelCall>,
    /// The number of the last call.
    last_number: u64,
    /// The wake-up time of the watchdog thread.
    sleeps_until_ns: u64,
}

static CALLS: Lock<KernelCalls> =
    Lock::new(KernelCalls { calls: Vec::new(), last_number: 0, sleeps_until_ns: 0 });

impl KernelCalls {
    fn first_due_ns(&self) -> u64 {
        self.calls.iter().map(|call| call.due_ns).min().unwrap_or(u64::MAX)
    }
}

/// Runs `call`, a call from the kernel into `callee`, under the callee's deadline: its `start-deadline` while
/// it starts, afterwards the shorter of that and its `deadline`. The watchdog ends a callee that exceeds it.
/// Outside any section.
pub(super) fn with_deadline<R>(callee: DomainId, call: impl FnOnce() -> R) -> R {
    let Some(domain) = domain::get(callee.slot()) else { return call() };
    let start_ns = domain.manifest.start_deadline_ns;
    let limit_ns = match domain.state() {
        DomainState::Starting => start_ns,
        // A default deadline is longer than a thread of the kernel should wait.
        _ => domain.manifest.deadline_ns.map_or(start_ns, |deadline_ns| deadline_ns.min(start_ns)),
    };
    let number = register(callee, limit_ns);
    let result = call();
    let _section = Section::enter();
    CALLS.lock().calls.retain(|call| call.number != number);
    result
}

fn register(callee: DomainId, limit_ns: u64) -> u64 {
    let _section = Section::enter();
    let due_ns = machine().now_ns() + limit_ns;
    let mut calls = CALLS.lock();
    calls.last_number += 1;
    let number = calls.last_number;
    if !heap::try_reserve(Charge::to_kernel(Purpose::Table), &mut calls.calls, 1) {
        // Not even the kernel's reserve has memory. Until it does, a call goes without a deadline.
        return number;
    }
    calls.calls.push(KernelCall { number, thread: thread::current().id, callee, limit_ns, due_ns });
    let is_first = due_ns < calls.sleeps_until_ns;
    drop(calls);
    if is_first {
        wait::wake(wait::Key::Work(KernelWorker::Watchdog), 1);
    }
    number
}

/// The bytes of the list of calls.
pub(crate) fn table_bytes() -> usize {
    heap::list_bytes(&CALLS.lock().calls)
}

/// Returns the earliest deadline and records it as the wake-up time of the watchdog thread.
pub(crate) fn sleep_until_first_due() -> u64 {
    let mut calls = CALLS.lock();
    calls.sleeps_until_ns = calls.first_due_ns();
    calls.sleeps_until_ns
}

/// Returns true if no deadline precedes the wake-up time of the last [`sleep_until_first_due`].
pub(crate) fn is_quiet() -> bool {
    let calls = CALLS.lock();
    calls.first_due_ns() >= calls.sleeps_until_ns
}

/// Returns an overdue call. Each call is returned once.
pub(crate) fn take_overdue(_: &Stopped, now_ns: u64) -> Option<KernelCall> {
    let mut calls = CALLS.lock();
    let call = calls.calls.iter_mut().find(|call| call.due_ns <= now_ns)?;
    let overdue = *call;
    call.due_ns = u64::MAX;
    Some(overdue)
}
