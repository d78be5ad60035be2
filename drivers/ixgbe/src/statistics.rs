//! [`Statistics`]: sums of the device's clear-on-read counters.

/// Statistics since the device was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Good frames received.
    pub received: u64,
    /// Bytes of these, without FCS.
    pub received_bytes: u64,
    /// Broadcast frames among them.
    pub broadcast: u64,
    /// Multicast frames among them.
    pub multicast: u64,
    /// Good frames sent.
    pub sent: u64,
    /// Bytes of these, without FCS.
    pub sent_bytes: u64,
    /// Frames lost for lack of a receive buffer, or of room in the device.
    pub missed: u64,
    /// Frames with a wrong FCS or a coding error.
    pub damaged: u64,
    /// Frames that were too short or too long.
    pub misshapen: u64,
    /// Frames with a wrong IP, TCP or UDP checksum; they were received nevertheless.
    pub bad_checksums: u64,
}

/// The event that a register counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    Received,
    /// Bytes with FCS. The register is followed by another, whose low 4 bits are the upper ones.
    ReceivedBytes,
    Broadcast,
    Multicast,
    Sent,
    /// The same for sent bytes.
    SentBytes,
    Missed,
    Damaged,
    Misshapen,
    BadChecksum,
    /// Read to avoid an overflow, but not reported.
    Other,
}

/// FCS bytes, which the device counts.
const FCS_BYTES: u64 = 4;

/// Statistics with byte counts that include the FCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters(Statistics);

impl Counters {
    /// Reads all registers, which clears them.
    pub(crate) fn read(
        &mut self,
        registers: impl IntoIterator<Item = (usize, Count)>,
        read: impl Fn(usize) -> u32,
    ) {
        for (register, count) in registers {
            let low = u64::from(read(register));
            let totals = &mut self.0;
            let counter = match count {
                Count::Received => &mut totals.received,
                Count::ReceivedBytes => &mut totals.received_bytes,
                Count::Broadcast => &mut totals.broadcast,
                Count::Multicast => &mut totals.multicast,
                Count::Sent => &mut totals.sent,
                Count::SentBytes => &mut totals.sent_bytes,
                Count::Missed => &mut totals.missed,
                Count::Damaged => &mut totals.damaged,
                Count::Misshapen => &mut totals.misshapen,
                Count::BadChecksum => &mut totals.bad_checksums,
                Count::Other => continue,
            };
            let is_wide = matches!(count, Count::ReceivedBytes | Count::SentBytes);
            let high = if is_wide { u64::from(read(register + 4) & 0xF) << 32 } else { 0 };
            *counter = counter.wrapping_add(high | low);
        }
    }

    /// Returns the statistics, without FCS. During traffic, byte counts may be off by a frame.
    pub(crate) fn statistics(&self) -> Statistics {
        let totals = self.0;
        Statistics {
            received_bytes: totals.received_bytes.saturating_sub(FCS_BYTES * totals.received),
            sent_bytes: totals.sent_bytes.saturating_sub(FCS_BYTES * totals.sent),
            ..totals
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_and_bytes_exclude_the_fcs() {
        let mut counters = Counters::default();
        let registers =
            [(0, Count::Received), (8, Count::ReceivedBytes), (16, Count::Missed), (20, Count::Missed)];
        let read = |register| match register {
            0 => 10,
            8 => 640,
            12 => 1,
            16 | 20 => 2,
            _ => unreachable!("register {register}"),
        };
        counters.read(registers, read);
        counters.read(registers, read);
        let totals = counters.statistics();
        assert_eq!((totals.received, totals.missed, totals.sent), (20, 8, 0));
        assert_eq!(totals.received_bytes, 2 * ((1 << 32) + 640) - 80);
    }
}
