//! The time of the device's own reset, as a driver sees it: from CTRL.RST = 1 until the link is up, with all
//! waits in between (82599 datasheet, section 4.6.3). Every driver needs it, so it is measured beside the
//! outages.
//!
//! The registers are defined here again, because a driver that reported these times would do so only for a
//! benchmark.

use alloc::vec::Vec;

use coppice_hardware::{Device, Registers};
use coppice_runtime::time::tsc;

use crate::path::Failure;

/// Device Control: bit 26 is RST, which is 1 until the reset is over.
const CTRL: usize = 0x0_0000;
const CTRL_RST: u32 = 1 << 26;
/// EEPROM/Flash Control: bit 9 is ARD, "the EEPROM was read".
const EEC: usize = 0x1_0010;
const EEC_ARD: u32 = 1 << 9;
/// Receive DMA Control: bit 3 is DMAIDONE, "memories were initialised".
const RDRXCTL: usize = 0x0_2F00;
const RDRXCTL_DMAIDONE: u32 = 1 << 3;
/// Auto Negotiation Control: bit 12 restarts it.
const AUTOC: usize = 0x0_42A0;
const AUTOC_RESTART: u32 = 1 << 12;
/// Link Status: bit 30 is "up".
const LINKS: usize = 0x0_42A4;
const LINKS_UP: u32 = 1 << 30;
/// The limit for a reset. A slower device is not measured.
const TIMEOUT_NS: u64 = 10_000_000_000;

/// Resets the device `count` times, before its first use, and returns the nanoseconds of each reset.
pub(crate) fn measure(device: &Device, tsc_hz: u64, count: usize) -> Result<Vec<f64>, Failure> {
    let registers = device.window(0)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = tsc();
        registers.write32(CTRL, registers.read32(CTRL) | CTRL_RST);
        await_bits(device, &registers, CTRL, CTRL_RST, 0)?;
        await_bits(device, &registers, EEC, EEC_ARD, EEC_ARD)?;
        await_bits(device, &registers, RDRXCTL, RDRXCTL_DMAIDONE, RDRXCTL_DMAIDONE)?;
        registers.write32(AUTOC, registers.read32(AUTOC) | AUTOC_RESTART);
        await_bits(device, &registers, LINKS, LINKS_UP, LINKS_UP)?;
        times.push((tsc() - start) as f64 * 1e9 / tsc_hz as f64);
    }
    Ok(times)
}

fn await_bits(
    device: &Device,
    registers: &Registers,
    register: usize,
    mask: u32,
    wanted: u32,
) -> Result<(), Failure> {
    let late_ns = device.now_ns() + TIMEOUT_NS;
    loop {
        let value = registers.read32(register);
        if value & mask == wanted {
            return Ok(());
        }
        if device.now_ns() > late_ns {
            return Err(Failure::Stuck { register: register as u32, value });
        }
        core::hint::spin_loop();
    }
}
