//! The controller's registers and their bits (Base 3.1.3).

/// Controller Capabilities, 64 bits (Base 3.1.3.1).
pub(crate) const CAP: usize = 0x00;
/// Version (Base 3.1.3.2).
pub(crate) const VS: usize = 0x08;
/// Controller Configuration (Base 3.1.3.5).
pub(crate) const CC: usize = 0x14;
/// Controller Status (Base 3.1.3.6).
pub(crate) const CSTS: usize = 0x1C;
/// Admin Queue Attributes (Base 3.1.3.8).
pub(crate) const AQA: usize = 0x24;
/// Admin Submission Queue Base Address, 64 bits (Base 3.1.3.9).
pub(crate) const ASQ: usize = 0x28;
/// Admin Completion Queue Base Address, 64 bits (Base 3.1.3.10).
pub(crate) const ACQ: usize = 0x30;
/// The first doorbell (NVMe over PCIe Transport 1.0, 3.1.2).
pub(crate) const DOORBELLS: usize = 0x1000;

/// CC.EN: the controller processes commands.
pub(crate) const CC_ENABLE: u32 = 1;
/// CC.SHN: shutdown notification.
pub(crate) const CC_SHUTDOWN_MASK: u32 = 0b11 << 14;
/// CC.SHN: normal shutdown.
pub(crate) const CC_SHUTDOWN_NORMAL: u32 = 0b01 << 14;
/// The value of CC while enabled: IOCQES 16 bytes, IOSQES 64 bytes, no shutdown, round robin, pages of 4 KiB,
/// the NVM command set.
pub(crate) const CC_ENABLED: u32 = (4 << 20) | (6 << 16) | CC_ENABLE;

/// CSTS.RDY: the controller processes commands.
pub(crate) const CSTS_READY: u32 = 1;
/// CSTS.CFS: an error that the controller cannot report in a completion.
pub(crate) const CSTS_FATAL: u32 = 1 << 1;
/// CSTS.SHST: shutdown status.
pub(crate) const CSTS_SHUTDOWN_MASK: u32 = 0b11 << 2;
/// CSTS.SHST: shutdown processing is complete.
pub(crate) const CSTS_SHUTDOWN_COMPLETE: u32 = 0b10 << 2;

/// The value that every register of a device that is gone reads as.
pub(crate) const GONE: u32 = u32::MAX;

/// The content of CAP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities(pub(crate) u64);

impl Capabilities {
    /// Returns the largest number of entries of an I/O queue; MQES is 0-based.
    pub(crate) fn queue_entries(self) -> u32 {
        (self.0 & 0xFFFF) as u32 + 1
    }

    /// Returns the time limit for a change of CC.EN. CAP.TO is in units of 500 ms; 0 is treated as 1.
    pub(crate) fn timeout_ns(self) -> u64 {
        ((self.0 >> 24) & 0xFF).max(1) * 500_000_000
    }

    /// Returns the distance between doorbells in bytes.
    pub(crate) fn doorbell_stride(self) -> usize {
        4 << ((self.0 >> 32) & 0xF)
    }

    /// Returns CAP.CSS: the supported command sets.
    pub(crate) fn command_sets(self) -> u8 {
        (self.0 >> 37) as u8
    }

    /// Returns the smallest page size that the controller supports, in bytes.
    pub(crate) fn smallest_page(self) -> u64 {
        1 << (12 + ((self.0 >> 48) & 0xF))
    }

    /// Returns the offset of the tail doorbell of submission queue `queue`.
    pub(crate) fn submission_doorbell(self, queue: u16) -> usize {
        DOORBELLS + 2 * usize::from(queue) * self.doorbell_stride()
    }

    /// Returns the offset of the head doorbell of completion queue `queue`.
    pub(crate) fn completion_doorbell(self, queue: u16) -> usize {
        DOORBELLS + (2 * usize::from(queue) + 1) * self.doorbell_stride()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_decoded_as_specified() {
        // MQES 1023, CQR, TO 15, DSTRD 2, CSS bit 0, MPSMIN 1.
        let capabilities = Capabilities(1023 | 1 << 16 | 15 << 24 | 2 << 32 | 1 << 37 | 1 << 48);
        assert_eq!(capabilities.queue_entries(), 1024);
        assert_eq!(capabilities.timeout_ns(), 7_500_000_000);
        assert_eq!(capabilities.doorbell_stride(), 16);
        assert_eq!(capabilities.command_sets(), 1);
        assert_eq!(capabilities.smallest_page(), 8192);
        assert_eq!(capabilities.submission_doorbell(3), 0x1000 + 6 * 16);
        assert_eq!(capabilities.completion_doorbell(3), 0x1000 + 7 * 16);
        assert_eq!(Capabilities(0).timeout_ns(), 500_000_000);
    }
}
