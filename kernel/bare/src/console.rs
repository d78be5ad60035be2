//! The serial console: COM1, a 16550, with input by interrupt.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use uart_16550::backend::PioBackend;
use uart_16550::spec::registers::{FifoTriggerLevel, IER, LSR};
use uart_16550::{BaudRate, Config, Uart16550};

use crate::lock::IrqLock;

/// COM1's ISA interrupt.
pub(crate) const IRQ: u8 = 4;

const COM1: u16 = 0x3f8;

static UART: IrqLock<Uart16550<PioBackend>> = {
    // SAFETY: COM1's eight ports belong to this driver alone.
    match unsafe { Uart16550::new_port(COM1) } {
        Ok(uart) => IrqLock::new(uart),
        Err(_) => panic!("COM1's ports do not wrap around"),
    }
};

/// True if there is a UART; without one, a write would wait for ever.
static PRESENT: AtomicBool = AtomicBool::new(false);

/// Sets the UART up: 115200 baud, 8 data bits, no parity, one stop bit.
pub(crate) fn init() {
    let config = Config {
        baud_rate: BaudRate::Baud115200,
        fifo_trigger_level: Some(FifoTriggerLevel::One),
        ..Config::DEFAULT
    };
    PRESENT.store(UART.with(|uart| uart.init(config)).is_ok(), Ordering::Relaxed);
}

/// Lets the UART interrupt when a byte arrives.
pub(crate) fn enable_input() {
    if PRESENT.load(Ordering::Relaxed) {
        UART.with(|uart| uart.enable_interrupts(IER::DATA_READY));
    }
}

/// Writes all bytes; blocks until the UART has taken them.
pub(crate) fn write(bytes: &[u8]) {
    if PRESENT.load(Ordering::Relaxed) {
        UART.with(|uart| uart.send_bytes_exact(bytes));
    }
}

/// Offers the bytes to the UART, and returns the number of those that it has taken. Interrupts are off for
/// one filling of its FIFO at a time.
pub(crate) fn try_write(bytes: &[u8]) -> usize {
    if !PRESENT.load(Ordering::Relaxed) {
        return bytes.len();
    }
    let mut taken = 0;
    while taken < bytes.len() {
        match UART.with(|uart| uart.send_bytes(&bytes[taken..])) {
            0 => break,
            count => taken += count,
        }
    }
    taken
}

/// Prints a line of the machine itself, before the kernel has its log and after it has lost it.
macro_rules! say {
    ($($format:tt)*) => {
        $crate::console::print_line(format_args!($($format)*))
    };
}
pub(crate) use say;

/// Prints a line for [`say!`].
pub(crate) fn print_line(text: fmt::Arguments<'_>) {
    // The writer returns no errors.
    let _ = writeln!(Console, "coppice: {text}");
}

/// Prints a line even if the console's lock is held by code that never releases it.
pub(crate) fn print_last_line(text: fmt::Arguments<'_>) {
    let _ = writeln!(ForcedConsole, "coppice: {text}");
}

/// As [`print_last_line`], for bytes as they are.
pub(crate) fn write_last(bytes: &[u8]) {
    /// Each attempt pauses at most 64 times, so this is some 100 ms.
    const LOCK_ATTEMPTS: u64 = 20_000;
    if PRESENT.load(Ordering::Relaxed) {
        UART.with_attempt_limit(LOCK_ATTEMPTS, |uart| send_all(uart, bytes));
    }
}

/// Sends bytes until the UART takes none for a long time: the reader of an emulated one may have stopped.
fn send_all(uart: &mut Uart16550<PioBackend>, mut bytes: &[u8]) {
    /// A read of a port takes about a microsecond, or a tenth of one where it is emulated.
    const STALL_READS: usize = 20_000_000;
    while !bytes.is_empty() {
        let sent = (0..STALL_READS).map(|_| uart.send_bytes(bytes)).find(|&count| count > 0);
        let Some(count) = sent else { return };
        bytes = &bytes[count..];
    }
}

/// Waits until the last byte has been transmitted, or for the time that this takes.
pub(crate) fn drain() {
    /// A read of a port takes about a microsecond; 16 bytes at 115200 baud, about 1400.
    const DRAIN_READS: usize = 10_000;
    const DRAIN_ATTEMPTS: u64 = 1_000;
    if PRESENT.load(Ordering::Relaxed) {
        UART.with_attempt_limit(DRAIN_ATTEMPTS, |uart| {
            let _ = (0..DRAIN_READS).any(|_| uart.lsr().contains(LSR::TRANSMITTER_EMPTY));
        });
    }
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

struct ForcedConsole;

impl Write for ForcedConsole {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_last(text.as_bytes());
        Ok(())
    }
}

/// Typed bytes in transit from the interrupt handler to the reader. The handler empties the UART each time:
/// its interrupt line is edge-triggered, and one that stayed up would never rise again.
///
/// # Invariants
/// - **I1** Only the console's handler, which runs on one CPU, moves `written`.
/// - **I2** `read` is at most `written`, and at most [`INPUT_SIZE`] behind it.
static INPUT: [AtomicU8; INPUT_SIZE] = [const { AtomicU8::new(0) }; INPUT_SIZE];
static WRITTEN: AtomicUsize = AtomicUsize::new(0);
static READ: AtomicUsize = AtomicUsize::new(0);

const INPUT_SIZE: usize = 256;

/// Takes the received bytes; the interrupt handler. Bytes that do not fit are lost, as on any serial line.
pub(crate) fn receive() {
    while let Ok(byte) = UART.with(Uart16550::try_receive_byte) {
        let written = WRITTEN.load(Ordering::Relaxed);
        if written.wrapping_sub(READ.load(Ordering::Acquire)) < INPUT_SIZE {
            INPUT[written % INPUT_SIZE].store(byte, Ordering::Relaxed);
            WRITTEN.store(written.wrapping_add(1), Ordering::Release);
        }
    }
}

/// Returns the oldest typed byte that has not been read yet.
pub(crate) fn read() -> Option<u8> {
    let mut at = READ.load(Ordering::Relaxed);
    loop {
        if at == WRITTEN.load(Ordering::Acquire) {
            return None;
        }
        let byte = INPUT[at % INPUT_SIZE].load(Ordering::Relaxed);
        // The byte counts only if no other reader took it at the same time: until then I2 keeps its slot from
        // reuse.
        match READ.compare_exchange_weak(at, at.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(byte),
            Err(now) => at = now,
        }
    }
}
