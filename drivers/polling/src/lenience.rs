//! [`Lenience`]: how often a device may be at fault before it is given up.

/// After so long without a fault, earlier ones are forgiven.
const FORGIVEN_NS: u64 = 10_000_000_000;

/// Counts the faults of a device that each have been mended by a reset.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lenience {
    count: u32,
    last_ns: u64,
}

impl Lenience {
    /// One that has seen nothing.
    pub const fn new() -> Self {
        Self { count: 0, last_ns: 0 }
    }

    /// The device is at fault now. Answers how often it was of late, this time included.
    pub fn note(&mut self, now_ns: u64) -> u32 {
        if now_ns.saturating_sub(self.last_ns) > FORGIVEN_NS {
            self.count = 0;
        }
        *self = Self { count: self.count + 1, last_ns: now_ns };
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_has_behaved_for_long_begins_anew() {
        let mut lenience = Lenience::new();
        assert_eq!((lenience.note(1), lenience.note(2)), (1, 2));
        assert_eq!(lenience.note(2 + FORGIVEN_NS), 3);
        assert_eq!(lenience.note(3 + 2 * FORGIVEN_NS), 1);
    }
}
