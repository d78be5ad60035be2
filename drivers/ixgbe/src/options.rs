//! [`Options`] of a device and [`QueueOptions`] of a queue.

use crate::IxgbeError;

/// The largest number of descriptors of a ring. The 82599 supports more; they were of no use.
pub(crate) const MAX_DEPTH: u32 = 4096;
/// The smallest number of descriptors. In a smaller ring, reports of transmission would outweigh the packets.
pub(crate) const MIN_DEPTH: u32 = 64;

/// Options of the driver for one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The time limit of each initialisation step except the reset.
    pub step_timeout_ns: u64,
    /// The time after a reset in which no register is accessed: 1 ms for real devices (82599 datasheet,
    /// section 4.6.3.2).
    pub settle_ns: u64,
    /// The time without a sent frame, while some are pending, after which the device counts as hung.
    pub hang_ns: u64,
    /// The longest time that a wait spins before it sleeps; 0 disables spinning.
    pub spin_ns: u64,
    /// The shortest time between two messages of a vector, in microseconds.
    pub interrupt_gap_us: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            step_timeout_ns: 100_000_000,
            settle_ns: 1_000_000,
            hang_ns: 2_000_000_000,
            spin_ns: 20_000,
            interrupt_gap_us: 4,
        }
    }
}

/// The size of a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueOptions {
    /// Descriptors of the transmit ring; rounded up to a power of two of at least 64. One of them stays
    /// empty.
    pub send_depth: u32,
    /// Descriptors of the receive ring; rounded up in the same way.
    pub receive_depth: u32,
    /// The least room of a receive packet from its frame's start on, in bytes: whole KiB. A longer frame
    /// continues in the next packet.
    pub packet_bytes: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { send_depth: 512, receive_depth: 512, packet_bytes: 2048 }
    }
}

impl QueueOptions {
    /// Validates the options and rounds the depths up.
    pub(crate) fn check(self) -> Result<Self, IxgbeError> {
        let depth = |depth: u32| {
            if (1..=MAX_DEPTH).contains(&depth) {
                Ok(depth.next_power_of_two().max(MIN_DEPTH))
            } else {
                Err(IxgbeError::Depth { depth, most: MAX_DEPTH })
            }
        };
        // SRRCTL.BSIZEPACKET: units of 1 KiB, at most 16 (82599 datasheet, section 8.2.3.8.7).
        let bytes = self.packet_bytes;
        if !(1024..=16384).contains(&bytes) || !bytes.is_multiple_of(1024) {
            return Err(IxgbeError::PacketBytes { bytes });
        }
        Ok(Self {
            send_depth: depth(self.send_depth)?,
            receive_depth: depth(self.receive_depth)?,
            packet_bytes: bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_rounded_up_and_unsupported_ones_are_refused() {
        let depths = |send_depth, receive_depth| {
            let options = QueueOptions { send_depth, receive_depth, ..QueueOptions::default() };
            options.check().map(|options| (options.send_depth, options.receive_depth))
        };
        assert_eq!(depths(1, 65), Ok((64, 128)));
        assert_eq!(depths(513, 4096), Ok((1024, 4096)));
        assert_eq!(depths(0, 64), Err(IxgbeError::Depth { depth: 0, most: 4096 }));
        assert_eq!(depths(64, 4097), Err(IxgbeError::Depth { depth: 4097, most: 4096 }));
        for bytes in [0, 1023, 1025, 17 << 10] {
            let options = QueueOptions { packet_bytes: bytes, ..QueueOptions::default() };
            assert_eq!(options.check(), Err(IxgbeError::PacketBytes { bytes }));
        }
    }
}
