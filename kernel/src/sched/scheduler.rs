//! The scheduler: a run queue per CPU, first in first out within a priority.
//!
//! A CPU holds its queue's lock from the decision to switch until the next thread runs, which unlocks it. So
//! a CPU that takes the lock of a thread's CPU knows that the thread is off its stack, and the hand-over
//! needs no other flag.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::crossing::CpuBlock;

use crate::platform::machine::machine;
use crate::platform::sync::{self, Guard};
use crate::sched::cpu::{Cpu, cpu, cpus, request, this_cpu};
use crate::sched::thread::{self, PRIORITIES, State, Thread};
use crate::sched::thread_queue::ThreadQueue;
use crate::sched::{cpu_time, switch, wait, watch_tick, world};

/// The time slice of a thread while others of its priority wait.
pub(crate) const TIME_SLICE_NS: u64 = 5_000_000;

/// The most that is left of the running thread's time slice once its follow-up work is ready
/// ([`ready_soon`]): enough for a client to be notified of a crash and to turn to other work.
const HEAD_START_NS: u64 = 20_000;

/// Threads that are ready to run on a CPU.
pub(crate) struct RunQueue {
    queues: [ThreadQueue; PRIORITIES],
    /// A bit for each queue that is not empty.
    occupied: u32,
    /// The time to check whether the running thread has used its time slice; `u64::MAX` while no thread
    /// waits.
    slice_end_ns: u64,
    /// The number of switches on this CPU.
    switches: u64,
    /// `switches` when `slice_end_ns` was set.
    slice_switches: u64,
}

impl RunQueue {
    pub(crate) const fn new() -> Self {
        Self {
            queues: [const { ThreadQueue::new() }; PRIORITIES],
            occupied: 0,
            slice_end_ns: u64::MAX,
            switches: 0,
            slice_switches: 0,
        }
    }

    fn push(&mut self, thread: &Thread) {
        self.queues[thread.priority() as usize].push(thread);
        self.occupied |= 1 << thread.priority();
    }

    /// Takes the most urgent thread that may run on `cpu`, if there is one of `priority` or more urgent.
    fn pop(&mut self, cpu: usize, priority: usize) -> Option<&'static Thread> {
        let may_run = |thread: &Thread| thread.affinity & (1 << cpu) != 0;
        let mut levels = self.occupied & ((2 << priority) - 1);
        while levels != 0 {
            let level = levels.trailing_zeros() as usize;
            let queue = &mut self.queues[level];
            if let Some(thread) = queue.take_first(may_run) {
                if queue.is_empty() {
                    self.occupied &= !(1 << level);
                }
                return Some(thread);
            }
            levels &= levels - 1;
        }
        None
    }

    /// Visits each thread in the queue.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Thread)) {
        self.queues.iter().for_each(|queue| queue.for_each(&mut visit));
    }

    fn is_empty(&self) -> bool {
        self.occupied == 0
    }
}

/// Makes a new thread ready.
pub(crate) fn start(thread: &'static Thread) {
    let home = choose(thread);
    // SAFETY: the thread is new, so nothing else uses it.
    unsafe { thread.fields() }.cpu = home.number;
    enqueue(home, home.queue.lock(), thread);
}

/// Makes a thread ready that has left its wait bucket.
pub(crate) fn ready(thread: &'static Thread) {
    let target = choose(thread);
    enqueue(target, take_over(thread, target), thread);
}

/// As [`ready`], for follow-up work of the running thread that this one should not wait for: interrupting
/// another CPU that sleeps costs a host or a hypervisor tens of microseconds. So the work runs on this CPU,
/// as soon as the running thread blocks or yields, or after [`HEAD_START_NS`].
pub(crate) fn ready_soon(thread: &'static Thread) {
    let here = this_cpu();
    let running = thread::current();
    // A more urgent running thread would delay the work for longer than that.
    if running.is_idle() || running.priority() < thread.priority() || !may_run_on(thread, here) {
        return ready(thread);
    }
    let mut queue = take_over(thread, here);
    // SAFETY: T2: we hold the lock.
    unsafe { thread.fields() }.state = State::Ready;
    queue.push(thread);
    queue.slice_end_ns = queue.slice_end_ns.min(machine().now_ns() + HEAD_START_NS);
    queue.slice_switches = queue.switches;
    wait::arm_timer(here, queue.slice_end_ns);
}

/// As [`ready`], for a thread that this CPU was interrupted for: on this CPU, if the thread may run here and
/// would run at once. [`ready`] would search for an idle CPU, and waking that takes another interrupt.
pub(crate) fn ready_here(thread: &'static Thread) {
    let here = this_cpu();
    let running = thread::current();
    let gives_way = running.is_idle() || running.priority() > thread.priority();
    if !gives_way || !may_run_on(thread, here) {
        return ready(thread);
    }
    enqueue(here, take_over(thread, here), thread);
}

/// Assigns a blocked thread to `target`, and returns the lock of `target`'s queue. Only its waker (the
/// caller) changes a blocked thread's CPU.
fn take_over(thread: &'static Thread, target: &'static Cpu) -> Guard<'static, RunQueue> {
    // SAFETY: it is blocked, and the caller is its waker.
    let home = unsafe { thread.fields() }.cpu;
    // Once this lock is held the thread is off its stack, even if it was still switching away.
    let guard = cpu(home).expect("a thread's CPU exists").queue.lock();
    // SAFETY: T2: with the lock of the CPU that it leaves. So a CPU that holds that lock and finds the thread
    // there keeps it still.
    unsafe { thread.fields() }.cpu = target.number;
    if target.number == home {
        guard
    } else {
        drop(guard);
        target.queue.lock()
    }
}

fn may_run_on(thread: &Thread, cpu: &Cpu) -> bool {
    thread.affinity & (1 << cpu.number) != 0
}

/// Returns the CPU that `thread` had last, unless that is busy and another one that it may use is idle.
fn choose(thread: &Thread) -> &'static Cpu {
    // SAFETY: read by the only CPU that may change it.
    let home = unsafe { thread.fields() }.cpu;
    let allowed = |cpu: &&Cpu| may_run_on(thread, cpu);
    let home = cpu(home).filter(allowed);
    home.filter(|home| world::is_idle(home))
        .or_else(|| cpus().filter(allowed).find(|cpu| world::is_idle(cpu)))
        .or(home)
        .or_else(|| cpus().find(allowed))
        .unwrap_or_else(this_cpu)
}

fn enqueue(target: &'static Cpu, mut queue: Guard<'_, RunQueue>, thread: &'static Thread) {
    // SAFETY: T2: we hold the lock.
    unsafe { thread.fields() }.state = State::Ready;
    queue.push(thread);
    drop(queue);
    request_reschedule(target);
}

/// Requests `target` to check its queue soon.
fn request_reschedule(target: &'static Cpu) {
    let before = target.requests.fetch_or(request::RESCHEDULE, Ordering::AcqRel);
    if target.number == this_cpu().number {
        sync::request_checkpoint();
    } else if before & request::RESCHEDULE == 0 {
        machine().send_ipi(target.number);
    }
}

/// Runs another thread of the same or higher priority, if one is ready.
pub(crate) fn yield_now() {
    let cpu = this_cpu();
    let mut queue = cpu.queue.lock();
    let thread = thread::current();
    let priority = if thread.is_idle() { PRIORITIES - 1 } else { thread.priority() as usize };
    let Some(next) = queue.pop(cpu.number, priority) else { return };
    // SAFETY: T2: we hold the lock.
    unsafe { thread.fields() }.state = State::Ready;
    if !thread.is_idle() {
        queue.push(thread);
    } else {
        watch_tick::resume(cpu, queue.slice_end_ns);
        if !queue.is_empty() {
            // They became ready while the CPU was idle, so no time slice is set for them yet: the next
            // checkpoint sets one.
            cpu.requests.fetch_or(request::RESCHEDULE, Ordering::Relaxed);
            sync::request_checkpoint();
        }
    }
    switch_to(cpu, queue, thread, next);
}

/// Switches to a more urgent thread, or to the next one if the time slice is over. Called by the checkpoint.
pub(crate) fn reschedule() {
    let cpu = this_cpu();
    let mut queue = cpu.queue.lock();
    let thread = thread::current();
    if thread.is_idle() {
        drop(queue);
        return yield_now();
    }
    thread.end_boost();
    let now = machine().now_ns();
    let slice_over = now >= queue.slice_end_ns && queue.switches == queue.slice_switches;
    if queue.is_empty() {
        queue.slice_end_ns = u64::MAX;
    } else if now >= queue.slice_end_ns || queue.slice_end_ns == u64::MAX {
        // Reads the clock here instead of setting a deadline at each switch, which would cost more than the
        // switch.
        queue.slice_end_ns = now + TIME_SLICE_NS;
        queue.slice_switches = queue.switches;
        wait::arm_timer(cpu, queue.slice_end_ns);
    }
    let urgent = if slice_over { thread.priority() as usize + 1 } else { thread.priority() as usize };
    let Some(next) = urgent.checked_sub(1).and_then(|lowest| queue.pop(cpu.number, lowest)) else { return };
    // SAFETY: T2: we hold the lock.
    unsafe { thread.fields() }.state = State::Ready;
    queue.push(thread);
    switch_to(cpu, queue, thread, next);
}

/// Lets a more urgent thread that is ready run soon, because the running thread has become less urgent. In a
/// section.
pub(crate) fn give_way() {
    let cpu = this_cpu();
    if !is_queue_empty(cpu) {
        request_reschedule(cpu);
    }
}

/// The end of the running thread's time slice, for the timer.
pub(crate) fn slice_end(cpu: &Cpu) -> u64 {
    cpu.queue.lock().slice_end_ns
}

/// Stops running the current thread, whose state is set already; `queue` is its CPU's.
pub(crate) fn block(cpu: &'static Cpu, mut queue: Guard<'_, RunQueue>) {
    let thread = thread::current();
    let next = next(cpu, &mut queue);
    switch_to(cpu, queue, thread, next);
}

/// Ends the current thread.
pub(crate) fn end() -> ! {
    let cpu = this_cpu();
    let mut queue = cpu.queue.lock();
    let thread = thread::current();
    // SAFETY: T2: we hold the lock.
    unsafe { thread.fields() }.state = State::Ended;
    // SAFETY: this CPU's, in a section.
    *unsafe { cpu.ended.get() } = Some(NonNull::from(thread));
    let next = next(cpu, &mut queue);
    switch_to(cpu, queue, thread, next);
    unreachable!("an ended thread is in no queue");
}

fn next(cpu: &'static Cpu, queue: &mut RunQueue) -> &'static Thread {
    queue.pop(cpu.number, PRIORITIES - 1).or_else(|| steal(cpu)).unwrap_or_else(|| {
        // No time slice ends any more; a timer set for one that is over would fire again and again.
        queue.slice_end_ns = u64::MAX;
        // SAFETY: set when the CPU was made, to a thread that is never freed.
        unsafe { &*cpu.idle.load(Ordering::Relaxed) }
    })
}

/// Takes a thread that is ready on another CPU and may run here. It only tries the locks: the other CPU may
/// be stealing too.
fn steal(thief: &'static Cpu) -> Option<&'static Thread> {
    cpus().filter(|victim| victim.number != thief.number).find_map(|victim| {
        let mut queue = victim.queue.try_lock()?;
        let thread = queue.pop(thief.number, PRIORITIES - 1)?;
        // SAFETY: T2: with the lock of the CPU that it leaves.
        unsafe { thread.fields() }.cpu = thief.number;
        Some(thread)
    })
}

/// Steals work from another CPU before this idle one sleeps.
pub(crate) fn steal_when_idle() {
    let cpu = this_cpu();
    if let Some(thread) = steal(cpu) {
        let mut queue = cpu.queue.lock();
        queue.push(thread);
        drop(queue);
        yield_now();
    }
}

/// Returns true if no thread is ready on this CPU.
pub(crate) fn is_queue_empty(cpu: &Cpu) -> bool {
    cpu.queue.lock().is_empty()
}

/// Gives the CPU to `next`. Returns when `thread` runs again, possibly on another CPU.
fn switch_to(
    cpu: &'static Cpu,
    mut queue: Guard<'_, RunQueue>,
    thread: &'static Thread,
    next: &'static Thread,
) {
    // SAFETY: T2: the lock of the CPU that it will belong to is held.
    let next_fields = unsafe { next.fields() };
    next_fields.state = State::Running;
    next_fields.cpu = cpu.number;
    if core::ptr::eq(thread, next) {
        return;
    }
    queue.switches += 1;
    cpu_time::charge(cpu, thread);
    // SAFETY: this CPU's own block, in a section.
    let word = unsafe { CpuBlock::thread_word(cpu.block()) };
    // SAFETY: as above.
    unsafe { word.write(core::ptr::from_ref(next).cast_mut().cast()) };
    // The next thread unlocks the queue.
    core::mem::forget(queue);
    // SAFETY: T2 for `thread`; `next` was switched out or prepared, and the queue's lock keeps other CPUs off
    // it.
    let save = unsafe { &raw mut thread.fields().sp };
    // SAFETY: as above.
    unsafe { switch::switch(save, next_fields.sp) };
    finish_switch();
}

/// Completes a switch: the first step of each thread that gets a CPU.
#[inline]
pub(crate) fn finish_switch() {
    let cpu = this_cpu();
    // SAFETY: the previous thread locked it on this CPU and forgot the guard.
    unsafe { cpu.queue.force_unlock() };
    // SAFETY: this CPU's, in a section.
    if let Some(ended) = unsafe { cpu.ended.get() }.take() {
        // SAFETY: `end` put it there after it had left all tables, and this is another stack.
        unsafe { thread::free(ended) };
    }
}
