//! [`Device`]: the capability that a driver is handed.

use alloc::sync::Arc;

use crate::memory::Pool;
use crate::{Backend, DeviceInfo, DeviceRefusal, DmaMemory, Interrupt, Registers, StopStep};

/// One device, all of it: who holds this decides what the device does.
pub struct Device {
    backend: Arc<dyn Backend>,
    pool: Arc<Pool>,
}

impl Device {
    /// The device behind `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let pool = Arc::new(Pool::new(backend.clone()));
        Self { backend, pool }
    }

    /// What it says that it is.
    pub fn info(&self) -> DeviceInfo {
        self.backend.info()
    }

    /// The registers of a BAR.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoBar`], [`DeviceRefusal::NotMapped`], [`DeviceRefusal::Gone`].
    pub fn window(&self, bar: u8) -> Result<Registers, DeviceRefusal> {
        Registers::new(self.backend.clone(), bar)
    }

    /// At least `bytes` of zeroed memory that the device can reach: whole pages of 4 KiB, adjacent also for the device.
    ///
    /// When it is dropped, it is kept for the next request: a device that still writes to it hurts its own driver only.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoMemory`].
    pub fn dma(&self, bytes: usize) -> Result<DmaMemory, DeviceRefusal> {
        Pool::take(&self.pool, bytes)
    }

    /// Lets the device reach memory and send messages; before this it can do neither. `stop` is what makes it leave memory
    /// alone: the kernel follows it when the driver is dead, before it uses any of that memory again. A later order replaces
    /// an earlier one.
    ///
    /// # Errors
    /// [`DeviceRefusal::BadStep`]; [`DeviceRefusal::Restless`] while the device is not done with what an earlier instance of this
    /// driver had begun and could not be stopped.
    pub fn enable_dma(&self, stop: &[StopStep]) -> Result<(), DeviceRefusal> {
        self.backend.enable_dma(stop)
    }

    /// The messages of that number, from now on.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoVector`].
    pub fn interrupt(&self, vector: u16) -> Result<Interrupt, DeviceRefusal> {
        Interrupt::new(self.backend.clone(), vector)
    }

    /// Nanoseconds since some moment; the clock of all deadlines.
    pub fn now_ns(&self) -> u64 {
        self.backend.now_ns()
    }

    /// Blocks until [`Self::now_ns`] passes `deadline_ns`. For waits that are rare and long, such as a reset's.
    pub fn sleep_until(&self, deadline_ns: u64) {
        self.backend.sleep_until(deadline_ns);
    }

    /// A handle to the clock alone.
    pub fn clock(&self) -> impl Fn() -> u64 + Send + Sync + Clone + use<> {
        let backend = self.backend.clone();
        move || backend.now_ns()
    }
}
