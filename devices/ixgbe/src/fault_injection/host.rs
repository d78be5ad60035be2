//! FaultInjector between a device and its host: descriptors and data that are not what they should be, interrupts that are lost or
//! nobody's, and no way there at all.

use std::sync::{Arc, PoisonError};

use device_bus::{DmaError, Host};

use crate::fault_injection::{FaultInjector, Kind};
use crate::interrupts::VECTORS;
use crate::registers::Registers;
use crate::ring::DESCRIPTOR_BYTES;

/// Bits of a receive descriptor's second word: done, end of packet, and where its length is (section 7.1.6.2).
const DD: u64 = 1;
const EOP: u64 = 1 << 1;
const LENGTH_SHIFT: u32 = 32;
/// Within so many descriptors one is written again.
const AGAIN_WITHIN: u64 = 64;

/// A host as an unreliable device reaches it.
pub(crate) struct UnreliableHost {
    host: Arc<dyn Host>,
    faults: Arc<FaultInjector>,
    registers: Arc<Registers>,
}

/// A descriptor that is written once more.
pub(crate) struct Again {
    /// After so many others.
    left: u64,
    address: u64,
    /// Its status and length.
    second: u64,
}

impl UnreliableHost {
    pub(crate) fn new(host: Arc<dyn Host>, faults: Arc<FaultInjector>, registers: Arc<Registers>) -> Self {
        Self { host, faults, registers }
    }

    fn reach(&self) -> Result<&dyn Host, DmaError> {
        if self.faults.is_unplugged() { Err(DmaError::Disabled) } else { Ok(&*self.host) }
    }

    /// A descriptor is done: whether the device is still there, and sane enough to say so.
    fn goes_on(&self) -> bool {
        if self.faults.fires(Kind::Hang) {
            self.faults.hang();
        }
        if self.faults.fires(Kind::Unplug) {
            self.faults.unplug();
        }
        self.faults.lets_work()
    }

    /// Counts the frames that end in descriptors that are not written.
    fn lose(&self, descriptors: &[[u64; 2]]) {
        let frames = descriptors.iter().filter(|descriptor| descriptor[1] & EOP != 0).count();
        self.registers.losses.write_back.add(frames as u64);
    }

    /// What is written in a receive descriptor's place, if anything is.
    fn falsify(&self, address: u64, mut descriptor: [u64; 2]) -> Option<[u64; 2]> {
        let faults = &self.faults;
        if faults.fires(Kind::LostDescriptor) {
            return None;
        }
        if faults.fires(Kind::WrongLength) {
            // Never 0 in 16 bits, so it is another one.
            let change = faults.draw(Kind::WrongLength) % 0xffff + 1;
            descriptor[1] ^= change << LENGTH_SHIFT;
        }
        if faults.fires(Kind::NoEnd) {
            descriptor[1] &= !EOP;
        }
        if faults.fires(Kind::Garbage) {
            descriptor = [faults.draw(Kind::Garbage), faults.draw(Kind::Garbage) | DD];
        }
        if faults.fires(Kind::Twice) {
            let left = faults.draw(Kind::Twice) % AGAIN_WITHIN + 1;
            let mut again = faults.again.lock().unwrap_or_else(PoisonError::into_inner);
            again.push(Again { left, address, second: descriptor[1] });
        }
        Some(descriptor)
    }

    /// Another descriptor is done: writes those again whose time has come.
    fn repeat(&self, host: &dyn Host) -> Result<(), DmaError> {
        let mut again = self.faults.again.lock().unwrap_or_else(PoisonError::into_inner);
        again.iter_mut().for_each(|one| one.left -= 1);
        let due = again.extract_if(.., |one| one.left == 0).collect::<Vec<_>>();
        drop(again);
        // Its second half only: the driver may have put a new buffer's address into the first, and a device that takes a hash for an
        // address writes where nobody could stop it.
        due.iter().try_for_each(|one| {
            let half = one.address + 8;
            host.write_memory(half + 4, &((one.second >> 32) as u32).to_le_bytes())?;
            host.publish_u32(half, one.second as u32)
        })
    }
}

impl Host for UnreliableHost {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.reach()?.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let host = self.reach()?;
        if self.faults.fires(Kind::NoData) {
            return Ok(());
        }
        host.write_memory(address, from)
    }

    /// Transmit descriptors and heads are reported this way.
    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        if !self.goes_on() || self.faults.fires(Kind::LostReport) {
            return Ok(());
        }
        self.reach()?.publish_u32(address, value)
    }

    /// Receive descriptors are written back this way.
    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        for (index, at) in (address..).step_by(DESCRIPTOR_BYTES as usize).enumerate().take(descriptors.len())
        {
            let left = &descriptors[index..];
            if !self.goes_on() {
                self.lose(left);
                return Ok(());
            }
            let written = self.reach().and_then(|host| {
                self.repeat(host)?;
                match self.falsify(at, left[0]) {
                    Some(descriptor) => host.publish_descriptors(at, &[descriptor])?,
                    None => self.lose(&left[..1]),
                }
                Ok(())
            });
            if written.is_err() {
                // Those before it were written, so the device is not told of an error, which would count them as well.
                self.lose(left);
                return Ok(());
            }
        }
        Ok(())
    }

    fn prefetch(&self, address: u64, bytes: usize) {
        self.host.prefetch(address, bytes);
    }

    fn raise(&self, vector: u16) {
        let Ok(host) = self.reach() else { return };
        self.faults.interrupt((Kind::Lost, Kind::Spurious), VECTORS, vector, |vector| host.raise(vector));
    }
}

impl FaultInjector {
    /// For the device's thread: rings may be others from now on, so what was to be written to them again is not.
    pub(crate) fn forget(&self) {
        self.again.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
