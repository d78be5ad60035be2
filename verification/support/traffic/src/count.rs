//! [`Count`]: the received sequence numbers of a stream.

/// The classification of a counted frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// The first frame with its number.
    Once {
        /// True if a frame with a higher number came before it.
        late: bool,
    },
    /// A duplicate, or a frame so late that this is unknown.
    Duplicate,
    /// The number is from before the count began.
    Stale,
}

/// The received numbers. A duplicate is detected while its number is among the last `64 * WORDS` ones.
/// `WORDS` is a power of two.
///
/// Each number costs one bit operation. When the highest number rises by more than one, the numbers between
/// are missing until they arrive.
#[derive(Clone, Debug)]
pub struct Count<const WORDS: usize> {
    /// One bit for each number below `next`, at the number modulo the window.
    seen: [u64; WORDS],
    base: u64,
    /// One above the highest received number.
    next: u64,
    once: u64,
    late: u64,
    twice: u64,
    stale: u64,
}

impl<const WORDS: usize> Default for Count<WORDS> {
    fn default() -> Self {
        Self::new(0)
    }
}

impl<const WORDS: usize> Count<WORDS> {
    /// The distance from the highest number within which a duplicate is detected.
    pub const WINDOW: u64 = {
        assert!(WORDS.is_power_of_two(), "the word index is a mask");
        64 * WORDS as u64
    };

    /// Returns an empty count; numbers begin at `base`.
    pub const fn new(base: u64) -> Self {
        Self { seen: [0; WORDS], base, next: base, once: 0, late: 0, twice: 0, stale: 0 }
    }

    /// Resets the count in place.
    pub fn reset(&mut self, base: u64) {
        self.seen.fill(0);
        (self.base, self.next) = (base, base);
        (self.once, self.late, self.twice, self.stale) = (0, 0, 0, 0);
    }

    /// Counts a received frame with this number.
    #[inline]
    pub fn add(&mut self, number: u64) -> Counted {
        if number < self.next {
            return self.add_behind(number);
        }
        if number > self.next {
            self.skip_to(number);
        }
        let (word, bit) = place::<WORDS>(number);
        // The first number of a word finds the bits of one window ago there.
        self.seen[word] = if bit == 1 { 1 } else { self.seen[word] | bit };
        self.next = number + 1;
        self.once += 1;
        Counted::Once { late: false }
    }

    /// Returns the number of distinct received numbers.
    pub const fn once(&self) -> u64 {
        self.once
    }

    /// Returns the number of missing numbers below the highest received one.
    pub const fn missing(&self) -> u64 {
        self.next - self.base - self.once
    }

    /// Returns the number of frames that came after a higher number.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Returns the number of duplicates, including frames so late that this is unknown.
    pub const fn twice(&self) -> u64 {
        self.twice
    }

    /// Returns the number of frames from before the count began.
    pub const fn stale(&self) -> u64 {
        self.stale
    }

    /// Returns one above the highest received number.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Clears the bits of the numbers from `next` to `number`, which itself is not yet received.
    #[cold]
    fn skip_to(&mut self, number: u64) {
        if number - self.next >= Self::WINDOW {
            self.seen.fill(0);
            return;
        }
        // Clears the words that begin on the way; the word of `next` is already clear, unless `next` is its
        // first number.
        let mut first = self.next.next_multiple_of(64);
        while first <= number {
            self.seen[place::<WORDS>(first).0] = 0;
            first += 64;
        }
    }

    #[cold]
    fn add_behind(&mut self, number: u64) -> Counted {
        if number < self.base {
            self.stale += 1;
            return Counted::Stale;
        }
        let (word, bit) = place::<WORDS>(number);
        // The word of the highest number has just been cleared, so the window ends at its start.
        let oldest = ((self.next - 1) / 64 * 64).saturating_sub(Self::WINDOW - 64);
        if number < oldest || self.seen[word] & bit != 0 {
            self.twice += 1;
            return Counted::Duplicate;
        }
        self.seen[word] |= bit;
        self.once += 1;
        self.late += 1;
        Counted::Once { late: true }
    }
}

#[inline(always)]
const fn place<const WORDS: usize>(number: u64) -> (usize, u64) {
    ((number / 64) as usize & (WORDS - 1), 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_late_and_duplicate_numbers_are_distinguished() {
        let mut count = Count::<4>::new(10);
        for number in [10, 11, 13, 14] {
            assert_eq!(count.add(number), Counted::Once { late: false });
        }
        assert_eq!(count.missing(), 1);
        assert_eq!(count.add(12), Counted::Once { late: true });
        assert_eq!(count.add(12), Counted::Duplicate);
        assert_eq!(count.add(9), Counted::Stale);
        assert_eq!(
            (count.once(), count.missing(), count.late(), count.twice(), count.stale()),
            (5, 0, 1, 1, 1)
        );
        count.add(1_000_000);
        assert_eq!(count.missing(), 1_000_000 - 15);
        assert_eq!(count.add(15), Counted::Duplicate, "beyond the window");
        count.reset(5);
        assert_eq!((count.next(), count.once(), count.missing(), count.stale()), (5, 0, 0, 0));
    }

    proptest! {
        /// Compares with a set of all numbers, as long as none is older than the guaranteed window.
        #[test]
        fn the_count_agrees_with_a_set(base in 0u64..200, steps in prop::collection::vec((0u64..90, 0u64..190), 1..300)) {
            let mut count = Count::<4>::new(base);
            let mut set = BTreeSet::new();
            let (mut late, mut twice, mut stale) = (0, 0, 0);
            let mut highest = base;
            for (up, back) in steps {
                highest = highest.max(base) + up;
                let number = highest.saturating_sub(back);
                let expected = if number < base {
                    stale += 1;
                    Counted::Stale
                } else if set.contains(&number) {
                    twice += 1;
                    Counted::Duplicate
                } else {
                    let is_late = set.last().is_some_and(|last| *last > number);
                    late += u64::from(is_late);
                    Counted::Once { late: is_late }
                };
                // Only accepted numbers move the window.
                highest = set.last().copied().unwrap_or(base).max(number);
                if number >= base {
                    set.insert(number);
                }
                prop_assert_eq!(count.add(number), expected, "number {}", number);
            }
            prop_assert_eq!((count.once(), count.late(), count.twice(), count.stale()), (set.len() as u64, late, twice, stale));
            let span = set.last().map_or(0, |last| last + 1 - base);
            prop_assert_eq!(count.missing(), span - set.len() as u64);
        }
    }
}
