//! [`Health`] and [`ErrorEntry`]: log pages (Base 5.16.1).

use crate::Status;
use crate::identify::Fields;

/// Log page of errors (Base 5.16.1.2).
pub(crate) const ERRORS: u8 = 0x01;
/// Log page of SMART and health information (Base 5.16.1.3).
pub(crate) const HEALTH: u8 = 0x02;
/// Log page of changed namespaces (Base 5.16.1.5).
pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;

/// Bytes of the health log page.
pub(crate) const HEALTH_BYTES: usize = 512;
/// Bytes of an entry of the error log.
pub(crate) const ERROR_BYTES: usize = 64;

/// SMART and health information. Counts that exceed 64 bits saturate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// Bit 0: spare is low; 1: temperature; 2: reliability is degraded; 3: read only; 4: the backup of the
    /// volatile memory has failed; 5: persistent memory is read only or unreliable.
    pub critical_warning: u8,
    /// Composite temperature in kelvin.
    pub temperature: u16,
    /// Remaining spare capacity, in percent.
    pub available_spare: u8,
    /// The threshold below which spare capacity counts as low, in percent.
    pub spare_threshold: u8,
    /// Estimated part of the drive's endurance that is used, in percent; may exceed 100.
    pub percentage_used: u8,
    /// Data read, in units of 1000 × 512 bytes.
    pub data_units_read: u64,
    /// Data written, in units of 1000 × 512 bytes.
    pub data_units_written: u64,
    /// Completed read commands.
    pub host_reads: u64,
    /// Completed write commands.
    pub host_writes: u64,
    /// Power cycles.
    pub power_cycles: u64,
    /// Hours of operation.
    pub power_on_hours: u64,
    /// Losses of power without a shutdown notification.
    pub unsafe_shutdowns: u64,
    /// Unrecovered errors of the medium or the data.
    pub media_errors: u64,
    /// Entries written to the error log over the controller's lifetime.
    pub error_entries: u64,
}

impl Health {
    pub(crate) fn decode(data: &[u8; HEALTH_BYTES]) -> Self {
        let fields = Fields(data);
        let count = |at| fields.u128(at).try_into().unwrap_or(u64::MAX);
        Self {
            critical_warning: fields.u8(0),
            temperature: fields.u16(1),
            available_spare: fields.u8(3),
            spare_threshold: fields.u8(4),
            percentage_used: fields.u8(5),
            data_units_read: count(32),
            data_units_written: count(48),
            host_reads: count(64),
            host_writes: count(80),
            power_cycles: count(112),
            power_on_hours: count(128),
            unsafe_shutdowns: count(144),
            media_errors: count(160),
            error_entries: count(176),
        }
    }
}

/// An entry of the error log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorEntry {
    /// The number of this error among all errors of the controller.
    pub count: u64,
    /// Submission queue of the command; FFFFh if the error belongs to none.
    pub queue: u16,
    /// Identifier of the command; FFFFh if the error belongs to none.
    pub command_id: u16,
    /// Status of the command.
    pub status: Status,
    /// The first block with the error.
    pub lba: u64,
    /// Namespace of the error.
    pub namespace: u32,
}

impl ErrorEntry {
    /// Decodes an entry; returns `None` if it is unused.
    pub(crate) fn decode(data: &[u8; ERROR_BYTES]) -> Option<Self> {
        let fields = Fields(data);
        let count = fields.u64(0);
        (count != 0).then(|| Self {
            count,
            queue: fields.u16(8),
            command_id: fields.u16(10),
            status: Status::from_bits(fields.u16(12) >> 1),
            lba: fields.u64(16),
            namespace: fields.u32(24),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_exceed_64_bits_saturate() {
        let mut data = [0; HEALTH_BYTES];
        data[1..3].copy_from_slice(&310_u16.to_le_bytes());
        data[128..144].copy_from_slice(&77_u128.to_le_bytes());
        data[160..176].copy_from_slice(&(1_u128 << 70).to_le_bytes());
        let health = Health::decode(&data);
        assert_eq!((health.temperature, health.power_on_hours, health.media_errors), (310, 77, u64::MAX));
    }

    #[test]
    fn an_error_entry_without_a_count_is_unused() {
        let mut data = [0; ERROR_BYTES];
        assert_eq!(ErrorEntry::decode(&data), None);
        data[0] = 3;
        data[8] = 2;
        data[12..14].copy_from_slice(&(0x0281_u16 << 1 | 1).to_le_bytes());
        let entry = ErrorEntry::decode(&data).expect("it has a count");
        assert_eq!((entry.count, entry.queue, entry.status), (3, 2, Status::from_bits(0x281)));
    }
}
