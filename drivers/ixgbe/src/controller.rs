//! [`Controller`]: brings a device up and opens queues on it.

use alloc::sync::Arc;

use coppice_hardware::Device;

use crate::shared::Shared;
use crate::{Config, Info, IxgbeError, Link, Losses, Options, PacketFormat, Queue, QueueOptions, Statistics};

/// A working device. Its queues share ownership of it: when it and the last queue are dropped, it is reset
/// and left alone.
pub struct Controller {
    shared: Arc<Shared>,
}

impl Controller {
    /// Resets the device and brings it up, in the order of section 4.6.3 of the 82599 datasheet.
    ///
    /// # Errors
    /// When the driver does not know the device, the machine refuses a resource, or the device does not
    /// complete a step in time.
    pub fn open(device: Device, options: Options) -> Result<Self, IxgbeError> {
        Ok(Self { shared: Arc::new(Shared::open(device, options)?) })
    }

    /// Returns the device's identity and limits.
    pub fn info(&self) -> &Info {
        &self.shared.info
    }

    /// Returns the current state of the link.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn link(&self) -> Result<Link, IxgbeError> {
        self.shared.link()
    }

    /// Waits for a change of the link or the deadline. Returns true if there may have been a change;
    /// [`Self::link`] returns the new state.
    pub fn wait_link(&self, deadline_ns: u64) -> bool {
        self.shared.wait_link(deadline_ns)
    }

    /// Returns the statistics since the device was opened.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn statistics(&self) -> Result<Statistics, IxgbeError> {
        self.shared.statistics()
    }

    /// Returns the frames that the driver itself has lost, of all queues, closed ones included.
    pub fn losses(&self) -> Losses {
        self.shared.losses.read()
    }

    /// Returns the current configuration.
    pub fn config(&self) -> Config {
        self.shared.config()
    }

    /// Configures the device, completely or not at all. Queues stay open; frames may be lost during the
    /// change.
    ///
    /// # Errors
    /// When the configuration is invalid, or the device does not complete a step in time.
    pub fn configure(&self, config: &Config) -> Result<(), IxgbeError> {
        self.shared.configure(config)
    }

    /// Opens a queue.
    ///
    /// # Errors
    /// When all queues are open, memory is short, or the device does not complete a step in time.
    pub fn open_queue<F: PacketFormat>(&self, options: QueueOptions) -> Result<Queue<F>, IxgbeError> {
        Queue::open(&self.shared, options)
    }

    /// Returns the number of resets since the device was brought up.
    pub fn resets(&self) -> u32 {
        self.shared.resets()
    }

    /// Resets the device, for all queues, unless it has been reset since the caller read `seen` from
    /// [`Self::resets`]. Each queue then reports [`crate::Fault::WasReset`].
    ///
    /// # Errors
    /// When the device could not be stopped, or does not work after the reset.
    pub fn reset(&self, seen: u32) -> Result<(), IxgbeError> {
        self.shared.reset(seen)
    }
}
