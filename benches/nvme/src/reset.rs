//! The time of the device's own reset, as the driver sees it: from CC.EN = 0 to CSTS.RDY = 0, and from CC.EN
//! = 1 to CSTS.RDY = 1 (NVM Express Base Specification 2.0, 3.7.2 and 3.5.1). Every driver needs it, so it is
//! measured beside the outages.
//!
//! The registers are defined here again, because a driver that reported these times would do so only for a
//! benchmark.

use alloc::vec::Vec;

use coppice_hardware::{Device, Registers};
use coppice_runtime::time::tsc;

use crate::path::Failure;

/// Controller Configuration (Base 3.1.3.5): bit 0 is EN; queue entries of 64 and 16 bytes.
const CC: usize = 0x14;
const CC_ENABLED: u32 = 4 << 20 | 6 << 16 | 1;
/// Controller Status (Base 3.1.3.6): bit 0 is RDY.
const CSTS: usize = 0x1C;
/// Admin Queue Attributes (Base 3.1.3.8): the smallest queues, of two entries each.
const AQA: usize = 0x24;
const AQA_SMALLEST: u32 = 1 << 16 | 1;
/// Admin Submission Queue Base Address (Base 3.1.3.9), and that of the completion queue (3.1.3.10).
const ASQ: usize = 0x28;
const ACQ: usize = 0x30;
const PAGE: usize = 4096;
/// The limit for a reset. CAP.TO is at most 128 s, but a controller slower than this limit is not measured.
const TIMEOUT_NS: u64 = 10_000_000_000;

/// Resets the controller `count` times, before its first use, and returns the nanoseconds of each reset.
pub(crate) fn measure(device: &Device, tsc_hz: u64, count: usize) -> Result<Vec<f64>, Failure> {
    let registers = device.window(0).map_err(Failure::Device)?;
    let queues = device.dma(2 * PAGE).map_err(Failure::Device)?;
    let become_ready = |ready: u32| await_ready(device, &registers, ready);
    let mut times = Vec::with_capacity(count);
    registers.write32(CC, 0);
    become_ready(0)?;
    for _ in 0..count {
        registers.write32(AQA, AQA_SMALLEST);
        registers.write64(ASQ, queues.addr(0).to_bits());
        registers.write64(ACQ, queues.addr(PAGE).to_bits());
        let start = tsc();
        registers.write32(CC, CC_ENABLED);
        become_ready(1)?;
        registers.write32(CC, CC_ENABLED & !1);
        become_ready(0)?;
        times.push((tsc() - start) as f64 * 1e9 / tsc_hz as f64);
    }
    Ok(times)
}

fn await_ready(device: &Device, registers: &Registers, ready: u32) -> Result<(), Failure> {
    let late_ns = device.now_ns() + TIMEOUT_NS;
    loop {
        let csts = registers.read32(CSTS);
        if csts & 1 == ready {
            return Ok(());
        }
        if device.now_ns() > late_ns {
            return Err(Failure::Stuck { csts });
        }
        core::hint::spin_loop();
    }
}
