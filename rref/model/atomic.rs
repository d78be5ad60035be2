//! The header's atomics for tests: each access is a step of the model.

use core::sync::atomic::{self, Ordering};

use super::{is_unwinding, step};

macro_rules! atomics {
    ($($name:ident($word:ty))*) => {$(
        /// Like the one of `core`, and of the same size. All zero is a valid one, as in fresh memory.
        #[repr(transparent)]
        pub(crate) struct $name(atomic::$name);

        // Each operation is used by one of the two at least.
        #[allow(dead_code, reason = "the two have the same operations, of which the header needs some")]
        impl $name {
            pub(crate) fn load(&self, order: Ordering) -> $word {
                // A free slot stays free until it is taken from a list, so reading one is no step: the sweep
                // reads a thousand.
                if self.0.load(order) == 0 {
                    return 0;
                }
                step();
                self.0.load(order)
            }

            pub(crate) fn store(&self, value: $word, order: Ordering) {
                step();
                if !is_unwinding() {
                    self.0.store(value, order);
                }
            }

            pub(crate) fn fetch_add(&self, value: $word, order: Ordering) -> $word {
                step();
                self.0.fetch_add(value, order)
            }

            pub(crate) fn fetch_sub(&self, value: $word, order: Ordering) -> $word {
                step();
                self.0.fetch_sub(value, order)
            }

            pub(crate) fn compare_exchange(
                &self,
                from: $word,
                to: $word,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$word, $word> {
                step();
                if is_unwinding() {
                    // A frame that is abandoned drops nothing.
                    return Ok(from);
                }
                self.0.compare_exchange(from, to, success, failure)
            }
        }
    )*};
}

atomics! { AtomicU32(u32) AtomicU64(u64) }
