//! [`Backtrace`]: the functions that a domain's code was in when it crashed.
//!
//! The stack is walked in place, by the unwind tables of the image from the boot archive
//! ([`coppice_manifest::Symbols`]), so compiled code needs no frame pointers. The walk allocates nothing and
//! takes no lock: a trap handler runs it, because the crash path overwrites the frames. A backtrace stores
//! offsets in the image; names are looked up when it is printed.
//!
//! The stack's content is not trusted: each step has to go up, and reads stay on the thread's own stack,
//! below the frame of the proxy that entered the domain.

use core::fmt;
use core::ops::Range;

use coppice_manifest::{Base, Symbols};

/// The number of frames that are kept, innermost first.
const DEPTH: usize = 16;

/// The registers of a frame that its unwind rule needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// The instruction, or the return address of a call.
    pub(crate) rip: usize,
    pub(crate) rsp: usize,
    pub(crate) rbp: usize,
    /// The end address of a stack probe; valid in the innermost frame only.
    pub(crate) r11: usize,
    /// `rip` is a return address, so it lies behind the call.
    pub(crate) is_return: bool,
}

/// The functions of one image that a thread was in, innermost first.
#[derive(Clone, Copy)]
pub(crate) struct Backtrace {
    /// Offsets in the image, of the instruction itself: in a caller, the last byte of its call.
    offsets: [u32; DEPTH],
    len: usize,
}

impl Backtrace {
    /// An empty backtrace.
    pub(crate) const NONE: Self = Self { offsets: [0; DEPTH], len: 0 };

    /// Walks a stack on which `code` ran, by `symbols`, the tables of its image.
    ///
    /// # Safety
    /// `stack` is a readable part of that stack.
    pub(crate) unsafe fn walk(
        code: &Range<usize>,
        symbols: Option<&Symbols<'_>>,
        registers: Registers,
        stack: &Range<usize>,
    ) -> Self {
        let mut backtrace = Self::NONE;
        let rule = |offset| symbols?.rule(offset);
        let mut at = registers;
        let is_code = code.contains(&at.rip) && rule((at.rip - code.start) as u32).is_some();
        if !is_code && !at.is_return {
            // A jump to an invalid address or into data may have been a call, so the top of the stack is a
            // return address.
            // SAFETY: the caller's promise.
            let Some(rip) = (unsafe { read(stack, at.rsp) }) else { return backtrace };
            at = Registers { rip, rsp: at.rsp + 8, is_return: true, ..at };
        }
        while backtrace.len < DEPTH && code.contains(&at.rip) {
            let Some(offset) = ((at.rip - code.start) as u32).checked_sub(at.is_return.into()) else { break };
            backtrace.offsets[backtrace.len] = offset;
            backtrace.len += 1;
            let Some(rule) = rule(offset) else { break };
            let base = match rule.base {
                Base::Rsp => at.rsp,
                Base::Rbp => at.rbp,
                Base::R11 => at.r11,
            };
            let cfa = base.wrapping_add(rule.cfa as usize);
            if cfa <= at.rsp {
                break;
            }
            // SAFETY: the caller's promise.
            let Some(rip) = (unsafe { read(stack, cfa.wrapping_sub(8)) }) else { break };
            // SAFETY: as above.
            let saved = rule.saved_rbp.map(|below| unsafe { read(stack, cfa.wrapping_sub(below as usize)) });
            let Some(rbp) = saved.unwrap_or(Some(at.rbp)) else { break };
            at = Registers { rip, rsp: cfa, rbp, r11: 0, is_return: true };
        }
        backtrace
    }

    /// The frames from the crash outwards, without the functions that carry a panic to the kernel.
    pub(crate) fn frames(
        &self,
        symbols: Option<Symbols<'static>>,
        image: &'static str,
    ) -> impl Iterator<Item = Frame> + use<> {
        let frame = move |offset: u32| Frame { offset, symbols, image };
        let known = self.offsets.into_iter().take(self.len).map(frame);
        let panic_frames = known.clone().take_while(Frame::is_panic_path).count();
        known.skip(panic_frames)
    }
}

/// Reads a word of `stack`.
///
/// # Safety
/// `stack` is readable.
unsafe fn read(stack: &Range<usize>, address: usize) -> Option<usize> {
    let fits = address.is_multiple_of(8) && address >= stack.start && address.checked_add(8)? <= stack.end;
    // SAFETY: the caller's promise; any bit pattern is a number.
    fits.then(|| unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() })
}

/// A function that a thread was in.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    offset: u32,
    symbols: Option<Symbols<'static>>,
    image: &'static str,
}

impl Frame {
    fn function(&self) -> Option<(&'static str, u32)> {
        self.symbols?.function(self.offset)
    }

    /// Returns true if the function belongs to the path from a panic to the kernel.
    fn is_panic_path(&self) -> bool {
        const PANIC_PATH: [&str; 3] =
            ["coppice_runtime::entry::", "__rustc::rust_begin_unwind", "core::panicking::"];
        self.function().is_some_and(|(name, _)| PANIC_PATH.iter().any(|prefix| name.starts_with(prefix)))
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function() {
            Some((name, into)) => write!(f, "{name} + {into:#x}"),
            None => write!(f, "{} + {:#x}", self.image, self.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use coppice_manifest::{Row, Rule, encode_symbols};

    use super::*;

    /// The address range of the code in these tests; nothing runs or reads it.
    const CODE: Range<usize> = 0x10_0000..0x10_1000;

    /// At 0x100 a leaf, at 0x200 a function with a frame of 32 bytes, at 0x300 one that saves `rbp`, at 0x400
    /// one whose frame is based on it.
    fn tables() -> Vec<u8> {
        let rule = |base, cfa, saved_rbp| Some(Rule { base, cfa, saved_rbp });
        let row = |start, rule| Row { start, rule };
        let rows = [
            row(0x100, rule(Base::Rsp, 8, None)),
            row(0x200, rule(Base::Rsp, 32, None)),
            row(0x300, rule(Base::Rsp, 16, Some(16))),
            row(0x400, rule(Base::Rbp, 16, Some(16))),
            row(0x500, None),
        ];
        encode_symbols(&rows, &[])
    }

    fn walk(registers: Registers, stack: &[usize]) -> Vec<u32> {
        let tables = tables();
        let symbols = Symbols::parse(&tables).expect("just made");
        let start = stack.as_ptr().expose_provenance();
        // SAFETY: the slice is readable.
        let backtrace = unsafe {
            Backtrace::walk(&CODE, Some(&symbols), registers, &(start..start + size_of_val(stack)))
        };
        backtrace.offsets[..backtrace.len].to_vec()
    }

    fn at(rip: usize, stack: &[usize], rbp: usize) -> Registers {
        Registers { rip, rsp: stack.as_ptr().addr(), rbp, r11: 0, is_return: false }
    }

    #[test]
    fn walk_passes_frames_of_each_kind() {
        let mut stack = [0; 16];
        let frame = |index: usize, stack: &[usize; 16]| stack.as_ptr().addr() + index * 8;
        stack[0] = CODE.start + 0x210; // the leaf's caller
        stack[4] = CODE.start + 0x310; // its caller, with a frame of 32 bytes
        stack[5] = frame(9, &stack); // the rbp that this one saves
        stack[6] = CODE.start + 0x410; // its caller, with a frame based on rbp
        stack[10] = 7; // whose caller is outside the domain
        assert_eq!(walk(at(CODE.start + 0x100, &stack, 0), &stack), [0x100, 0x20f, 0x30f, 0x40f]);
    }

    #[test]
    fn caller_of_an_invalid_address_is_named() {
        let stack = [CODE.start + 0x205, 0, 0, 0, 0];
        assert_eq!(walk(at(0, &stack, 0), &stack), [0x204]);
        // Data of the image is not code either.
        assert_eq!(walk(at(CODE.start + 0x600, &stack, 0), &stack), [0x204]);
    }

    #[test]
    fn overwritten_stack_ends_the_walk() {
        let stack = [CODE.start + 0x410; 64];
        // Downwards, in place, outside the stack, and misaligned.
        for rbp in [
            0,
            stack.as_ptr().addr() - 8,
            stack.as_ptr().addr() + 4096,
            stack.as_ptr().addr() + 4,
            usize::MAX - 8,
        ] {
            assert_eq!(walk(at(CODE.start + 0x400, &stack, rbp), &stack), [0x400], "rbp {rbp:#x}");
        }
        // The image's first byte cannot be a return address: no call is before it.
        let stack = [CODE.start; 8];
        assert_eq!(walk(at(CODE.start + 0x100, &stack, 0), &stack), [0x100]);
        // A frame that is its own caller without end still goes up, so the walk ends.
        let stack = [CODE.start + 0x101; 64];
        assert_eq!(walk(at(CODE.start + 0x100, &stack, 0), &stack), [0x100; DEPTH]);
    }
}
