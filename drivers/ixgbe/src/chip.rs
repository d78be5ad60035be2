//! [`Chip`]: the differences between the chips. The ring code depends only on [`Layout`].

use crate::register_block::RegisterBlock;
use crate::statistics::Counters;
use crate::{Config, Fault, Link};

/// The offsets of registers that all chips have.
pub(crate) struct Layout {
    /// The first register of receive queue 0, and the distance to the next queue.
    pub(crate) receive: (usize, usize),
    /// The offset of SRRCTL within a receive queue.
    pub(crate) srrctl: usize,
    /// SRRCTL.Drop_En: a frame without a descriptor is dropped instead of blocking other queues.
    pub(crate) srrctl_drop: u32,
    pub(crate) transmit: (usize, usize),
    /// MTA, 128 words.
    pub(crate) mta: usize,
    /// RAL of the first address; RAH follows it.
    pub(crate) ral: usize,
    pub(crate) mrqc: usize,
    /// MRQC with RSS on.
    pub(crate) mrqc_rss: u32,
    /// RETA, 32 words.
    pub(crate) reta: usize,
    /// RSSRK, 10 words.
    pub(crate) rssrk: usize,
    /// EICR: interrupt causes; writing a bit clears it.
    pub(crate) eicr: usize,
    /// EIMS: interrupt mask set; writing a bit enables that vector.
    pub(crate) eims: usize,
    /// EIMC: interrupt mask clear; writing a bit disables that vector.
    pub(crate) eimc: usize,
    /// EIAC: auto clear; sending a message clears its cause.
    pub(crate) eiac: usize,
    /// EIAM: auto mask; with GPIE.EIAME, sending a message masks its vector.
    pub(crate) eiam: usize,
    pub(crate) gpie: usize,
    /// EITR of vector 0; the others follow.
    pub(crate) eitr: usize,
}

/// The operations that differ between the chips.
pub(crate) trait Chip: Sync {
    /// Returns the chip's name.
    fn name(&self) -> &'static str;

    /// Returns the chip's register offsets.
    fn layout(&self) -> &'static Layout;

    /// Returns the number of queues that take part in RSS.
    fn queues(&self) -> u16 {
        16
    }

    /// Returns the longest frame in bytes, without VLAN tag and FCS.
    fn longest_frame(&self) -> u32 {
        // 9.5 KiB (82599 datasheet, section 1.3; 82576 datasheet, section 1.5), with both.
        9728 - 8
    }

    /// Resets the chip and waits until it has read its EEPROM and can be configured.
    fn reset(&self, regs: &RegisterBlock) -> Result<(), Fault>;

    /// Sets all registers that do not depend on the configuration. The receiver stays off.
    fn start(&self, regs: &RegisterBlock) -> Result<(), Fault>;

    /// Sets filters and sizes, and enables receiver and transmitter.
    fn configure(&self, regs: &RegisterBlock, config: &Config) -> Result<(), Fault>;

    /// Assigns `vector` to queue `queue`.
    fn route(&self, regs: &RegisterBlock, queue: u16, vector: u16);

    /// Assigns vector 0 to link changes.
    fn route_link(&self, regs: &RegisterBlock);

    /// Returns the state of the link, with `changes` left to the caller, and whether it has changed since the
    /// last call.
    fn link(&self, regs: &RegisterBlock) -> (Link, bool);

    /// Adds the chip's counters to `counters`, which clears them.
    fn count(&self, regs: &RegisterBlock, counters: &mut Counters);

    /// Returns the value of EITR for a gap of `gap_us` microseconds between messages.
    fn throttle(&self, gap_us: u32) -> u32;
}
