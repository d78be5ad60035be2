//! Deliberate leaks, which the leak checks must notice: the option `mutation` of a kernel for tests.
//!
//! A leak check that passes on these kernels checks nothing. Each leak happens once for each instance that
//! ends.

use alloc::boxed::Box;
use core::hint::black_box;

use coppice_abi::DomainId;

use crate::domain::shared_heap;
use crate::memory::heap::{Charge, Purpose, try_box};
use crate::platform::options;
use crate::sched::thread::{RECOVERY, Thread, Work};
use crate::sched::wait;

/// Loses the resource that the option names.
///
/// # Panics
/// When the option names none.
pub(super) fn at_death(victim: DomainId) {
    match options::option("mutation") {
        None => {}
        // Without the black box the compiler removes the allocation.
        Some("leak-kernel-heap") => drop(Box::leak(black_box(Box::new([1_u8; 4096])))),
        Some("leak-domain-heap") => {
            drop(try_box(Charge::to(victim, Purpose::Image), [1_u8; 256]).map(Box::leak));
        }
        Some("leak-object") => {
            let _ = shared_heap::alloc(DomainId::KERNEL, 0, 1, 1);
        }
        Some("leak-thread") => {
            let sleep = Work::Kernel(|| wait::sleep_until(u64::MAX));
            let _ = Thread::spawn(DomainId::KERNEL, RECOVERY, u64::MAX, 32 * 1024, sleep);
        }
        Some(other) => panic!("option mutation: {other} is not known"),
    }
}
