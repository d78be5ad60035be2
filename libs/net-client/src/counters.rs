//! [`Counters`]: the number of frames of a client, by their fate.

/// The frames of a client since it was opened, by their fate. A frame in several packets counts as several.
///
/// Between two calls, and as long as the owner of the client neither adds packets to its batches nor removes
/// any:
///
/// - `written + turned_around` = `taken + lost` + the frames in
///   [`NetClient::outgoing`](crate::NetClient::outgoing);
/// - `received` = `turned_around + overflowed + recycled` + the frames in
///   [`NetClient::received`](crate::NetClient::received);
/// - `taken` = frames that the device has sent + `refused` + frames in flight in the queue; after a crash, at
///   most `reclaimed` frames more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Written by [`NetClient::send`](crate::NetClient::send).
    pub written: u64,
    /// Received, then moved into the outgoing batch by
    /// [`NetClient::turn_around`](crate::NetClient::turn_around).
    pub turned_around: u64,
    /// Taken by the queue out of the outgoing batch, to be sent or refused.
    pub taken: u64,
    /// Taken by the queue and refused: the packet came back with a reason. The device counts these too.
    pub refused: u64,
    /// Taken in an exchange that a crash interrupted, or that reported one. Some of these may have been sent.
    pub lost: u64,
    /// Received from the queue.
    pub received: u64,
    /// Received, and dropped by [`NetClient::turn_around`](crate::NetClient::turn_around) because the
    /// outgoing batch was full.
    pub overflowed: u64,
    /// Received, and still in [`NetClient::received`](crate::NetClient::received) when the packet was reused.
    /// This is the fate of all frames of a client that only receives.
    pub recycled: u64,
    /// Packets, with a frame or without, that a crash took and that returned to the pool directly.
    pub reclaimed: u64,
}

impl Counters {
    /// Counts an exchange that took `taken` frames and dropped `recycled` received ones.
    #[inline(always)]
    pub(crate) fn exchange(&mut self, taken: usize, recycled: usize, has_crashed: bool) {
        let taken_by = if has_crashed { &mut self.lost } else { &mut self.taken };
        *taken_by += taken as u64;
        self.recycled += recycled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lost_in_a_crash_do_not_count_as_taken() {
        let mut counters = Counters::default();
        counters.exchange(5, 2, false);
        counters.exchange(3, 1, true);
        assert_eq!(counters, Counters { taken: 5, lost: 3, recycled: 3, ..Counters::default() });
    }
}
