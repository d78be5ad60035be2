//! Faults between a device and its host: wrong descriptors and data, lost and spurious interrupts, and an
//! unplugged device.

use std::sync::{Arc, PoisonError};

use device_bus::{DmaError, Host};

use crate::fault_injection::{Fault, FaultInjector};
use crate::interrupts::VECTORS;
use crate::registers::Registers;
use crate::ring::DESCRIPTOR_BYTES;

/// Bits of a receive descriptor's second word: done, end of packet, and the place of its length (section
/// 7.1.6.2).
const DD: u64 = 1;
const EOP: u64 = 1 << 1;
const LENGTH_SHIFT: u32 = 32;
/// The most descriptors after which one is written again.
const REPEAT_WITHIN: u64 = 64;

/// The host of an unreliable device: injects faults into its DMA and interrupts.
pub(crate) struct UnreliableHost {
    host: Arc<dyn Host>,
    faults: Arc<FaultInjector>,
    registers: Arc<Registers>,
}

/// A descriptor that will be written again.
pub(crate) struct Repeat {
    /// The number of other descriptors that come first.
    left: u64,
    address: u64,
    /// Its second word, with status and length.
    second: u64,
}

impl UnreliableHost {
    pub(crate) fn new(host: Arc<dyn Host>, faults: Arc<FaultInjector>, registers: Arc<Registers>) -> Self {
        Self { host, faults, registers }
    }

    fn reachable_host(&self) -> Result<&dyn Host, DmaError> {
        if self.faults.is_unplugged() { Err(DmaError::Disabled) } else { Ok(&*self.host) }
    }

    /// Handles a completed descriptor, which may hang or unplug the device. Returns true if the device goes
    /// on.
    fn complete_one(&self) -> bool {
        if self.faults.fires(Fault::Hang) {
            self.faults.hang();
        }
        if self.faults.fires(Fault::Unplug) {
            self.faults.unplug();
        }
        self.faults.is_working()
    }

    /// Counts the frames that end in descriptors that are not written.
    fn count_lost(&self, descriptors: &[[u64; 2]]) {
        let frames = descriptors.iter().filter(|descriptor| descriptor[1] & EOP != 0).count();
        self.registers.losses.write_back.add(frames as u64);
    }

    /// Returns the descriptor that is written in place of a receive descriptor, if one is.
    fn corrupt(&self, address: u64, mut descriptor: [u64; 2]) -> Option<[u64; 2]> {
        let faults = &self.faults;
        if faults.fires(Fault::LostDescriptor) {
            return None;
        }
        if faults.fires(Fault::WrongLength) {
            // The change is never 0 in 16 bits, so the length is another one.
            let change = faults.draw(Fault::WrongLength) % 0xffff + 1;
            descriptor[1] ^= change << LENGTH_SHIFT;
        }
        if faults.fires(Fault::NoEnd) {
            descriptor[1] &= !EOP;
        }
        if faults.fires(Fault::Garbage) {
            descriptor = [faults.draw(Fault::Garbage), faults.draw(Fault::Garbage) | DD];
        }
        if faults.fires(Fault::Twice) {
            let left = faults.draw(Fault::Twice) % REPEAT_WITHIN + 1;
            let mut repeats = faults.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            repeats.push(Repeat { left, address, second: descriptor[1] });
        }
        Some(descriptor)
    }

    /// Handles another completed descriptor: writes the repeats that are due.
    fn write_repeats(&self, host: &dyn Host) -> Result<(), DmaError> {
        let mut repeats = self.faults.repeats.lock().unwrap_or_else(PoisonError::into_inner);
        repeats.iter_mut().for_each(|one| one.left -= 1);
        let due = repeats.extract_if(.., |one| one.left == 0).collect::<Vec<_>>();
        drop(repeats);
        // Only the second half: the driver may have stored the address of a new buffer in the first, and a
        // device that takes a hash for an address would write anywhere.
        due.iter().try_for_each(|one| {
            let half = one.address + 8;
            host.write_memory(half + 4, &((one.second >> 32) as u32).to_le_bytes())?;
            host.publish_u32(half, one.second as u32)
        })
    }
}

impl Host for UnreliableHost {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.reachable_host()?.read_memory(address, into)
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let host = self.reachable_host()?;
        if self.faults.fires(Fault::NoData) {
            return Ok(());
        }
        host.write_memory(address, from)
    }

    /// Reports transmit descriptors and heads.
    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        if !self.complete_one() || self.faults.fires(Fault::LostReport) {
            return Ok(());
        }
        self.reachable_host()?.publish_u32(address, value)
    }

    /// Writes back receive descriptors.
    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        for (index, at) in (address..).step_by(DESCRIPTOR_BYTES as usize).enumerate().take(descriptors.len())
        {
            let left = &descriptors[index..];
            if !self.complete_one() {
                self.count_lost(left);
                return Ok(());
            }
            let written = self.reachable_host().and_then(|host| {
                self.write_repeats(host)?;
                match self.corrupt(at, left[0]) {
                    Some(descriptor) => host.publish_descriptors(at, &[descriptor])?,
                    None => self.count_lost(&left[..1]),
                }
                Ok(())
            });
            if written.is_err() {
                // The ones before it were written, so the device gets no error, which would count them as
                // well.
                self.count_lost(left);
                return Ok(());
            }
        }
        Ok(())
    }

    fn prefetch(&self, address: u64, bytes: usize) {
        self.host.prefetch(address, bytes);
    }

    fn raise(&self, vector: u16) {
        let Ok(host) = self.reachable_host() else { return };
        self.faults.interrupt((Fault::Lost, Fault::Spurious), VECTORS, vector, |vector| host.raise(vector));
    }
}

impl FaultInjector {
    /// Drops all repeats, since rings may have changed. For the device's thread.
    pub(crate) fn cancel_repeats(&self) {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
