//! [`Counter`] and [`losses!`](crate::losses): a place for each frame or request that a model does not deliver.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that any thread may add to and read.
///
/// It orders nothing: a reader that needs more than an old value has to know by other means that a loss has happened.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count so far.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Defines two structs with the same fields: counters, and their values at one time with a `sum`.
///
/// Both come from one list, so that no loss is missing from the sum.
#[macro_export]
macro_rules! losses {
    (
        $(#[$values_doc:meta])* pub struct $values:ident;
        $(#[$counters_doc:meta])* pub struct $counters:ident;
        $($(#[$doc:meta])* $field:ident,)+
    ) => {
        $(#[$values_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $values {
            $($(#[$doc])* pub $field: u64,)+
        }

        impl $values {
            /// All of them.
            pub const fn sum(&self) -> u64 {
                0 $(+ self.$field)+
            }
        }

        $(#[$counters_doc])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $($(#[$doc])* pub $field: $crate::Counter,)+
        }

        impl $counters {
            /// The counts so far.
            pub fn read(&self) -> $values {
                $values { $($field: self.$field.get(),)+ }
            }
        }
    };
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro is for the interfaces of other crates")]
mod tests {
    crate::losses! {
        /// Values.
        pub struct Losses;
        /// Counters.
        pub struct LossCounters;
        /// One kind.
        one,
        /// Another.
        other,
    }

    #[test]
    fn each_counter_has_its_value_and_all_are_in_the_sum() {
        let counters = LossCounters::default();
        counters.one.add(3);
        counters.other.add(4);
        counters.one.add(1);
        let losses = counters.read();
        assert_eq!(losses, Losses { one: 4, other: 4 });
        assert_eq!(losses.sum(), 8);
    }
}
