//! [`CpuLocal`]: per-CPU data, declared by the module that uses it.
//!
//! So no module has to know the per-CPU data of the others. An access costs one load more than a field behind
//! `gs` would, as for all of the kernel's per-CPU data: `gs` itself points to the block that domains' images
//! share with the kernel.

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use coppice_abi::crossing::CpuBlock;

use crate::platform::machine::CPU_LIMIT;

/// A `T` for each CPU that `create` was called for. Never freed.
pub(crate) struct CpuLocal<T>([AtomicPtr<T>; CPU_LIMIT]);

impl<T: Sync + 'static> CpuLocal<T> {
    /// No CPU has a value yet.
    pub(crate) const fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; CPU_LIMIT])
    }

    /// Stores CPU `cpu`'s value, for good.
    pub(crate) fn create(&self, cpu: usize, value: T) -> &'static T {
        let value = Box::leak(Box::new(value));
        self.0[cpu].store(value, Ordering::Release);
        value
    }

    /// CPU `cpu`'s value, if it has one.
    #[inline(always)]
    pub(crate) fn get(&self, cpu: usize) -> Option<&'static T> {
        // SAFETY: `create` stores leaked boxes.
        unsafe { self.0.get(cpu)?.load(Ordering::Acquire).as_ref() }
    }

    /// The value of the CPU that runs the caller, which is in a section.
    #[inline(always)]
    pub(crate) fn here(&self) -> &'static T {
        self.get(number_here()).expect("a CPU that runs has its data")
    }
}

/// The number of the CPU that runs the caller, which is in a section.
#[inline(always)]
pub(super) fn number_here() -> usize {
    let number: u32;
    // SAFETY: `gs` points to this CPU's block. Not `pure`: outside a section the result could change.
    unsafe {
        core::arch::asm!("mov {:e}, gs:[{offset}]", out(reg) number,
            offset = const CpuBlock::CPU, options(nostack, preserves_flags, readonly));
    }
    number as usize
}
