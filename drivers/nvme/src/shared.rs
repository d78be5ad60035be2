//! [`Port`] and [`Shared`]: what a controller's queues have in common.

use core::sync::atomic::{AtomicU32, Ordering};

use coppice_hardware::{Device, Interrupt, Registers, StopStep};
use spin::{Mutex, MutexGuard, Once};

use crate::admin::Admin;
use crate::registers::{
    ACQ, AQA, ASQ, CAP, CC, CC_ENABLE, CC_SHUTDOWN_MASK, CC_SHUTDOWN_NORMAL, CC_WORKING, CSTS, CSTS_FATAL,
    CSTS_READY, CSTS_SHUTDOWN_COMPLETE, CSTS_SHUTDOWN_MASK, Capabilities, DOORBELLS, GONE, VS,
};
use crate::{ControllerInfo, Fault, NvmeError, Options, Transition};

/// The BAR with the registers (NVMe over PCIe Transport 1.0, 2.1.10).
const BAR: u8 = 0;
/// No wait lasts longer without a look at the completion queue and at the controller's state: an interrupt may get lost, and
/// a controller may die.
pub(crate) const SLICE_NS: u64 = 10_000_000;
/// What a shutdown may take, where the controller does not say.
const SHUTDOWN_NS: u64 = 2_000_000_000;

/// The controller's registers and all else of the device.
pub(crate) struct Port {
    pub(crate) device: Device,
    pub(crate) registers: Registers,
    pub(crate) capabilities: Capabilities,
    pub(crate) options: Options,
    vectors: u16,
    admin_interrupt: Once<Option<Interrupt>>,
}

impl Port {
    pub(crate) fn new(device: Device, options: Options) -> Result<Self, NvmeError> {
        let registers = device.window(BAR)?;
        let short = |needed| NvmeError::ShortWindow { bytes: registers.len(), needed };
        // The first two doorbells are the admin queue's, and how far apart they are stands in CAP.
        if registers.len() < DOORBELLS {
            return Err(short(DOORBELLS));
        }
        let capabilities = Capabilities(registers.read64(CAP));
        if registers.read32(CSTS) == GONE {
            return Err(Fault::Gone.into());
        }
        let needed = capabilities.completion_doorbell(0) + 4;
        if registers.len() < needed {
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
        Ok(Self { device, registers, capabilities, options, vectors, admin_interrupt: Once::new() })
    }

    pub(crate) fn version(&self) -> u32 {
        self.registers.read32(VS)
    }

    /// The vector of a queue, if there is one for it: the admin queue has 0. A controller with a single one gives it to the
    /// first I/O queue; admin commands are rare.
    pub(crate) fn vector(&self, queue: u16) -> Option<u16> {
        let vector = if self.vectors == 1 { queue.checked_sub(1)? } else { queue };
        (vector < self.vectors).then_some(vector)
    }

    /// The interrupt of a queue; `None` if it has to do without.
    pub(crate) fn interrupt(&self, queue: u16) -> Option<Interrupt> {
        self.device.interrupt(self.vector(queue)?).ok()
    }

    /// The admin queue's interrupt, which can be had from when the device may send messages.
    pub(crate) fn admin_interrupt(&self) -> Option<&Interrupt> {
        self.admin_interrupt.call_once(|| self.interrupt(0)).as_ref()
    }

    /// How many I/O queues have doorbells in the window.
    pub(crate) fn queues_in_window(&self) -> u16 {
        let pair = 2 * self.capabilities.doorbell_stride();
        ((self.registers.len() - DOORBELLS) / pair).saturating_sub(1).min(0xFFFE) as u16
    }

    /// Whether the controller is there and of sound mind.
    pub(crate) fn alive(&self) -> Result<(), Fault> {
        match self.registers.read32(CSTS) {
            GONE => Err(Fault::Gone),
            csts if csts & CSTS_FATAL != 0 => Err(Fault::Fatal { csts }),
            _ => Ok(()),
        }
    }

    /// Disables the controller: when this succeeds, it has stopped reading and writing memory (Base 3.7.2).
    pub(crate) fn disable(&self) -> Result<(), Fault> {
        let cc = self.registers.read32(CC);
        let csts = self.registers.read32(CSTS);
        if csts == GONE {
            return Err(Fault::Gone);
        }
        // Being enabled must not be interrupted (Base 3.1.3.5, CC.EN), except where it will never end.
        if cc & CC_ENABLE != 0 && csts & (CSTS_READY | CSTS_FATAL) == 0 {
            let _ = self.await_status(Transition::Enable, CSTS_READY | CSTS_FATAL, |set| set != 0);
        }
        // After a shutdown, too, only a reset makes it work again, and SHN has to be clear by then (Base 3.6.1).
        self.registers.write32(CC, cc & !(CC_ENABLE | CC_SHUTDOWN_MASK));
        self.await_status(Transition::Disable, CSTS_READY, |set| set == 0)
    }

    /// Enables it with these admin queues (Base 3.5.1).
    pub(crate) fn enable(&self, admin: &Admin) -> Result<(), Fault> {
        let size = admin.entries() - 1;
        self.registers.write32(AQA, size << 16 | size);
        self.registers.write64(ASQ, admin.submissions().to_bits());
        self.registers.write64(ACQ, admin.completions().to_bits());
        self.registers.write32(CC, CC_WORKING);
        self.await_status(Transition::Enable, CSTS_READY | CSTS_FATAL, |set| set != 0)?;
        self.alive()
    }

    /// What makes the device leave memory alone, for when nobody of this library is left to do it.
    pub(crate) fn stop_order(&self) -> [StopStep; 2] {
        let timeout_ns = self.capabilities.timeout_ns();
        [
            StopStep::Update { bar: BAR, offset: CC as u32, clear: CC_ENABLE, set: 0 },
            StopStep::Await { bar: BAR, offset: CSTS as u32, mask: CSTS_READY, value: 0, timeout_ns },
        ]
    }

    /// Tells the controller that its power may go, and waits until it is ready for that (Base 3.6.1).
    fn shut_down(&self, limit_ns: Option<u64>) -> Result<(), Fault> {
        let cc = self.registers.read32(CC);
        self.registers.write32(CC, cc & !CC_SHUTDOWN_MASK | CC_SHUTDOWN_NORMAL);
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
        let look = || {
            csts = self.registers.read32(CSTS);
            if csts == GONE {
                return Some(Err(Fault::Gone));
            }
            done(csts & mask).then_some(Ok(()))
        };
        driver_polling::until(&self.device, limit_ns, look).unwrap_or(Err(Fault::Stuck { transition, csts }))
    }
}

/// A controller, to its queues.
pub(crate) struct Shared {
    pub(crate) port: Port,
    pub(crate) info: ControllerInfo,
    /// How often it was disabled since it first worked. A queue that was made before the last time is no more, and none of
    /// its commands is in flight.
    resets: AtomicU32,
    admin: Mutex<Admin>,
}

impl Shared {
    pub(crate) fn new(port: Port, info: ControllerInfo, admin: Admin) -> Self {
        Self { port, info, resets: AtomicU32::new(0), admin: Mutex::new(admin) }
    }

    #[inline]
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Acquire)
    }

    /// The admin queue, for one command or a few. Who has it may sleep, so others sleep too.
    pub(crate) fn admin(&self) -> MutexGuard<'_, Admin> {
        driver_polling::lock(&self.port.device, &self.admin)
    }

    /// Resets the controller (Base 3.7.2), unless somebody else has since `seen` was read off [`Self::resets`].
    ///
    /// # Errors
    /// If `resets` has not changed, the controller was not stopped. Otherwise it was, but does not work again.
    pub(crate) fn reset(&self, seen: u32) -> Result<(), NvmeError> {
        let mut admin = self.admin();
        if self.resets() != seen {
            return Ok(());
        }
        if let Err(fault) = self.port.disable() {
            admin.give_up(fault);
            return Err(fault.into());
        }
        self.resets.store(seen.wrapping_add(1), Ordering::Release);
        let started = self.start(&mut admin);
        match started {
            Err(NvmeError::Fault(fault)) => admin.give_up(fault),
            Err(_) => admin.give_up(Fault::Changed { namespace: 0 }),
            Ok(()) => {}
        }
        started
    }

    fn start(&self, admin: &mut Admin) -> Result<(), NvmeError> {
        admin.restart();
        self.port.enable(admin)?;
        let info = admin.identify_controller(&self.port)?;
        if !info.is_same(&self.info) {
            return Err(Fault::Changed { namespace: 0 }.into());
        }
        if admin.set_queues(&self.port, self.info.queues)? < self.info.queues {
            return Err(Fault::Changed { namespace: 0 }.into());
        }
        admin.ask_for_events(&self.port, &info)
    }
}

impl Drop for Shared {
    /// The last queue is gone: an orderly end. A controller that does not take part in it is left to its stop order.
    fn drop(&mut self) {
        if self.admin.get_mut().works() {
            let _ = self.port.shut_down(self.info.shutdown_ns);
        }
        let _ = self.port.disable();
    }
}
