//! Fault injection: each [`Fault`], raised by the domain that links this crate.
//!
//! A library for domains that tests crash: `fault-target`, which fails on request, and drivers under load
//! ([`with_fault_control`]). All of it is safe code; exceptions that safe code cannot raise are in
//! `coppice-exceptions`.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod trigger;

use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::time::Duration;

use coppice_rref::RRef;
use coppice_runtime::sync::Mutex;
use coppice_runtime::{entry, thread, time};
use coppice_test_interfaces::Fault;

pub use trigger::with_fault_control;

/// Raises `fault`. Returns, if at all, only when the machine does not raise it. Not inlined, so that a
/// backtrace names it.
#[inline(never)]
pub fn fail(fault: Fault) {
    match fault {
        Fault::Panic => panic!("this domain was told to panic"),
        Fault::PanicWhilePanicking => panic!("{PanicsInDrop}"),
        Fault::PanicInDrop => drop(PanicsInDrop),
        Fault::PanicInThread => {
            thread::spawn(panic_in_thread).expect("the manifest allows a thread").join();
        }
        Fault::Abort => entry::abort("this domain was told to abort"),
        Fault::OutOfBounds => {
            let array = [0_u8; 4];
            black_box(array[black_box(array.len())]);
        }
        Fault::Overflow => overflow(black_box(u32::MAX)),
        Fault::DivideByZero => {
            black_box(1 / black_box(0_u32));
        }
        Fault::DivideError => coppice_exceptions::divide_error(),
        Fault::InvalidOpcode => coppice_exceptions::invalid_opcode(),
        Fault::GeneralProtection => coppice_exceptions::general_protection(),
        Fault::ReadOfNull => coppice_exceptions::read_of_null(),
        Fault::WriteToCode => coppice_exceptions::write_to_code(),
        Fault::JumpIntoData => coppice_exceptions::jump_into_data(),
        Fault::Misaligned => coppice_exceptions::misaligned(),
        Fault::Breakpoint => coppice_exceptions::breakpoint(),
        Fault::DebugTrap => coppice_exceptions::debug_trap(),
        Fault::FloatingPoint => coppice_exceptions::floating_point(),
        Fault::Recursion => {
            black_box(recurse(0));
        }
        Fault::HugeFrame => huge_frame(),
        Fault::PrivateHeap => fill_private_heap(),
        Fault::SharedHeap => fill_shared_heap(),
        Fault::InfiniteLoop => loop {
            core::hint::spin_loop();
        },
        Fault::SpinAtTheEndOfTheStack => coppice_exceptions::spin_at_the_end_of_the_stack(),
        Fault::LockNeverReleased => {
            let lock = Mutex::new(());
            let _first = lock.lock();
            let _second = lock.lock();
        }
        Fault::EndlessWait => time::sleep_until(Duration::MAX),
        Fault::PanicWithoutStack => panic!("{ExhaustsStack}"),
        Fault::PanicWithoutMemory => panic!("{ExhaustsHeap}"),
        Fault::PanicAtTheEndOfTheStack => panic_at_the_end_of_the_stack(),
    }
}

#[inline(never)]
fn panic_in_thread() {
    panic!("a thread was told to panic")
}

/// Images are built with overflow checks.
fn overflow(number: u32) {
    black_box(number + 1);
}

/// Recurses practically without end. Each call has an observable frame and work after the inner call, so it
/// stays a recursion.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX {
        return 0;
    }
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + black_box(&frame)[0]
}

/// Needs a frame of four megabytes, more than any stack; it is touched page by page on the way in.
#[inline(never)]
fn huge_frame() {
    black_box(&mut [0_u8; 4 << 20]);
}

#[inline(never)]
fn fill_private_heap() {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(Vec::<u8>::with_capacity(4096)));
    }
}

#[inline(never)]
fn fill_shared_heap() {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(RRef::<[u8; 60_000]>::zeroed()));
    }
}

/// Descends until the stack has less left than the kernel wants for a report, but enough to panic, and panics
/// there.
#[inline(never)]
fn panic_at_the_end_of_the_stack() {
    /// Of 128 KiB, of which the callers have used a few already; the kernel wants 12.
    const USED: usize = 118 * 1024;
    #[inline(never)]
    fn deeper(top: usize) -> usize {
        let frame = black_box([top; 16]);
        let here = core::ptr::from_ref(&frame).addr();
        assert!(top - here < USED, "a panic at the end of the stack");
        deeper(top) + black_box(&frame)[0]
    }
    let top = core::ptr::from_ref(&black_box(0_u64)).addr();
    black_box(deeper(top));
}

/// A value whose message and destructor panic.
struct PanicsInDrop;

impl fmt::Display for PanicsInDrop {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("a message panicked")
    }
}

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("a destructor panicked")
    }
}

/// A value whose message exhausts the stack.
struct ExhaustsStack;

impl fmt::Display for ExhaustsStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", recurse(0))
    }
}

/// A value whose message exhausts the private heap.
struct ExhaustsHeap;

impl fmt::Display for ExhaustsHeap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fill_private_heap();
        f.write_str("unreachable")
    }
}
