//! Waiting: buckets of blocked threads by key, and timers.
//!
//! A thread blocks on a [`Key`]; whoever makes its condition true wakes the key, first come first served. A wake-up
//! unlinks the thread, so no queue is scanned again by the threads that it holds. A blocked thread holds nothing but
//! its place in the bucket, so a kill can take it out like a wake-up can.

use alloc::collections::BTreeSet;
use core::ptr::NonNull;

use crate::cpu::{Cpu, this_cpu};
use crate::machine::machine;
use crate::scheduler;
use crate::sync::Lock;
use crate::thread::{self, State, Thread};

/// What threads wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// A word of somebody's memory, by address.
    Word(usize),
    /// The end of a thread.
    Thread(u64),
    /// Only time.
    Nothing,
    /// A typed line.
    Console,
    /// Work for a kernel thread, by what kind.
    Work(usize),
}

/// What a thread waits for, while it does.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    key: Key,
    /// Its timer's place, if it has a deadline.
    deadline_ns: u64,
    timer_cpu: usize,
}

/// Deadlines of one CPU, and the threads that wait for them.
pub(crate) struct Timers(BTreeSet<(u64, u64)>);

impl Timers {
    pub(crate) const fn new() -> Self {
        Self(BTreeSet::new())
    }
}

const BUCKETS: usize = 64;

/// Blocked threads, oldest first.
struct Bucket {
    first: Option<NonNull<Thread>>,
    last: Option<NonNull<Thread>>,
}

// SAFETY: the threads in it are shared by T2.
unsafe impl Send for Bucket {}

static WAITING: [Lock<Bucket>; BUCKETS] = [const { Lock::new(Bucket { first: None, last: None }) }; BUCKETS];

fn bucket(key: Key) -> &'static Lock<Bucket> {
    let number = match key {
        Key::Word(address) => address as u64 >> 2,
        Key::Thread(id) => id ^ 0x5555,
        Key::Nothing => 0,
        Key::Console => 1,
        Key::Work(kind) => 2 + kind as u64,
    };
    &WAITING[(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize]
}

impl Bucket {
    fn push(&mut self, thread: &Thread) {
        let link = Some(NonNull::from(thread));
        // SAFETY: T2: the thread is the caller's own, and blocked from here on.
        unsafe { thread.fields() }.next = None;
        match self.last {
            // SAFETY: T4 and T2: we hold the bucket's lock.
            Some(last) => unsafe { Thread::fields_of(last) }.next = link,
            None => self.first = link,
        }
        self.last = link;
    }

    /// Takes out the threads that `choose` picks, up to `limit`, and hands each to `taken`.
    fn take(
        &mut self,
        limit: u32,
        mut choose: impl FnMut(&Thread, Waiting) -> bool,
        mut taken: impl FnMut(&'static Thread),
    ) -> u32 {
        let mut count = 0;
        let mut previous: Option<NonNull<Thread>> = None;
        let mut at = self.first;
        while let Some(link) = at
            && count < limit
        {
            // SAFETY: T4: threads in a bucket are alive.
            let thread = unsafe { link.as_ref() };
            // SAFETY: T2: we hold the bucket's lock.
            let fields = unsafe { thread.fields() };
            let next = fields.next;
            let waiting = fields.waiting.expect("a thread in a bucket waits");
            if choose(thread, waiting) {
                match previous {
                    // SAFETY: as above.
                    Some(previous) => unsafe { Thread::fields_of(previous) }.next = next,
                    None => self.first = next,
                }
                if self.last == at {
                    self.last = previous;
                }
                fields.next = None;
                fields.waiting = None;
                if waiting.deadline_ns != u64::MAX
                    && let Some(cpu) = crate::cpu::cpu(waiting.timer_cpu)
                {
                    cpu.timers.lock().0.remove(&(waiting.deadline_ns, thread.id));
                }
                count += 1;
                taken(thread);
            } else {
                previous = at;
            }
            at = next;
        }
        count
    }
}

/// Blocks while `condition()` holds, until a [`wake`] of `key` or the deadline. Answers whether it was woken (true too
/// if the condition did not hold). The condition is asked under the lock that wakers take: no wake-up is missed.
///
/// If the thread's domain dies meanwhile, this does not come back.
pub(crate) fn block(key: Key, condition: impl FnOnce() -> bool, deadline_ns: u64) -> bool {
    let mut waiting = bucket(key).lock();
    if !condition() {
        return true;
    }
    if deadline_ns != u64::MAX && machine().now_ns() >= deadline_ns {
        return false;
    }
    let cpu = this_cpu();
    let thread = thread::current();
    // SAFETY: T2: our own, and we hold the bucket's lock.
    let fields = unsafe { thread.fields() };
    fields.waiting = Some(Waiting { key, deadline_ns, timer_cpu: cpu.number });
    waiting.push(thread);
    if deadline_ns != u64::MAX {
        cpu.timers.lock().0.insert((deadline_ns, thread.id));
        arm_timer(cpu, scheduler::slice_end(cpu));
    }
    let queue = cpu.queue.lock();
    fields.state = State::Blocked;
    drop(waiting);
    scheduler::block(cpu, queue);
    crate::terminate::leave_if_killed();
    deadline_ns == u64::MAX || machine().now_ns() < deadline_ns
}

/// Wakes up to `count` threads that wait on `key`. Answers how many.
pub(crate) fn wake(key: Key, count: u32) -> u32 {
    bucket(key).lock().take(count, |_, waiting| waiting.key == key, scheduler::ready)
}

/// Takes `thread` out of whatever it waits on and lets it run. Answers whether it was waiting.
pub(crate) fn cancel(thread: &'static Thread) -> bool {
    cancel_if(thread, |_| true)
}

/// As [`cancel`], if `condition` holds for the wait.
fn cancel_if(thread: &'static Thread, condition: impl Fn(Waiting) -> bool) -> bool {
    // SAFETY: a snapshot: checked again under the lock of the bucket that it names.
    let Some(waiting) = (unsafe { thread.fields() }).waiting else { return false };
    let mut bucket = bucket(waiting.key).lock();
    let choose = |candidate: &Thread, waiting| core::ptr::eq(candidate, thread) && condition(waiting);
    bucket.take(1, choose, scheduler::ready) > 0
}

/// Lets the threads run whose deadline on this CPU has passed.
pub(crate) fn expire(cpu: &'static Cpu) {
    loop {
        let now = machine().now_ns();
        let mut timers = cpu.timers.lock();
        let Some(&(deadline, id)) = timers.0.first() else { break };
        if deadline > now {
            break;
        }
        timers.0.remove(&(deadline, id));
        drop(timers);
        // The table's lock keeps the thread alive. It may have been woken since, and wait for something else.
        let is_due = |waiting: Waiting| waiting.deadline_ns == deadline;
        thread::with(id, |thread| cancel_if(thread, is_due));
    }
    arm_timer(cpu, scheduler::slice_end(cpu));
}

/// Sets this CPU's timer to its first deadline, or to the end of the time slice.
pub(crate) fn arm_timer(cpu: &'static Cpu, slice_end_ns: u64) {
    let first = cpu.timers.lock().0.first().map_or(u64::MAX, |&(deadline, _)| deadline);
    machine().set_timer(first.min(slice_end_ns));
}
