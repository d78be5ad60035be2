//! What a model can ask of its host.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

/// Whoever a model is plugged into.
///
/// Calls come from the model's own thread, and from threads that access its registers. They must not call back into
/// the model's [`set_bus_master`](crate::Model::set_bus_master) or [`reset`](crate::Model::reset), which wait for
/// them.
pub trait Host: Send + Sync {
    /// Copies memory at bus address `address` to `into`.
    ///
    /// What a driver stored before it released the register write that led here is seen.
    ///
    /// # Errors
    /// [`DmaError`] if not all of it can be reached; `into` then holds anything.
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError>;

    /// Copies `from` to memory at bus address `address`.
    ///
    /// # Errors
    /// [`DmaError`] if not all of it can be reached; some of it may have been written.
    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError>;

    /// Stores four bytes, little-endian, in one piece and after everything that was written before: what tells a
    /// driver that the rest is there, such as the phase tag of a completion.
    ///
    /// # Errors
    /// As [`write_memory`](Self::write_memory).
    fn publish_u32(&self, address: u64, value: u32) -> Result<(), DmaError> {
        fence(Ordering::Release);
        self.write_memory(address, &value.to_le_bytes())
    }

    /// Stores descriptors of 16 bytes one after the other, from `address` on, and after everything that was written before. Of
    /// each the first eight bytes come before the last eight, and those before or together with the third four, in which is
    /// what tells a driver that it is complete.
    ///
    /// # Errors
    /// As [`write_memory`](Self::write_memory); some of them may have been stored.
    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        descriptors.iter().zip((address..).step_by(16)).try_for_each(|([first, last], at)| {
            self.write_memory(at, &first.to_le_bytes())?;
            self.write_memory(at + 12, &((last >> 32) as u32).to_le_bytes())?;
            self.publish_u32(at + 8, *last as u32)
        })
    }

    /// The model is about to read or write `bytes` at `address`: a hint, which may fetch them into a cache.
    fn prefetch(&self, address: u64, bytes: usize) {
        let _ = (address, bytes);
    }

    /// Sends the interrupt with index `vector`: an edge, after everything that was written before.
    fn raise(&self, vector: u16);
}

/// Why a model could not reach memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DmaError {
    /// Bus mastering is off, or the model was not attached to a host yet.
    Disabled,
    /// There is no memory at these addresses, or not for this device.
    Unreachable {
        /// Where the access began.
        address: u64,
        /// How much was asked for.
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
