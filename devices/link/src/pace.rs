//! [`Pace`]: the timing of one direction of a wire.

/// Bytes that a frame takes on the wire beside its own: preamble and start delimiter (8), FCS (4),
/// interpacket gap (12) (IEEE 802.3, 3.1.1 and 4.4.2).
const OVERHEAD_BYTES: u64 = 24;
/// The shortest frame without FCS; shorter ones are padded (IEEE 802.3, 4.4.2).
const SHORTEST_BYTES: u64 = 60;
/// The most that an idle wire may be behind the clock. Frames that were not sent by then were never offered:
/// the driver is not to blame if the host does not run the device's thread.
const BACKLOG_PS: u64 = 50_000_000;
const PS_PER_NS: u64 = 1000;
const PS_PER_SECOND: u64 = 1_000_000_000_000;

/// The rate of a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// Bits per second.
    BitsPerSecond(u64),
    /// Unlimited: the device and its peer set the rate.
    Unlimited,
}

impl Rate {
    /// 10 Gigabit Ethernet: 14.88 million of the shortest frames per second.
    pub const TEN_GIGABIT: Self = Self::BitsPerSecond(10_000_000_000);
}

/// The timing of one direction of a wire.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: Rate,
    /// The time of one byte in 2^-16 ps. A division for each frame would take longer than the frame.
    byte_ps16: u64,
    /// The time at which the gap behind the last frame ends.
    free_ps: u64,
}

impl Pace {
    /// An idle direction.
    pub const fn new(rate: Rate) -> Self {
        let byte_ps16 = match rate {
            Rate::Unlimited => 0,
            Rate::BitsPerSecond(rate) => {
                ((8 * PS_PER_SECOND) << 16).div_ceil(if rate == 0 { 1 } else { rate })
            }
        };
        Self { rate, byte_ps16, free_ps: 0 }
    }

    /// The rate.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The time of a frame of `bytes` without FCS, in picoseconds.
    fn duration_ps(&self, bytes: usize) -> u64 {
        ((bytes as u64).max(SHORTEST_BYTES) + OVERHEAD_BYTES).saturating_mul(self.byte_ps16) >> 16
    }

    /// Returns true if a frame can begin at `now_ns`.
    #[inline]
    pub fn is_free(&self, now_ns: u64) -> bool {
        self.free_ps <= now_ns * PS_PER_NS
    }

    /// The time from which the next frame can begin.
    pub const fn free_ns(&self) -> u64 {
        self.free_ps.div_ceil(PS_PER_NS)
    }

    /// Records a frame of `bytes` without FCS that begins at `now_ns`, or when the wire was last free.
    #[inline]
    pub fn occupy(&mut self, bytes: usize, now_ns: u64) {
        let start = self.free_ps.max((now_ns * PS_PER_NS).saturating_sub(BACKLOG_PS));
        self.free_ps = start + self.duration_ps(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_gigabit_carries_the_frame_rate_of_the_standard() {
        for (bytes, per_second) in [(60, 14_880_952), (1514, 812_743)] {
            let mut pace = Pace::new(Rate::TEN_GIGABIT);
            let start = 1_000_000_000;
            let mut frames = 0;
            for now in (start..start + 1_000_000).step_by(100) {
                while pace.is_free(now) {
                    pace.occupy(bytes, now);
                    frames += 1;
                }
            }
            // The frames of one millisecond, and those of the backlog that a wire begins with.
            let (least, most) = (per_second / 1000, per_second / 1000 * 105 / 100 + 2);
            assert!((least..=most).contains(&frames), "{frames} frames of {bytes} bytes");
        }
    }

    #[test]
    fn unused_time_on_the_wire_is_lost() {
        let mut pace = Pace::new(Rate::TEN_GIGABIT);
        pace.occupy(60, 1_000_000_000);
        let mut frames = 0;
        while pace.is_free(2_000_000_000) {
            pace.occupy(60, 2_000_000_000);
            frames += 1;
        }
        assert!(frames < 1000, "{frames} frames at once after a second of silence");
    }
}
