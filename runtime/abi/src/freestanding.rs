//! The C functions that compiled Rust code calls implicitly. An ordinary program gets them from libc, the
//! kernel and the domain images from [`freestanding!`](crate::freestanding!).
//!
//! The bodies are ordinary functions, so that they have tests. A loop that LLVM could recognise as the
//! function that it implements, and replace by a call to itself, is written in assembly.

use core::arch::asm;

/// Length from which `rep movsq` and `rep stosq` beat a loop of 16-byte moves: their start-up costs about 30
/// cycles on CPUs of the last ten years.
const STRING_INSTRUCTION_MIN: usize = 512;

/// Copies `len` bytes, lowest address first: correct if the two do not overlap or `to` is below `from`.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes.
#[inline(always)]
pub unsafe fn copy_forward(to: *mut u8, from: *const u8, len: usize) {
    if len < 16 {
        // SAFETY: the caller's promise, and `len` is below 16.
        unsafe { copy_short(to, from, len) }
    } else if len < STRING_INSTRUCTION_MIN {
        // SAFETY: the caller's promise. `len` is at least 16, so the last 16 bytes, read before anything is
        // written, lie inside; the loop stays below them.
        unsafe {
            asm!(
                "movups {last}, [{from} + {end}]",
                "test {end}, {end}",
                "jz 3f",
                "2:",
                "movups {part}, [{from} + {at}]",
                "movups [{to} + {at}], {part}",
                "add {at}, 16",
                "cmp {at}, {end}",
                "jb 2b",
                "3:",
                "movups [{to} + {end}], {last}",
                from = in(reg) from, to = in(reg) to, end = in(reg) len - 16, at = inout(reg) 0usize => _,
                part = out(xmm_reg) _, last = out(xmm_reg) _, options(nostack),
            );
        }
    } else {
        // SAFETY: the caller's promise; the last 8 bytes are read before anything is written. The direction
        // flag is clear (System V ABI).
        unsafe {
            asm!(
                "mov {last}, [rsi + {len} - 8]",
                "lea {end}, [rdi + {len} - 8]",
                "rep movsq",
                "mov [{end}], {last}",
                inout("rsi") from => _, inout("rdi") to => _, inout("rcx") len / 8 => _, len = in(reg) len,
                last = out(reg) _, end = out(reg) _, options(nostack),
            );
        }
    }
}

/// Copies `len` bytes, highest address first: correct if the two do not overlap or `to` is above `from`.
///
/// # Safety
/// `from` is readable and `to` writable for `len` bytes.
#[inline(always)]
pub unsafe fn copy_backward(to: *mut u8, from: *const u8, len: usize) {
    if len < 16 {
        // SAFETY: the caller's promise, and `len` is below 16.
        return unsafe { copy_short(to, from, len) };
    }
    // SAFETY: the caller's promise. The first 16 bytes are read before anything is written; the loop ends
    // when the rest lies within them.
    unsafe {
        asm!(
            "movups {first}, [{from}]",
            "test {at}, {at}",
            "jz 3f",
            "2:",
            "movups {part}, [{from} + {at}]",
            "movups [{to} + {at}], {part}",
            "sub {at}, 16",
            "jg 2b",
            "3:",
            "movups [{to}], {first}",
            from = in(reg) from, to = in(reg) to, at = inout(reg) len - 16 => _,
            part = out(xmm_reg) _, first = out(xmm_reg) _, options(nostack),
        );
    }
}

/// Copies fewer than 16 bytes, all read before the first is written: two moves that may overlap.
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, len: usize) {
    macro_rules! ends {
        ($word:ty) => {{
            let last = len - size_of::<$word>();
            // SAFETY: the caller's promise; a word fits in `len`.
            let low = unsafe { from.cast::<$word>().read_unaligned() };
            // SAFETY: as above.
            let high = unsafe { from.wrapping_add(last).cast::<$word>().read_unaligned() };
            // SAFETY: as above.
            unsafe { to.cast::<$word>().write_unaligned(low) };
            // SAFETY: as above.
            unsafe { to.wrapping_add(last).cast::<$word>().write_unaligned(high) };
        }};
    }
    match len {
        8.. => ends!(u64),
        4.. => ends!(u32),
        2.. => ends!(u16),
        1 => ends!(u8),
        0 => {}
    }
}

/// Fills `len` bytes with `byte`.
///
/// # Safety
/// `to` is writable for `len` bytes.
#[inline(always)]
pub unsafe fn fill(to: *mut u8, byte: u8, len: usize) {
    let pattern = u64::from(byte) * 0x0101_0101_0101_0101;
    macro_rules! ends {
        ($word:ty) => {{
            // SAFETY: the caller's promise; a word fits in `len`.
            unsafe { to.cast::<$word>().write_unaligned(pattern as $word) };
            // SAFETY: as above.
            unsafe {
                to.wrapping_add(len - size_of::<$word>()).cast::<$word>().write_unaligned(pattern as $word)
            };
        }};
    }
    match len {
        16.. => {
            // SAFETY: the caller's promise; the last 8 bytes are written a second time when `len` is no
            // multiple of 8. The direction flag is clear (System V ABI).
            unsafe {
                asm!(
                    "mov [rdi + {len} - 8], rax",
                    "cmp {len}, {string_instruction_min}",
                    "jae 3f",
                    "2:",
                    "mov [rdi], rax",
                    "add rdi, 8",
                    "dec rcx",
                    "jnz 2b",
                    "jmp 4f",
                    "3:",
                    "rep stosq",
                    "4:",
                    inout("rdi") to => _, inout("rcx") len / 8 => _, in("rax") pattern, len = in(reg) len,
                    string_instruction_min = const STRING_INSTRUCTION_MIN, options(nostack),
                );
            }
        }
        8.. => ends!(u64),
        4.. => ends!(u32),
        2.. => ends!(u16),
        1 => ends!(u8),
        0 => {}
    }
}

/// Compares `len` bytes as unsigned numbers: negative, zero or positive as C's `memcmp`.
///
/// # Safety
/// Both are readable for `len` bytes.
#[inline(always)]
pub unsafe fn compare(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut at = 0;
    while len - at >= 8 {
        // SAFETY: the caller's promise: `at + 8` is at most `len`.
        let x = unsafe { a.wrapping_add(at).cast::<u64>().read_unaligned() };
        // SAFETY: as above.
        let y = unsafe { b.wrapping_add(at).cast::<u64>().read_unaligned() };
        if x != y {
            // The lowest address decides, so it has to be the most significant byte.
            return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < len {
        // SAFETY: the caller's promise: `at` is below `len`.
        let x = unsafe { *a.wrapping_add(at) };
        // SAFETY: as above.
        let y = unsafe { *b.wrapping_add(at) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// Returns the number of bytes before the NUL.
///
/// # Safety
/// `text` is readable up to and including a NUL.
#[inline(always)]
pub unsafe fn string_length(text: *const u8) -> usize {
    let left: usize;
    // SAFETY: the caller's promise: the scan ends at the NUL. The direction flag is clear (System V ABI).
    unsafe {
        asm!("repne scasb", inout("rdi") text => _, inout("rcx") usize::MAX => left, in("al") 0u8,
            options(nostack, readonly));
    }
    usize::MAX - left - 1
}

/// Defines the C functions that a freestanding image must provide: five for memory, `strlen`, and two that
/// prebuilt `alloc` refers to but that are never called, since a panic aborts.
///
/// Use it once per image, at the root of its binary crate.
#[macro_export]
macro_rules! freestanding {
    () => {
        const _: () = {
            /// # Safety
            /// As C's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
                // SAFETY: the caller keeps C's contract: both are valid for `len` bytes and apart.
                unsafe { $crate::freestanding::copy_forward(to, from, len) };
                to
            }

            /// # Safety
            /// As C's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
                // Wraps for `to` below `from`, so one comparison detects the only case that must go backward.
                if to.addr().wrapping_sub(from.addr()) < len {
                    // SAFETY: the caller keeps C's contract; `to` lies above `from`.
                    unsafe { $crate::freestanding::copy_backward(to, from, len) };
                } else {
                    // SAFETY: the caller keeps C's contract; `to` lies below `from` or they are apart.
                    unsafe { $crate::freestanding::copy_forward(to, from, len) };
                }
                to
            }

            /// # Safety
            /// As C's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
                // SAFETY: the caller keeps C's contract.
                unsafe { $crate::freestanding::fill(to, byte as u8, len) };
                to
            }

            /// # Safety
            /// As C's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
                // SAFETY: the caller keeps C's contract.
                unsafe { $crate::freestanding::compare(a, b, len) }
            }

            /// # Safety
            /// As C's `memcmp`.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
                // SAFETY: the caller keeps C's contract.
                unsafe { $crate::freestanding::compare(a, b, len) }
            }

            /// # Safety
            /// As C's.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn strlen(text: *const u8) -> usize {
                // SAFETY: the caller keeps C's contract.
                unsafe { $crate::freestanding::string_length(text) }
            }

            #[unsafe(no_mangle)]
            extern "C" fn rust_eh_personality() {}

            #[unsafe(no_mangle)]
            extern "C" fn _Unwind_Resume() {}
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths around every threshold above.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..70).chain(STRING_INSTRUCTION_MIN - 17..STRING_INSTRUCTION_MIN + 17).chain([1000, 4096])
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 167 + 13) as u8).collect()
    }

    #[test]
    fn copies_of_every_length_and_distance_match_the_standard_library() {
        for len in lengths() {
            for distance in [0, 1, 7, 8, 15, 16, 17, 100] {
                let mut down = noise(len + distance + 32);
                let mut expected = down.clone();
                expected.copy_within(16 + distance..16 + distance + len, 16);
                let base = down.as_mut_ptr();
                // SAFETY: both ends lie in `down`; the target is below the source.
                unsafe { copy_forward(base.wrapping_add(16), base.wrapping_add(16 + distance), len) };
                assert_eq!(down, expected, "down, {len} bytes by {distance}");

                let mut up = noise(len + distance + 32);
                let mut expected = up.clone();
                expected.copy_within(16..16 + len, 16 + distance);
                let base = up.as_mut_ptr();
                // SAFETY: both ends lie in `up`; the target is above the source.
                unsafe { copy_backward(base.wrapping_add(16 + distance), base.wrapping_add(16), len) };
                assert_eq!(up, expected, "up, {len} bytes by {distance}");
            }
        }
    }

    #[test]
    fn fill_writes_exactly_its_range() {
        for len in lengths() {
            let mut filled = noise(len + 32);
            let mut expected = filled.clone();
            expected[16..16 + len].fill(0xa5);
            // SAFETY: the range lies in `filled`.
            unsafe { fill(filled.as_mut_ptr().wrapping_add(16), 0xa5, len) };
            assert_eq!(filled, expected, "{len} bytes");
        }
    }

    #[test]
    fn the_first_differing_byte_decides_a_comparison() {
        for len in 1..40 {
            for at in 0..len {
                let a = noise(len);
                let mut b = a.clone();
                b[at] = b[at].wrapping_add(1);
                for later in &mut b[at + 1..] {
                    *later = !*later;
                }
                // SAFETY: both have `len` bytes.
                let order = unsafe { compare(a.as_ptr(), b.as_ptr(), len) };
                assert_eq!(order.signum() as i8, a.cmp(&b) as i8, "{len} bytes, differing at {at}");
                // SAFETY: as above.
                assert_eq!(unsafe { compare(a.as_ptr(), a.as_ptr(), len) }, 0);
            }
        }
    }

    #[test]
    fn string_length_counts_the_bytes_before_the_nul() {
        for text in ["\0", "a\0", "some words\0more"] {
            // SAFETY: each has a NUL.
            let len = unsafe { string_length(text.as_ptr()) };
            assert_eq!(len, text.find('\0').expect("each has a NUL"));
        }
    }
}
