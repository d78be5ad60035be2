//! The local APIC of the calling CPU (Intel SDM volume 3, chapter 10), in xAPIC mode, with registers in
//! memory, or in x2APIC mode, with MSRs.

use core::arch::x86_64::{__cpuid, _mm_lfence, _mm_mfence};
use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::model_specific::Msr;

use crate::paging::{self, MapError};
use crate::traps::vector;

/// Registers, by their offset in memory; as MSR, `0x800 + offset / 16` (table 10-6).
#[derive(Clone, Copy)]
#[repr(u32)]
enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    CommandLow = 0x300,
    CommandHigh = 0x310,
    TimerVector = 0x320,
    Lint0Vector = 0x350,
    ErrorVector = 0x370,
    TimerInitialCount = 0x380,
    TimerCurrentCount = 0x390,
    TimerDivide = 0x3e0,
}

const BASE: Msr = Msr::new(0x1b);
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const TSC_DEADLINE: Msr = Msr::new(0x6e0);

const MASKED: u32 = 1 << 16;
const TIMER_MODE_DEADLINE: u32 = 2 << 17;
/// Divide by 16 (figure 10-10). Slow enough for a minute on a 1 GHz bus, as QEMU's is.
const DIVIDE_BY_16: u32 = 0b0011;

const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const PENDING: u32 = 1 << 12;

/// Address of the mapped registers; 0 while they are MSRs.
static REGISTERS: AtomicUsize = AtomicUsize::new(0);

/// Features of the CPU, from `cpuid`.
#[derive(Clone, Copy)]
pub(crate) struct Features {
    pub(crate) x2apic: bool,
    pub(crate) tsc_deadline: bool,
}

/// Reads the features of the calling CPU.
pub(crate) fn features() -> Features {
    let ecx = __cpuid(1).ecx;
    Features { x2apic: ecx >> 21 & 1 != 0, tsc_deadline: ecx >> 24 & 1 != 0 }
}

/// Maps the registers, if they are in memory. Call it once, before anything else here.
pub(crate) fn map() -> Result<(), MapError> {
    if !features().x2apic {
        // SAFETY: every CPU with an APIC has this MSR; reading it changes nothing.
        let base = unsafe { BASE.read() } & BASE_ADDRESS;
        REGISTERS.store(paging::map_device(base, 0x1000)?.expose_provenance(), Ordering::Relaxed);
    }
    Ok(())
}

/// Enables the calling CPU's APIC, with all of its own interrupt sources masked except the spurious one and
/// the timer.
pub(crate) fn enable() {
    const SOFTWARE_ENABLE: u32 = 1 << 8;
    let features = features();
    let mode = if features.x2apic { BASE_ENABLE | BASE_X2APIC } else { BASE_ENABLE };
    let mut base = BASE;
    // SAFETY: every CPU with an APIC has this MSR; reading it changes nothing.
    let old = unsafe { base.read() };
    // SAFETY: keeps the address, and only requests a mode that the CPU has.
    unsafe { base.write(old | mode) };
    write(Register::TaskPriority, 0);
    write(Register::Lint0Vector, MASKED);
    write(Register::ErrorVector, MASKED);
    write(Register::TimerDivide, DIVIDE_BY_16);
    let timer_mode = if features.tsc_deadline { TIMER_MODE_DEADLINE } else { 0 };
    write(Register::TimerVector, timer_mode | u32::from(vector::TIMER));
    // The mode has to be set before a deadline is (section 10.5.4.1).
    order();
    write(Register::SpuriousVector, SOFTWARE_ENABLE | u32::from(vector::SPURIOUS));
}

/// Returns the calling CPU's APIC id.
pub(crate) fn id() -> u32 {
    let id = read(Register::Id);
    if is_x2apic() { id } else { id >> 24 }
}

/// Returns true if ids may be larger than 8 bits.
pub(crate) fn is_x2apic() -> bool {
    REGISTERS.load(Ordering::Relaxed) == 0
}

/// Signals the end of the interrupt that the calling CPU handles.
pub(crate) fn end_of_interrupt() {
    write(Register::EndOfInterrupt, 0);
}

/// Interrupts the CPU with that APIC id.
pub(crate) fn send_interrupt(apic_id: u32, vector: u8) {
    command(apic_id, ASSERT | u32::from(vector));
}

/// Resets the CPU with that APIC id, which then waits for [`send_startup`].
pub(crate) fn send_init(apic_id: u32) {
    command(apic_id, ASSERT | DELIVER_INIT);
}

/// Starts a CPU that was reset at `page`, below 1 MiB. A running CPU ignores it.
pub(crate) fn send_startup(apic_id: u32, page: u64) {
    command(apic_id, ASSERT | DELIVER_STARTUP | (page >> 12) as u32);
}

fn command(apic_id: u32, command: u32) {
    if is_x2apic() {
        // The write may overtake earlier stores, which the interrupted CPU has to see (section 10.12.3).
        order();
        let mut register = Msr::new(msr(Register::CommandLow));
        // SAFETY: the x2APIC has this register; the caller is responsible for the interrupt that it sends.
        unsafe { register.write(u64::from(apic_id) << 32 | u64::from(command)) };
        return;
    }
    // Two registers make one command.
    without_interrupts(|| {
        while read(Register::CommandLow) & PENDING != 0 {
            spin_loop();
        }
        write(Register::CommandHigh, apic_id << 24);
        write(Register::CommandLow, command);
    });
}

/// Starts the one-shot timer with `ticks` of its own clock; 0 stops it.
pub(crate) fn start_timer(ticks: u32) {
    write(Register::TimerInitialCount, ticks);
}

/// Returns the remaining ticks.
pub(crate) fn timer_left() -> u32 {
    read(Register::TimerCurrentCount)
}

/// Sets the timer to fire when the time-stamp counter reaches `tsc`; 0 stops it. Only on a CPU whose
/// `Features` include it.
pub(crate) fn set_tsc_deadline(tsc: u64) {
    let mut register = TSC_DEADLINE;
    // SAFETY: the caller has checked that the CPU has this MSR; its only effect is to raise `vector::TIMER`.
    unsafe { register.write(tsc) };
}

/// Keeps a later MSR write from overtaking earlier accesses.
fn order() {
    // SAFETY: every x86_64 CPU has SSE2, which includes this instruction.
    unsafe { _mm_mfence() };
    // SAFETY: as above.
    unsafe { _mm_lfence() };
}

fn msr(register: Register) -> u32 {
    0x800 + register as u32 / 16
}

fn read(register: Register) -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: the x2APIC has this register; reading it changes nothing.
        0 => unsafe { Msr::new(msr(register)).read() as u32 },
        base => {
            let register = ptr::with_exposed_provenance::<u32>(base + register as usize);
            // SAFETY: `map` mapped the whole page of registers; reading one changes nothing.
            unsafe { register.read_volatile() }
        }
    }
}

fn write(register: Register, value: u32) {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: the x2APIC has this register, and none written here can touch memory.
        0 => unsafe { Msr::new(msr(register)).write(value.into()) },
        base => {
            let register = ptr::with_exposed_provenance_mut::<u32>(base + register as usize);
            // SAFETY: `map` mapped the whole page of registers; none written here can touch memory.
            unsafe { register.write_volatile(value) };
        }
    }
}
