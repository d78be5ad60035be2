//! Interrupts: device messages are counted, and wake the threads that wait for them.
//!
//! A machine reports a message by its number. The number's [`Line`] counts it. Only if a thread waits does
//! more happen: the CPU handles the message at its next checkpoint, at once if it runs a domain, and wakes
//! the thread there. So a driver that polls is not interrupted, and one that sleeps runs next.
//!
//! # Invariants
//! - **I1** A waiter increments `waiters` before it reads `count`, and a message increments `count` before it
//!   reads `waiters`, both in one total order (`SeqCst`). So one of them sees the other, and no waiter sleeps
//!   through a message.
//! - **I2** A freed number is not reused before all other free numbers have been. A message that was under
//!   way when its vector was closed meets a closed line, or at worst wakes a thread that finds its count
//!   unchanged.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::DeviceRefusal;

use super::{Grant, of_caller};
use crate::platform::machine::{CPU_LIMIT, machine};
use crate::platform::pci::MESSAGE_LIMIT;
use crate::platform::sync::Lock;
use crate::sched::cpu::{Cpu, cpu, request, this_cpu};
use crate::sched::wait;

/// The state of one message number.
struct Line {
    is_open: AtomicBool,
    /// Messages so far; wraps.
    count: AtomicU32,
    /// Threads that wait for the next message.
    waiters: AtomicU32,
    /// The CPU that wakes them.
    cpu: AtomicU32,
}

static LINES: [Line; MESSAGE_LIMIT] = [const {
    Line {
        is_open: AtomicBool::new(false),
        count: AtomicU32::new(0),
        waiters: AtomicU32::new(0),
        cpu: AtomicU32::new(0),
    }
}; MESSAGE_LIMIT];

/// The number at which the search for a free number begins.
static NEXT: Lock<usize> = Lock::new(0);

const WORDS: usize = MESSAGE_LIMIT.div_ceil(64);

/// Messages for which a CPU has to wake a thread, a bit for each. Each CPU has its own cache line.
#[repr(align(64))]
struct Arrived([AtomicU64; WORDS]);

impl Arrived {
    fn note(&self, number: usize) {
        self.0[number / 64].fetch_or(1 << (number % 64), Ordering::AcqRel);
    }
}

static ARRIVED: [Arrived; CPU_LIMIT] = [const { Arrived([const { AtomicU64::new(0) }; WORDS]) }; CPU_LIMIT];

/// Counts a message. Returns its line if a thread waits for it.
fn count(number: u8) -> Option<&'static Line> {
    let line = LINES.get(usize::from(number)).filter(|line| line.is_open.load(Ordering::Acquire))?;
    line.count.fetch_add(1, Ordering::SeqCst);
    // I1.
    (line.waiters.load(Ordering::SeqCst) > 0).then_some(line)
}

/// Handles a message that interrupted this CPU. Returns true if a thread has to be woken. Called from traps:
/// takes no lock.
pub(crate) fn message_here(cpu: &Cpu, number: u8) -> bool {
    let has_waiter = count(number).is_some();
    if has_waiter {
        ARRIVED[cpu.number].note(number.into());
    }
    has_waiter
}

/// Handles a message that arrived on a thread of the machine's. Takes no lock of the kernel's.
pub(crate) fn message(number: u8) {
    let Some(line) = count(number) else { return };
    let Some(target) = cpu(line.cpu.load(Ordering::Relaxed) as usize) else { return };
    ARRIVED[target.number].note(number.into());
    // If the bit was set, that CPU has been interrupted already.
    if target.requests.fetch_or(request::DEVICE, Ordering::AcqRel) & request::DEVICE == 0 {
        machine().send_ipi(target.number);
    }
}

/// Wakes the threads that wait for messages noted on this CPU. Called by the checkpoint.
pub(crate) fn deliver(cpu: &Cpu) {
    for (index, word) in ARRIVED[cpu.number].0.iter().enumerate() {
        let mut bits = word.swap(0, Ordering::AcqRel);
        while bits != 0 {
            let number = index * 64 + bits.trailing_zeros() as usize;
            wait::wake_here(wait::Key::Message(number));
            bits &= bits - 1;
        }
    }
}

/// Opens `vector` of the caller's device: its messages are counted, and reported to this CPU.
pub(crate) fn open(device: u32, vector: u16) -> Result<(), DeviceRefusal> {
    let refusal = DeviceRefusal::NoVector { vector };
    let grant = of_caller(device)?;
    let message = grant.messages.get(usize::from(vector)).ok_or(refusal)?;
    let _access = grant.access.lock();
    if message.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    let here = this_cpu().number;
    let number = Line::take(here).ok_or(refusal)?;
    let opened = grant.function.open_vector(vector, number, here);
    match opened {
        Ok(()) => message.store(number + 1, Ordering::Release),
        Err(_) => Line::release(number),
    }
    opened
}

/// Blocks while the count of a vector of the caller's device is `seen`, or until the deadline. Returns the
/// count. The count of a closed vector stays the same.
pub(crate) fn await_message(device: u32, vector: u16, seen: u32, deadline_ns: u64) -> u32 {
    let Ok(grant) = of_caller(device) else { return seen };
    let message =
        grant.messages.get(usize::from(vector)).map_or(0, |message| message.load(Ordering::Acquire));
    let Some(number) = message.checked_sub(1).map(usize::from) else { return seen };
    let line = &LINES[number];
    let count = || line.count.load(Ordering::SeqCst);
    if count() != seen || deadline_ns == 0 {
        return count();
    }
    line.waiters.fetch_add(1, Ordering::SeqCst);
    // Route the message to the CPU that the waiter runs on, where the machine can choose.
    line.cpu.store(this_cpu().number as u32, Ordering::Relaxed);
    // I1. A thread that is killed during the wait does not return to decrement `waiters`; closing the line
    // resets them.
    wait::block(wait::Key::Message(number), || count() == seen, deadline_ns);
    line.waiters.fetch_sub(1, Ordering::SeqCst);
    count()
}

impl Line {
    /// Takes a free number, for messages to CPU `cpu`.
    fn take(cpu: usize) -> Option<u8> {
        let mut next = NEXT.lock();
        let order = (0..MESSAGE_LIMIT).map(|step| (*next + step) % MESSAGE_LIMIT);
        let number = order.into_iter().find(|&number| !LINES[number].is_open.load(Ordering::Relaxed))?;
        // I2.
        *next = number + 1;
        let line = &LINES[number];
        line.cpu.store(cpu as u32, Ordering::Relaxed);
        line.waiters.store(0, Ordering::SeqCst);
        line.is_open.store(true, Ordering::Release);
        Some(number as u8)
    }

    fn release(number: u8) {
        let line = &LINES[usize::from(number)];
        line.is_open.store(false, Ordering::Release);
    }
}

impl Grant {
    /// Closes all vectors: later messages are dropped. No thread of the grant's domain runs.
    pub(super) fn close_vectors(&self) {
        let _access = self.access.lock();
        for (vector, message) in self.messages.iter().enumerate() {
            if let Some(number) = message.swap(0, Ordering::AcqRel).checked_sub(1) {
                self.function.close_vector(vector as u16);
                Line::release(number);
            }
        }
    }

    /// The number of open vectors.
    pub(super) fn open_vectors(&self) -> usize {
        self.messages.iter().filter(|message| message.load(Ordering::Relaxed) != 0).count()
    }
}

/// The number of lines in use.
pub(super) fn open_lines() -> usize {
    LINES.iter().filter(|line| line.is_open.load(Ordering::Relaxed)).count()
}
