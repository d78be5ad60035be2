//! Waiting: buckets of blocked threads by key, and timers.
//!
//! A thread blocks on a [`Key`]; the code that makes its condition true wakes the key, first come first
//! served. A wake-up unlinks the thread, so threads do not scan a queue again after waking. A blocked thread
//! holds nothing but its entry in the bucket, so a termination can take it out as a wake-up can.

use alloc::vec::Vec;
use core::panic::Location;
use core::sync::atomic::Ordering;

use crate::memory::heap::{self, Charge, Purpose};
use crate::platform::latency;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::sched::cpu::{Cpu, cpu, cpus, this_cpu};
use crate::sched::thread::{self, State, Thread};
use crate::sched::thread_queue::ThreadQueue;
use crate::sched::world::Stopped;
use crate::sched::{scheduler, watch_tick};

/// The event that a thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    /// A word in memory, by address.
    Word(usize),
    /// The end of a thread.
    Thread(u64),
    /// An instance of the domain in that slot that can be called.
    Instance(usize),
    /// The end of a thread that an ended instance of the domain in that slot has left.
    Departure(usize),
    /// A proxy of the domain in that slot that the reaper frees.
    Reaped(usize),
    /// Only the deadline.
    Nothing,
    /// A typed line.
    Console,
    /// Lines written to the console.
    ConsoleOutput,
    /// A message of a device, by its number.
    Message(usize),
    /// Work for a kernel thread.
    Work(KernelWorker),
}

/// The kernel's own threads, by their task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KernelWorker {
    /// Runs deferred work.
    DeferredWork,
    /// Drops exported objects without references.
    Reaper,
    /// Writes crash records to the log.
    CrashLog,
    /// Writes the log to the console.
    LogWriter,
    /// Checks the suspects of the watch ticks.
    Watchdog,
}

/// The wait of a blocked thread.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    key: Key,
    /// `u64::MAX` for none. Otherwise the timer is in the set of CPU `timer_cpu`.
    deadline_ns: u64,
    timer_cpu: usize,
}

/// Deadlines of one CPU, with the threads that wait for them; the first deadline comes last, so that it is
/// removed at the end of the list. There is room for an entry of each thread ([`reserve_timers`]), so a wait
/// takes no memory.
pub(crate) struct Timers(Vec<(u64, u64)>);

impl Timers {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    fn first(&self) -> Option<(u64, u64)> {
        self.0.last().copied()
    }

    /// Returns the index of `timer`, or as an error the index at which it would be inserted.
    fn search(&self, timer: (u64, u64)) -> Result<usize, usize> {
        self.0.binary_search_by(|known| timer.cmp(known))
    }

    fn insert(&mut self, timer: (u64, u64)) {
        assert!(self.0.len() < self.0.capacity(), "each thread has room for one timer");
        if let Err(index) = self.search(timer) {
            self.0.insert(index, timer);
        }
    }

    fn remove(&mut self, timer: (u64, u64)) {
        if let Ok(index) = self.search(timer) {
            self.0.remove(index);
        }
    }
}

/// Makes room on each CPU for the timers of `threads` threads. Returns false if there is no memory for them.
/// The caller holds the lock of the thread table.
pub(super) fn reserve_timers(threads: usize) -> bool {
    cpus().all(|cpu| {
        let timers = &mut cpu.timers.lock().0;
        let missing = threads.saturating_sub(timers.len());
        heap::try_reserve(Charge::to_kernel(Purpose::Table), timers, missing)
    })
}

/// The bytes of the timers of all CPUs.
pub(crate) fn table_bytes() -> usize {
    cpus().map(|cpu| heap::list_bytes(&cpu.timers.lock().0)).sum()
}

const BUCKETS: usize = 64;

/// Blocked threads, by the hash of their key; oldest first.
static WAITING: [Lock<ThreadQueue>; BUCKETS] = [const { Lock::new(ThreadQueue::new()) }; BUCKETS];

fn bucket_of(key: Key) -> usize {
    let number = match key {
        Key::Word(address) => address as u64 >> 2,
        Key::Thread(id) => id ^ 0x5555,
        Key::Instance(slot) => slot as u64 ^ 0x3333_0000,
        Key::Departure(slot) => slot as u64 ^ 0x7777_0000,
        Key::Reaped(slot) => slot as u64 ^ 0x2222_0000,
        Key::Nothing => 0,
        Key::Console => 1,
        Key::ConsoleOutput => 0x8888_0000,
        Key::Message(number) => number as u64 ^ 0x1111_0000,
        Key::Work(kind) => 2 + kind as u64,
    };
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58) as usize
}

/// Takes the first thread that `choose` selects out of a bucket whose lock is held, with its timer, and
/// passes it to `ready`.
fn release_first(
    bucket: &mut ThreadQueue,
    choose: impl Fn(&Thread, Waiting) -> bool,
    ready: fn(&'static Thread),
) -> bool {
    let waiting_of = |thread: &Thread| {
        // SAFETY: T2: the bucket's lock is held.
        unsafe { thread.fields() }.waiting.expect("a thread in a bucket waits")
    };
    let Some(thread) = bucket.take_first(|thread| choose(thread, waiting_of(thread))) else { return false };
    let waiting = waiting_of(thread);
    // SAFETY: as above.
    unsafe { thread.fields() }.waiting = None;
    thread.bucket.store(0, Ordering::Relaxed);
    if waiting.deadline_ns != u64::MAX
        && let Some(cpu) = cpu(waiting.timer_cpu)
    {
        cpu.timers.lock().remove((waiting.deadline_ns, thread.id));
    }
    ready(thread);
    true
}

/// Blocks while `condition()` holds, until a [`wake`] of `key` or the deadline. Returns true if the thread
/// was woken or the condition did not hold. The condition is checked under the lock that wakers take: no
/// wake-up is missed.
///
/// It does not return if the thread's domain dies during the wait. Neither does it if the thread is in a
/// kernel object and the domain that called it dies: kernel code waits in its outermost section, and only
/// where it owns nothing.
#[track_caller]
pub(crate) fn block(key: Key, condition: impl FnOnce() -> bool, deadline_ns: u64) -> bool {
    thread::leave_if_caller_died();
    let bucket = bucket_of(key);
    let mut waiting = WAITING[bucket].lock();
    if !condition() {
        return true;
    }
    if deadline_ns != u64::MAX && machine().now_ns() >= deadline_ns {
        return false;
    }
    let cpu = this_cpu();
    let thread = thread::current();
    // SAFETY: T2: this thread's own, and the bucket's lock is held.
    let fields = unsafe { thread.fields() };
    fields.waiting = Some(Waiting { key, deadline_ns, timer_cpu: cpu.number });
    thread.bucket.store(1 + bucket, Ordering::Relaxed);
    waiting.push(thread);
    if deadline_ns != u64::MAX {
        cpu.timers.lock().insert((deadline_ns, thread.id));
        arm_timer(cpu, scheduler::slice_end(cpu));
    }
    let queue = cpu.queue.lock();
    fields.state = State::Blocked;
    drop(waiting);
    scheduler::block(cpu, queue);
    latency::set_place(Location::caller());
    if thread.end_boost() {
        scheduler::give_way();
    }
    thread::leave_if_killed();
    deadline_ns == u64::MAX || machine().now_ns() < deadline_ns
}

/// Checks that each waiting thread is in the bucket where wakers look for it, and has its timer, if any, on
/// the CPU that it names. For the audit: the world is stopped.
pub(crate) fn audit(_: &Stopped, report: &mut dyn FnMut(core::fmt::Arguments<'_>)) {
    let (mut in_buckets, mut with_deadline) = (0, 0);
    for bucket in &WAITING {
        bucket.lock().for_each(|thread| {
            in_buckets += 1;
            // SAFETY: T2: the world is stopped.
            let fields = unsafe { thread.fields() };
            let is_in_its_bucket = |waiting: Waiting| core::ptr::eq(&WAITING[bucket_of(waiting.key)], bucket);
            if fields.state != State::Blocked || !fields.waiting.is_some_and(is_in_its_bucket) {
                report(format_args!(
                    "thread {} is {:?} in a bucket that is not its own",
                    thread.id, fields.state
                ));
            }
        });
    }
    let mut waiting = 0;
    thread::for_each(|thread| {
        // SAFETY: as above.
        let Some(wait) = (unsafe { thread.fields() }).waiting else { return };
        waiting += 1;
        let timer = (wait.deadline_ns, thread.id);
        let has_timer = || cpu(wait.timer_cpu).is_some_and(|cpu| cpu.timers.lock().search(timer).is_ok());
        if wait.deadline_ns != u64::MAX {
            with_deadline += 1;
            if !has_timer() {
                report(format_args!("thread {} waits for a deadline without a timer", thread.id));
            }
        }
    });
    if waiting != in_buckets {
        report(format_args!("{waiting} threads wait, and {in_buckets} are in buckets"));
    }
    let timers: usize = cpus().map(|cpu| cpu.timers.lock().0.len()).sum();
    if timers != with_deadline {
        report(format_args!("{timers} timers are set for {with_deadline} threads with a deadline"));
    }
}

/// Sleeps until the clock passes `deadline_ns`.
#[track_caller]
pub(crate) fn sleep_until(deadline_ns: u64) {
    while machine().now_ns() < deadline_ns {
        block(Key::Nothing, || true, deadline_ns);
    }
}

/// Wakes up to `count` threads that wait on `key`. Returns their number.
pub(crate) fn wake(key: Key, count: u32) -> u32 {
    let mut bucket = WAITING[bucket_of(key)].lock();
    let mut woken = 0;
    while woken < count && release_first(&mut bucket, |_, waiting| waiting.key == key, scheduler::ready) {
        woken += 1;
    }
    woken
}

/// Wakes a thread that waits on `key`, to run on this CPU soon ([`scheduler::ready_soon`]).
pub(crate) fn wake_soon(key: Key) {
    let mut bucket = WAITING[bucket_of(key)].lock();
    release_first(&mut bucket, |_, waiting| waiting.key == key, scheduler::ready_soon);
}

/// Wakes all threads that wait on `key`, on this CPU where they may run here and are more urgent than the
/// running thread.
pub(crate) fn wake_here(key: Key) {
    let mut bucket = WAITING[bucket_of(key)].lock();
    while release_first(&mut bucket, |_, waiting| waiting.key == key, scheduler::ready_here) {}
}

/// Takes `thread` out of its wait, if it is in one, and makes it ready. Returns true if it was waiting.
pub(crate) fn cancel(thread: &'static Thread) -> bool {
    cancel_if(thread, |_| true)
}

/// As [`cancel`], if `condition` holds for the wait.
fn cancel_if(thread: &'static Thread, condition: impl Fn(Waiting) -> bool) -> bool {
    // A snapshot: the bucket is searched under its lock. A thread that has left it has been woken.
    let Some(bucket) = thread.bucket.load(Ordering::Relaxed).checked_sub(1) else { return false };
    let mut bucket = WAITING[bucket].lock();
    let is_it = |candidate: &Thread, waiting| core::ptr::eq(candidate, thread) && condition(waiting);
    release_first(&mut bucket, is_it, scheduler::ready)
}

/// Wakes the threads whose deadline on this CPU has passed.
pub(crate) fn expire(cpu: &'static Cpu) {
    loop {
        let now = machine().now_ns();
        let mut timers = cpu.timers.lock();
        let Some((deadline, id)) = timers.first() else { break };
        if deadline > now {
            break;
        }
        timers.0.pop();
        drop(timers);
        // The table's lock keeps the thread alive. It may have been woken since, and be in another wait.
        let is_due = |waiting: Waiting| waiting.deadline_ns == deadline;
        thread::with(id, |thread| cancel_if(thread, is_due));
    }
    arm_timer(cpu, scheduler::slice_end(cpu));
}

/// Sets this CPU's timer to its first deadline, the next watch tick, or the end of the time slice.
pub(crate) fn arm_timer(cpu: &'static Cpu, slice_end_ns: u64) {
    let first = cpu.timers.lock().first().map_or(u64::MAX, |(deadline, _)| deadline);
    machine().set_timer(first.min(slice_end_ns).min(watch_tick::next_ns(cpu)));
}
