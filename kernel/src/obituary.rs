//! Obituaries: what is remembered of each life that ended.
//!
//! A death is written down before anybody hears of it, into a fixed place. A thread of the kernel's writes it to the log
//! afterwards, so that nobody waits for the console; a system that ends writes what is left itself.
//!
//! [`REMEMBERED`] lives are kept. The storm of crashes that would push an obituary out before somebody has asked for it
//! takes [`REMEMBERED`] deaths, and none but a domain's own later lives push its last death out: a domain that crashes
//! all the time cannot make the others' forgotten.

use core::fmt;

use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::Text;

use crate::backtrace::Backtrace;
use crate::cpu::this_cpu;
use crate::machine::machine;
use crate::sync::Lock;
use crate::{domain, logger, thread, wait};

/// How many deaths are remembered.
const REMEMBERED: usize = 256;

/// How many callers of a dead domain are.
const CALLERS: usize = 8;

/// What the clerk waits for.
const DEATHS: wait::Key = wait::Key::Work(wait::Post::Obituaries);

/// What a life died of.
#[derive(Clone, Copy)]
pub(crate) struct Obituary {
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

impl Obituary {
    /// Of a life that the running thread ends now.
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

struct Cemetery {
    /// Apart from what is long, so that a search is short.
    lives: [DomainId; REMEMBERED],
    graves: [Option<Obituary>; REMEMBERED],
    next: usize,
    /// Deaths that were forgotten before the log had them.
    lost: u64,
    /// Whether there is something to write that the clerk was not told of.
    is_behind: bool,
}

static CEMETERY: Lock<Cemetery> = Lock::new(Cemetery {
    lives: [DomainId::NONE; REMEMBERED],
    graves: [const { None }; REMEMBERED],
    next: 0,
    lost: 0,
    is_behind: false,
});

/// Held while a record is taken out and written, so that whoever ends the system waits for the one that is on its way.
static CLERK: Lock<()> = Lock::new(());

impl Cemetery {
    /// The places, the latest first.
    fn backwards(&self) -> impl Iterator<Item = usize> + use<> {
        let next = self.next;
        (1..=REMEMBERED).map(move |back| (next + REMEMBERED - back) % REMEMBERED)
    }

    fn find(&self, life: DomainId) -> Option<&Obituary> {
        let place = self.backwards().find(|&place| self.lives[place] == life)?;
        self.graves[place].as_ref()
    }

    fn add(&mut self, obituary: Obituary) {
        // The last death of another domain stays.
        let may_go = |life: DomainId| life.slot() == obituary.domain.slot() || !is_last_death(life);
        let places = (0..REMEMBERED).map(|ahead| (self.next + ahead) % REMEMBERED);
        let place = places.into_iter().find(|&place| may_go(self.lives[place])).unwrap_or(self.next);
        if self.graves[place].is_some_and(|forgotten| !forgotten.is_written) {
            self.lost += 1;
        }
        self.lives[place] = obituary.domain;
        self.graves[place] = Some(obituary);
        self.next = (place + 1) % REMEMBERED;
    }

    /// Takes the oldest death that the log does not have.
    fn take_unwritten(&mut self) -> Option<Obituary> {
        let unwritten = |grave: &&mut Obituary| !grave.is_written;
        let grave = self.graves.iter_mut().flatten().filter(unwritten).min_by_key(|grave| grave.time_ns)?;
        grave.is_written = true;
        Some(*grave)
    }
}

/// Whether no later life of that domain has ended.
fn is_last_death(life: DomainId) -> bool {
    let Some(domain) = domain::get(life.slot()) else { return false };
    let present = domain.last_life();
    life == present || life.generation().wrapping_add(1) == present.generation()
}

/// What the running thread's domain dies of by its own doing. Call before it ends.
pub(crate) fn remember(domain: DomainId, kind: CrashKind, text: Text<256>, backtrace: Backtrace) {
    let mut obituary = Obituary { backtrace, ..Obituary::new(domain, kind, text) };
    let mut at = thread::current().control().top;
    for caller in &mut obituary.callers {
        // SAFETY: C1, and the thread is our own.
        let Some(continuation) = (unsafe { at.as_ref() }) else { break };
        *caller = continuation.caller;
        at = continuation.previous;
    }
    enter(obituary);
}

/// Makes sure that a life that ends is remembered: by `text`, unless it has said something itself.
pub(crate) fn bury(domain: DomainId, kind: CrashKind, text: Text<256>) {
    let mut obituary = Obituary::new(domain, kind, text);
    // Whoever ends a domain on purpose knows, and says so if that is worth a record.
    obituary.is_written = matches!(kind, CrashKind::Killed | CrashKind::Abort);
    enter(obituary);
}

/// Of two causes the first one counts.
fn enter(obituary: Obituary) {
    let mut cemetery = CEMETERY.lock();
    if cemetery.find(obituary.domain).is_none() {
        cemetery.is_behind |= !obituary.is_written;
        cemetery.add(obituary);
    }
}

/// Has the log written up to date soon, if it is not.
pub(crate) fn announce() {
    if core::mem::take(&mut CEMETERY.lock().is_behind) {
        wait::wake(DEATHS, 1);
    }
}

/// What is remembered of that life.
pub(crate) fn find(life: DomainId) -> Option<Obituary> {
    CEMETERY.lock().find(life).copied()
}

/// What that life died of.
pub(crate) fn cause(life: DomainId) -> CrashKind {
    CEMETERY.lock().find(life).map_or(CrashKind::Killed, |obituary| obituary.kind)
}

/// What that life said of its end.
pub(crate) fn text(life: DomainId) -> Option<Text<256>> {
    CEMETERY.lock().find(life).map(|obituary| obituary.text)
}

/// The life that ended that many deaths before the latest.
pub(crate) fn latest(back: usize) -> Option<DomainId> {
    let cemetery = CEMETERY.lock();
    cemetery
        .backwards()
        .filter(|&place| cemetery.graves[place].is_some())
        .nth(back)
        .map(|place| cemetery.lives[place])
}

/// The thread that writes deaths to the log.
pub(crate) fn clerk() {
    loop {
        wait::block(DEATHS, || !has_unwritten(), u64::MAX);
        write_up();
    }
}

fn has_unwritten() -> bool {
    let cemetery = CEMETERY.lock();
    cemetery.lost > 0 || cemetery.graves.iter().flatten().any(|grave| !grave.is_written)
}

/// Writes to the log what it does not have yet.
pub(crate) fn write_up() {
    loop {
        let _turn = CLERK.lock();
        let (lost, obituary) = {
            let mut cemetery = CEMETERY.lock();
            (core::mem::take(&mut cemetery.lost), cemetery.take_unwritten())
        };
        if lost > 0 {
            log::warn!("{lost} more domains died than could be written down");
        }
        let Some(obituary) = obituary else { return };
        logger::write_of(obituary.time_ns, coppice_abi::LogLevel::Warn, "kernel", format_args!("{obituary}"));
    }
}

impl fmt::Display for Obituary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, kind, text, .. } = self;
        write!(f, "{} (generation {}): {kind:?}: {text}", domain::name(*domain), domain.generation())
    }
}

/// Hands what the log does not have to a machine that panics. Takes no lock that it would have to wait for: its owner
/// may be the code that panicked.
pub fn last_records(write: &mut dyn FnMut(fmt::Arguments<'_>)) {
    while let Some(obituary) = CEMETERY.try_lock().and_then(|mut cemetery| cemetery.take_unwritten()) {
        write(format_args!("{obituary}"));
    }
}
