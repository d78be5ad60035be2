//! [`Counter`] and [`losses!`](crate::losses), which account for each frame or request that a model does not
//! deliver.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that any thread may add to and read.
///
/// Relaxed: a reader that needs more than an old value must be synchronised with the loss by other means.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the current count.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Defines two structs with the same fields: counters, and a snapshot of their values with a `sum`.
///
/// Both come from one list of fields, so that the sum contains every counter.
#[macro_export]
macro_rules! losses {
    (
        $(#[doc = $values_doc:literal])* pub struct $values:ident;
        $(#[doc = $counters_doc:literal])* pub struct $counters:ident;
        $($(#[doc = $doc:literal])* $field:ident,)+
    ) => {
        $(#[doc = $values_doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $values {
            $($(#[doc = $doc])* pub $field: u64,)+
        }

        impl $values {
            /// Returns the sum of all fields.
            pub const fn sum(&self) -> u64 {
                0 $(+ self.$field)+
            }
        }

        $(#[doc = $counters_doc])*
        #[derive(Debug, Default)]
        pub struct $counters {
            $($(#[doc = $doc])* pub $field: $crate::Counter,)+
        }

        impl $counters {
            /// Returns the current counts.
            pub fn read(&self) -> $values {
                $values { $($field: self.$field.get(),)+ }
            }
        }
    };
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro makes public structs for other crates")]
mod tests {
    crate::losses! {
        /// Values.
        pub struct Losses;
        /// Counters.
        pub struct LossCounters;
        /// The first field.
        one,
        /// The second field.
        other,
    }

    #[test]
    fn each_counter_is_read_and_summed() {
        let counters = LossCounters::default();
        counters.one.add(3);
        counters.other.add(4);
        counters.one.add(1);
        let losses = counters.read();
        assert_eq!(losses, Losses { one: 4, other: 4 });
        assert_eq!(losses.sum(), 8);
    }
}
