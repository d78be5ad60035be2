//! [`RegisterBlock`]: the device's registers, with waits for their bits.

use coppice_hardware::{Device, Registers, StopStep};

use crate::registers::{CTRL, CTRL_MASTER_DISABLE, CTRL_RST, GONE, STATUS, STATUS_MASTER};
use crate::{Fault, Options, Step};

/// The BAR with the registers (82599 datasheet, section 9.3.6.1).
const BAR: u8 = 0;
/// The size of the register window in bytes (82599 datasheet, section 8.1: 128 KB).
pub(crate) const WINDOW_BYTES: usize = 0x2_0000;
/// The time limit for pending requests after requests were disabled (82599 datasheet, section 5.2.5.3.2).
pub(crate) const MASTER_NS: u64 = 80_000_000;
/// The time limit of a reset.
const RESET_NS: u64 = 100_000_000;

pub(crate) struct RegisterBlock {
    pub(crate) device: Device,
    pub(crate) window: Registers,
    pub(crate) options: Options,
    pub(crate) vectors: u16,
}

impl RegisterBlock {
    pub(crate) fn new(device: Device, options: Options) -> Result<Self, crate::IxgbeError> {
        let window = device.window(BAR)?;
        if window.len() < WINDOW_BYTES {
            let needed = WINDOW_BYTES;
            return Err(crate::IxgbeError::ShortWindow { bytes: window.len(), needed });
        }
        let vectors = device.info().vectors;
        Ok(Self { device, window, options, vectors })
    }

    #[inline]
    pub(crate) fn read(&self, register: usize) -> u32 {
        self.window.read32(register)
    }

    #[inline]
    pub(crate) fn write(&self, register: usize, value: u32) {
        self.window.write32(register, value);
    }

    pub(crate) fn update(&self, register: usize, clear: u32, set: u32) {
        self.write(register, self.read(register) & !clear | set);
    }

    /// Checks that the device is present.
    pub(crate) fn check_alive(&self) -> Result<(), Fault> {
        if self.read(STATUS) == GONE { Err(Fault::Gone) } else { Ok(()) }
    }

    /// Waits until the bits `mask` of a register are `value`, at most for the step timeout.
    pub(crate) fn await_bits(&self, step: Step, register: usize, mask: u32, value: u32) -> Result<(), Fault> {
        self.await_for(self.options.step_timeout_ns, step, register, mask, value)
    }

    fn await_for(
        &self,
        limit_ns: u64,
        step: Step,
        register: usize,
        mask: u32,
        value: u32,
    ) -> Result<(), Fault> {
        let mut found = 0;
        let poll = || {
            found = self.read(register);
            if found == GONE && self.check_alive().is_err() {
                return Some(Err(Fault::Gone));
            }
            (found & mask == value).then_some(Ok(()))
        };
        driver_polling::until(&self.device, limit_ns, poll).unwrap_or(Err(Fault::Stuck {
            step,
            register: register as u32,
            value: found,
        }))
    }

    /// Stops the device's requests and resets it (82599 datasheet, sections 5.2.5.3.2 and 4.6.3.2). After
    /// success the device has forgotten all memory that it was given.
    pub(crate) fn reset(&self, reset: u32) -> Result<(), Fault> {
        self.check_alive()?;
        self.update(CTRL, 0, CTRL_MASTER_DISABLE);
        let pending = self.await_for(MASTER_NS, Step::Reset, STATUS, STATUS_MASTER, 0);
        let times = match pending {
            Ok(()) => 1,
            Err(Fault::Gone) => return Err(Fault::Gone),
            // Requests that never end: the datasheet prescribes two resets, the first of which drops them.
            Err(_) => 2,
        };
        for _ in 0..times {
            self.update(CTRL, 0, reset);
            if self.options.settle_ns > 0 {
                // No register may be accessed before (82599 datasheet, section 4.6.3.2).
                self.device.sleep_until(self.device.now_ns() + self.options.settle_ns);
            }
            self.await_for(RESET_NS, Step::Reset, CTRL, CTRL_RST, 0)?;
        }
        self.update(CTRL, CTRL_MASTER_DISABLE, 0);
        Ok(())
    }

    /// Returns the steps with which the kernel stops the device's memory accesses after the driver has died:
    /// it disables requests, then resets the device.
    pub(crate) fn stop_order(&self) -> [StopStep; 4] {
        let update = |set| StopStep::Update { bar: BAR, offset: CTRL as u32, clear: 0, set };
        let idle = |offset: usize, mask, timeout_ns| StopStep::Await {
            bar: BAR,
            offset: offset as u32,
            mask,
            value: 0,
            timeout_ns,
        };
        [
            update(CTRL_MASTER_DISABLE),
            idle(STATUS, STATUS_MASTER, MASTER_NS),
            update(CTRL_RST),
            idle(CTRL, CTRL_RST, RESET_NS),
        ]
    }
}
