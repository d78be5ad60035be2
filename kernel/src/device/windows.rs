//! Access to device registers.

use coppice_abi::{DeviceRefusal, Window};

use super::of_caller;

/// Returns the register window of a BAR of the caller's device.
pub(crate) fn window(device: u32, bar: u8) -> Result<Window, DeviceRefusal> {
    let grant = of_caller(device)?;
    if grant.info.bars.get(usize::from(bar)).is_none_or(|&len| len == 0) {
        return Err(DeviceRefusal::NoBar { bar });
    }
    let _access = grant.access.lock();
    grant.function.window(bar)
}

/// Reads a register of a window that is not in memory: a model's. Takes no lock.
#[inline]
pub(crate) fn read(device: u32, bar: u8, offset: usize, bytes: usize) -> u64 {
    match of_caller(device) {
        Ok(grant) if grant.has_register(bar, offset, bytes) => grant.function.read(bar, offset, bytes),
        _ => u64::MAX,
    }
}

/// Writes a register of a window that is not in memory.
#[inline]
pub(crate) fn write(device: u32, bar: u8, offset: usize, bytes: usize, value: u64) {
    if let Ok(grant) = of_caller(device)
        && grant.has_register(bar, offset, bytes)
    {
        grant.function.write(bar, offset, bytes, value);
    }
}
