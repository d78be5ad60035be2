//! Latencies: the times for which a CPU does not react, by CPU and kind, with the code that began the
//! longest.
//!
//! - A **section** is timed from its begin to its end, except crossings and the few services that are as
//!   short ([`Section::enter_short`](crate::platform::sync::Section::enter_short)). The time goes
//!   on over a switch of threads, since the next thread is in a section too: it ends when a thread leaves the
//!   kernel on this CPU. A CPU that waits while the world is stopped, or that idles, is not timed.
//! - A section that is not timed still counts when an interrupt finds the CPU in it: from there to its end.
//! - A **stop of the world** counts on the CPU that stops the others.
//! - **Interrupts off** is measured by the machine ([`InterruptsOff`]).
//!
//! A time beyond [`set_limit`]'s limit is a *lockup*. The time need not be over: another CPU finds it too
//! ([`find_lockups`]).
//!
//! Each CPU writes its own data, with plain loads and stores; other CPUs read them at any time.

use core::fmt;
use core::panic::Location;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use coppice_abi::crossing::CpuBlock;

use crate::platform::machine::CPU_LIMIT;

/// The kind of a latency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A timed section.
    Section,
    /// A stop of the world.
    WorldStop,
    /// Interrupts off.
    InterruptsOff,
    /// An interrupt that came in a section that is not timed.
    DeferredInterrupt,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Section, Self::WorldStop, Self::InterruptsOff, Self::DeferredInterrupt];
}

/// The number of classes of a histogram: class `n` counts times from 2^`n` ns up to twice that.
pub(crate) const CLASSES: usize = 40;

/// The code at which a time began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Unknown.
    Unknown,
    /// A source location.
    Source(&'static Location<'static>),
    /// The address of an instruction.
    Code(usize),
}

impl Place {
    /// Packs the place into a word. A location is aligned, so bit 0 marks an address of code.
    fn to_word(self) -> usize {
        const { assert!(align_of::<Location<'static>>() > 1) };
        match self {
            Self::Unknown => 0,
            Self::Source(location) => (&raw const *location).expose_provenance(),
            Self::Code(address) => address << 1 | 1,
        }
    }

    fn from_word(word: usize) -> Self {
        if word & 1 != 0 {
            return Self::Code(word >> 1);
        }
        // SAFETY: words come from `to_word` only, so this is null or the address of a static.
        unsafe { core::ptr::with_exposed_provenance::<Location<'static>>(word).as_ref() }
            .map_or(Self::Unknown, Self::Source)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown code"),
            Self::Source(location) => write!(f, "{}:{}", location.file(), location.line()),
            Self::Code(address) => write!(f, "address {address:#x}"),
        }
    }
}

/// The times of one kind on one CPU.
struct Histogram {
    counts: [AtomicU64; CLASSES],
    longest_ns: AtomicU64,
    longest_place: AtomicUsize,
}

impl Histogram {
    const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; CLASSES],
            longest_ns: AtomicU64::new(0),
            longest_place: AtomicUsize::new(0),
        }
    }

    #[inline]
    fn add(&self, ns: u64, place: usize) {
        let count = &self.counts[(ns.max(1).ilog2() as usize).min(CLASSES - 1)];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if ns > self.longest_ns.load(Ordering::Relaxed) {
            self.longest_ns.store(ns, Ordering::Relaxed);
            self.longest_place.store(place, Ordering::Relaxed);
        }
    }
}

/// A copy of a histogram.
pub(crate) struct Latencies {
    pub(crate) counts: [u64; CLASSES],
    pub(crate) longest_ns: u64,
    pub(crate) place: Place,
}

/// A time beyond the limit.
#[derive(Clone, Copy)]
pub(crate) struct Lockup {
    pub(crate) cpu: usize,
    pub(crate) kind: Kind,
    /// Its length so far, or in all if it `is_over`.
    pub(crate) ns: u64,
    pub(crate) place: Place,
    pub(crate) is_over: bool,
}

/// The times of one CPU.
#[repr(align(64))]
struct Clock {
    /// The time-stamp counter at the begin of the present timed section; 0 in none.
    began: AtomicU64,
    place: AtomicUsize,
    /// The same of the first interrupt in a section that is not timed; 0 if there was none.
    deferred: AtomicU64,
    deferred_place: AtomicUsize,
    histograms: [Histogram; Kind::ALL.len()],
    /// `began` of a section that was found to be a lockup while it lasted.
    found: AtomicU64,
    /// `began` of such a section that was taken.
    taken: AtomicU64,
    /// The latest lockup: 0, or 1 + its kind, and its length and place.
    lockup: AtomicUsize,
    lockup_ns: AtomicU64,
    lockup_place: AtomicUsize,
    /// The time-stamp counter when it was noted.
    lockup_noted: AtomicU64,
}

static CLOCKS: [Clock; CPU_LIMIT] = [const { Clock::new() }; CPU_LIMIT];

/// Nanoseconds per tick of the time-stamp counter, times 2^32; 0 until [`init`].
static SCALE: AtomicU64 = AtomicU64::new(0);

static LIMIT_NS: AtomicU64 = AtomicU64::new(u64::MAX);

/// The pause after a lockup, in which no other one of the same CPU is noted.
const LOCKUP_PAUSE_NS: u64 = 1_000_000_000;

/// A lockup waits to be taken.
static HAS_LOCKUPS: AtomicBool = AtomicBool::new(false);

impl Clock {
    const fn new() -> Self {
        Self {
            began: AtomicU64::new(0),
            place: AtomicUsize::new(0),
            deferred: AtomicU64::new(0),
            deferred_place: AtomicUsize::new(0),
            histograms: [const { Histogram::new() }; Kind::ALL.len()],
            found: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            lockup: AtomicUsize::new(0),
            lockup_ns: AtomicU64::new(0),
            lockup_place: AtomicUsize::new(0),
            lockup_noted: AtomicU64::new(0),
        }
    }

    /// Adds a time of `ticks`. For the CPU itself.
    #[inline]
    fn add(&self, kind: Kind, ticks: u64, place: usize) {
        let ns = ns_of(ticks);
        self.histograms[kind as usize].add(ns, place);
        if ns > LIMIT_NS.load(Ordering::Relaxed) {
            self.note_lockup(kind, ns, place);
        }
    }

    #[cold]
    fn note_lockup(&self, kind: Kind, ns: u64, place: usize) {
        let (now, noted) = (tsc(), self.lockup_noted.load(Ordering::Relaxed));
        if noted != 0 && ns_of(now.saturating_sub(noted)) < LOCKUP_PAUSE_NS {
            return;
        }
        self.lockup_noted.store(now, Ordering::Relaxed);
        self.lockup_ns.store(ns, Ordering::Relaxed);
        self.lockup_place.store(place, Ordering::Relaxed);
        self.lockup.store(1 + kind as usize, Ordering::Release);
        HAS_LOCKUPS.store(true, Ordering::Release);
    }

    #[inline]
    fn begin(&self, now: u64, place: usize) {
        self.place.store(place, Ordering::Relaxed);
        self.began.store(now, Ordering::Relaxed);
    }

    /// Ends the present section. Returns its place, or 0 if it is not timed.
    #[inline]
    fn end(&self, now: u64) -> usize {
        let began = self.began.load(Ordering::Relaxed);
        if began == 0 {
            return 0;
        }
        let place = self.place.load(Ordering::Relaxed);
        self.began.store(0, Ordering::Relaxed);
        self.add(Kind::Section, now.saturating_sub(began), place);
        place
    }

    /// Ends the time of a deferred interrupt, if there is one.
    #[inline]
    fn end_deferral(&self, now: u64) {
        let deferred = self.deferred.load(Ordering::Relaxed);
        if deferred != 0 {
            self.deferred.store(0, Ordering::Relaxed);
            let place = self.deferred_place.load(Ordering::Relaxed);
            self.add(Kind::DeferredInterrupt, now.saturating_sub(deferred), place);
        }
    }
}

#[inline]
fn ns_of(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(SCALE.load(Ordering::Relaxed))) >> 32) as u64
}

/// The time-stamp counter.
#[inline(always)]
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has the instruction, and nothing here disables it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The clock of the CPU that runs the caller, which is in a section or has interrupts off.
#[inline(always)]
fn here() -> &'static Clock {
    let number: u32;
    // SAFETY: `gs` points to this CPU's block. Not `pure`: outside a section the result could change.
    unsafe {
        core::arch::asm!("mov {:e}, gs:[{offset}]", out(reg) number,
            offset = const CpuBlock::CPU, options(nostack, preserves_flags));
    }
    &CLOCKS[number as usize % CPU_LIMIT]
}

/// Sets the rate of the time-stamp counter; before that all times count as 0.
pub(crate) fn init(tsc_hz: u64) {
    SCALE.store(((1_000_000_000_u128 << 32) / u128::from(tsc_hz)) as u64, Ordering::Relaxed);
}

/// Makes times longer than this lockups; `u64::MAX` for none.
pub(crate) fn set_limit(limit_ns: u64) {
    LIMIT_NS.store(limit_ns, Ordering::Relaxed);
}

/// Begins a timed section, for the outermost one only.
#[inline(always)]
pub(crate) fn begin_section(place: &'static Location<'static>) {
    here().begin(tsc(), Place::Source(place).to_word());
}

/// Ends the section of [`begin_section`], if it is still timed.
pub(crate) fn end_section() {
    here().end(tsc());
}

/// Begins the section of a checkpoint, which may end a section that was not timed.
pub(crate) fn begin_checkpoint(place: &'static Location<'static>) {
    let clock = here();
    let now = tsc();
    clock.end_deferral(now);
    clock.begin(now, Place::Source(place).to_word());
}

/// Ends the present section for as long as this CPU does nothing. Returns its place, for [`resume`].
pub(crate) fn suspend() -> usize {
    here().end(tsc())
}

/// Continues the section of [`suspend`], which returned `place`. An interrupt in between did not wait for it.
pub(crate) fn resume(place: usize) {
    let clock = here();
    clock.deferred.store(0, Ordering::Relaxed);
    if place != 0 {
        clock.begin(tsc(), place);
    }
}

/// Makes `place` the place of the present section, if it is timed: the code to which the thread that has got
/// this CPU returns.
#[inline]
pub(crate) fn set_place(place: &'static Location<'static>) {
    here().place.store(Place::Source(place).to_word(), Ordering::Relaxed);
}

/// Begins the section of a CPU that was idle.
pub(crate) fn end_idle(place: &'static Location<'static>) {
    resume(Place::Source(place).to_word());
}

/// Notes an interrupt at `rip` that is deferred to the end of the present section. In a trap.
pub(crate) fn defer_interrupt(rip: usize) {
    let clock = here();
    if clock.began.load(Ordering::Relaxed) == 0 && clock.deferred.load(Ordering::Relaxed) == 0 {
        clock.deferred_place.store(Place::Code(rip).to_word(), Ordering::Relaxed);
        clock.deferred.store(tsc(), Ordering::Relaxed);
    }
}

/// A stop of the world that lasts until this value is dropped, in the same section.
pub(crate) struct WorldStop {
    began: u64,
    place: &'static Location<'static>,
}

impl WorldStop {
    pub(crate) fn begin(place: &'static Location<'static>) -> Self {
        Self { began: tsc(), place }
    }
}

impl Drop for WorldStop {
    fn drop(&mut self) {
        let place = Place::Source(self.place).to_word();
        here().add(Kind::WorldStop, tsc().saturating_sub(self.began), place);
    }
}

/// A time with interrupts off on this CPU, which lasts until this value is dropped. For machines.
pub struct InterruptsOff {
    began: u64,
    place: &'static Location<'static>,
}

impl InterruptsOff {
    /// Begins the time, on a CPU that has its block.
    #[track_caller]
    #[must_use]
    pub fn begin() -> Self {
        Self { began: tsc(), place: Location::caller() }
    }
}

impl Drop for InterruptsOff {
    fn drop(&mut self) {
        let place = Place::Source(self.place).to_word();
        here().add(Kind::InterruptsOff, tsc().saturating_sub(self.began), place);
    }
}

/// The times of that kind on CPU `cpu`. A snapshot.
pub(crate) fn latencies(cpu: usize, kind: Kind) -> Latencies {
    let histogram = &CLOCKS[cpu].histograms[kind as usize];
    Latencies {
        counts: core::array::from_fn(|class| histogram.counts[class].load(Ordering::Relaxed)),
        longest_ns: histogram.longest_ns.load(Ordering::Relaxed),
        place: Place::from_word(histogram.longest_place.load(Ordering::Relaxed)),
    }
}

/// Returns true if there is a lockup to take.
#[inline]
pub(crate) fn has_lockups() -> bool {
    HAS_LOCKUPS.load(Ordering::Relaxed)
}

/// Finds sections of the first `cpus` CPUs that are lockups and not over. Each is found once.
pub(crate) fn find_lockups(cpus: usize) {
    let now = tsc();
    let limit_ns = LIMIT_NS.load(Ordering::Relaxed);
    for clock in CLOCKS.iter().take(cpus) {
        let began = clock.began.load(Ordering::Relaxed);
        let is_lockup = began != 0 && ns_of(now.saturating_sub(began)) > limit_ns;
        if is_lockup && clock.found.swap(began, Ordering::Relaxed) != began {
            HAS_LOCKUPS.store(true, Ordering::Release);
        }
    }
}

/// Passes all lockups that were not taken yet to `visit`: those that are over, and those that
/// [`find_lockups`] has found.
pub(crate) fn take_lockups(mut visit: impl FnMut(Lockup)) {
    HAS_LOCKUPS.store(false, Ordering::SeqCst);
    let now = tsc();
    for (cpu, clock) in CLOCKS.iter().enumerate() {
        if let Some(kind) = clock.lockup.swap(0, Ordering::Acquire).checked_sub(1) {
            visit(Lockup {
                cpu,
                kind: Kind::ALL[kind],
                ns: clock.lockup_ns.load(Ordering::Relaxed),
                place: Place::from_word(clock.lockup_place.load(Ordering::Relaxed)),
                is_over: true,
            });
        }
        let (began, found) = (clock.began.load(Ordering::Relaxed), clock.found.load(Ordering::Relaxed));
        if began != 0 && began == found && clock.taken.swap(began, Ordering::Relaxed) != began {
            visit(Lockup {
                cpu,
                kind: Kind::Section,
                ns: ns_of(now.saturating_sub(began)),
                place: Place::from_word(clock.place.load(Ordering::Relaxed)),
                is_over: false,
            });
        }
    }
}

impl fmt::Display for Lockup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, ns, place, is_over, .. } = self;
        let what = match self.kind {
            Kind::Section => "was in a section",
            Kind::WorldStop => "stopped the world",
            Kind::InterruptsOff => "had interrupts off",
            Kind::DeferredInterrupt => "deferred an interrupt",
        };
        let so_far = if *is_over { "" } else { " so far" };
        write!(f, "CPU {cpu} {what} for {}.{:03} ms{so_far}, from {place}", ns / 1_000_000, ns / 1000 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    /// A clock with one tick per nanosecond, and no limit. The scale and the limit are shared by all tests.
    fn clock() -> Clock {
        init(1_000_000_000);
        Clock::new()
    }

    #[test]
    fn times_are_counted_by_powers_of_two_and_the_longest_has_its_place() {
        let clock = clock();
        for (ns, place) in [(0, 1), (1, 3), (7, 5), (8, 7), (1_000_000, 9), (999, 11)] {
            clock.add(Kind::WorldStop, ns, place);
        }
        clock.add(Kind::WorldStop, 1 << 60, 13);
        let histogram = &clock.histograms[Kind::WorldStop as usize];
        let count = |class: usize| histogram.counts[class].load(Ordering::Relaxed);
        assert_eq!(
            (count(0), count(2), count(3), count(9), count(19), count(CLASSES - 1)),
            (2, 1, 1, 1, 1, 1)
        );
        assert_eq!(histogram.longest_place.load(Ordering::Relaxed), 13);
        let others = clock.histograms[Kind::Section as usize].counts.iter();
        assert_eq!(others.map(|count| count.load(Ordering::Relaxed)).sum::<u64>(), 0);
    }

    #[test]
    fn a_section_is_timed_in_parts_and_a_suspended_one_is_not() {
        let clock = clock();
        clock.begin(1000, 8);
        assert_eq!(clock.end(1100), 8);
        assert_eq!(clock.end(5000), 0, "it is not timed any more");
        let histogram = &clock.histograms[Kind::Section as usize];
        assert_eq!(histogram.longest_ns.load(Ordering::Relaxed), 100);
        assert_eq!(histogram.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>(), 1);
    }

    #[test]
    fn a_deferred_interrupt_counts_once() {
        let clock = clock();
        clock.deferred_place.store(Place::Code(0x1234).to_word(), Ordering::Relaxed);
        clock.deferred.store(50, Ordering::Relaxed);
        clock.end_deferral(80);
        clock.end_deferral(1000);
        let histogram = &clock.histograms[Kind::DeferredInterrupt as usize];
        assert_eq!(histogram.longest_ns.load(Ordering::Relaxed), 30);
        let place = Place::from_word(histogram.longest_place.load(Ordering::Relaxed));
        assert_eq!((place, place.to_string()), (Place::Code(0x1234), String::from("address 0x1234")));
    }

    #[test]
    fn places_survive_their_packing() {
        let location = Location::caller();
        for place in [Place::Unknown, Place::Source(location), Place::Code(0), Place::Code(0x7fff_1234_5679)]
        {
            assert_eq!(Place::from_word(place.to_word()), place);
        }
        assert!(Place::Source(location).to_string().contains("latency.rs:"));
    }
}
