//! [`Counters`]: the end of each frame that a port had.

/// The frames of a port since it was opened, by what became of them. A frame in several packets counts as several.
///
/// Between two calls, and as long as the owner of the port neither puts packets into its batches nor takes any out:
///
/// - `written + turned_around` = `taken + lost` + the frames in [`Port::outgoing`](crate::Port::outgoing);
/// - `received` = `turned_around + overflowed + recycled` + the frames in [`Port::received`](crate::Port::received);
/// - `taken` = frames that the device has sent + `refused` + frames under way in the queue, or, after a crash, at most
///   `reclaimed` frames more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Written by [`Port::send`](crate::Port::send).
    pub written: u64,
    /// Received and then put into the outgoing batch by [`Port::turn_around`](crate::Port::turn_around).
    pub turned_around: u64,
    /// Taken by the queue from the outgoing batch, to be sent or refused.
    pub taken: u64,
    /// Taken by the queue and refused: its packet came back with a reason. The device counts these too.
    pub refused: u64,
    /// Taken in an exchange that a crash interrupted, or that reported one: sent or not.
    pub lost: u64,
    /// Given by the queue.
    pub received: u64,
    /// Received, and dropped by [`Port::turn_around`](crate::Port::turn_around) because the outgoing batch was full.
    pub overflowed: u64,
    /// Received, and still in [`Port::received`](crate::Port::received) when the packet was used again. A port's owner that only
    /// receives leaves all frames there.
    pub recycled: u64,
    /// Packets, with a frame or without, that a crash took and that came back past the queue.
    pub reclaimed: u64,
}

impl Counters {
    /// Counts an exchange that took `taken` frames and for which `recycled` received frames were given up.
    #[inline(always)]
    pub(crate) fn exchange(&mut self, taken: usize, recycled: usize, met_a_crash: bool) {
        let taken_by = if met_a_crash { &mut self.lost } else { &mut self.taken };
        *taken_by += taken as u64;
        self.recycled += recycled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_a_crash_took_do_not_count_as_taken() {
        let mut counters = Counters::default();
        counters.exchange(5, 2, false);
        counters.exchange(3, 1, true);
        assert_eq!(counters, Counters { taken: 5, lost: 3, recycled: 3, ..Counters::default() });
    }
}
