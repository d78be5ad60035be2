//! Interrupts: messages of devices are counted, and whoever waits for one goes on.
//!
//! A machine reports a message by its number. Its [`Line`] counts it; only if a thread waits does anything else happen: the
//! CPU turns to it at its next checkpoint, at once if it runs a domain, and wakes the thread there. So a driver that polls is
//! not interrupted, and one that sleeps runs next.
//!
//! # Invariants
//! - **I1** A waiter counts itself in `waiters` before it looks at `count`, and a message counts itself before it looks at
//!   `waiters`, both in one order for all (`SeqCst`). So one of them sees the other, and no message is slept through.
//! - **I2** A number that was given back is not given out again before all others were. A message that was on its way when
//!   its vector was closed meets a line that is closed, or at worst wakes somebody who finds nothing to do.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::DeviceRefusal;

use super::{Grant, of_caller};
use crate::platform::machine::{CPU_LIMIT, machine};
use crate::platform::pci::MESSAGE_LIMIT;
use crate::platform::sync::Lock;
use crate::sched::cpu::{Cpu, cpu, request, this_cpu};
use crate::sched::wait;

/// One number that a machine reports messages by.
struct Line {
    is_open: AtomicBool,
    /// Messages so far; wraps.
    count: AtomicU32,
    /// Threads that want to be woken by the next.
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

/// Where the search for a free number begins.
static NEXT: Lock<usize> = Lock::new(0);

const WORDS: usize = MESSAGE_LIMIT.div_ceil(64);

/// Messages that a CPU has to wake a thread for, bit by bit. Each CPU has a cache line of its own.
#[repr(align(64))]
struct Arrived([AtomicU64; WORDS]);

impl Arrived {
    fn note(&self, number: usize) {
        self.0[number / 64].fetch_or(1 << (number % 64), Ordering::AcqRel);
    }
}

static ARRIVED: [Arrived; CPU_LIMIT] = [const { Arrived([const { AtomicU64::new(0) }; WORDS]) }; CPU_LIMIT];

/// Counts a message. Answers its line if somebody waits for it.
fn count(number: u8) -> Option<&'static Line> {
    let line = LINES.get(usize::from(number)).filter(|line| line.is_open.load(Ordering::Acquire))?;
    line.count.fetch_add(1, Ordering::SeqCst);
    // I1.
    (line.waiters.load(Ordering::SeqCst) > 0).then_some(line)
}

/// A message has interrupted this CPU. Answers whether there is anything to do. From traps: takes no lock.
pub(crate) fn message_here(cpu: &Cpu, number: u8) -> bool {
    let wanted = count(number).is_some();
    if wanted {
        ARRIVED[cpu.number].note(number.into());
    }
    wanted
}

/// A message has arrived, on whatever thread the machine may have. Takes no lock of the kernel's.
pub(crate) fn message(number: u8) {
    let Some(line) = count(number) else { return };
    let Some(target) = cpu(line.cpu.load(Ordering::Relaxed) as usize) else { return };
    ARRIVED[target.number].note(number.into());
    // Whoever set the bit before has interrupted it already.
    if target.requests.fetch_or(request::DEVICE, Ordering::AcqRel) & request::DEVICE == 0 {
        machine().send_ipi(target.number);
    }
}

/// The checkpoint's part: wakes who waits for messages that this CPU has noted.
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

/// Has messages `vector` of the caller's device counted, reported to this CPU.
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
        Err(_) => Line::give_back(number),
    }
    opened
}

/// Blocks while `seen` messages of a vector of the caller's device have been counted, or until the deadline. Answers how many
/// have been. Of a vector that is closed there are never more.
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
    // A machine that can choose has the CPU interrupted on which somebody waits.
    line.cpu.store(this_cpu().number as u32, Ordering::Relaxed);
    // I1. Who is killed meanwhile does not come back to take itself off; closing the line does.
    wait::block(wait::Key::Message(number), || count() == seen, deadline_ns);
    line.waiters.fetch_sub(1, Ordering::SeqCst);
    count()
}

impl Line {
    /// A number that nobody has, for messages to CPU `cpu`.
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

    fn give_back(number: u8) {
        let line = &LINES[usize::from(number)];
        line.is_open.store(false, Ordering::Release);
    }
}

impl Grant {
    /// Closes all vectors: what they still send is dropped. No thread of the grant's domain runs.
    pub(super) fn close_vectors(&self) {
        let _access = self.access.lock();
        for (vector, message) in self.messages.iter().enumerate() {
            if let Some(number) = message.swap(0, Ordering::AcqRel).checked_sub(1) {
                self.function.close_vector(vector as u16);
                Line::give_back(number);
            }
        }
    }

    /// How many vectors are open.
    pub(super) fn open_vectors(&self) -> usize {
        self.messages.iter().filter(|message| message.load(Ordering::Relaxed) != 0).count()
    }
}

/// How many numbers are in use.
pub(super) fn open_lines() -> usize {
    LINES.iter().filter(|line| line.is_open.load(Ordering::Relaxed)).count()
}
