//! [`Statistics`]: registers that forget when they are read, added up.

/// What happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Frames received whole and well.
    pub received: u64,
    /// Bytes of these, without FCS.
    pub received_bytes: u64,
    /// Of these, how many were sent to all.
    pub broadcast: u64,
    /// Of these, how many were sent to a group.
    pub multicast: u64,
    /// Frames sent.
    pub sent: u64,
    /// Bytes of these, without FCS.
    pub sent_bytes: u64,
    /// Frames that came and for which there was no buffer, or no room in the device.
    pub missed: u64,
    /// Frames with a wrong FCS, or an error of coding.
    pub damaged: u64,
    /// Frames that were too short or too long.
    pub misshapen: u64,
    /// Frames with a wrong checksum inside; they were received nevertheless.
    pub bad_checksums: u64,
}

/// What a counting register counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    Received,
    /// With FCS; another 32 bits, of which the lowest count, are behind it.
    ReceivedBytes,
    Broadcast,
    Multicast,
    Sent,
    /// As for those received.
    SentBytes,
    Missed,
    Damaged,
    Misshapen,
    BadChecksum,
    /// Is read so that it does not overflow, and shown nowhere.
    Other,
}

/// FCS, which the device counts.
const FCS_BYTES: u64 = 4;

/// Statistics with bytes as the device counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counters(Statistics);

impl Counters {
    /// Reads all registers, each of which is 0 afterwards.
    pub(crate) fn read(
        &mut self,
        registers: impl IntoIterator<Item = (usize, Count)>,
        read: impl Fn(usize) -> u32,
    ) {
        for (register, count) in registers {
            let low = u64::from(read(register));
            let all = &mut self.0;
            let place = match count {
                Count::Received => &mut all.received,
                Count::ReceivedBytes => &mut all.received_bytes,
                Count::Broadcast => &mut all.broadcast,
                Count::Multicast => &mut all.multicast,
                Count::Sent => &mut all.sent,
                Count::SentBytes => &mut all.sent_bytes,
                Count::Missed => &mut all.missed,
                Count::Damaged => &mut all.damaged,
                Count::Misshapen => &mut all.misshapen,
                Count::BadChecksum => &mut all.bad_checksums,
                Count::Other => continue,
            };
            let is_wide = matches!(count, Count::ReceivedBytes | Count::SentBytes);
            let high = if is_wide { u64::from(read(register + 4) & 0xF) << 32 } else { 0 };
            *place = place.wrapping_add(high | low);
        }
    }

    /// What they say, without FCS. While frames come, bytes may be those of a frame more or less.
    pub(crate) fn statistics(&self) -> Statistics {
        let all = self.0;
        Statistics {
            received_bytes: all.received_bytes.saturating_sub(FCS_BYTES * all.received),
            sent_bytes: all.sent_bytes.saturating_sub(FCS_BYTES * all.sent),
            ..all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_added_up_and_bytes_are_without_fcs() {
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
        let all = counters.statistics();
        assert_eq!((all.received, all.missed, all.sent), (20, 8, 0));
        assert_eq!(all.received_bytes, 2 * ((1 << 32) + 640) - 80);
    }
}
