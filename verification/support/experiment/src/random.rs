//! [`Random`]: pseudo-random numbers, the same in each run with the same seed.

/// A splitmix64 generator. It is one addition and a mix, so each state is as good as any other, 0 included.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// 2^64 divided by the golden ratio: the increment of splitmix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Returns generator number `stream` of `seed`. Each thread of an experiment has its own; they are
    /// independent.
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed).wrapping_add(mix(stream.wrapping_add(STEP))))
    }

    /// Returns the next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Returns the next number, reduced below `limit`.
    ///
    /// # Panics
    /// When `limit` is 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_reproduces_its_numbers_and_streams_differ() {
        let take = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [(); 8].map(|()| random.next())
        };
        assert_eq!(take(7, 0), take(7, 0));
        for other in [take(7, 1), take(8, 0), take(0, 7), take(1, 7)] {
            assert!(take(7, 0).iter().all(|number| !other.contains(number)));
        }
    }

    #[test]
    fn small_numbers_are_uniformly_distributed() {
        let mut random = Random::new(0, 0);
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[random.below(10) as usize] += 1);
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
