//! [`Host`], the services that a model uses.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

/// The machine that a model is plugged into.
///
/// The model calls from its own thread, and from threads that access its registers. A host must not call
/// [`set_bus_master`](crate::Model::set_bus_master) or [`reset`](crate::Model::reset) of the model from
/// inside these methods: both wait until the methods have returned.
pub trait Host: Send + Sync {
    /// Copies memory at bus address `address` to `into`.
    ///
    /// The copy contains everything that the driver stored before the register write (a release) that caused
    /// it.
    ///
    /// # Errors
    /// [`DmaError`] if a part of the range cannot be reached; the content of `into` is then undefined.
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError>;

    /// Copies `from` to memory at bus address `address`.
    ///
    /// # Errors
    /// [`DmaError`] if a part of the range cannot be reached; a part may have been written.
    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError>;

    /// Stores four bytes, little-endian, atomically and after all earlier writes: a word that tells the
    /// driver that the rest is valid, such as the one with the phase tag of a completion.
    ///
    /// # Errors
    /// Those of [`write_memory`](Self::write_memory).
    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        fence(Ordering::Release);
        self.write_memory(address, &value.to_le_bytes())
    }

    /// Stores descriptors of 16 bytes in order, from `address` on, and after all earlier writes. Of each
    /// descriptor, bytes 0 to 7 are stored before bytes 8 to 15, and bytes 12 to 15 not after bytes 8 to 11,
    /// which tell the driver that the descriptor is complete.
    ///
    /// # Errors
    /// Those of [`write_memory`](Self::write_memory); some descriptors may have been stored.
    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        descriptors.iter().zip((address..).step_by(16)).try_for_each(|([first, last], at)| {
            self.write_memory(at, &first.to_le_bytes())?;
            self.write_memory(at + 12, &((last >> 32) as u32).to_le_bytes())?;
            self.publish_u32(at + 8, *last as u32)
        })
    }

    /// Hints that the model is about to access `bytes` at `address`, so that the host may fetch them into a
    /// cache.
    fn prefetch(&self, address: u64, bytes: usize) {
        let _ = (address, bytes);
    }

    /// Sends the interrupt with index `vector`: an edge, after all earlier writes.
    fn raise(&self, vector: u16);
}

/// A refused access of a model to memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaError {
    /// Bus mastering is off, or the model is not attached to a host.
    Disabled,
    /// The addresses belong to no memory, or to none that this device may access.
    Unreachable {
        /// The first bus address of the access.
        address: u64,
        /// The length of the access.
        bytes: u64,
    },
}

impl fmt::Display for DmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => {
                f.write_str("the device is not allowed to access memory (bus mastering is off)")
            }
            Self::Unreachable { address, bytes } => {
                write!(f, "the device cannot reach {bytes} bytes at bus address {address:#x}")
            }
        }
    }
}

impl std::error::Error for DmaError {}
