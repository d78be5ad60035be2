//! The log writer: the thread that writes the records of all CPUs to the console, and ends the system.
//!
//! It alone takes records out of the rings, except in a panic. It leaves its section for each write, so even
//! a machine whose console blocks is interrupted, preempted and stopped as usual.
//!
//! # Order
//! A record gets its place while its ring is locked. The writer reads the clock, and then takes records of
//! that time and earlier only: it has looked into each ring after that time, so no earlier record can follow.

use alloc::string::String;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::LogLevel;

use super::text::{Escaped, LINE_LIMIT, write_prefix, write_record};
use super::{KERNEL, RINGS, is_shown, limits};
use crate::platform::machine::{CPU_LIMIT, ExitStatus, machine};
use crate::platform::sync::{self, Lock};
use crate::sched::cpu::{Cpu, request};
use crate::sched::wait::{self, KernelWorker};
use crate::sched::world;

const WORK_KEY: wait::Key = wait::Key::Work(KernelWorker::LogWriter);

/// Lines are collected up to this number of bytes, and written together.
const BATCH_BYTES: usize = 1024;

/// The first and the longest pause before the next attempt at a console that takes no bytes. A serial line
/// with 115200 baud transmits its FIFO of 16 bytes in 1.4 ms.
const PAUSE_NS: u64 = 1_000_000;
const PAUSE_LIMIT_NS: u64 = 32_000_000;

/// The writer works for this time at most before it pauses for as long.
const BUSY_NS: u64 = 1_000_000;

/// The end of the system waits for a console that takes no bytes for this time.
const STALL_LIMIT_NS: u64 = 2_000_000_000;

/// The end of the system waits for the console for this time at most.
const FLUSH_LIMIT_NS: u64 = 10_000_000_000;

/// The number of attempts at a lock in a panic. Another CPU may hold it for a few microseconds; the CPU that
/// panics may hold it itself.
const LOCK_ATTEMPTS: usize = 100_000;

/// Lines on their way to the console.
struct Batch {
    text: String,
    /// The number of bytes that the console has taken.
    taken: usize,
    /// The place of the last record among them.
    last_ns: u64,
}

static BATCH: Lock<Batch> = Lock::new(Batch { text: String::new(), taken: 0, last_ns: 0 });

/// The writer was woken, or will be.
static IS_REQUESTED: AtomicBool = AtomicBool::new(false);

/// All records up to this place were written.
static WRITTEN_NS: AtomicU64 = AtomicU64::new(0);

/// The number of writes by which the console has taken something.
static PROGRESS: AtomicU64 = AtomicU64::new(0);

/// 0, or 1 + the exit status with which the system has to end.
static ENDING: AtomicU32 = AtomicU32::new(0);

impl Batch {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.taken..]
    }

    /// Returns true if another line fits.
    fn has_room(&self) -> bool {
        self.text.len() < BATCH_BYTES
    }

    /// Collects records, oldest first, if the batch is written. Returns false if there are none.
    fn refill(&mut self) -> bool {
        if self.taken < self.text.len() {
            return true;
        }
        self.text.clear();
        self.taken = 0;
        let now_ns = machine().now_ns();
        while self.has_room() {
            let Some((order_ns, cpu)) = first(now_ns) else { break };
            // The room was reserved for it, so the text takes no memory here.
            let write = |record, text: &[u8]| write_record(&mut self.text, &record, text);
            let _ = RINGS.get(cpu).and_then(|ring| ring.lock().pop(write));
            self.last_ns = order_ns;
        }
        !self.text.is_empty()
    }

    /// Records that the console has taken `count` bytes more.
    fn advance(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.text.len() {
            // A record of another CPU may have the same place.
            let is_complete = first(self.last_ns).is_none();
            WRITTEN_NS.store(self.last_ns - u64::from(!is_complete), Ordering::Release);
        }
    }

    /// Adds a record of each domain whose records were dropped. Those without room wait for the next report.
    fn report_drops(&mut self, is_last: bool) {
        let now_ns = machine().now_ns();
        while self.has_room()
            && let Some((name, count)) = limits::take_report(now_ns, is_last)
        {
            if is_shown(LogLevel::Warn) {
                let _ = write_prefix(&mut self.text, now_ns, LogLevel::Warn, KERNEL);
                let _ = writeln!(self.text, "{count} log records of {name} were dropped");
            }
        }
    }
}

/// The place and the CPU of the first record in all rings that is not later than `limit_ns`.
fn first(limit_ns: u64) -> Option<(u64, usize)> {
    let heads = (0..CPU_LIMIT).map_while(|cpu| RINGS.get(cpu)).enumerate();
    let heads = heads.filter_map(|(cpu, ring)| Some((ring.lock().first_ns()?, cpu)));
    heads.min().filter(|(order_ns, _)| *order_ns <= limit_ns)
}

/// Reserves the memory for lines on their way to the console: the log takes none later.
pub(super) fn init() {
    BATCH.lock().text.reserve_exact(BATCH_BYTES + LINE_LIMIT);
}

/// Has the writer woken, once `cpu`, which is this one, leaves its section: the caller may hold any lock.
pub(super) fn request(cpu: &Cpu) {
    if !IS_REQUESTED.swap(true, Ordering::SeqCst) {
        cpu.requests.fetch_or(request::LOG, Ordering::Relaxed);
        sync::request_checkpoint();
    }
}

/// Wakes the writer. Called by the checkpoint.
pub(crate) fn wake_writer() {
    wait::wake(WORK_KEY, 1);
}

/// Returns true if the console has taken the record in that place.
pub(super) fn has_written(order_ns: u64) -> bool {
    WRITTEN_NS.load(Ordering::Acquire) >= order_ns
}

/// A number that changes whenever the console takes something.
pub(super) fn progress() -> u64 {
    PROGRESS.load(Ordering::Acquire)
}

/// The body of the writer's thread.
pub(crate) fn writer() {
    let mut pause_ns = PAUSE_NS;
    loop {
        let is_idle = || !IS_REQUESTED.load(Ordering::SeqCst) && ENDING.load(Ordering::SeqCst) == 0;
        wait::block(WORK_KEY, is_idle, limits::next_report_ns());
        IS_REQUESTED.store(false, Ordering::SeqCst);
        let mut busy_until_ns = machine().now_ns() + BUSY_NS;
        while collect() {
            if write_some() {
                PROGRESS.fetch_add(1, Ordering::Release);
                pause_ns = PAUSE_NS;
                wait::wake(wait::Key::ConsoleOutput, u32::MAX);
            } else {
                wait::sleep_until(machine().now_ns() + pause_ns);
                pause_ns = (pause_ns * 2).min(PAUSE_LIMIT_NS);
            }
            end_if_requested();
            // The writer is more urgent than the domains: without a pause, one that logs without end would
            // have it keep a CPU from them.
            if machine().now_ns() >= busy_until_ns {
                wait::sleep_until(machine().now_ns() + BUSY_NS);
                busy_until_ns = machine().now_ns() + BUSY_NS;
            }
        }
        end_if_requested();
    }
}

/// Makes sure that there is something to write. Returns false if there is nothing.
fn collect() -> bool {
    let mut batch = BATCH.lock();
    if batch.refill() {
        return true;
    }
    batch.report_drops(false);
    !batch.text.is_empty()
}

/// Offers the rest of the batch to the console, outside of the caller's section. Returns false if the console
/// takes nothing at present.
fn write_some() -> bool {
    let mut bytes = [0; BATCH_BYTES];
    let len = {
        let batch = BATCH.lock();
        let rest = batch.rest();
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        len
    };
    let taken = sync::outside_section(|| machine().console_write(&bytes[..len]));
    BATCH.lock().advance(taken);
    taken > 0
}

/// Ends the system once the log is written, or the console takes no more of it. In the outermost section of a
/// thread that owns nothing.
pub(crate) fn end_system(status: ExitStatus) -> ! {
    // The first status counts.
    let _ = ENDING.compare_exchange(0, 1 + status as u32, Ordering::SeqCst, Ordering::SeqCst);
    wake_writer();
    // The writer ends the machine, unless a console that it waits for in the machine does not return.
    let deadline_ns = machine().now_ns() + FLUSH_LIMIT_NS + STALL_LIMIT_NS;
    wait::sleep_until(deadline_ns);
    machine().exit(status)
}

/// Ends the system if that was requested, after all records up to now. No write is under way, so each byte is
/// written once.
fn end_if_requested() {
    let status = match ENDING.load(Ordering::SeqCst).checked_sub(1) {
        None => return,
        Some(status) if status == ExitStatus::Success as u32 => ExitStatus::Success,
        Some(_) => ExitStatus::Failure,
    };
    // No domain runs any more, so the log gets no longer.
    let _stopped = world::stop();
    let mut batch = BATCH.lock();
    let end_ns = machine().now_ns() + FLUSH_LIMIT_NS;
    let mut stalled_ns = machine().now_ns() + STALL_LIMIT_NS;
    loop {
        if !batch.refill() {
            batch.report_drops(true);
        }
        if batch.rest().is_empty() {
            break;
        }
        let taken = machine().console_write(batch.rest());
        batch.advance(taken);
        let now_ns = machine().now_ns();
        if taken > 0 {
            stalled_ns = now_ns + STALL_LIMIT_NS;
        }
        if !batch.rest().is_empty() {
            if now_ns >= stalled_ns.min(end_ns) {
                break;
            }
            machine().relax();
        }
    }
    machine().exit(status)
}

/// Passes all that is not written yet to a machine that panics, and then the lines that `more` adds. It waits
/// for no lock, and allocates nothing: the owner of a lock may be the code that panicked. Bytes that the
/// writer was about to write are written twice if another CPU has written them since.
pub(crate) fn last_words(
    write: &mut dyn FnMut(&[u8]),
    more: impl FnOnce(&mut dyn FnMut(core::fmt::Arguments<'_>)),
) {
    if let Some(batch) = try_for_long(&BATCH) {
        write(batch.rest());
    }
    let mut out = Pieces(write);
    let rings = || (0..CPU_LIMIT).map_while(|cpu| RINGS.get(cpu));
    loop {
        let heads = rings().filter_map(|ring| Some((try_for_long(ring)?.first_ns()?, ring)));
        let Some((_, ring)) = heads.min_by_key(|(order_ns, _)| *order_ns) else { break };
        let Some(mut ring) = try_for_long(ring) else { break };
        let _ = ring.pop(|record, text| write_record(&mut out, &record, text));
    }
    more(&mut |line| {
        let _ = out.write_str("kernel: ");
        let _ = write!(Escaped(&mut out), "{line}");
        let _ = out.write_str("\n");
    });
}

/// A text in pieces, for a machine.
struct Pieces<'a>(&'a mut dyn FnMut(&[u8]));

impl Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        (self.0)(text.as_bytes());
        Ok(())
    }
}

fn try_for_long<T>(lock: &Lock<T>) -> Option<sync::Guard<'_, T>> {
    (0..LOCK_ATTEMPTS).find_map(|_| lock.try_lock())
}
