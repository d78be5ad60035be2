//! A driver for QEMU's educational device (QEMU, docs/specs/edu.txt). It is a minimal driver with registers,
//! an interrupt and DMA in both directions.
//!
//! A copy takes 100 ms on QEMU and cannot be cancelled. So the stop order can only wait for it, and a driver
//! whose predecessor died during a copy has to wait before it may do DMA itself.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use core::fmt;

use coppice_hardware::{Device, DeviceRefusal, DmaMemory, Interrupt, Registers, StopStep};

/// Offsets in BAR 0.
mod register {
    pub(crate) const IDENTIFICATION: usize = 0x00;
    pub(crate) const LIVENESS: usize = 0x04;
    pub(crate) const FACTORIAL: usize = 0x08;
    pub(crate) const STATUS: usize = 0x20;
    pub(crate) const INTERRUPT_STATUS: usize = 0x24;
    pub(crate) const INTERRUPT_RAISE: usize = 0x60;
    pub(crate) const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
    pub(crate) const DMA_SOURCE: usize = 0x80;
    pub(crate) const DMA_DESTINATION: usize = 0x88;
    pub(crate) const DMA_COUNT: usize = 0x90;
    pub(crate) const DMA_COMMAND: usize = 0x98;
}

/// The low byte of the identification register.
const SIGNATURE: u32 = 0xed;

const STATUS_INTERRUPT: u32 = 0x80;

const DMA_START: u32 = 0x1;
const DMA_TO_MEMORY: u32 = 0x2;
const DMA_INTERRUPT: u32 = 0x4;

/// The device's internal buffer, in its own address space.
const BUFFER: u64 = 0x4_0000;

/// The largest copy, in bytes. The buffer has 4096 bytes, but QEMU takes a copy of all of them for one that
/// leaves the buffer, and aborts (measured on QEMU 7.2).
pub const BUFFER_BYTES: usize = 4092;

/// The device drives 28 address bits.
const ADDRESS_LIMIT: u64 = 1 << 28;

/// The time that the kernel waits for a running copy after the driver has died.
const STOP_NS: u64 = 10_000_000;

/// The reason why the device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EduError {
    /// The kernel refused a resource.
    Refused(DeviceRefusal),
    /// The device is not an edu device.
    NotEdu {
        /// The content of its identification register.
        identification: u32,
    },
    /// A copy is still running.
    Busy,
    /// The device did not complete an operation before the deadline.
    TimedOut,
    /// DMA memory lies beyond the device's address range.
    OutOfReach {
        /// The address of the memory.
        address: u64,
    },
}

impl fmt::Display for EduError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::NotEdu { identification } => write!(f, "{identification:#010x} is not an edu device"),
            Self::Busy => f.write_str("the device is still busy with an earlier copy"),
            Self::TimedOut => f.write_str("the device did not complete the operation in time"),
            Self::OutOfReach { address } => {
                write!(f, "the device has 28 address bits, and the memory is at {address:#x}")
            }
        }
    }
}

impl core::error::Error for EduError {}

impl From<DeviceRefusal> for EduError {
    fn from(refusal: DeviceRefusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An initialised device.
#[derive(Debug)]
pub struct Edu {
    registers: Registers,
    interrupt: Interrupt,
}

impl Edu {
    /// Initialises the device: registers, interrupt, then DMA, for which it waits up to `dma_timeout_ns`.
    ///
    /// # Errors
    /// When the device is another one, or the kernel refuses registers, interrupt or DMA; DMA is refused as
    /// long as a predecessor's copy is running.
    pub fn new(device: &Device, dma_timeout_ns: u64) -> Result<Self, EduError> {
        let registers = device.window(0)?;
        let identification = registers.read32(register::IDENTIFICATION);
        if identification & 0xff != SIGNATURE {
            return Err(EduError::NotEdu { identification });
        }
        let interrupt = device.interrupt(0)?;
        let deadline = device.now_ns().saturating_add(dma_timeout_ns);
        while let Err(refusal) = device.enable_dma(&Self::stop_order()) {
            if refusal != DeviceRefusal::NotQuiesced || device.now_ns() >= deadline {
                return Err(refusal.into());
            }
            device.sleep_until(device.now_ns() + 1_000_000);
        }
        let edu = Self { registers, interrupt };
        edu.acknowledge();
        Ok(edu)
    }

    /// Returns the steps after which the device no longer accesses memory. A copy cannot be cancelled, so the
    /// only step is to wait for its end.
    pub fn stop_order() -> [StopStep; 1] {
        [StopStep::Await {
            bar: 0,
            offset: register::DMA_COMMAND as u32,
            mask: DMA_START,
            value: 0,
            timeout_ns: STOP_NS,
        }]
    }

    /// Returns the content of the identification register.
    pub fn identification(&self) -> u32 {
        self.registers.read32(register::IDENTIFICATION)
    }

    /// Writes a number to the liveness register and returns the device's response, its complement.
    pub fn invert(&self, number: u32) -> u32 {
        self.registers.write32(register::LIVENESS, number);
        self.registers.read32(register::LIVENESS)
    }

    /// Makes the device compute a factorial, modulo 2^32, and waits for its interrupt until `deadline_ns`.
    ///
    /// # Errors
    /// [`EduError::TimedOut`] when no interrupt has arrived by the deadline.
    pub fn factorial(&self, number: u32, deadline_ns: u64) -> Result<u32, EduError> {
        self.interrupt.forget();
        self.registers.write32(register::STATUS, STATUS_INTERRUPT);
        self.registers.write32(register::FACTORIAL, number);
        self.wait(deadline_ns)?;
        Ok(self.registers.read32(register::FACTORIAL))
    }

    /// Makes the device with these registers raise an interrupt. It takes only the registers, so that another
    /// thread can wait at the same time.
    pub fn raise_by(registers: &Registers, cause: u32) {
        registers.write32(register::INTERRUPT_RAISE, cause);
    }

    /// Waits for an interrupt until `deadline_ns` and returns its causes.
    ///
    /// # Errors
    /// [`EduError::TimedOut`] when no interrupt has arrived by the deadline.
    pub fn wait(&self, deadline_ns: u64) -> Result<u32, EduError> {
        if self.interrupt.wait(deadline_ns) { Ok(self.acknowledge()) } else { Err(EduError::TimedOut) }
    }

    /// Discards interrupts that have arrived.
    pub fn forget(&self) {
        self.interrupt.forget();
    }

    fn acknowledge(&self) -> u32 {
        let causes = self.registers.read32(register::INTERRUPT_STATUS);
        self.registers.write32(register::INTERRUPT_ACKNOWLEDGE, causes);
        causes
    }

    /// Returns true while a copy is running.
    pub fn is_copying(&self) -> bool {
        self.registers.read32(register::DMA_COMMAND) & DMA_START != 0
    }

    /// Starts a copy of the first `len` bytes of `memory` to the device's buffer. The caller keeps `memory`
    /// until the copy has ended.
    ///
    /// # Errors
    /// [`EduError::Busy`] when a copy is running; [`EduError::OutOfReach`] when the device cannot address the
    /// memory.
    pub fn begin_load(&self, memory: &DmaMemory, len: usize) -> Result<(), EduError> {
        self.begin(memory, len, DMA_START | DMA_INTERRUPT)
    }

    /// Starts a copy of `len` bytes of the device's buffer to `memory`, which the caller keeps until the copy
    /// has ended.
    ///
    /// # Errors
    /// [`EduError::Busy`] when a copy is running; [`EduError::OutOfReach`] when the device cannot address the
    /// memory.
    pub fn begin_store(&self, memory: &DmaMemory, len: usize) -> Result<(), EduError> {
        self.begin(memory, len, DMA_START | DMA_TO_MEMORY | DMA_INTERRUPT)
    }

    fn begin(&self, memory: &DmaMemory, len: usize, command: u32) -> Result<(), EduError> {
        assert!(len <= BUFFER_BYTES && len <= memory.len(), "{len} bytes of a buffer of {BUFFER_BYTES}");
        let address = memory.addr(0).to_bits();
        if address + len as u64 > ADDRESS_LIMIT {
            return Err(EduError::OutOfReach { address });
        }
        if self.is_copying() {
            return Err(EduError::Busy);
        }
        self.interrupt.forget();
        let (source, destination) =
            if command & DMA_TO_MEMORY == 0 { (address, BUFFER) } else { (BUFFER, address) };
        self.registers.write64(register::DMA_SOURCE, source);
        self.registers.write64(register::DMA_DESTINATION, destination);
        self.registers.write64(register::DMA_COUNT, len as u64);
        self.registers.write32(register::DMA_COMMAND, command);
        Ok(())
    }
}
