//! [`Device`]: a driver's capability for one device.

use alloc::sync::Arc;

use crate::memory::Pool;
use crate::{Backend, DeviceInfo, DeviceRefusal, DmaMemory, DmaSpace, Interrupt, Registers, StopStep};

/// All authority over one device: its holder decides what the device does.
pub struct Device {
    backend: Arc<dyn Backend>,
    pool: Arc<Pool>,
}

impl Device {
    /// Makes a device of `backend`.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        let pool = Arc::new(Pool::new(backend.clone()));
        Self { backend, pool }
    }

    /// Returns the ids, BAR sizes and vectors of the device.
    pub fn info(&self) -> DeviceInfo {
        self.backend.info()
    }

    /// Maps the registers of a BAR.
    ///
    /// # Errors
    /// - [`DeviceRefusal::NoBar`] when the device has no such memory BAR.
    /// - [`DeviceRefusal::NotMapped`] when it cannot be mapped.
    /// - [`DeviceRefusal::Gone`] when the device has been removed.
    pub fn window(&self, bar: u8) -> Result<Registers, DeviceRefusal> {
        Registers::new(self.backend.clone(), bar)
    }

    /// Returns at least `bytes` of zeroed memory that the device can reach: whole pages of 4 KiB, adjacent
    /// for the device too.
    ///
    /// When dropped, the memory is kept for the next request of this driver: a device that still writes to it
    /// harms its own driver only.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoMemory`] when no such memory is left.
    pub fn dma(&self, bytes: usize) -> Result<DmaMemory, DeviceRefusal> {
        Pool::take(&self.pool, bytes)
    }

    /// Returns the device's address space, for which the address of a buffer is requested.
    #[inline]
    pub fn dma_space(&self) -> &DmaSpace {
        self.pool.space()
    }

    /// Lets the device reach memory and send messages; before this it can do neither. `stop` is the sequence
    /// that ends its DMA: the kernel runs it when the driver is dead, before it reuses any of that memory. A
    /// later sequence replaces an earlier one.
    ///
    /// # Errors
    /// - [`DeviceRefusal::BadStep`] when a step does not access a register of the device.
    /// - [`DeviceRefusal::NotQuiesced`] while the device has not finished DMA that an earlier instance of
    ///   this driver began and that could not be stopped.
    pub fn enable_dma(&self, stop: &[StopStep]) -> Result<(), DeviceRefusal> {
        self.backend.enable_dma(stop)
    }

    /// Opens an interrupt vector: counts its messages from now on.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoVector`] when the device or the machine has no such vector.
    pub fn interrupt(&self, vector: u16) -> Result<Interrupt, DeviceRefusal> {
        Interrupt::new(self.backend.clone(), vector)
    }

    /// Returns the monotonic time in nanoseconds since an arbitrary origin: the clock of all deadlines.
    pub fn now_ns(&self) -> u64 {
        self.backend.now_ns()
    }

    /// Blocks until [`Self::now_ns`] passes `deadline_ns`. For rare and long waits, such as that for a reset.
    pub fn sleep_until(&self, deadline_ns: u64) {
        self.backend.sleep_until(deadline_ns);
    }

    /// Returns a handle to the clock alone.
    pub fn clock(&self) -> impl Fn() -> u64 + Send + Sync + Clone + use<> {
        let backend = self.backend.clone();
        move || backend.now_ns()
    }
}
