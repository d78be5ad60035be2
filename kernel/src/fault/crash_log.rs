//! The crash log: a record of each instance that has ended.
//!
//! A crash is recorded in an array of fixed size before the domain is marked dead, so no caller learns of it
//! earlier. A kernel thread writes the records to the log later, when that has room, and the crash path never
//! waits for it. A system that exits writes the remaining records itself.
//!
//! The log holds [`CAPACITY`] records. A domain's last record is overwritten by later records of the same
//! domain, or once all [`CAPACITY`] records are the last ones of their domains: a domain that crashes in a
//! loop does not push out the others' records.

use core::fmt;

use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::Text;

use crate::device::console;
use crate::domain;
use crate::platform::backtrace::Backtrace;
use crate::platform::latency::Lockup;
use crate::platform::machine::{ExitStatus, machine};
use crate::platform::sync::Lock;
use crate::sched::cpu::this_cpu;
use crate::sched::{thread, wait};

/// The number of records that the log holds.
const CAPACITY: usize = 256;

/// The number of callers in a record.
const CALLERS: usize = 8;

/// The key that the log writer waits on.
const WORK_KEY: wait::Key = wait::Key::Work(wait::KernelWorker::CrashLog);

/// The cause and the circumstances of an instance's end.
#[derive(Clone, Copy)]
pub(crate) struct CrashRecord {
    pub(crate) domain: DomainId,
    pub(crate) kind: CrashKind,
    /// The domain's panic message, or the kernel's text, with the source location if that is known.
    pub(crate) text: Text<256>,
    pub(crate) time_ns: u64,
    pub(crate) cpu: usize,
    /// The thread that crashed, or that ended the domain.
    pub(crate) thread: u64,
    /// The chain of callers, innermost first.
    callers: [DomainId; CALLERS],
    pub(crate) backtrace: Backtrace,
    /// The record has been written to the console.
    is_written: bool,
}

impl CrashRecord {
    /// Describes an instance that the running thread ends now.
    fn new(domain: DomainId, kind: CrashKind, text: Text<256>) -> Self {
        Self {
            domain,
            kind,
            text,
            time_ns: machine().now_ns(),
            cpu: this_cpu().number,
            thread: thread::current().id,
            callers: [DomainId::NONE; CALLERS],
            backtrace: Backtrace::NONE,
            is_written: false,
        }
    }

    /// The chain of callers, innermost first, without the kernel, which began the thread.
    pub(crate) fn callers(&self) -> impl Iterator<Item = DomainId> {
        self.callers.into_iter().take_while(|&caller| caller != DomainId::NONE && caller != DomainId::KERNEL)
    }
}

struct CrashLog {
    /// Apart from the large records, so that a search touches little memory.
    instances: [DomainId; CAPACITY],
    records: [Option<CrashRecord>; CAPACITY],
    next: usize,
    /// Records that were overwritten before the log writer had written them.
    lost: u64,
    /// There are unwritten records that the log writer has not been woken for.
    has_unannounced: bool,
}

static CRASH_LOG: Lock<CrashLog> = Lock::new(CrashLog {
    instances: [DomainId::NONE; CAPACITY],
    records: [const { None }; CAPACITY],
    next: 0,
    lost: 0,
    has_unannounced: false,
});

/// The end of the system waits for room in the log for this time.
const ROOM_LIMIT_NS: u64 = 2_000_000_000;

/// Held while a record is taken and written, so that the exit path waits for a record that is being written.
static LOG_WRITER: Lock<()> = Lock::new(());

impl CrashLog {
    /// The indices of the records, the latest first.
    fn backwards(&self) -> impl Iterator<Item = usize> + use<> {
        let next = self.next;
        (1..=CAPACITY).map(move |back| (next + CAPACITY - back) % CAPACITY)
    }

    fn find(&self, instance: DomainId) -> Option<&CrashRecord> {
        let index = self.backwards().find(|&index| self.instances[index] == instance)?;
        self.records[index].as_ref()
    }

    fn add(&mut self, record: CrashRecord) {
        // The last record of another domain stays.
        let may_overwrite =
            |instance: DomainId| instance.slot() == record.domain.slot() || !is_last_record(instance);
        let indices = (0..CAPACITY).map(|ahead| (self.next + ahead) % CAPACITY);
        let index =
            indices.into_iter().find(|&index| may_overwrite(self.instances[index])).unwrap_or(self.next);
        if self.records[index].is_some_and(|overwritten| !overwritten.is_written) {
            self.lost += 1;
        }
        self.instances[index] = record.domain;
        self.records[index] = Some(record);
        self.next = (index + 1) % CAPACITY;
    }

    /// Takes the oldest record that has not been written.
    fn take_unwritten(&mut self) -> Option<CrashRecord> {
        let unwritten = |record: &&mut CrashRecord| !record.is_written;
        let record =
            self.records.iter_mut().flatten().filter(unwritten).min_by_key(|record| record.time_ns)?;
        record.is_written = true;
        Some(*record)
    }
}

/// Returns true if no later instance of the domain has ended.
fn is_last_record(instance: DomainId) -> bool {
    let Some(domain) = domain::get(instance.slot()) else { return false };
    let present = domain.last_instance();
    instance == present || instance.generation().wrapping_add(1) == present.generation()
}

/// Records the crash of the running thread's domain, with callers and backtrace. Call it before the domain
/// ends.
pub(crate) fn record_own_crash(domain: DomainId, kind: CrashKind, text: Text<256>, backtrace: Backtrace) {
    let mut record = CrashRecord { backtrace, ..CrashRecord::new(domain, kind, text) };
    // SAFETY: the thread is this one.
    let calls = unsafe { thread::current().continuations() };
    for (caller, call) in record.callers.iter_mut().zip(calls) {
        *caller = call.caller();
    }
    add_first(record);
}

/// Records the end of an instance with `text`, unless it has a record already.
pub(crate) fn record_crash(domain: DomainId, kind: CrashKind, text: Text<256>) {
    let mut record = CrashRecord::new(domain, kind, text);
    // A domain that is ended on purpose needs no log line: its killer writes one if the event is worth it.
    record.is_written = matches!(kind, CrashKind::Killed | CrashKind::Abort | CrashKind::StartFailed);
    add_first(record);
}

/// Records that a CPU did not react for too long. The record is the kernel's own.
pub(crate) fn record_lockup(lockup: Lockup) {
    let text = Text::format(format_args!("{lockup}"));
    let mut crash_log = CRASH_LOG.lock();
    crash_log.has_unannounced = true;
    crash_log.add(CrashRecord::new(DomainId::KERNEL, CrashKind::Lockup, text));
}

/// Adds a record unless the instance has one: the first cause counts.
fn add_first(record: CrashRecord) {
    let mut crash_log = CRASH_LOG.lock();
    if crash_log.find(record.domain).is_none() {
        crash_log.has_unannounced |= !record.is_written;
        crash_log.add(record);
    }
}

/// Keeps the record of that instance out of the log if the log writer has not written it yet.
pub(crate) fn leave_out(instance: DomainId) {
    let mut crash_log = CRASH_LOG.lock();
    if let Some(record) = crash_log.records.iter_mut().flatten().find(|record| record.domain == instance) {
        record.is_written = true;
    }
}

/// Wakes the log writer if there are records that it was not woken for.
pub(crate) fn announce() {
    if core::mem::take(&mut CRASH_LOG.lock().has_unannounced) {
        wait::wake(WORK_KEY, 1);
    }
}

/// The record of that instance.
pub(crate) fn find(instance: DomainId) -> Option<CrashRecord> {
    CRASH_LOG.lock().find(instance).copied()
}

/// The cause of that instance's end; `Killed` if the log has no record of it.
pub(crate) fn cause(instance: DomainId) -> CrashKind {
    CRASH_LOG.lock().find(instance).map_or(CrashKind::Killed, |record| record.kind)
}

/// The text of that instance's record.
pub(crate) fn text(instance: DomainId) -> Option<Text<256>> {
    CRASH_LOG.lock().find(instance).map(|record| record.text)
}

/// The instance of the record `back` places before the latest.
pub(crate) fn latest(back: usize) -> Option<DomainId> {
    let crash_log = CRASH_LOG.lock();
    crash_log
        .backwards()
        .filter(|&index| crash_log.records[index].is_some())
        .nth(back)
        .map(|index| crash_log.instances[index])
}

/// The body of the thread that writes records to the log.
pub(crate) fn log_writer() {
    loop {
        wait::block(WORK_KEY, || !has_unwritten(), u64::MAX);
        write_up(u64::MAX);
    }
}

fn has_unwritten() -> bool {
    let crash_log = CRASH_LOG.lock();
    crash_log.lost > 0 || crash_log.records.iter().flatten().any(|record| !record.is_written)
}

/// Ends the system, after all crash records and as much of the log as the console takes. In the outermost
/// section of a thread that owns nothing.
pub(crate) fn end_system(status: ExitStatus) -> ! {
    write_up(machine().now_ns() + ROOM_LIMIT_NS);
    console::end_system(status)
}

/// Writes all unwritten records to the log. Waits for room, until `deadline_ns`. In the outermost section,
/// holding no lock.
fn write_up(deadline_ns: u64) {
    while console::await_room(DomainId::KERNEL.slot(), deadline_ns) {
        let _writing = LOG_WRITER.lock();
        let (lost, record) = {
            let mut crash_log = CRASH_LOG.lock();
            (core::mem::take(&mut crash_log.lost), crash_log.take_unwritten())
        };
        if lost > 0 {
            log::warn!("{lost} crash records were overwritten before they were logged");
        }
        let Some(record) = record else { return };
        console::write_at(record.time_ns, coppice_abi::LogLevel::Warn, format_args!("{record}"));
    }
}

impl fmt::Display for CrashRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, kind, text, .. } = self;
        write!(f, "{} (generation {}): {kind:?}: {text}", domain::name(*domain), domain.generation())
    }
}

/// Passes the unwritten part of the log and the unwritten records to a machine that panics, in pieces. It
/// never waits for a lock: its owner may be the code that panicked.
pub fn last_words(write: &mut dyn FnMut(&[u8])) {
    console::last_words(write, |line| {
        while let Some(record) = CRASH_LOG.try_lock().and_then(|mut crash_log| crash_log.take_unwritten()) {
            line(format_args!("{record}"));
        }
    });
}
