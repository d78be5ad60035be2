//! The trace ring: what happened lately, as typed events.
//!
//! Each CPU writes to a ring of its own, inside a section, and takes no lock for it. While tracing is off, an event is
//! one load and a branch; a crossing's observer is not even installed.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use coppice_abi::DomainId;
use coppice_interfaces::{Text, TraceRecord, crossing};

use crate::cpu::this_cpu;
use crate::machine::{CPU_LIMIT, machine};
use crate::sync::{Lock, Section};

/// Events that a CPU's ring holds; older ones are overwritten.
const EVENTS: usize = 4096;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Kind {
    /// A call into the domain.
    Crossing = 1,
    /// The end of the domain; detail: its `CrashKind`.
    Fault,
    /// A new life of the domain.
    Restart,
    /// What traps and other CPUs asked for while the domain ran; detail: bits of `cpu::request`.
    Interrupt,
}

/// One event; `stamp` is written last and tells a reader whether the rest belongs together.
#[derive(Default)]
struct Event {
    stamp: AtomicU64,
    time_ns: AtomicU64,
    kind: AtomicU64,
    domain: AtomicU64,
    detail: AtomicU64,
}

struct Ring {
    /// Events written so far.
    written: AtomicU64,
    events: Box<[Event]>,
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
                    events: (0..EVENTS).map(|_| Event::default()).collect(),
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
    record(Kind::Crossing, callee, 0);
}

/// Records an event, if tracing is on. Inside a section.
#[inline]
pub(crate) fn record(kind: Kind, domain: DomainId, detail: u64) {
    if ON.load(Ordering::Relaxed) {
        write(kind, domain, detail);
    }
}

fn write(kind: Kind, domain: DomainId, detail: u64) {
    // SAFETY: `set` stores leaked boxes, before it turns tracing on.
    let Some(ring) = (unsafe { RINGS[this_cpu().number].load(Ordering::Acquire).as_ref() }) else { return };
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
    let (cpu, record) = oldest.min_by_key(|(_, record)| record.time_ns)?;
    read[cpu] += 1;
    Some(record)
}

/// The event after `read` of a CPU's ring; moves on over those that are overwritten.
fn peek(cpu: usize, read: &mut u64) -> Option<TraceRecord> {
    // SAFETY: as in `write`.
    let ring = unsafe { RINGS[cpu].load(Ordering::Acquire).as_ref() }?;
    loop {
        let written = ring.written.load(Ordering::Acquire);
        *read = (*read).max(written.saturating_sub(EVENTS as u64 - 1));
        if *read >= written {
            return None;
        }
        let event = &ring.events[*read as usize % EVENTS];
        let stamp = event.stamp.load(Ordering::Acquire);
        let kind = match event.kind.load(Ordering::Relaxed) {
            1 => "crossing",
            2 => "fault",
            3 => "restart",
            _ => "interrupt",
        };
        let record = TraceRecord {
            time_ns: event.time_ns.load(Ordering::Relaxed),
            cpu: cpu as u32,
            kind: Text::new(kind),
            domain: DomainId::from_bits(event.domain.load(Ordering::Relaxed)),
            detail: event.detail.load(Ordering::Relaxed),
        };
        if stamp == *read + 1 && event.stamp.load(Ordering::Acquire) == stamp {
            return Some(record);
        }
        *read += 1;
    }
}
