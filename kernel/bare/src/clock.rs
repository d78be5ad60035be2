//! Time: the time-stamp counter as the clock, the local APIC's timer for wake-ups.
//!
//! The counter is assumed to run at a constant rate and synchronously on all CPUs, as on every x86 of the
//! last fifteen years, and in QEMU.

use core::arch::x86_64::{__cpuid, __cpuid_count, _mm_lfence, _rdtsc};
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_kernel::machine::CPU_LIMIT;
use crossbeam_utils::CachePadded;
use spin::Once;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::port::Port;

use crate::{apic, cpu};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// Duration of the comparison of the counters with a clock of known frequency. The error is about a
/// microsecond in this.
const CALIBRATION_NS: u64 = 5_000_000;

/// Conversion factors, as fixed-point numbers with 32 fractional bits.
struct Clock {
    boot_tsc: u64,
    tsc_hz: u64,
    ns_per_tick: u64,
    ticks_per_ns: u64,
    /// `None` if the timer compares with the time-stamp counter itself.
    timer_ticks_per_ns: Option<u64>,
}

static CLOCK: Once<Clock> = Once::new();

/// Deadline of each CPU's timer, in nanoseconds since boot. Only its CPU accesses it, so it has a cache line
/// of its own.
static DEADLINES: [CachePadded<AtomicU64>; CPU_LIMIT] =
    [const { CachePadded::new(AtomicU64::new(u64::MAX)) }; CPU_LIMIT];

/// Determines the frequencies of the counters. `pm_timer` is the port of ACPI's PM timer.
pub(crate) fn init(pm_timer: Option<u16>) {
    CLOCK.call_once(|| {
        let has_deadline = apic::features().tsc_deadline;
        let reported = tsc_hz_from_cpuid();
        let (tsc_hz, timer_hz) = match (reported, has_deadline) {
            (Some(tsc_hz), true) => (tsc_hz, 0),
            _ => {
                let (tsc_hz, timer_hz) = measure(Reference::new(pm_timer));
                (reported.unwrap_or(tsc_hz), timer_hz)
            }
        };
        let ratio = |a: u64, b: u64| ((u128::from(a) << 32) / u128::from(b)) as u64;
        Clock {
            boot_tsc: tsc(),
            tsc_hz,
            ns_per_tick: ratio(NS_PER_SECOND, tsc_hz),
            ticks_per_ns: ratio(tsc_hz, NS_PER_SECOND),
            timer_ticks_per_ns: (!has_deadline).then(|| ratio(timer_hz, NS_PER_SECOND)),
        }
    });
}

fn clock() -> &'static Clock {
    CLOCK.get().expect("the boot path calibrates the clock before the time is read")
}

/// Reads the time-stamp counter, after all earlier instructions.
fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has SSE2, which includes this instruction.
    unsafe { _mm_lfence() };
    // SAFETY: entry.s has checked that the CPU has a time-stamp counter.
    unsafe { _rdtsc() }
}

fn scale(value: u64, factor: u64) -> u64 {
    ((u128::from(value) * u128::from(factor)) >> 32).min(u64::MAX.into()) as u64
}

/// Returns the nanoseconds since boot.
pub(crate) fn now_ns() -> u64 {
    let clock = clock();
    scale(tsc().saturating_sub(clock.boot_tsc), clock.ns_per_tick)
}

/// Returns the frequency of the time-stamp counter.
pub(crate) fn tsc_hz() -> u64 {
    clock().tsc_hz
}

/// Waits at least `ns` nanoseconds.
pub(crate) fn wait_ns(ns: u64) {
    let end = now_ns() + ns;
    while now_ns() < end {
        core::hint::spin_loop();
    }
}

/// Sets the calling CPU's deadline, which replaces the earlier one; `u64::MAX` is none. The CPU must have a
/// block.
pub(crate) fn set_deadline(deadline_ns: u64) {
    // Both steps on the same CPU, and without the handler in between.
    without_interrupts(|| {
        DEADLINES[cpu::this()].store(deadline_ns, Ordering::Relaxed);
        arm(deadline_ns);
    });
}

/// Returns true if the deadline has passed, for the timer's handler. The timer may fire early, because its
/// range is too small or its frequency is not known exactly; then it is started again.
pub(crate) fn deadline_has_passed() -> bool {
    let deadline_ns = DEADLINES[cpu::this()].load(Ordering::Relaxed);
    let is_over = deadline_ns <= now_ns();
    if is_over {
        DEADLINES[cpu::this()].store(u64::MAX, Ordering::Relaxed);
    } else {
        arm(deadline_ns);
    }
    is_over
}

fn arm(deadline_ns: u64) {
    let clock = clock();
    let is_none = deadline_ns == u64::MAX;
    match clock.timer_ticks_per_ns {
        None if is_none => apic::set_tsc_deadline(0),
        // A deadline in the past fires at once; the value 0 would not.
        None => apic::set_tsc_deadline(
            clock.boot_tsc.saturating_add(scale(deadline_ns, clock.ticks_per_ns)).saturating_add(1),
        ),
        Some(_) if is_none => apic::start_timer(0),
        Some(ticks_per_ns) => {
            let ticks = scale(deadline_ns.saturating_sub(now_ns()), ticks_per_ns) + 1;
            apic::start_timer(u32::try_from(ticks).unwrap_or(u32::MAX));
        }
    }
}

/// Returns the counter's frequency, if the CPU or the hypervisor reports it (Intel SDM volume 2, `CPUID`
/// leaves 15H and 16H; leaf 40000010H is a convention of hypervisors, VMware's first).
fn tsc_hz_from_cpuid() -> Option<u64> {
    const HYPERVISOR: u32 = 0x4000_0000;
    let highest = __cpuid(0).eax;
    if highest >= 0x15 {
        let ratio = __cpuid_count(0x15, 0);
        let (denominator, numerator, crystal_hz) =
            (u64::from(ratio.eax), u64::from(ratio.ebx), u64::from(ratio.ecx));
        if denominator != 0 && numerator != 0 && crystal_hz != 0 {
            return Some(crystal_hz * numerator / denominator);
        }
    }
    let has_hypervisor = __cpuid(1).ecx >> 31 != 0;
    if has_hypervisor && __cpuid(HYPERVISOR).eax >= HYPERVISOR + 0x10 {
        let khz = u64::from(__cpuid(HYPERVISOR + 0x10).eax);
        return (khz != 0).then_some(khz * 1000);
    }
    None
}

/// A clock of known frequency that every PC has in one of these forms.
enum Reference {
    /// ACPI's PM timer, 24 bits or more, counting up (ACPI specification 6.4, section 4.8.3.3).
    PmTimer(u16),
    /// Channel 2 of the 8254 timer, 16 bits, counting down.
    Pit,
}

impl Reference {
    fn new(pm_timer: Option<u16>) -> Self {
        if let Some(port) = pm_timer {
            return Self::PmTimer(port);
        }
        let write = |port, value: u8| {
            let mut port = Port::new(port);
            // SAFETY: the 8254's ports on every PC; channel 2 drives nothing but the loudspeaker, which is
            // off.
            unsafe { port.write(value) };
        };
        write(0x61, 0b01); // gate open, loudspeaker off
        write(0x43, 0b1011_0100); // channel 2, both bytes, mode 2: counts round and round
        write(0x42, 0xff);
        write(0x42, 0xff);
        Self::Pit
    }

    fn hz(&self) -> u64 {
        match self {
            Self::PmTimer(_) => 3_579_545,
            Self::Pit => 1_193_182,
        }
    }

    /// Returns the ticks from `start` to `now`, both read by [`Self::read`].
    fn since(&self, start: u32, now: u32) -> u64 {
        match self {
            Self::PmTimer(_) => u64::from(now.wrapping_sub(start) & 0xff_ffff),
            Self::Pit => u64::from(start.wrapping_sub(now) & 0xffff),
        }
    }

    fn read(&self) -> u32 {
        match *self {
            Self::PmTimer(port) => {
                let mut port = Port::new(port);
                // SAFETY: the FADT describes the port as the PM timer; reading it changes nothing.
                unsafe { port.read() }
            }
            Self::Pit => {
                let mut command = Port::new(0x43);
                // SAFETY: latches channel 2's count, so that its bytes can be read one after the other.
                unsafe { command.write(0b1000_0000u8) };
                let mut data = Port::<u8>::new(0x42);
                // SAFETY: reads the latched count.
                let low = unsafe { data.read() };
                // SAFETY: as above.
                let high = unsafe { data.read() };
                u32::from(low) | u32::from(high) << 8
            }
        }
    }
}

/// Readings of the three counters at about the same time.
struct Sample {
    reference: u32,
    tsc: u64,
    timer: u32,
    /// Distance between the first and the last reading.
    width: u64,
}

impl Sample {
    /// Takes the narrowest of a few samples: a hypervisor may pause the CPU between two readings.
    fn take(reference: &Reference) -> Self {
        let attempt = || {
            let before = tsc();
            let value = reference.read();
            let timer = apic::timer_left();
            let after = tsc();
            Self { reference: value, tsc: before + (after - before) / 2, timer, width: after - before }
        };
        let attempts = [attempt(), attempt(), attempt(), attempt(), attempt()];
        attempts.into_iter().min_by_key(|sample| sample.width).expect("there are five")
    }
}

/// Measures the frequencies of the time-stamp counter and of the local APIC's timer.
fn measure(reference: Reference) -> (u64, u64) {
    // In deadline mode the count stays 0 and is not used.
    apic::start_timer(u32::MAX);
    let goal = reference.hz() * CALIBRATION_NS / NS_PER_SECOND;
    let first = Sample::take(&reference);
    while reference.since(first.reference, reference.read()) < goal {}
    let last = Sample::take(&reference);
    apic::start_timer(0);
    let elapsed = reference.since(first.reference, last.reference);
    let hz = |ticks: u64| (u128::from(ticks) * u128::from(reference.hz()) / u128::from(elapsed)) as u64;
    (hz(last.tsc - first.tsc), hz(u64::from(first.timer.wrapping_sub(last.timer))).max(1))
}
