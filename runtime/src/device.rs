//! The domain's devices: [`coppice_hardware`]'s backend over the kernel's services.

use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::{DEVICE_LIMIT, services};
use coppice_hardware::{
    Backend, Device, DeviceInfo, DeviceRefusal, MappedWindow, Region, RegisterWidth, RegisterWindow, StopStep,
};

/// Bit by bit, the devices that this instance of the domain has asked for already.
static TAKEN: AtomicU32 = AtomicU32::new(0);

const _: () = assert!(DEVICE_LIMIT <= u32::BITS as usize);

/// Device number `number` of the manifest's `devices`, the first time.
pub(crate) fn take(number: usize) -> Option<Device> {
    if number >= DEVICE_LIMIT {
        return None;
    }
    let device = number as u32;
    let info = (services().device_info)(device).ok()?;
    let is_first = TAKEN.fetch_or(1 << device, Ordering::Relaxed) & (1 << device) == 0;
    is_first.then(|| Device::new(Arc::new(Granted { device, info })))
}

/// A device of the domain's, by its number. There is one for each number, so what is handed out for it is handed out once.
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
        Ok(match NonNull::new(window.memory) {
            // SAFETY: H1: the service's contract: mapped as long as the domain lives, and nothing but the BAR, which is at
            // least a page long or has its page for itself.
            Some(memory) => RegisterWindow::Mapped(unsafe { MappedWindow::new(memory, window.len) }),
            None => RegisterWindow::Called { len: window.len },
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
        let memory = NonNull::new(block.memory).ok_or(DeviceRefusal::NoMemory { bytes })?;
        // SAFETY: H2: the service's contract: ours as long as the domain lives, zeroed, and so many pages.
        Ok(unsafe { Region::new(memory, block.address, bytes) })
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
