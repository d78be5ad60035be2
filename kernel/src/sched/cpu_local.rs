//! [`CpuLocal`]: data that each CPU has its own of, declared by the module that uses it.
//!
//! So no module has to know what the others keep for a CPU. An access costs a load more than a field behind `gs` would, as
//! all of the kernel's per-CPU data does: `gs` itself points to the block that domains' images share with the kernel.

use alloc::boxed::Box;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use coppice_abi::crossing::CpuBlock;

use crate::platform::machine::CPU_LIMIT;

/// One `T` for each CPU that has been given one. Never freed.
pub(crate) struct CpuLocal<T>([AtomicPtr<T>; CPU_LIMIT]);

impl<T: Sync + 'static> CpuLocal<T> {
    /// No CPU has one.
    pub(crate) const fn new() -> Self {
        Self([const { AtomicPtr::new(ptr::null_mut()) }; CPU_LIMIT])
    }

    /// Gives CPU `cpu` its own, for good.
    pub(crate) fn create(&self, cpu: usize, value: T) -> &'static T {
        let value = Box::leak(Box::new(value));
        self.0[cpu].store(value, Ordering::Release);
        value
    }

    /// The one of CPU `cpu`, if it has been given one.
    #[inline(always)]
    pub(crate) fn get(&self, cpu: usize) -> Option<&'static T> {
        // SAFETY: `create` stores leaked boxes.
        unsafe { self.0.get(cpu)?.load(Ordering::Acquire).as_ref() }
    }

    /// The one of the CPU that runs the caller, which is in a section.
    #[inline(always)]
    pub(crate) fn here(&self) -> &'static T {
        self.get(number_here()).expect("a CPU that runs has its data")
    }
}

/// The number of the CPU that runs the caller, which is in a section.
#[inline(always)]
pub(super) fn number_here() -> usize {
    let number: u32;
    // SAFETY: `gs` points to this CPU's block. Not `pure`: outside a section the answer could change.
    unsafe {
        core::arch::asm!("mov {:e}, gs:[{offset}]", out(reg) number,
            offset = const offset_of!(CpuBlock, cpu), options(nostack, preserves_flags, readonly));
    }
    number as usize
}
