//! The domain's devices: [`coppice_hardware`]'s backend over the kernel's services.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::{DEVICE_LIMIT, services};
use coppice_hardware::{
    Backend, Device, DeviceInfo, DeviceRefusal, MappedWindow, Region, RegisterWidth, RegisterWindow, StopStep,
};

/// Bit set of the devices that this instance of the domain has taken.
static TAKEN: AtomicU32 = AtomicU32::new(0);

const _: () = assert!(DEVICE_LIMIT <= u32::BITS as usize);

/// Returns device `number` of the manifest's `devices` on the first request, else `None`.
pub(crate) fn take(number: usize) -> Option<Device> {
    if number >= DEVICE_LIMIT {
        return None;
    }
    let device = number as u32;
    let info = (services().device_info)(device).ok()?;
    let is_first = TAKEN.fetch_or(1 << device, Ordering::Relaxed) & (1 << device) == 0;
    is_first.then(|| Device::new(Arc::new(Granted { device, info })))
}

/// A device granted to the domain, by its index. Each index has one `Granted`, so memory and windows of a
/// device are handed out once.
struct Granted {
    device: u32,
    info: DeviceInfo,
}

impl Backend for Granted {
    fn info(&self) -> DeviceInfo {
        self.info
    }

    fn window(&self, bar: u8) -> Result<RegisterWindow, DeviceRefusal> {
        let window = (services().device_window)(self.device, bar)?;
        Ok(match NonNull::new(window.memory()) {
            // SAFETY: H1: the service's contract: mapped until the domain ends, and only the BAR, which is at
            // least a page long or has its page to itself.
            Some(memory) => RegisterWindow::Mapped(unsafe { MappedWindow::new(memory, window.len()) }),
            None => RegisterWindow::Called { len: window.len() },
        })
    }

    fn read(&self, bar: u8, offset: usize, width: RegisterWidth) -> u64 {
        (services().device_read)(self.device, bar, offset, width.bytes())
    }

    fn write(&self, bar: u8, offset: usize, width: RegisterWidth, value: u64) {
        (services().device_write)(self.device, bar, offset, width.bytes(), value);
    }

    fn region(&self, pages: usize) -> Result<Region, DeviceRefusal> {
        const PAGE: usize = 4096;
        let block = (services().device_memory)(self.device, pages)?;
        let bytes = pages * PAGE;
        let memory = NonNull::new(block.memory()).ok_or(DeviceRefusal::NoMemory { bytes })?;
        // SAFETY: H2: the service's contract: this domain's until it ends, zeroed, and of that many pages.
        Ok(unsafe { Region::new(memory, block.address(), bytes) })
    }

    fn enable_dma(&self, stop: &[StopStep]) -> Result<(), DeviceRefusal> {
        (services().device_enable)(self.device, stop)
    }

    fn open_interrupt(&self, vector: u16) -> Result<(), DeviceRefusal> {
        (services().device_open_interrupt)(self.device, vector)
    }

    fn await_interrupt(&self, vector: u16, seen: u32, deadline_ns: u64) -> u32 {
        (services().device_await_interrupt)(self.device, vector, seen, deadline_ns)
    }

    fn now_ns(&self) -> u64 {
        (services().now_ns)()
    }

    fn sleep_until(&self, deadline_ns: u64) {
        (services().thread_sleep_until)(deadline_ns);
    }
}
