//! [`RegisterBlock`]: the controller's registers, with waits for its state transitions.

use coppice_hardware::{Device, DmaAddr, Interrupt, Registers, StopStep};
use spin::Once;

use crate::registers::{
    ACQ, AQA, ASQ, CAP, CC, CC_ENABLE, CC_ENABLED, CC_SHUTDOWN_MASK, CC_SHUTDOWN_NORMAL, CSTS, CSTS_FATAL,
    CSTS_READY, CSTS_SHUTDOWN_COMPLETE, CSTS_SHUTDOWN_MASK, Capabilities, DOORBELLS, GONE, VS,
};
use crate::{Fault, NvmeError, Options, Transition};

/// The BAR with the registers (NVMe over PCIe Transport 1.0, 2.1.10).
const BAR: u8 = 0;
/// The longest sleep without a check of the completion queue and of the controller's state: an interrupt may
/// be lost, and a controller may die.
pub(crate) const MAX_SLEEP_NS: u64 = 10_000_000;
/// The time limit of a shutdown if the controller reports none.
const SHUTDOWN_NS: u64 = 2_000_000_000;

/// The sizes and device addresses of the admin queues.
pub(crate) struct AdminQueues {
    /// Entries of each of the two.
    pub(crate) entries: u32,
    pub(crate) submissions: DmaAddr,
    pub(crate) completions: DmaAddr,
}

/// The controller's registers, and the device with its interrupts.
pub(crate) struct RegisterBlock {
    pub(crate) device: Device,
    pub(crate) window: Registers,
    pub(crate) capabilities: Capabilities,
    pub(crate) options: Options,
    vectors: u16,
    admin_interrupt: Once<Option<Interrupt>>,
}

impl RegisterBlock {
    pub(crate) fn new(device: Device, options: Options) -> Result<Self, NvmeError> {
        let window = device.window(BAR)?;
        let short = |needed| NvmeError::ShortWindow { bytes: window.len(), needed };
        // The first two doorbells are the admin queue's; their distance is in CAP.
        if window.len() < DOORBELLS {
            return Err(short(DOORBELLS));
        }
        let capabilities = Capabilities(window.read64(CAP));
        if window.read32(CSTS) == GONE {
            return Err(Fault::Gone.into());
        }
        let needed = capabilities.completion_doorbell(0) + 4;
        if window.len() < needed {
            return Err(short(needed));
        }
        if capabilities.smallest_page() > crate::prp::PAGE as u64 {
            return Err(NvmeError::PageSize { smallest: capabilities.smallest_page() });
        }
        // CAP.CSS bit 0: the NVM command set, which CC.CSS 000b selects.
        if capabilities.command_sets() & 1 == 0 {
            return Err(NvmeError::NoCommandSet { command_sets: capabilities.command_sets() });
        }
        let vectors = device.info().vectors;
        Ok(Self { device, window, capabilities, options, vectors, admin_interrupt: Once::new() })
    }

    pub(crate) fn version(&self) -> u32 {
        self.window.read32(VS)
    }

    /// Returns the vector of a queue, if there is one; the admin queue has vector 0. A controller with a
    /// single vector uses it for the first I/O queue, because admin commands are rare.
    pub(crate) fn vector(&self, queue: u16) -> Option<u16> {
        let vector = if self.vectors == 1 { queue.checked_sub(1)? } else { queue };
        (vector < self.vectors).then_some(vector)
    }

    /// Returns the interrupt of a queue, or `None` if the queue has to poll.
    pub(crate) fn interrupt(&self, queue: u16) -> Option<Interrupt> {
        self.device.interrupt(self.vector(queue)?).ok()
    }

    /// Returns the admin queue's interrupt. It can be opened as soon as the device may send messages.
    pub(crate) fn admin_interrupt(&self) -> Option<&Interrupt> {
        self.admin_interrupt.call_once(|| self.interrupt(0)).as_ref()
    }

    /// Returns the number of I/O queues with doorbells in the window.
    pub(crate) fn queues_in_window(&self) -> u16 {
        let pair = 2 * self.capabilities.doorbell_stride();
        ((self.window.len() - DOORBELLS) / pair).saturating_sub(1).min(0xFFFE) as u16
    }

    /// Checks that the controller is present and not in fatal status.
    pub(crate) fn check_alive(&self) -> Result<(), Fault> {
        match self.window.read32(CSTS) {
            GONE => Err(Fault::Gone),
            csts if csts & CSTS_FATAL != 0 => Err(Fault::Fatal { csts }),
            _ => Ok(()),
        }
    }

    /// Disables the controller. After success it has stopped reading and writing memory (Base 3.7.2).
    pub(crate) fn disable(&self) -> Result<(), Fault> {
        let cc = self.window.read32(CC);
        let csts = self.window.read32(CSTS);
        if csts == GONE {
            return Err(Fault::Gone);
        }
        // CC.EN must not be cleared while the controller is becoming ready (Base 3.1.3.5), unless it never
        // does.
        if cc & CC_ENABLE != 0 && csts & (CSTS_READY | CSTS_FATAL) == 0 {
            let _ = self.await_status(Transition::Enable, CSTS_READY | CSTS_FATAL, |set| set != 0);
        }
        // After a shutdown, too, only a reset makes the controller work again, and SHN has to be clear by
        // then (Base 3.6.1).
        self.window.write32(CC, cc & !(CC_ENABLE | CC_SHUTDOWN_MASK));
        self.await_status(Transition::Disable, CSTS_READY, |set| set == 0)
    }

    /// Enables the controller with these admin queues (Base 3.5.1).
    pub(crate) fn enable(&self, queues: &AdminQueues) -> Result<(), Fault> {
        let size = queues.entries - 1;
        self.window.write32(AQA, size << 16 | size);
        self.window.write64(ASQ, queues.submissions.to_bits());
        self.window.write64(ACQ, queues.completions.to_bits());
        self.window.write32(CC, CC_ENABLED);
        self.await_status(Transition::Enable, CSTS_READY | CSTS_FATAL, |set| set != 0)?;
        self.check_alive()
    }

    /// Returns the steps with which the kernel stops the device's memory accesses after the driver has died.
    pub(crate) fn stop_order(&self) -> [StopStep; 2] {
        let timeout_ns = self.capabilities.timeout_ns();
        [
            StopStep::Update { bar: BAR, offset: CC as u32, clear: CC_ENABLE, set: 0 },
            StopStep::Await { bar: BAR, offset: CSTS as u32, mask: CSTS_READY, value: 0, timeout_ns },
        ]
    }

    /// Announces a shutdown and waits until the controller is ready for loss of power (Base 3.6.1).
    pub(crate) fn shut_down(&self, limit_ns: Option<u64>) -> Result<(), Fault> {
        let cc = self.window.read32(CC);
        self.window.write32(CC, cc & !CC_SHUTDOWN_MASK | CC_SHUTDOWN_NORMAL);
        let limit_ns = limit_ns.unwrap_or(SHUTDOWN_NS);
        self.await_for(limit_ns, Transition::Shutdown, CSTS_SHUTDOWN_MASK, |set| {
            set == CSTS_SHUTDOWN_COMPLETE
        })
    }

    fn await_status(
        &self,
        transition: Transition,
        mask: u32,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), Fault> {
        self.await_for(self.capabilities.timeout_ns(), transition, mask, done)
    }

    fn await_for(
        &self,
        limit_ns: u64,
        transition: Transition,
        mask: u32,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), Fault> {
        let mut csts = 0;
        let poll = || {
            csts = self.window.read32(CSTS);
            if csts == GONE {
                return Some(Err(Fault::Gone));
            }
            done(csts & mask).then_some(Ok(()))
        };
        driver_polling::until(&self.device, limit_ns, poll).unwrap_or(Err(Fault::Stuck { transition, csts }))
    }
}
