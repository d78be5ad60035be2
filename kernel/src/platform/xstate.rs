//! The extended registers that a detour saves: those that may be in use where a trap diverts code.
//!
//! Domains and kernel are compiled for baseline x86-64 and need x87 and SSE only. But on the hosted machine
//! the kernel's image, and so its proxies, copy memory with the host's C library, which uses the widest
//! registers that the CPU has: a thread that was preempted in the middle of a copy lost their upper halves to
//! the next copy (seen as a text that was not UTF-8 on arrival). So a detour saves all components that the
//! machine has enabled.

use core::arch::x86_64::{__cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes that `switch::divert` reserves for these registers: enough for all of [`COMPONENTS`] on any CPU so
/// far.
pub(crate) const AREA_BYTES: usize = 3072;

/// x87, SSE, AVX, and the three of AVX-512 (Intel SDM volume 1, section 13.1: state components 0, 1, 2, 5, 6,
/// 7). Code that copies memory uses no others.
const COMPONENTS: u32 = 0b1110_0111;

/// State components that a detour saves by `xsave`; 0 if the CPU has no such instruction or the machine has
/// not enabled it: a detour then saves x87 and SSE by `fxsave`.
pub(crate) static SAVED_COMPONENTS: AtomicU32 = AtomicU32::new(0);

/// Reads the components that the machine has enabled. Called before any code can be diverted.
///
/// # Panics
/// If they take more than [`AREA_BYTES`].
pub(crate) fn init() {
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return;
    }
    // SAFETY: OSXSAVE says that the instruction exists.
    let enabled = unsafe { enabled() } & COMPONENTS;
    // CPUID leaf 13 gives the place of each component in the standard form (Intel SDM volume 1, section
    // 13.4.3); the first two and the header take 576 bytes.
    let end = (2..u32::BITS).filter(|component| enabled >> component & 1 != 0).fold(576, |end, component| {
        let layout = __cpuid_count(13, component);
        end.max(layout.ebx + layout.eax)
    });
    assert!(
        end as usize <= AREA_BYTES,
        "the CPU's vector registers take {end} bytes, and a detour reserves {AREA_BYTES}"
    );
    SAVED_COMPONENTS.store(enabled, Ordering::Relaxed);
}

/// Returns the components that XCR0 enables.
///
/// # Safety
/// The machine has set CR4.OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn enabled() -> u32 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) as u32 }
}
