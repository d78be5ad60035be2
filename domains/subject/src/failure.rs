//! Ways to go wrong, for [`coppice_interfaces::Subject::fail`].

use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::time::Duration;

use coppice_interfaces::Fault;
use coppice_runtime::sync::Mutex;
use coppice_runtime::{entry, thread, time};

/// Goes wrong in that way.
pub(crate) fn fail(fault: Fault) {
    match fault {
        Fault::Panic => panic!("a subject was told to panic"),
        Fault::PanicWhilePanicking => panic!("{Mine}"),
        Fault::PanicInDrop => drop(Mine),
        Fault::PanicInThread => {
            let thread = thread::spawn(|| panic!("a subject's thread was told to panic"));
            thread.expect("the manifest allows a thread").join();
        }
        Fault::Abort => entry::abort("a subject was told to abort"),
        Fault::OutOfBounds => {
            let places = [0_u8; 4];
            black_box(places[black_box(places.len())]);
        }
        Fault::Overflow => {
            black_box(black_box(u32::MAX).checked_add(1).expect("a subject was told to overflow"));
        }
        Fault::DivideByZero => {
            black_box(1 / black_box(0_u32));
        }
        Fault::Recursion => {
            black_box(recurse(0));
        }
        Fault::HugeFrame => {
            black_box(&[0_u8; 1 << 20]);
        }
        Fault::PrivateHeap => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(black_box(Vec::<u8>::with_capacity(4096)));
            }
        }
        Fault::InfiniteLoop => loop {
            core::hint::spin_loop();
        },
        Fault::LockNeverReleased => {
            let lock = Mutex::new(());
            let _first = lock.lock();
            let _second = lock.lock();
        }
        Fault::EndlessWait => time::sleep_until(Duration::MAX),
        _ => {}
    }
}

fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + black_box(&frame)[0]
}

/// Something whose message and destructor panic.
struct Mine;

impl fmt::Display for Mine {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a message panicked")
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        panic!("a destructor panicked")
    }
}
