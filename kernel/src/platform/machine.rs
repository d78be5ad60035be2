//! The [`Machine`] contract: all that the kernel asks of what it runs on.
//!
//! Two implement it: `kernel/bare` (x86_64) and `kernel/hosted` (a Linux process). What both need in the same
//! form, such as the context switch and `gs`, is not here but in plain x86_64 code of the kernel's.
//!
//! The other direction is three functions in [`crate::trap`]: a machine turns whatever interrupts a CPU into a
//! [`crate::trap::TrapFrame`] and calls one of them; they change the frame, and the machine resumes it.

use core::ops::Range;

use spin::Once;

use crate::platform::pci::PciFunction;

/// Most CPUs that a system uses; further ones are reported and left alone.
pub const CPU_LIMIT: usize = 64;

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: usize = 4096;

/// An address that devices and page tables use. On the hosted machine an offset into the memory mapping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// What code may do with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Nothing: a guard page.
    None,
    /// Read.
    Read,
    /// Read and write. How all memory starts.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// How the system ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// All went well.
    Success,
    /// Something that the system was asked to do failed.
    Failure,
    /// The kernel itself broke.
    KernelPanic,
}

/// What [`Machine::start_cpu`] needs to bring a CPU into the kernel.
#[derive(Clone, Copy)]
pub struct CpuStart {
    /// The CPU's number.
    pub cpu: usize,
    /// The initial stack pointer, 16-byte aligned.
    pub stack_top: usize,
    /// The value of `gs`.
    pub block: *mut u8,
    /// The function that the CPU calls, with `gs` set, on that stack.
    pub enter: extern "C" fn() -> !,
}

// SAFETY: `block` is the started CPU's own; nothing else touches it afterwards.
unsafe impl Send for CpuStart {}

/// What a kernel runs on.
pub trait Machine: Sync {
    /// `"bare"` or `"hosted"`, as the command line spells it.
    fn name(&self) -> &'static str;

    /// How many CPUs there are, at most [`CPU_LIMIT`].
    fn cpu_count(&self) -> usize;

    /// Calls `visit` with each range of memory that the kernel may use, page-aligned, in ascending order. The
    /// ranges hold neither the kernel's image nor the boot archive.
    fn memory(&self, visit: &mut dyn FnMut(Range<PhysAddr>));

    /// What to add to a [`PhysAddr`] to get the address where the kernel sees it. One constant: all memory is
    /// mapped, once, in one piece.
    fn phys_offset(&self) -> usize;

    /// The boot archive (ustar), which stays in place.
    fn archive(&self) -> &'static [u8];

    /// Options given at boot, as `name=value` words.
    fn command_line(&self) -> &str;

    /// Changes what code may do with the pages of `start..start + len`, on all CPUs, before it returns. Both are
    /// page-aligned and lie in memory that [`Self::memory`] reported.
    fn protect(&self, start: usize, len: usize, protection: Protection);

    /// Makes CPU `start.cpu` (not the one that boots) switch to `start.stack_top`, set `gs` to `start.block` and
    /// call `start.enter()`, which never returns. May come back before that has happened.
    fn start_cpu(&self, start: CpuStart);

    /// Sets `gs` of the calling CPU to `block`, which starts with a [`coppice_abi::crossing::CpuBlock`]. No interrupt
    /// reaches a CPU before its block names a thread: the first block of the boot CPU does not.
    fn set_cpu_block(&self, block: *mut u8);

    /// Interrupts CPU `cpu`, which ends in [`crate::trap::interrupt`] there. Any number of calls may end in one.
    fn send_ipi(&self, cpu: usize);

    /// Sleeps until the next interrupt if `may_sleep()` answers true. An interrupt that arrives after the
    /// question is not missed. Called inside a kernel section, so the trap only leaves a note.
    fn idle(&self, may_sleep: &dyn Fn() -> bool);

    /// Lets a CPU that spins wait a little: `pause`; hosted may hand the host's CPU on after many calls.
    fn relax(&self);

    /// Interrupts the calling CPU once, not before [`Self::now_ns`] passes `deadline_ns`; replaces the deadline
    /// before. `u64::MAX` is none.
    fn set_timer(&self, deadline_ns: u64);

    /// Nanoseconds since boot, the same on all CPUs, never backwards.
    fn now_ns(&self) -> u64;

    /// Ticks of the time-stamp counter in a second.
    fn tsc_hz(&self) -> u64;

    /// Calls `visit` with each PCI function that is an endpoint, in the order of their places.
    fn pci_functions(&self, visit: &mut dyn FnMut(&'static dyn PciFunction));

    /// Writes to the console, waiting as long as that takes.
    fn console_write(&self, bytes: &[u8]);

    /// Takes a byte that was typed, or `None`. When one arrives, some CPU gets an interrupt.
    fn console_read(&self) -> Option<u8>;

    /// Whether the kernel has to show what is typed: true where no terminal does it.
    fn console_echo(&self) -> bool;

    /// Ends the system.
    fn exit(&self, status: ExitStatus) -> !;
}

static MACHINE: Once<&'static dyn Machine> = Once::new();

/// Installs the machine; [`crate::boot()`] calls it first.
pub(crate) fn install(machine: &'static dyn Machine) {
    MACHINE.call_once(|| machine);
}

/// The machine that this kernel runs on.
pub fn machine() -> &'static dyn Machine {
    *MACHINE.get().expect("boot installs the machine before anything asks for it")
}
