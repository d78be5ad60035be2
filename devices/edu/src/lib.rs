//! A model of QEMU's educational device (`-device edu`), written from its documentation (QEMU,
//! docs/specs/edu.txt).
//!
//! It inverts a word, computes factorials, raises an interrupt on request, and copies between memory and its
//! own buffer. A copy begins [`EduConfig::delay`] after its command and cannot be cancelled, so the device is
//! useful for tests of DMA after a driver's crash. QEMU's device has MSI; this one has MSI-X with one vector.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use device_bus::{
    AlreadyAttached, Bar, BarKind, ClassCode, DmaPort, DurationError, Host, Model, MsixLayout, PciIdentity,
    parse_duration,
};

const IDENTIFICATION: u32 = 0x0100_00ed;

/// Offsets in BAR 0.
mod register {
    pub(crate) const IDENTIFICATION: u64 = 0x00;
    pub(crate) const LIVENESS: u64 = 0x04;
    pub(crate) const FACTORIAL: u64 = 0x08;
    pub(crate) const STATUS: u64 = 0x20;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x24;
    pub(crate) const INTERRUPT_RAISE: u64 = 0x60;
    pub(crate) const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
    pub(crate) const DMA_SOURCE: u64 = 0x80;
    pub(crate) const DMA_DESTINATION: u64 = 0x88;
    pub(crate) const DMA_COUNT: u64 = 0x90;
    pub(crate) const DMA_COMMAND: u64 = 0x98;
}

const BAR_BYTES: u64 = 1 << 20;

const STATUS_COMPUTING: u32 = 0x01;
const STATUS_INTERRUPT: u32 = 0x80;

const DMA_START: u64 = 0x1;
const DMA_TO_MEMORY: u64 = 0x2;
const DMA_INTERRUPT: u64 = 0x4;

/// Interrupt status bits of a finished factorial and of a finished copy.
const FACTORIAL_DONE: u32 = 0x1;
const DMA_DONE: u32 = 0x100;

/// The address of the device's buffer in its own address space.
const BUFFER: u64 = 0x4_0000;
const BUFFER_BYTES: usize = 4096;

/// The device drives 28 address bits.
const ADDRESS_MASK: u64 = (1 << 28) - 1;

/// The options of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EduConfig {
    /// The time from the command to the copy.
    pub delay: Duration,
}

impl Default for EduConfig {
    /// The delay of QEMU's device: 100 ms.
    fn default() -> Self {
        Self { delay: Duration::from_millis(100) }
    }
}

/// The error for malformed options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    /// An unknown option, or a word that is not of the form `KEY=VALUE`.
    Unknown(String),
    /// A malformed delay.
    Delay(DurationError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "`{word}` is no option of edu, which has only delay=TIME"),
            Self::Delay(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}

impl EduConfig {
    /// Parses options such as `delay=2ms`, separated by commas; the text may be empty.
    ///
    /// # Errors
    /// [`ConfigError::Unknown`] for any other option, [`ConfigError::Delay`] for a malformed delay.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                Some(("delay", value)) => {
                    let nanoseconds = parse_duration(value).map_err(ConfigError::Delay)?;
                    config.delay = Duration::from_nanos(nanoseconds);
                }
                _ => return Err(ConfigError::Unknown(word.into())),
            }
        }
        Ok(config)
    }
}

/// The educational device.
pub struct Edu {
    shared: Arc<Shared>,
}

struct Shared {
    config: EduConfig,
    port: DmaPort,
    state: Mutex<State>,
    /// Notified when the device's thread has work, or has to stop.
    work: Condvar,
}

struct State {
    liveness: u32,
    factorial: u32,
    status: u32,
    interrupts: u32,
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
    /// The time of the pending copy.
    due: Option<Instant>,
    buffer: [u8; BUFFER_BYTES],
    stops: bool,
}

impl State {
    const fn new() -> Self {
        Self {
            liveness: 0,
            factorial: 0,
            status: 0,
            interrupts: 0,
            source: 0,
            destination: 0,
            count: 0,
            command: 0,
            due: None,
            buffer: [0; BUFFER_BYTES],
            stops: false,
        }
    }
}

impl Edu {
    /// Creates the device and starts its thread, which sleeps while there is nothing to do.
    pub fn new(config: EduConfig) -> Self {
        let shared =
            Shared { config, port: DmaPort::new(), state: Mutex::new(State::new()), work: Condvar::new() };
        let shared = Arc::new(shared);
        let worker = shared.clone();
        thread::spawn(move || worker.run());
        Self { shared }
    }
}

impl Drop for Edu {
    fn drop(&mut self) {
        self.shared.state().stops = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main function of the device's thread.
    fn run(&self) {
        let mut state = self.state();
        while !state.stops {
            let wait = state.due.map(|due| due.saturating_duration_since(Instant::now()));
            state = match wait {
                _ if state.status & STATUS_COMPUTING != 0 => {
                    state.factorial = (1..=state.factorial).fold(1, u32::wrapping_mul);
                    state.status &= !STATUS_COMPUTING;
                    if state.status & STATUS_INTERRUPT != 0 {
                        self.interrupt(&mut state, FACTORIAL_DONE);
                    }
                    state
                }
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    self.copy(&mut state);
                    state
                }
                Some(wait) => self.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Performs the pending copy. Inaccessible memory is not copied, like on a bus.
    fn copy(&self, state: &mut State) {
        state.due = None;
        let command = std::mem::take(&mut state.command);
        let count = state.count as usize;
        let (memory, own) = match command & DMA_TO_MEMORY {
            0 => (state.source, state.destination),
            _ => (state.destination, state.source),
        };
        let start = own.checked_sub(BUFFER).map(|start| start as usize);
        let range = start.and_then(|start| state.buffer.get_mut(start..start.checked_add(count)?));
        if let Some(bytes) = range {
            let memory = memory & ADDRESS_MASK;
            // The device has no error status; a driver notices the missing data.
            let _ = match command & DMA_TO_MEMORY {
                0 => self.port.read(memory, bytes),
                _ => self.port.write(memory, bytes),
            };
        }
        if command & DMA_INTERRUPT != 0 {
            self.interrupt(state, DMA_DONE);
        }
    }

    fn interrupt(&self, state: &mut State, cause: u32) {
        state.interrupts |= cause;
        if state.interrupts != 0 {
            // Without bus mastering the interrupt is lost; the status register still shows its cause.
            let _ = self.port.raise(0);
        }
    }
}

impl Model for Edu {
    fn identity(&self) -> PciIdentity {
        PciIdentity {
            vendor: 0x1234,
            device: 0x11e8,
            class: ClassCode { base: 0x00, sub: 0xff, interface: 0x00 },
            revision: 0x10,
            subsystem_vendor: 0,
            subsystem: 0,
            bars: vec![Bar { index: 0, bytes: BAR_BYTES, kind: BarKind::Memory32 }],
            msix: MsixLayout { vectors: 1, bar: 4 },
        }
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        self.shared.port.attach(host)
    }

    fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        let state = self.shared.state();
        match (bar, offset, size) {
            (0, register::IDENTIFICATION, 4) => IDENTIFICATION.into(),
            (0, register::LIVENESS, 4) => state.liveness.into(),
            (0, register::FACTORIAL, 4) => state.factorial.into(),
            (0, register::STATUS, 4) => state.status.into(),
            (0, register::INTERRUPT_STATUS, 4) => state.interrupts.into(),
            (0, register::DMA_SOURCE, 4 | 8) => state.source,
            (0, register::DMA_DESTINATION, 4 | 8) => state.destination,
            (0, register::DMA_COUNT, 4 | 8) => state.count,
            (0, register::DMA_COMMAND, 4 | 8) => state.command,
            _ => 0,
        }
    }

    fn write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        let mut state = self.shared.state();
        let is_copying = state.command & DMA_START != 0;
        match (bar, offset, size) {
            (0, register::LIVENESS, 4) => state.liveness = !(value as u32),
            (0, register::FACTORIAL, 4) if state.status & STATUS_COMPUTING == 0 => {
                state.factorial = value as u32;
                state.status |= STATUS_COMPUTING;
                self.shared.work.notify_one();
            }
            (0, register::STATUS, 4) => {
                let writable = value as u32 & STATUS_INTERRUPT;
                state.status = state.status & !STATUS_INTERRUPT | writable;
            }
            (0, register::INTERRUPT_RAISE, 4) => self.shared.interrupt(&mut state, value as u32),
            (0, register::INTERRUPT_ACKNOWLEDGE, 4) => state.interrupts &= !(value as u32),
            (0, register::DMA_SOURCE, 4 | 8) if !is_copying => state.source = value,
            (0, register::DMA_DESTINATION, 4 | 8) if !is_copying => state.destination = value,
            (0, register::DMA_COUNT, 4 | 8) if !is_copying => state.count = value,
            (0, register::DMA_COMMAND, 4 | 8) if !is_copying && value & DMA_START != 0 => {
                state.command = value;
                state.due = Some(Instant::now() + self.shared.config.delay);
                self.shared.work.notify_one();
            }
            _ => {}
        }
    }

    fn set_bus_master(&self, on: bool) {
        self.shared.port.set_open(on);
    }

    fn reset(&self) {
        self.shared.port.set_open(false);
        let mut state = self.shared.state();
        *state = State::new();
        self.shared.work.notify_one();
    }

    fn transactions_pending(&self) -> bool {
        self.shared.port.is_busy()
    }
}

#[cfg(test)]
mod tests {
    use device_bus::TestHost;

    use super::*;

    fn edu(delay: Duration) -> (Edu, Arc<TestHost>) {
        let edu = Edu::new(EduConfig { delay });
        let host = Arc::new(TestHost::new(1 << 16, 1));
        edu.attach(host.clone()).expect("the device has no host");
        edu.set_bus_master(true);
        (edu, host)
    }

    fn copy(edu: &Edu, from: u64, to: u64, count: u64, command: u64) {
        for (register, value) in [
            (register::DMA_SOURCE, from),
            (register::DMA_DESTINATION, to),
            (register::DMA_COUNT, count),
            (register::DMA_COMMAND, command),
        ] {
            edu.write(0, register, 8, value);
        }
    }

    #[test]
    fn it_inverts_words_and_computes_factorials() {
        let (edu, host) = edu(Duration::ZERO);
        assert_eq!(edu.read(0, register::IDENTIFICATION, 4) & 0xff, 0xed);
        edu.write(0, register::LIVENESS, 4, 0x1234_5678);
        assert_eq!(edu.read(0, register::LIVENESS, 4), 0xedcb_a987);
        edu.write(0, register::STATUS, 4, STATUS_INTERRUPT.into());
        edu.write(0, register::FACTORIAL, 4, 10);
        host.wait_interrupt(0, 0, Duration::from_secs(10)).expect("an interrupt reports the result");
        assert_eq!(edu.read(0, register::FACTORIAL, 4), 3_628_800);
        assert_eq!(edu.read(0, register::INTERRUPT_STATUS, 4), FACTORIAL_DONE.into());
        edu.write(0, register::INTERRUPT_ACKNOWLEDGE, 4, FACTORIAL_DONE.into());
        assert_eq!(edu.read(0, register::INTERRUPT_STATUS, 4), 0);
    }

    #[test]
    fn it_copies_in_both_directions_after_the_delay() {
        let (edu, host) = edu(Duration::from_millis(20));
        let [from, to] = [host.allocate(4096), host.allocate(4096)];
        host.poke(from, b"there and back");
        copy(&edu, from, BUFFER, 14, DMA_START | DMA_INTERRUPT);
        let seen = host.wait_interrupt(0, 0, Duration::from_secs(10)).expect("the copy ends");
        copy(&edu, BUFFER, to, 14, DMA_START | DMA_TO_MEMORY | DMA_INTERRUPT);
        assert_eq!(host.peek(to, 14), [0; 14], "before the delay");
        host.wait_interrupt(0, seen, Duration::from_secs(10)).expect("the copy ends");
        assert_eq!(host.peek(to, 14), b"there and back");
    }

    #[test]
    fn a_reset_cancels_a_copy_and_none_arrives_without_bus_mastering() {
        let (edu, host) = edu(Duration::from_millis(20));
        let to = host.allocate(4096);
        host.poke(to, &[7; 64]);
        copy(&edu, BUFFER, to, 64, DMA_START | DMA_TO_MEMORY);
        edu.reset();
        edu.set_bus_master(true);
        thread::sleep(Duration::from_millis(60));
        assert_eq!(host.peek(to, 64), [7; 64]);
        copy(&edu, BUFFER, to, 64, DMA_START | DMA_TO_MEMORY);
        edu.set_bus_master(false);
        while edu.read(0, register::DMA_COMMAND, 4) & DMA_START != 0 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(host.peek(to, 64), [7; 64]);
    }

    #[test]
    fn options_are_parsed_or_refused() {
        assert_eq!(EduConfig::parse("").map(|config| config.delay), Ok(Duration::from_millis(100)));
        assert_eq!(EduConfig::parse("delay=2ms").map(|config| config.delay), Ok(Duration::from_millis(2)));
        assert_eq!(EduConfig::parse("speed=2"), Err(ConfigError::Unknown("speed=2".into())));
        assert!(matches!(EduConfig::parse("delay=2"), Err(ConfigError::Delay(_))));
    }
}
