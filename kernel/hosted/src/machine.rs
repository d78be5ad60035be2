//! [`Hosted`]: the machine contract, implemented by a Linux process.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, fs, io, ptr};

use coppice_kernel::machine::CpuStart;
use coppice_kernel::machine::{CPU_LIMIT, ExitStatus, Machine, PhysAddr, Protection};
use coppice_kernel::pci::PciFunction;

use crate::arguments::Arguments;
use crate::clock::Clock;
use crate::devices::{self, ModelFunction};
use crate::heap::on_host_heap;
use crate::memory::Memory;
use crate::signals::{self, Reason};
use crate::{console, cpus};

/// Status of a process whose kernel panicked (`EX_SOFTWARE` of sysexits.h).
const PANICKED: i32 = 70;

/// Number of pauses of a spinning CPU before it yields its host CPU: CPUs may outnumber the host's.
const SPINS_BEFORE_YIELD: u32 = 1000;

/// A Linux process as a machine.
pub(crate) struct Hosted {
    archive: &'static [u8],
    command_line: String,
    cpus: usize,
    memory: &'static Memory,
    devices: &'static [ModelFunction],
    clock: Clock,
    /// 1 + the host's timer id; 0 before the timer exists.
    timers: [AtomicUsize; CPU_LIMIT],
}

/// The reason why the machine cannot be made.
pub(crate) enum Error {
    Archive(std::path::PathBuf, io::Error),
    Memory(usize, io::Error),
    Signals(io::Error),
    Devices(devices::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(path, error) => write!(f, "boot archive {}: {error}", path.display()),
            Self::Memory(bytes, error) => write!(f, "{bytes} bytes of memory: {error}"),
            Self::Signals(error) => write!(f, "signal handlers: {error}"),
            Self::Devices(error) => write!(f, "devices: {error}"),
        }
    }
}

thread_local! {
    static SPINS: Cell<u32> = const { Cell::new(0) };
}

impl Hosted {
    /// Maps memory, reads the archive, and makes the calling host thread CPU 0.
    pub(crate) fn new(arguments: Arguments) -> Result<Self, Error> {
        let archive =
            fs::read(&arguments.archive).map_err(|error| Error::Archive(arguments.archive, error))?;
        let memory = Memory::map(arguments.memory).map_err(|error| Error::Memory(arguments.memory, error))?;
        let memory: &'static Memory = Box::leak(Box::new(memory));
        let devices =
            devices::make(arguments.devices, memory, arguments.cpus.into()).map_err(Error::Devices)?;
        signals::install().map_err(Error::Signals)?;
        console::init();
        cpus::enter(0);
        console::start_reader();
        Ok(Self {
            archive: archive.leak(),
            command_line: arguments.cmdline,
            cpus: arguments.cpus.into(),
            memory,
            devices: devices.leak(),
            clock: Clock::new(),
            timers: [const { AtomicUsize::new(0) }; CPU_LIMIT],
        })
    }

    /// Returns the host's timer of the calling CPU, which is created on first use.
    fn timer(&self) -> libc::timer_t {
        let cpu = coppice_kernel::cpu::number();
        let known = self.timers[cpu].load(Ordering::Relaxed);
        if let Some(id) = known.checked_sub(1) {
            return ptr::without_provenance_mut(id);
        }
        // SAFETY: all-zero is a value of it.
        let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = Reason::Timer.signal();
        // SAFETY: no arguments.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer = ptr::null_mut();
        // SAFETY: reads the event and writes the timer.
        let result = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        assert!(result == 0, "timer_create: {}", io::Error::last_os_error());
        self.timers[cpu].store(timer.addr() + 1, Ordering::Relaxed);
        timer
    }
}

impl Machine for Hosted {
    fn name(&self) -> &'static str {
        "hosted"
    }

    fn cpu_count(&self) -> usize {
        self.cpus
    }

    fn memory(&self, visit: &mut dyn FnMut(Range<PhysAddr>)) {
        visit(self.memory.range());
    }

    fn phys_offset(&self) -> usize {
        self.memory.base()
    }

    fn archive(&self) -> &'static [u8] {
        self.archive
    }

    fn command_line(&self) -> &str {
        &self.command_line
    }

    fn protect(&self, start: usize, len: usize, protection: Protection) {
        self.memory.protect(start, len, protection);
    }

    fn start_cpu(&self, start: CpuStart) {
        on_host_heap(|| cpus::start(start));
    }

    fn set_cpu_block(&self, block: *mut u8) {
        cpus::set_block(block);
    }

    fn send_ipi(&self, cpu: usize) {
        cpus::interrupt(cpu, Reason::Ipi);
    }

    fn idle(&self, may_sleep: &dyn Fn() -> bool) {
        signals::sleep_unless(may_sleep);
    }

    fn relax(&self) {
        std::hint::spin_loop();
        SPINS.with(|spins| {
            spins.set(spins.get() + 1);
            if spins.get() % SPINS_BEFORE_YIELD == 0 {
                std::thread::yield_now();
            }
        });
    }

    fn set_timer(&self, deadline_ns: u64) {
        let wait = match deadline_ns {
            u64::MAX => 0,
            deadline => deadline.saturating_sub(self.now_ns()).max(1),
        };
        let value =
            libc::timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as i64 };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval: once, it_value: value };
        // SAFETY: the calling CPU's own timer; reads the setting.
        unsafe { libc::timer_settime(self.timer(), 0, &raw const setting, ptr::null_mut()) };
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn tsc_hz(&self) -> u64 {
        self.clock.hz()
    }

    fn pci_functions(&self, visit: &mut dyn FnMut(&'static dyn PciFunction)) {
        self.devices.iter().for_each(|function| visit(function));
    }

    fn console_write(&self, bytes: &[u8]) -> usize {
        console::write(bytes)
    }

    fn console_read(&self) -> Option<u8> {
        on_host_heap(console::read)
    }

    fn console_echo(&self) -> bool {
        // A terminal shows typed characters itself, and a pipe needs no echo.
        false
    }

    fn exit(&self, status: ExitStatus) -> ! {
        let status = match status {
            ExitStatus::Success => 0,
            ExitStatus::Failure => 1,
            ExitStatus::KernelPanic => PANICKED,
        };
        // Not `std::process::exit`: other CPUs are running, and nothing in this process needs an orderly end.
        // SAFETY: ends the process.
        unsafe { libc::_exit(status) }
    }
}

/// Makes a panic, which can only be the kernel's or a device model's, end the process with its own status.
pub(crate) fn report_panics() {
    // The kernel's heap may be the reason, or its lock held.
    std::panic::set_hook(Box::new(|info| on_host_heap(|| report_panic(info))));
}

fn report_panic(info: &std::panic::PanicHookInfo<'_>) {
    if !cpus::is_cpu() {
        // A model's thread, which is in no section and must not call the kernel.
        console::write_last(format!("\na device model panicked: {info}\n").as_bytes());
        // SAFETY: ends the process.
        unsafe { libc::_exit(PANICKED) }
    }
    coppice_kernel::last_words(&mut console::write_last);
    let message = format!("\nkernel panic: {info}\n");
    console::write_last(message.as_bytes());
    // SAFETY: ends the process.
    unsafe { libc::_exit(PANICKED) }
}
