//! Stopping the world: every other CPU waits in its checkpoint, so that one CPU may change the data of all
//! threads.
//!
//! This is the price that termination pays for crossings without locks or fences: each thread is then between
//! two instructions outside any section, with its continuations in order (C1 to C3). An idle CPU is not woken
//! for a stop: it is held where it is and checks again before it runs a thread.

use core::panic::Location;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::platform::latency;
use crate::platform::machine::machine;
use crate::platform::sync::{Guard, Lock};
use crate::sched::cpu::{Cpu, cpus, this_cpu};
use crate::sched::{cpu_time, thread};

/// [`Cpu::presence`]: the CPU runs threads.
const RUNNING: u32 = 0;
/// The CPU waits in its checkpoint for the world to go on.
const PARKED: u32 = 1;
/// The CPU has no thread to run.
const IDLE: u32 = 2;
/// The CPU had no thread to run when the world stopped, and must not start one.
const HELD: u32 = 3;

static STOPPER: Lock<()> = Lock::new(());
static STOPPED: AtomicBool = AtomicBool::new(false);

/// A stop of the world. While this value exists, no other CPU runs a thread.
pub(crate) struct Stopped {
    /// Ends before the next stop can begin.
    _time: latency::WorldStop,
    _stopper: Guard<'static, ()>,
}

/// Stops the world. The caller is in its outermost section and holds no lock.
#[track_caller]
pub(crate) fn stop() -> Stopped {
    let stopper = loop {
        if let Some(stopper) = STOPPER.try_lock() {
            break stopper;
        }
        // The CPU that stops the world waits for this one too.
        park();
        machine().relax();
    };
    // SeqCst here and in `park`: of "the world stops" and "this CPU runs", one side sees the other.
    STOPPED.store(true, Ordering::SeqCst);
    let time = latency::WorldStop::begin(Location::caller());
    let here = this_cpu().number;
    for cpu in cpus().filter(|cpu| cpu.number != here) {
        let mut interrupted = false;
        while !is_still(cpu) {
            if !interrupted {
                machine().send_ipi(cpu.number);
                interrupted = true;
            }
            machine().relax();
        }
    }
    Stopped { _time: time, _stopper: stopper }
}

/// Returns true if `cpu` stays where it is; holds it there if it is idle.
fn is_still(cpu: &Cpu) -> bool {
    match cpu.presence.load(Ordering::SeqCst) {
        PARKED | HELD => true,
        IDLE => cpu.presence.compare_exchange(IDLE, HELD, Ordering::SeqCst, Ordering::SeqCst).is_ok(),
        _ => false,
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        STOPPED.store(false, Ordering::SeqCst);
        for cpu in cpus() {
            let _ = cpu.presence.compare_exchange(HELD, IDLE, Ordering::SeqCst, Ordering::SeqCst);
        }
    }
}

/// Waits here while the world is stopped. In the outermost section, holding no lock.
pub(crate) fn park() {
    let presence = &this_cpu().presence;
    while STOPPED.load(Ordering::SeqCst) {
        // So CPU times are complete while the world is stopped.
        cpu_time::charge(this_cpu(), thread::current());
        let place = latency::suspend();
        presence.store(PARKED, Ordering::SeqCst);
        while STOPPED.load(Ordering::SeqCst) {
            machine().relax();
        }
        // The world may stop again right now and count this CPU as parked; then the loop sees that.
        presence.store(RUNNING, Ordering::SeqCst);
        latency::resume(place);
    }
}

/// Marks this CPU as idle.
pub(crate) fn begin_idle() {
    latency::end_section();
    this_cpu().presence.store(IDLE, Ordering::SeqCst);
}

/// Marks this CPU as running, once the world goes on.
pub(crate) fn end_idle() {
    let presence = &this_cpu().presence;
    while presence.compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        machine().relax();
    }
    latency::end_idle(Location::caller());
}

/// Returns true if `cpu` has no thread to run.
pub(crate) fn is_idle(cpu: &Cpu) -> bool {
    matches!(cpu.presence.load(Ordering::Relaxed), IDLE | HELD)
}
