//! [`Count`]: which numbers of a stream have come.

/// What became of a frame that was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// It is the first with its number.
    Once {
        /// Whether one with a higher number came before it.
        late: bool,
    },
    /// It came before, or so long ago that this is not known.
    Twice,
    /// Its number is from before the count began.
    Stale,
}

/// Numbers that have come, each told from its repetition as long as it is among the last `64 * WORDS` ones. `WORDS` is a power of
/// two.
///
/// A number costs a bit to look at. When the highest goes up by more than one, the numbers between are missing until they come.
#[derive(Clone, Debug)]
pub struct Count<const WORDS: usize> {
    /// One bit per number below `next`, at its number's place modulo the window.
    seen: [u64; WORDS],
    base: u64,
    /// One above the highest that has come.
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
    /// How far behind the highest number a repetition is known as one.
    pub const WINDOW: u64 = {
        assert!(WORDS.is_power_of_two(), "places are found by masks");
        64 * WORDS as u64
    };

    /// Of nothing; numbers begin at `base`.
    pub const fn new(base: u64) -> Self {
        Self { seen: [0; WORDS], base, next: base, once: 0, late: 0, twice: 0, stale: 0 }
    }

    /// Begins anew, in place.
    pub fn reset(&mut self, base: u64) {
        self.seen.fill(0);
        (self.base, self.next) = (base, base);
        (self.once, self.late, self.twice, self.stale) = (0, 0, 0, 0);
    }

    /// A frame with this number has come.
    #[inline]
    pub fn add(&mut self, number: u64) -> Counted {
        if number < self.next {
            return self.add_behind(number);
        }
        if number > self.next {
            self.skip_to(number);
        }
        let (word, bit) = place::<WORDS>(number);
        // The first number of a word finds there what was one window ago.
        self.seen[word] = if bit == 1 { 1 } else { self.seen[word] | bit };
        self.next = number + 1;
        self.once += 1;
        Counted::Once { late: false }
    }

    /// Each number once.
    pub const fn once(&self) -> u64 {
        self.once
    }

    /// Numbers below the highest that did not come, so far.
    pub const fn missing(&self) -> u64 {
        self.next - self.base - self.once
    }

    /// Those that came behind a higher number.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Those that came again, or so late that nobody knows.
    pub const fn twice(&self) -> u64 {
        self.twice
    }

    /// Those from before the count began.
    pub const fn stale(&self) -> u64 {
        self.stale
    }

    /// One above the highest number that has come.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Forgets what stood at the places of the numbers from `next` to `number`, which is not yet seen either.
    #[cold]
    fn skip_to(&mut self, number: u64) {
        if number - self.next >= Self::WINDOW {
            self.seen.fill(0);
            return;
        }
        // Whole words that begin on the way; the one of `next` has been begun, unless `next` is its first number.
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
        // The word of the highest number has been begun anew, so the window ends where it does.
        let oldest = ((self.next - 1) / 64 * 64).saturating_sub(Self::WINDOW - 64);
        if number < oldest || self.seen[word] & bit != 0 {
            self.twice += 1;
            return Counted::Twice;
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
    fn what_is_missing_comes_late_and_twice_is_told() {
        let mut count = Count::<4>::new(10);
        for number in [10, 11, 13, 14] {
            assert_eq!(count.add(number), Counted::Once { late: false });
        }
        assert_eq!(count.missing(), 1);
        assert_eq!(count.add(12), Counted::Once { late: true });
        assert_eq!(count.add(12), Counted::Twice);
        assert_eq!(count.add(9), Counted::Stale);
        assert_eq!(
            (count.once(), count.missing(), count.late(), count.twice(), count.stale()),
            (5, 0, 1, 1, 1)
        );
        count.add(1_000_000);
        assert_eq!(count.missing(), 1_000_000 - 15);
        assert_eq!(count.add(15), Counted::Twice, "nobody knows any more");
        count.reset(5);
        assert_eq!((count.next(), count.once(), count.missing(), count.stale()), (5, 0, 0, 0));
    }

    proptest! {
        /// Against a set of all numbers, as long as none is older than the window is at least.
        #[test]
        fn it_agrees_with_a_set(base in 0u64..200, steps in prop::collection::vec((0u64..90, 0u64..190), 1..300)) {
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
                    Counted::Twice
                } else {
                    let is_late = set.last().is_some_and(|last| *last > number);
                    late += u64::from(is_late);
                    Counted::Once { late: is_late }
                };
                // Only what comes moves the window.
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
