//! [`Controller`]: from a device to queues.

use alloc::sync::Arc;

use coppice_hardware::Device;

use crate::shared::Shared;
use crate::{Config, IxgbeError, Losses, PacketFormat, Queue, Statistics};

/// Most descriptors of a ring. The 82599 can have more; no use was found for them.
pub(crate) const MOST_DEPTH: u32 = 4096;
/// Fewest; more are reports of transmission than work below that.
pub(crate) const LEAST_DEPTH: u32 = 64;

/// How a device is driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// How long the device is waited for at each step of its initialisation, its reset excepted.
    pub step_timeout_ns: u64,
    /// How long after a reset no register is accessed: 1 ms for real devices (82599 datasheet, section 4.6.3.2).
    pub settle_ns: u64,
    /// If nothing is sent for so long, of what there is to be sent, the device hangs.
    pub hang_ns: u64,
    /// For how long a wait spins at most before it sleeps; 0 for never.
    pub spin_ns: u64,
    /// Least time between two messages of a vector, in microseconds.
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

/// What a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Its own address.
    pub mac: [u8; 6],
    /// The chip.
    pub model: &'static str,
    /// How many queues can be open at a time.
    pub queues: u16,
    /// Most descriptors of a queue's ring, each way.
    pub most_depth: u32,
    /// The longest frame that can be set up, without VLAN tag and FCS.
    pub longest_frame: u32,
    /// Most buffers of a frame that is sent.
    pub most_parts: u32,
}

/// How a device is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Whether there is somebody at the other end.
    pub is_up: bool,
    /// Megabits per second; 0 while there is nobody.
    pub megabits: u32,
    /// How often it came up or went down since the driver began, as far as was noticed.
    pub changes: u32,
}

/// What a queue has room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueOptions {
    /// Descriptors for frames to be sent; rounded up to a power of two, 64 at least. One of them stays empty.
    pub send_depth: u32,
    /// Descriptors for buffers to receive into; as above.
    pub receive_depth: u32,
    /// Bytes that a buffer to receive into has at least, from where a frame begins: whole KiB. A longer frame goes on in the next.
    pub packet_bytes: u32,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { send_depth: 512, receive_depth: 512, packet_bytes: 2048 }
    }
}

impl QueueOptions {
    /// With depths rounded up.
    pub(crate) fn check(self) -> Result<Self, IxgbeError> {
        let depth = |depth: u32| {
            if (1..=MOST_DEPTH).contains(&depth) {
                Ok(depth.next_power_of_two().max(LEAST_DEPTH))
            } else {
                Err(IxgbeError::Depth { depth, most: MOST_DEPTH })
            }
        };
        // SRRCTL.BSIZEPACKET: kilobytes, up to 16 (82599 datasheet, section 8.2.3.8.7).
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

/// A device that works. Its queues keep it: when it and the last of them are gone, it is reset and left alone.
pub struct Controller {
    shared: Arc<Shared>,
}

impl Controller {
    /// Resets the device and brings it up, in the order of section 4.6.3 of the 82599 datasheet.
    ///
    /// # Errors
    /// When it is none that this driver knows, the machine refuses something, or the device does not do what it has to in time.
    pub fn open(device: Device, options: Options) -> Result<Self, IxgbeError> {
        Ok(Self { shared: Arc::new(Shared::open(device, options)?) })
    }

    /// What it is.
    pub fn info(&self) -> &Info {
        &self.shared.info
    }

    /// How it is connected now.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn link(&self) -> Result<Link, IxgbeError> {
        self.shared.link()
    }

    /// Waits for a change of the link, or the deadline. Answers whether there may have been one, which [`Self::link`] tells.
    pub fn wait_link(&self, deadline_ns: u64) -> bool {
        self.shared.wait_link(deadline_ns)
    }

    /// What happened so far.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn statistics(&self) -> Result<Statistics, IxgbeError> {
        self.shared.statistics()
    }

    /// The frames that the driver itself lost so far, of all queues, closed ones included.
    pub fn losses(&self) -> Losses {
        self.shared.losses.read()
    }

    /// How it is set up.
    pub fn config(&self) -> Config {
        self.shared.config()
    }

    /// Sets it up, all of it or nothing. Queues stay open; frames may be lost meanwhile.
    ///
    /// # Errors
    /// When no device can be set up so, or this one does not do what it has to.
    pub fn configure(&self, config: &Config) -> Result<(), IxgbeError> {
        self.shared.configure(config)
    }

    /// Opens a queue.
    ///
    /// # Errors
    /// When all queues are open, memory is short, or the device does not do what it has to.
    pub fn open_queue<F: PacketFormat>(&self, options: QueueOptions) -> Result<Queue<F>, IxgbeError> {
        Queue::open(&self.shared, options)
    }

    /// How often it was reset since it was brought up.
    pub fn resets(&self) -> u32 {
        self.shared.resets()
    }

    /// Resets it, for all queues, unless somebody has since `seen` was read off [`Self::resets`]; each queue then reports
    /// [`crate::Fault::WasReset`].
    ///
    /// # Errors
    /// When it could not be stopped, or does not work again.
    pub fn reset(&self, seen: u32) -> Result<(), IxgbeError> {
        self.shared.reset(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_rounded_up_and_impossible_ones_are_refused() {
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
