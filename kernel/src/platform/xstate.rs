//! Which registers beyond the general ones a detour keeps: what may be in use where a trap diverts code.
//!
//! Domains and kernel are compiled for baseline x86-64 and need x87 and SSE only. But on the hosted machine the kernel's
//! image, and so its proxies, copy memory by the host's C library, which takes the widest registers that the CPU has: a thread
//! that was preempted in the middle of a copy lost their upper halves to the next copy (seen as a text that was not UTF-8
//! when it arrived). So whatever the machine has enabled is kept.

use core::arch::x86_64::{__cpuid_count, _xgetbv};
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes that `switch::divert` has for these registers: enough for all of [`COMPONENTS`] on any CPU so far.
pub(crate) const AREA_BYTES: usize = 3072;

/// x87, SSE, AVX, and the three of AVX-512 (Intel SDM volume 1, section 13.1: state components 0, 1, 2, 5, 6, 7). Others are no
/// registers that code for copying uses.
const COMPONENTS: u32 = 0b1110_0111;

/// State components that a detour keeps by `xsave`; 0 where there is no such instruction, or the machine has not enabled it:
/// then it keeps x87 and SSE by `fxsave`.
pub(crate) static SAVED_COMPONENTS: AtomicU32 = AtomicU32::new(0);

/// Finds out what the machine has enabled. Before anything can be diverted.
///
/// # Panics
/// When that takes more than [`AREA_BYTES`].
pub(crate) fn init() {
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return;
    }
    // SAFETY: the instruction is there, as OSXSAVE says.
    let enabled = unsafe { enabled() } & COMPONENTS;
    // CPUID leaf 13 tells where each component lies in the standard form (Intel SDM volume 1, section 13.4.3); the first two
    // and the header take 576 bytes.
    let end = (2..u32::BITS).filter(|component| enabled >> component & 1 != 0).fold(576, |end, component| {
        let place = __cpuid_count(13, component);
        end.max(place.ebx + place.eax)
    });
    assert!(
        end as usize <= AREA_BYTES,
        "the CPU's vector registers take {end} bytes, and a detour keeps {AREA_BYTES}"
    );
    SAVED_COMPONENTS.store(enabled, Ordering::Relaxed);
}

/// What XCR0 enables.
///
/// # Safety
/// The machine has set CR4.OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn enabled() -> u32 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) as u32 }
}
