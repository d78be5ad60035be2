//! The calls that the kernel makes into domains, each with the time when it has to be over.
//!
//! They are few, so they are written down here, where the watchdog finds those that are overdue; crossings between domains
//! are not ([`crate::policy::watchdog`]).

use alloc::vec::Vec;

use coppice_abi::DomainId;
use coppice_interfaces::DomainState;

use crate::domain;
use crate::platform::machine::machine;
use crate::platform::sync::{Lock, Section};
use crate::sched::thread;
use crate::sched::wait::{self, KernelWorker};
use crate::sched::world::Stopped;

/// A call that the kernel makes.
#[derive(Clone, Copy)]
pub(crate) struct KernelCall {
    number: u64,
    pub(crate) thread: u64,
    pub(crate) callee: DomainId,
    pub(crate) limit_ns: u64,
    /// `u64::MAX` once the callee was ended for it.
    due_ns: u64,
}

struct KernelCalls {
    calls: Vec<KernelCall>,
    /// Calls that there ever were.
    made: u64,
    /// The time up to which the watchdog's thread sleeps if nothing wakes it.
    sleeps_until_ns: u64,
}

static CALLS: Lock<KernelCalls> = Lock::new(KernelCalls { calls: Vec::new(), made: 0, sleeps_until_ns: 0 });

impl KernelCalls {
    fn first_due_ns(&self) -> u64 {
        self.calls.iter().map(|call| call.due_ns).min().unwrap_or(u64::MAX)
    }
}

/// Makes a call from the kernel into `callee`: if it does not come back in time, the callee ends. Outside any section.
pub(super) fn watched<R>(callee: DomainId, call: impl FnOnce() -> R) -> R {
    let Some(domain) = domain::get(callee.slot()) else { return call() };
    let start_ns = domain.manifest.start_deadline_ns;
    let limit_ns = match domain.state() {
        DomainState::Starting => start_ns,
        _ => domain.manifest.deadline_ns.unwrap_or(start_ns),
    };
    let number = write_down(callee, limit_ns);
    let result = call();
    let _section = Section::enter();
    CALLS.lock().calls.retain(|call| call.number != number);
    result
}

fn write_down(callee: DomainId, limit_ns: u64) -> u64 {
    let _section = Section::enter();
    let due_ns = machine().now_ns() + limit_ns;
    let mut calls = CALLS.lock();
    calls.made += 1;
    let number = calls.made;
    calls.calls.push(KernelCall { number, thread: thread::current().id, callee, limit_ns, due_ns });
    let is_first = due_ns < calls.sleeps_until_ns;
    drop(calls);
    if is_first {
        wait::wake(wait::Key::Work(KernelWorker::Watchdog), 1);
    }
    number
}

/// Returns when the first call is due, and notes that the watchdog's thread sleeps until then.
pub(crate) fn sleep_until_first_due() -> u64 {
    let mut calls = CALLS.lock();
    calls.sleeps_until_ns = calls.first_due_ns();
    calls.sleeps_until_ns
}

/// Returns true if no call is due before the time of the last [`sleep_until_first_due`].
pub(crate) fn is_quiet() -> bool {
    let calls = CALLS.lock();
    calls.first_due_ns() >= calls.sleeps_until_ns
}

/// Takes a call that is overdue, once.
pub(crate) fn take_overdue(_: &Stopped, now_ns: u64) -> Option<KernelCall> {
    let mut calls = CALLS.lock();
    let call = calls.calls.iter_mut().find(|call| call.due_ns <= now_ns)?;
    let overdue = *call;
    call.due_ns = u64::MAX;
    Some(overdue)
}
