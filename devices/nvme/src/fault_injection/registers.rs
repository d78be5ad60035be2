//! Faults of registers: a stuck CSTS.RDY.

use std::sync::atomic::Ordering;

use crate::fault_injection::{FaultInjector, Kind};
use crate::registers::{CC, CC_EN, CSTS, CSTS_RDY, Registers};

/// The value of `FaultInjector::stuck` while CSTS.RDY works; otherwise it is 0 or 1.
pub(crate) const NOT_STUCK: u8 = 2;

impl FaultInjector {
    pub(crate) fn read(&self, registers: &Registers, offset: u64, size: u8) -> u64 {
        let value = registers.read(offset, size);
        match self.stuck.load(Ordering::Relaxed) {
            NOT_STUCK => value,
            ready if offset == CSTS => value & !u64::from(CSTS_RDY) | u64::from(ready),
            _ => value,
        }
    }

    pub(crate) fn write(&self, registers: &Registers, offset: u64, size: u8, value: u64) {
        if offset == CC && size == 4 && (registers.configuration() ^ value as u32) & CC_EN != 0 {
            let ready = (registers.status() & CSTS_RDY) as u8;
            let stuck = if self.fires(Kind::StuckReady) { ready } else { NOT_STUCK };
            self.stuck.store(stuck, Ordering::Relaxed);
        }
        registers.write(offset, size, value);
    }

    /// Ends a stuck CSTS.RDY, at a function level reset.
    pub(crate) fn unstick(&self) {
        self.stuck.store(NOT_STUCK, Ordering::Relaxed);
    }
}
