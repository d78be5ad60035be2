//! The [`Machine`] contract: all that the kernel needs from the machine below it.
//!
//! It has two implementations: `kernel/bare` (x86_64) and `kernel/hosted` (a Linux process). Code that is the
//! same on both, such as the context switch and `gs`, is not part of the contract but plain x86_64 code of
//! the kernel.
//!
//! The other direction is three functions in [`crate::trap`]: a machine turns an interrupt or exception into
//! a [`crate::trap::TrapFrame`] and calls one of them; they change the frame, and the machine resumes it.

use core::ops::Range;

use spin::Once;

use crate::platform::pci::PciFunction;

/// The most CPUs that a system uses; further ones are reported and not started.
pub const CPU_LIMIT: usize = 64;

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: usize = 4096;

/// An address that devices and page tables use. On the hosted machine an offset into the memory mapping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct PhysAddr(pub u64);

/// The accesses that a page allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Nothing: a guard page.
    None,
    /// Read only.
    Read,
    /// Read and write: the state of all memory at boot.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
}

/// The exit status of the system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    /// Success.
    Success,
    /// An action that the system was started for failed.
    Failure,
    /// The kernel panicked.
    KernelPanic,
}

/// The arguments of [`Machine::start_cpu`].
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

// SAFETY: `block` belongs to the started CPU alone.
unsafe impl Send for CpuStart {}

/// The machine that the kernel runs on.
pub trait Machine: Sync {
    /// The machine's name, `"bare"` or `"hosted"`, as on the command line.
    fn name(&self) -> &'static str;

    /// The number of CPUs, at most [`CPU_LIMIT`].
    fn cpu_count(&self) -> usize;

    /// Calls `visit` with each range of memory that the kernel may use, page-aligned, in ascending order. The
    /// ranges hold neither the kernel's image nor the boot archive.
    fn memory(&self, visit: &mut dyn FnMut(Range<PhysAddr>));

    /// The difference between the kernel's address of a frame and its [`PhysAddr`]. A constant: all memory is
    /// mapped once, in one piece.
    fn phys_offset(&self) -> usize;

    /// The boot archive (ustar), which stays in place.
    fn archive(&self) -> &'static [u8];

    /// The boot options, as `name=value` words.
    fn command_line(&self) -> &str;

    /// Changes the protection of the pages of `start..start + len`, on all CPUs, before it returns. Both are
    /// page-aligned and lie in memory that [`Self::memory`] reported.
    fn protect(&self, start: usize, len: usize, protection: Protection);

    /// Makes CPU `start.cpu` (not the boot CPU) switch to `start.stack_top`, set `gs` to `start.block` and
    /// call `start.enter()`, which never returns. This call may return before that has happened.
    fn start_cpu(&self, start: CpuStart);

    /// Sets `gs` of the calling CPU to `block`, which starts with a [`coppice_abi::crossing::CpuBlock`]. A
    /// CPU receives no interrupt before its block names a thread: the first block of the boot CPU does not.
    fn set_cpu_block(&self, block: *mut u8);

    /// Interrupts CPU `cpu`, which calls [`crate::trap::interrupt`] there. Several calls may cause one
    /// interrupt.
    fn send_ipi(&self, cpu: usize);

    /// Sleeps until the next interrupt if `may_sleep()` returns true. An interrupt that arrives after that
    /// check is not missed. Called inside a kernel section, so the trap only records the interrupt.
    fn idle(&self, may_sleep: &dyn Fn() -> bool);

    /// Pauses a CPU that spins: `pause`; after many calls the hosted machine may yield the host's CPU.
    fn relax(&self);

    /// Interrupts the calling CPU once, not before [`Self::now_ns`] passes `deadline_ns`; replaces the
    /// previous deadline. `u64::MAX` is none.
    fn set_timer(&self, deadline_ns: u64);

    /// Nanoseconds since boot: monotonic, and the same on all CPUs.
    fn now_ns(&self) -> u64;

    /// The frequency of the time-stamp counter, in Hz.
    fn tsc_hz(&self) -> u64;

    /// Calls `visit` with each PCI function that is an endpoint, in the order of their addresses.
    fn pci_functions(&self, visit: &mut dyn FnMut(&'static dyn PciFunction));

    /// Offers `bytes` to the console, and returns the number of those that it has taken: 0 if it takes none
    /// at present. A machine without a console, or whose console has gone, takes all.
    fn console_write(&self, bytes: &[u8]) -> usize;

    /// Takes a typed byte, if there is one. A byte that arrives interrupts some CPU.
    fn console_read(&self) -> Option<u8>;

    /// Returns true if the kernel has to echo typed bytes: where no terminal does.
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
    *MACHINE.get().expect("boot installs the machine before any other code runs")
}
