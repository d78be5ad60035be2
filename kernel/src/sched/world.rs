//! Stopping the world: every other CPU waits in its checkpoint, so that one CPU may change what belongs to all threads.
//!
//! This is what termination pays for crossings without locks or fences: each thread is then at a place between two
//! instructions outside any section, with its continuations in order (C1 to C3). An idle CPU is not woken for it: it is
//! held where it is and looks again before it runs anything.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::platform::machine::machine;
use crate::platform::sync::{Guard, Lock};
use crate::sched::cpu::{Cpu, cpus, this_cpu};
use crate::sched::{cpu_time, thread};

/// [`Cpu::presence`]: runs threads.
const RUNNING: u32 = 0;
/// Waits in its checkpoint for the world to go on.
const PARKED: u32 = 1;
/// Has nothing to run.
const IDLE: u32 = 2;
/// Had nothing to run when the world stopped, and may not begin to.
const HELD: u32 = 3;

static STOPPER: Lock<()> = Lock::new(());
static STOPPED: AtomicBool = AtomicBool::new(false);

/// While it lives, no other CPU runs a thread.
pub(crate) struct Stopped {
    _stopper: Guard<'static, ()>,
}

/// Stops the world. The caller is in its outermost section and holds no lock.
pub(crate) fn stop() -> Stopped {
    let stopper = loop {
        if let Some(stopper) = STOPPER.try_lock() {
            break stopper;
        }
        // Whoever stops the world waits for us too.
        park();
        machine().relax();
    };
    // SeqCst here and in `park`: of "the world stops" and "I run", one side sees the other.
    STOPPED.store(true, Ordering::SeqCst);
    let here = this_cpu().number;
    for cpu in cpus().filter(|cpu| cpu.number != here) {
        let mut asked = false;
        while !is_still(cpu) {
            if !asked {
                machine().send_ipi(cpu.number);
                asked = true;
            }
            machine().relax();
        }
    }
    Stopped { _stopper: stopper }
}

/// Whether `cpu` will stay where it is; holds it there if it is idle.
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
        // So whoever stops the world knows how much CPU time everybody has used.
        cpu_time::charge(this_cpu(), thread::current());
        presence.store(PARKED, Ordering::SeqCst);
        while STOPPED.load(Ordering::SeqCst) {
            machine().relax();
        }
        // The world may stop anew right now and count us as parked; then the loop finds that out.
        presence.store(RUNNING, Ordering::SeqCst);
    }
}

/// Tells that this CPU has nothing to run.
pub(crate) fn begin_idle() {
    this_cpu().presence.store(IDLE, Ordering::SeqCst);
}

/// Takes that back, once the world goes on.
pub(crate) fn end_idle() {
    let presence = &this_cpu().presence;
    while presence.compare_exchange(IDLE, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_err() {
        machine().relax();
    }
}

/// Whether a CPU has nothing to run.
pub(crate) fn is_idle(cpu: &Cpu) -> bool {
    matches!(cpu.presence.load(Ordering::Relaxed), IDLE | HELD)
}
