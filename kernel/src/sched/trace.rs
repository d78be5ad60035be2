//! The trace ring: recent events, with types.
//!
//! Each CPU writes to its own ring, inside a section and without a lock. While tracing is off, an event costs
//! one load and a branch, and the observer of crossings is not installed.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coppice_abi::DomainId;
use coppice_control::TraceRecord;
use coppice_interfaces::{Text, crossing};

use crate::memory::heap::{self, Charge, Purpose};
use crate::platform::machine::{CPU_LIMIT, machine};
use crate::platform::sync::{Lock, Section};
use crate::sched::cpu::this_cpu;
use crate::sched::cpu_local::CpuLocal;
use crate::sched::thread;

/// The capacity of a CPU's ring; older events are overwritten.
const EVENTS: usize = 4096;

/// The kind of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Kind {
    /// A call into the domain; detail: the bits of the caller's id.
    Crossing = 1,
    /// The end of the domain; detail: its `CrashKind`.
    Fault,
    /// A new instance of the domain.
    Restart,
    /// Requests of traps and other CPUs while the domain ran; detail: bits of `cpu::request`.
    Interrupt,
    /// A thread is evicted from the domain, which has ended; detail: its number.
    Eviction,
    /// The domain's shared objects are swept; detail: objects freed, from bit 32 on, and given back.
    Sweep,
    /// The sweep's work; detail: slots of the shared heap that it looked at.
    Visit,
    /// The domain's private heap is freed; detail: pages.
    Pages,
    /// A device of the domain is quiesced; detail: the `device::QuiesceOutcome`, and from bit 8 on
    /// microseconds.
    Quiesce,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Crossing,
        Self::Fault,
        Self::Restart,
        Self::Interrupt,
        Self::Eviction,
        Self::Sweep,
        Self::Visit,
        Self::Pages,
        Self::Quiesce,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crossing => "crossing",
            Self::Fault => "fault",
            Self::Restart => "restart",
            Self::Interrupt => "interrupt",
            Self::Eviction => "eviction",
            Self::Sweep => "sweep",
            Self::Visit => "visit",
            Self::Pages => "pages",
            Self::Quiesce => "quiesce",
        }
    }
}

/// An event that was read from a ring.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    pub(crate) time_ns: u64,
    pub(crate) cpu: usize,
    pub(crate) kind: Kind,
    pub(crate) domain: DomainId,
    pub(crate) detail: u64,
}

impl Event {
    /// A placeholder.
    pub(crate) const NONE: Self =
        Self { time_ns: 0, cpu: 0, kind: Kind::Interrupt, domain: DomainId::NONE, detail: 0 };
}

/// An event in a ring; `stamp` is written last, so a reader can tell whether the fields belong together.
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
    events: Vec<Entry>,
}

static ON: AtomicBool = AtomicBool::new(false);
static RINGS: CpuLocal<Ring> = CpuLocal::new();
/// Events of each ring that were read.
static READ: Lock<[u64; CPU_LIMIT]> = Lock::new([0; CPU_LIMIT]);

/// Turns tracing on or off. The first time, it allocates the rings; without memory for one of them, tracing
/// stays off.
pub(crate) fn set(on: bool) {
    if on {
        for cpu in 0..machine().cpu_count().min(CPU_LIMIT) {
            if RINGS.get(cpu).is_none() {
                let mut events = Vec::new();
                if !heap::try_reserve(Charge::to_kernel(Purpose::General), &mut events, EVENTS) {
                    return log::error!("tracing stays off: there is no memory for its events");
                }
                events.resize_with(EVENTS, Entry::default);
                RINGS.create(cpu, Ring { written: AtomicU64::new(0), events });
            }
        }
    }
    ON.store(on, Ordering::Release);
    // SAFETY: `observe` below is the kernel's own, and writes one record.
    unsafe { crossing::observe(on.then_some(observe as extern "C" fn(DomainId))) };
}

extern "C" fn observe(callee: DomainId) {
    let _section = Section::enter();
    // SAFETY: C2: the crossing's continuation is on top by now, on this thread's stack.
    let caller = unsafe { thread::current().control().top().as_ref() };
    record(Kind::Crossing, callee, caller.map_or(0, |continuation| continuation.caller().to_bits()));
}

/// Returns true if events are recorded.
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
    let Some(ring) = RINGS.get(this_cpu().number) else { return };
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

/// Returns the event after `read` of a CPU's ring; skips overwritten ones.
fn peek(cpu: usize, read: &mut u64) -> Option<Event> {
    let ring = RINGS.get(cpu)?;
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

/// Copies the latest events of all CPUs, the latest first, without the interrupts of the kernel itself, which
/// fill every idle CPU's ring. Returns their number.
pub(crate) fn latest(into: &mut [Event]) -> usize {
    let mut unread: [u64; CPU_LIMIT] = [0; CPU_LIMIT];
    let cpus = machine().cpu_count().min(CPU_LIMIT);
    for (cpu, unread) in unread.iter_mut().enumerate().take(cpus) {
        *unread = RINGS.get(cpu).map_or(0, |ring| ring.written.load(Ordering::Acquire));
    }
    let mut count = 0;
    while let Some(slot) = into.get_mut(count) {
        let last = |cpu: usize| RINGS.get(cpu)?.read(cpu, unread[cpu].checked_sub(1)?);
        let Some(event) = (0..cpus).filter_map(last).max_by_key(|event| event.time_ns) else { break };
        unread[event.cpu] -= 1;
        if event.kind != Kind::Interrupt || event.domain != DomainId::KERNEL {
            *slot = event;
            count += 1;
        }
    }
    count
}

impl Ring {
    /// Returns event `number`, unless it is overwritten.
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
