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

/// Whether there is a UART at all; without one, writing would wait for ever.
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

/// Writes all bytes, waiting as long as that takes.
pub(crate) fn write(bytes: &[u8]) {
    if PRESENT.load(Ordering::Relaxed) {
        UART.with(|uart| uart.send_bytes_exact(bytes));
    }
}

/// A line of the machine's own, before the kernel has its log and after it has lost it.
macro_rules! say {
    ($($format:tt)*) => {
        $crate::console::print_line(format_args!($($format)*))
    };
}
pub(crate) use say;

/// What [`say!`] does.
pub(crate) fn print_line(text: fmt::Arguments<'_>) {
    // The writer knows no errors.
    let _ = writeln!(Patient, "coppice: {text}");
}

/// Prints although the console's lock may be held by code that will never let go.
pub(crate) fn print_last_line(text: fmt::Arguments<'_>) {
    let _ = writeln!(Impatient, "coppice: {text}");
}

/// Waits until the last byte is on the wire, or has had the time for it.
pub(crate) fn drain() {
    /// Reads of a port take about a microsecond; 16 bytes at 115200 baud, about 1400.
    const PATIENCE: usize = 10_000;
    if PRESENT.load(Ordering::Relaxed) {
        UART.with_patience(PATIENCE as u64, |uart| {
            let _ = (0..PATIENCE).any(|_| uart.lsr().contains(LSR::TRANSMITTER_EMPTY));
        });
    }
}

struct Patient;

impl Write for Patient {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

struct Impatient;

impl Write for Impatient {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const PATIENCE: u64 = 1_000_000;
        if PRESENT.load(Ordering::Relaxed) {
            UART.with_patience(PATIENCE, |uart| uart.send_bytes_exact(text.as_bytes()));
        }
        Ok(())
    }
}

/// Typed bytes on their way from the handler to whoever reads. The handler empties the UART each time: its
/// interrupt line reports edges, and one that stayed up would never rise again.
///
/// # Invariants
/// - **I1** Only the console's handler, which runs on one CPU, moves `written`.
/// - **I2** `read` is at most `written`, and at most [`INPUT_SIZE`] behind it.
static INPUT: [AtomicU8; INPUT_SIZE] = [const { AtomicU8::new(0) }; INPUT_SIZE];
static WRITTEN: AtomicUsize = AtomicUsize::new(0);
static READ: AtomicUsize = AtomicUsize::new(0);

const INPUT_SIZE: usize = 256;

/// Takes what has arrived; the interrupt handler. Bytes that find no room are lost, as on any serial line.
pub(crate) fn receive() {
    while let Ok(byte) = UART.with(Uart16550::try_receive_byte) {
        let written = WRITTEN.load(Ordering::Relaxed);
        if written.wrapping_sub(READ.load(Ordering::Acquire)) < INPUT_SIZE {
            INPUT[written % INPUT_SIZE].store(byte, Ordering::Relaxed);
            WRITTEN.store(written.wrapping_add(1), Ordering::Release);
        }
    }
}

/// The oldest byte that was typed and not read yet.
pub(crate) fn read() -> Option<u8> {
    let mut at = READ.load(Ordering::Relaxed);
    loop {
        if at == WRITTEN.load(Ordering::Acquire) {
            return None;
        }
        let byte = INPUT[at % INPUT_SIZE].load(Ordering::Relaxed);
        // The byte counts only if no other reader took it meanwhile: until then I2 keeps its place from reuse.
        match READ.compare_exchange_weak(at, at.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(byte),
            Err(now) => at = now,
        }
    }
}
