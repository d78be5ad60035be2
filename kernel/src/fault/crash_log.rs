//! Crash records: what is remembered of each instance that ended.
//!
//! A death is written down before anybody hears of it, into a fixed place. A thread of the kernel's writes it to the log
//! afterwards, so that nobody waits for the console; a system that ends writes what is left itself.
//!
//! [`CAPACITY`] lives are kept. The storm of crashes that would push a crash record out before somebody has asked for it
//! takes [`CAPACITY`] deaths, and none but a domain's own later lives push its last death out: a domain that crashes
//! all the time cannot make the others' forgotten.

use core::fmt;

use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::Text;

use crate::device::console;
use crate::domain;
use crate::platform::backtrace::Backtrace;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::sched::cpu::this_cpu;
use crate::sched::{thread, wait};

/// How many deaths are remembered.
const CAPACITY: usize = 256;

/// How many callers of a dead domain are.
const CALLERS: usize = 8;

/// What the log_writer waits for.
const WORK_KEY: wait::Key = wait::Key::Work(wait::KernelWorker::LogWriter);

/// What a instance died of.
#[derive(Clone, Copy)]
pub(crate) struct CrashRecord {
    pub(crate) domain: DomainId,
    pub(crate) kind: CrashKind,
    /// In its own words, or the kernel's, with the source place if that is known.
    pub(crate) text: Text<256>,
    pub(crate) time_ns: u64,
    pub(crate) cpu: usize,
    /// The thread that failed, or that ended the domain.
    pub(crate) thread: u64,
    /// Who had called it, and who those, from the inside out.
    callers: [DomainId; CALLERS],
    pub(crate) backtrace: Backtrace,
    /// Whether the log has it.
    is_written: bool,
}

impl CrashRecord {
    /// Of a instance that the running thread ends now.
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

    /// Who had called the domain, and who those, from the inside out; the kernel, which began the thread, is not named.
    pub(crate) fn callers(&self) -> impl Iterator<Item = DomainId> {
        self.callers.into_iter().take_while(|&caller| caller != DomainId::NONE && caller != DomainId::KERNEL)
    }
}

struct CrashLog {
    /// Apart from what is long, so that a search is short.
    instances: [DomainId; CAPACITY],
    records: [Option<CrashRecord>; CAPACITY],
    next: usize,
    /// Deaths that were forgotten before the log had them.
    lost: u64,
    /// Whether there is something to write that the log_writer was not told of.
    is_behind: bool,
}

static CRASH_LOG: Lock<CrashLog> = Lock::new(CrashLog {
    instances: [DomainId::NONE; CAPACITY],
    records: [const { None }; CAPACITY],
    next: 0,
    lost: 0,
    is_behind: false,
});

/// Held while a record is taken out and written, so that whoever ends the system waits for the one that is on its way.
static LOG_WRITER: Lock<()> = Lock::new(());

impl CrashLog {
    /// The places, the latest first.
    fn backwards(&self) -> impl Iterator<Item = usize> + use<> {
        let next = self.next;
        (1..=CAPACITY).map(move |back| (next + CAPACITY - back) % CAPACITY)
    }

    fn find(&self, instance: DomainId) -> Option<&CrashRecord> {
        let place = self.backwards().find(|&place| self.instances[place] == instance)?;
        self.records[place].as_ref()
    }

    fn add(&mut self, record: CrashRecord) {
        // The last death of another domain stays.
        let may_go = |instance: DomainId| instance.slot() == record.domain.slot() || !is_last_death(instance);
        let places = (0..CAPACITY).map(|ahead| (self.next + ahead) % CAPACITY);
        let place = places.into_iter().find(|&place| may_go(self.instances[place])).unwrap_or(self.next);
        if self.records[place].is_some_and(|forgotten| !forgotten.is_written) {
            self.lost += 1;
        }
        self.instances[place] = record.domain;
        self.records[place] = Some(record);
        self.next = (place + 1) % CAPACITY;
    }

    /// Takes the oldest death that the log does not have.
    fn take_unwritten(&mut self) -> Option<CrashRecord> {
        let unwritten = |record: &&mut CrashRecord| !record.is_written;
        let record =
            self.records.iter_mut().flatten().filter(unwritten).min_by_key(|record| record.time_ns)?;
        record.is_written = true;
        Some(*record)
    }
}

/// Whether no later instance of that domain has ended.
fn is_last_death(instance: DomainId) -> bool {
    let Some(domain) = domain::get(instance.slot()) else { return false };
    let present = domain.last_instance();
    instance == present || instance.generation().wrapping_add(1) == present.generation()
}

/// What the running thread's domain dies of by its own doing. Call before it ends.
pub(crate) fn record_own_crash(domain: DomainId, kind: CrashKind, text: Text<256>, backtrace: Backtrace) {
    let mut record = CrashRecord { backtrace, ..CrashRecord::new(domain, kind, text) };
    let mut at = thread::current().control().top;
    for caller in &mut record.callers {
        // SAFETY: C1, and the thread is our own.
        let Some(continuation) = (unsafe { at.as_ref() }) else { break };
        *caller = continuation.caller;
        at = continuation.previous;
    }
    enter(record);
}

/// Makes sure that a instance that ends is remembered: by `text`, unless it has said something itself.
pub(crate) fn record_crash(domain: DomainId, kind: CrashKind, text: Text<256>) {
    let mut record = CrashRecord::new(domain, kind, text);
    // Whoever ends a domain on purpose knows, and says so if that is worth a record.
    record.is_written = matches!(kind, CrashKind::Killed | CrashKind::Abort);
    enter(record);
}

/// Of two causes the first one counts.
fn enter(record: CrashRecord) {
    let mut crash_log = CRASH_LOG.lock();
    if crash_log.find(record.domain).is_none() {
        crash_log.is_behind |= !record.is_written;
        crash_log.add(record);
    }
}

/// Has the log do without the record of that instance, if it does not have it yet.
pub(crate) fn leave_out(instance: DomainId) {
    let mut crash_log = CRASH_LOG.lock();
    if let Some(record) = crash_log.records.iter_mut().flatten().find(|record| record.domain == instance) {
        record.is_written = true;
    }
}

/// Has the log written up to date soon, if it is not.
pub(crate) fn announce() {
    if core::mem::take(&mut CRASH_LOG.lock().is_behind) {
        wait::wake(WORK_KEY, 1);
    }
}

/// What is remembered of that instance.
pub(crate) fn find(instance: DomainId) -> Option<CrashRecord> {
    CRASH_LOG.lock().find(instance).copied()
}

/// What that instance died of.
pub(crate) fn cause(instance: DomainId) -> CrashKind {
    CRASH_LOG.lock().find(instance).map_or(CrashKind::Killed, |record| record.kind)
}

/// What that instance said of its end.
pub(crate) fn text(instance: DomainId) -> Option<Text<256>> {
    CRASH_LOG.lock().find(instance).map(|record| record.text)
}

/// The instance that ended that many deaths before the latest.
pub(crate) fn latest(back: usize) -> Option<DomainId> {
    let crash_log = CRASH_LOG.lock();
    crash_log
        .backwards()
        .filter(|&place| crash_log.records[place].is_some())
        .nth(back)
        .map(|place| crash_log.instances[place])
}

/// The thread that writes deaths to the log.
pub(crate) fn log_writer() {
    loop {
        wait::block(WORK_KEY, || !has_unwritten(), u64::MAX);
        write_up();
    }
}

fn has_unwritten() -> bool {
    let crash_log = CRASH_LOG.lock();
    crash_log.lost > 0 || crash_log.records.iter().flatten().any(|record| !record.is_written)
}

/// Writes to the log what it does not have yet.
pub(crate) fn write_up() {
    loop {
        let _turn = LOG_WRITER.lock();
        let (lost, record) = {
            let mut crash_log = CRASH_LOG.lock();
            (core::mem::take(&mut crash_log.lost), crash_log.take_unwritten())
        };
        if lost > 0 {
            log::warn!("{lost} more domains died than could be written down");
        }
        let Some(record) = record else { return };
        console::write_of(record.time_ns, coppice_abi::LogLevel::Warn, "kernel", format_args!("{record}"));
    }
}

impl fmt::Display for CrashRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, kind, text, .. } = self;
        write!(f, "{} (generation {}): {kind:?}: {text}", domain::name(*domain), domain.generation())
    }
}

/// Hands what the log does not have to a machine that panics. Takes no lock that it would have to wait for: its owner
/// may be the code that panicked.
pub fn last_records(write: &mut dyn FnMut(fmt::Arguments<'_>)) {
    while let Some(record) = CRASH_LOG.try_lock().and_then(|mut crash_log| crash_log.take_unwritten()) {
        write(format_args!("{record}"));
    }
}
