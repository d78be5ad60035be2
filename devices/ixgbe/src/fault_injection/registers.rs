//! Faults between registers and a driver: stuck bits, and wrong words.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::fault_injection::{Fault, FaultInjector};
use crate::map::*;
use crate::registers::Registers;

/// EEC.ARD: the EEPROM has been read (section 8.2.3.2.1).
const EEC_AUTO_READ_DONE: u32 = 1 << 9;
/// EERD.DONE, and the place of its data (section 8.2.3.2.2).
const EERD_DONE: u32 = 1 << 1;
const EERD_DATA_SHIFT: u64 = 16;

/// Bits of a register that read as another value than they have.
pub(crate) struct Stuck {
    offset: u64,
    bits: u32,
    value: u32,
    /// True if only a function level reset frees them.
    is_lasting: bool,
}

impl FaultInjector {
    pub(crate) fn read(&self, registers: &Registers, offset: u64, size: u8) -> u64 {
        let mut value = registers.read(offset, size);
        let offset = canonical(offset);
        for stuck in self.stuck.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if stuck.offset == offset {
                value = value & !u64::from(stuck.bits) | u64::from(stuck.value & stuck.bits);
            }
        }
        if offset == EERD && value & u64::from(EERD_DONE) != 0 && self.fires(Fault::BadEeprom) {
            value ^= 1 << (EERD_DATA_SHIFT + self.draw(Fault::BadEeprom) % 16);
        }
        if queue_offset(offset) == Some(queue::HEAD) && self.fires(Fault::WrongHead) {
            value = self.draw(Fault::WrongHead) & 0xffff;
        }
        value
    }

    pub(crate) fn write(&self, registers: &Registers, offset: u64, size: u8, value: u64) {
        let at = canonical(offset);
        let changed = registers.image.get(at) ^ value as u32;
        if size == 4 && queue_offset(at) == Some(queue::DCTL) && changed & queue::DCTL_ENABLE != 0 {
            self.stick(Fault::StuckEnable, at, queue::DCTL_ENABLE, !(value as u32), false);
        }
        if size == 4 && at == CTRL {
            if value as u32 & CTRL_RESETS != 0 {
                self.begin_reset();
            }
            if changed & value as u32 & CTRL_MASTER_DISABLE != 0 {
                self.stick(Fault::StuckMaster, STATUS, STATUS_MASTER_ENABLED, u32::MAX, false);
            }
        }
        registers.write(offset, size, value);
    }

    /// Frees all stuck bits, at the end of a function level reset. For the device's thread.
    pub(crate) fn free_stuck(&self) {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends a hang, at the end of a reset of either kind: a device that hangs must not go on with queues that
    /// are about to be reset. For the device's thread.
    pub(crate) fn end_hang(&self) {
        self.is_hung.store(false, Ordering::Release);
    }

    /// Handles a reset by the driver, which frees most stuck bits.
    fn begin_reset(&self) {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner).retain(|stuck| stuck.is_lasting);
        self.stick(Fault::StuckReset, CTRL, CTRL_RST, u32::MAX, true);
        self.stick(Fault::StuckDma, RDRXCTL, RDRXCTL_DMAIDONE, 0, false);
        if self.stick(Fault::StuckEeprom, EEC, EEC_AUTO_READ_DONE, 0, false) {
            let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.push(Stuck { offset: EERD, bits: EERD_DONE, value: 0, is_lasting: false });
        }
    }

    /// Handles an occasion for bits to get stuck, which frees the bits that were stuck before. Returns true
    /// if they get stuck.
    fn stick(&self, kind: Fault, offset: u64, bits: u32, value: u32, is_lasting: bool) -> bool {
        let strikes = self.fires(kind);
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|old| old.is_lasting || (old.offset, old.bits) != (offset, bits));
        if strikes {
            stuck.push(Stuck { offset, bits, value, is_lasting });
        }
        strikes
    }
}

/// Returns the offset of a queue's register in its stride, if `offset` is one.
fn queue_offset(offset: u64) -> Option<u64> {
    let is_queue = matches!(offset, RX_QUEUES..0x2000 | RX_QUEUES_HIGH..0xe000 | TX_QUEUES..0x8000);
    is_queue.then_some(offset % QUEUE_STRIDE)
}
