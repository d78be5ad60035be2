//! [`Shared`]: the state that a controller's queues share.

use core::sync::atomic::{AtomicU32, Ordering};

use spin::{Mutex, MutexGuard};

use crate::admin::Admin;
use crate::register_block::RegisterBlock;
use crate::{ControllerInfo, Fault, NvmeError};

/// A controller as its queues see it.
pub(crate) struct Shared {
    pub(crate) regs: RegisterBlock,
    pub(crate) info: ControllerInfo,
    /// The number of times that the controller was disabled since bring-up. A queue created before the last
    /// one no longer exists, and none of its commands is in flight.
    resets: AtomicU32,
    admin: Mutex<Admin>,
}

impl Shared {
    pub(crate) fn new(regs: RegisterBlock, info: ControllerInfo, admin: Admin) -> Self {
        Self { regs, info, resets: AtomicU32::new(0), admin: Mutex::new(admin) }
    }

    #[inline]
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::Acquire)
    }

    /// Locks the admin queue for one command or a few. The holder may sleep, so a waiter sleeps too.
    pub(crate) fn admin(&self) -> MutexGuard<'_, Admin> {
        driver_polling::lock(&self.regs.device, &self.admin)
    }

    /// Resets the controller (Base 3.7.2), unless it has been reset since the caller read `seen` from
    /// [`Self::resets`].
    ///
    /// # Errors
    /// If `resets` has not changed, the controller was not stopped. Otherwise it was, but does not work after
    /// the reset.
    pub(crate) fn reset(&self, seen: u32) -> Result<(), NvmeError> {
        let mut admin = self.admin();
        if self.resets() != seen {
            return Ok(());
        }
        if let Err(fault) = self.regs.disable() {
            admin.set_fault(fault);
            return Err(fault.into());
        }
        self.resets.store(seen.wrapping_add(1), Ordering::Release);
        let started = self.start(&mut admin);
        match started {
            Err(NvmeError::Fault(fault)) => admin.set_fault(fault),
            Err(_) => admin.set_fault(Fault::Changed { namespace: 0 }),
            Ok(()) => {}
        }
        started
    }

    fn start(&self, admin: &mut Admin) -> Result<(), NvmeError> {
        admin.restart();
        self.regs.enable(&admin.queue_addresses())?;
        let info = admin.identify_controller(&self.regs)?;
        if !info.is_same(&self.info) {
            return Err(Fault::Changed { namespace: 0 }.into());
        }
        if admin.set_queues(&self.regs, self.info.queues)? < self.info.queues {
            return Err(Fault::Changed { namespace: 0 }.into());
        }
        admin.enable_events(&self.regs, &info)
    }
}

impl Drop for Shared {
    /// Shuts the controller down after its last queue is gone. If the controller does not respond, stopping
    /// it is left to the stop order.
    fn drop(&mut self) {
        if self.admin.get_mut().is_working() {
            let _ = self.regs.shut_down(self.info.shutdown_ns);
        }
        let _ = self.regs.disable();
    }
}
