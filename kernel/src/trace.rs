//! The trace ring: what happened lately, as typed events.
//!
//! Each CPU writes to a ring of its own, inside a section, and takes no lock for it. While tracing is off, an event is
//! one load and a branch; a crossing's observer is not even installed.

use alloc::boxed::Box;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::{Text, TraceRecord, crossing};

use crate::cpu::{request, this_cpu};
use crate::machine::{CPU_LIMIT, machine};
use crate::sync::{Lock, Section};
use crate::{device, domain, thread};

/// Events that a CPU's ring holds; older ones are overwritten.
const EVENTS: usize = 4096;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Kind {
    /// A call into the domain; detail: the bits of the caller's id.
    Crossing = 1,
    /// The end of the domain; detail: its `CrashKind`.
    Fault,
    /// A new instance of the domain.
    Restart,
    /// What traps and other CPUs asked for while the domain ran; detail: bits of `cpu::request`.
    Interrupt,
    /// A thread is sent out of the domain, which has ended; detail: its number.
    Eviction,
    /// What the domain had of the shared heap is taken back; detail: objects freed, from bit 32 on, and given back.
    Sweep,
    /// What it had of private heap is taken back; detail: pages.
    Pages,
    /// A device of its is brought to rest; detail: how (`device::Rest`), and from bit 8 on microseconds.
    Quiesce,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Crossing,
        Self::Fault,
        Self::Restart,
        Self::Interrupt,
        Self::Eviction,
        Self::Sweep,
        Self::Pages,
        Self::Quiesce,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Crossing => "crossing",
            Self::Fault => "fault",
            Self::Restart => "restart",
            Self::Interrupt => "interrupt",
            Self::Eviction => "eviction",
            Self::Sweep => "sweep",
            Self::Pages => "pages",
            Self::Quiesce => "quiesce",
        }
    }
}

/// An event as it was read.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) time_ns: u64,
    pub(crate) cpu: usize,
    kind: Kind,
    domain: DomainId,
    detail: u64,
}

impl Event {
    /// None.
    pub(crate) const NONE: Self =
        Self { time_ns: 0, cpu: 0, kind: Kind::Interrupt, domain: DomainId::NONE, detail: 0 };
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, domain, detail, .. } = *self;
        let name = domain::name(domain);
        write!(f, "{:<9}  ", kind.name())?;
        match kind {
            Kind::Crossing => write!(f, "{} -> {name}", domain::name(DomainId::from_bits(detail))),
            Kind::Fault => {
                let kind = CrashKind::from_number(detail as u16);
                write!(f, "{name} (generation {}): {kind:?}", domain.generation())
            }
            Kind::Restart => write!(f, "{name} (generation {})", domain.generation()),
            Kind::Interrupt => {
                write!(f, "{name}:")?;
                let reasons = [
                    (request::TIMER, "timer"),
                    (request::RESCHEDULE, "reschedule"),
                    (request::CONSOLE, "console"),
                    (request::DEVICE, "device"),
                ];
                let given = reasons.into_iter().filter(|(bit, _)| detail & u64::from(*bit) != 0);
                given.into_iter().try_for_each(|(_, reason)| write!(f, " {reason}"))
            }
            Kind::Eviction => write!(f, "thread {detail} leaves {name}"),
            Kind::Sweep => {
                let (freed, returned) = (detail >> 32, detail as u32);
                write!(f, "{name}: {freed} shared objects freed, {returned} given back")
            }
            Kind::Pages => write!(f, "{name}: {detail} pages of private heap freed"),
            Kind::Quiesce => {
                let rest =
                    device::Rest::of_number(detail & 0xff).map_or("in an unknown way", device::Rest::name);
                write!(f, "{name}: a device was {rest}, in {} us", detail >> 8)
            }
        }
    }
}

/// One event in a ring; `stamp` is written last and tells a reader whether the rest belongs together.
#[derive(Default)]
struct Entry {
    stamp: AtomicU64,
    time_ns: AtomicU64,
    kind: AtomicU64,
    domain: AtomicU64,
    detail: AtomicU64,
}

struct Ring {
    /// Events written so far.
    written: AtomicU64,
    events: Box<[Entry]>,
}

static ON: AtomicBool = AtomicBool::new(false);
static RINGS: [AtomicPtr<Ring>; CPU_LIMIT] = [const { AtomicPtr::new(core::ptr::null_mut()) }; CPU_LIMIT];
/// Events of each ring that were read.
static READ: Lock<[u64; CPU_LIMIT]> = Lock::new([0; CPU_LIMIT]);

/// Turns tracing on or off. The first time, it makes the rings.
pub(crate) fn set(on: bool) {
    if on {
        for ring in RINGS.iter().take(machine().cpu_count()) {
            if ring.load(Ordering::Acquire).is_null() {
                let new = Box::new(Ring {
                    written: AtomicU64::new(0),
                    events: (0..EVENTS).map(|_| Entry::default()).collect(),
                });
                ring.store(Box::leak(new), Ordering::Release);
            }
        }
    }
    ON.store(on, Ordering::Release);
    crossing::observe(on.then_some(observe as extern "C" fn(DomainId)));
}

extern "C" fn observe(callee: DomainId) {
    let _section = Section::enter();
    // SAFETY: C2: the crossing's continuation is on top by now, on this thread's stack.
    let caller = unsafe { thread::current().control().top.as_ref() };
    record(Kind::Crossing, callee, caller.map_or(0, |continuation| continuation.caller.to_bits()));
}

/// Whether events are recorded.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Records an event, if tracing is on. Inside a section.
#[inline]
pub(crate) fn record(kind: Kind, domain: DomainId, detail: u64) {
    if is_on() {
        write(kind, domain, detail);
    }
}

fn write(kind: Kind, domain: DomainId, detail: u64) {
    let Some(ring) = ring(this_cpu().number) else { return };
    let number = ring.written.load(Ordering::Relaxed);
    let event = &ring.events[number as usize % EVENTS];
    event.stamp.store(0, Ordering::Release);
    event.time_ns.store(machine().now_ns(), Ordering::Relaxed);
    event.kind.store(kind as u64, Ordering::Relaxed);
    event.domain.store(domain.to_bits(), Ordering::Relaxed);
    event.detail.store(detail, Ordering::Relaxed);
    event.stamp.store(number + 1, Ordering::Release);
    ring.written.store(number + 1, Ordering::Release);
}

/// Takes the oldest event that was not read or overwritten yet.
pub(crate) fn next() -> Option<TraceRecord> {
    let mut read = READ.lock();
    let oldest = (0..CPU_LIMIT).filter_map(|cpu| Some((cpu, peek(cpu, &mut read[cpu])?)));
    let (cpu, event) = oldest.min_by_key(|(_, event)| event.time_ns)?;
    read[cpu] += 1;
    let Event { time_ns, kind, domain, detail, .. } = event;
    Some(TraceRecord { time_ns, cpu: cpu as u32, kind: Text::new(kind.name()), domain, detail })
}

/// The event after `read` of a CPU's ring; moves on over those that are overwritten.
fn peek(cpu: usize, read: &mut u64) -> Option<Event> {
    let ring = ring(cpu)?;
    loop {
        let written = ring.written.load(Ordering::Acquire);
        *read = (*read).max(written.saturating_sub(EVENTS as u64 - 1));
        if *read >= written {
            return None;
        }
        if let Some(event) = ring.read(cpu, *read) {
            return Some(event);
        }
        *read += 1;
    }
}

/// Copies the latest events of all CPUs, the latest first, without what interrupts the kernel itself, which is every idle
/// CPU's day. Answers how many there are.
pub(crate) fn latest(into: &mut [Event]) -> usize {
    let mut behind: [u64; CPU_LIMIT] = [0; CPU_LIMIT];
    let cpus = machine().cpu_count().min(CPU_LIMIT);
    for (place, behind) in behind.iter_mut().enumerate().take(cpus) {
        *behind = ring(place).map_or(0, |ring| ring.written.load(Ordering::Acquire));
    }
    let mut count = 0;
    while let Some(place) = into.get_mut(count) {
        let last = |cpu: usize| ring(cpu)?.read(cpu, behind[cpu].checked_sub(1)?);
        let Some(event) = (0..cpus).filter_map(last).max_by_key(|event| event.time_ns) else { break };
        behind[event.cpu] -= 1;
        if event.kind != Kind::Interrupt || event.domain != DomainId::KERNEL {
            *place = event;
            count += 1;
        }
    }
    count
}

fn ring(cpu: usize) -> Option<&'static Ring> {
    // SAFETY: `set` stores leaked boxes, before it turns tracing on.
    unsafe { RINGS[cpu].load(Ordering::Acquire).as_ref() }
}

impl Ring {
    /// Event number `number`, unless it is overwritten.
    fn read(&self, cpu: usize, number: u64) -> Option<Event> {
        let entry = &self.events[number as usize % EVENTS];
        let stamp = entry.stamp.load(Ordering::Acquire);
        let kind = entry.kind.load(Ordering::Relaxed);
        let event = Event {
            time_ns: entry.time_ns.load(Ordering::Relaxed),
            cpu,
            kind: Kind::ALL.into_iter().find(|&known| known as u64 == kind).unwrap_or(Kind::Interrupt),
            domain: DomainId::from_bits(entry.domain.load(Ordering::Relaxed)),
            detail: entry.detail.load(Ordering::Relaxed),
        };
        (stamp == number + 1 && entry.stamp.load(Ordering::Acquire) == stamp).then_some(event)
    }
}
