//! [`Backtrace`]: which functions a domain's code was in when it failed.
//!
//! The stack is walked where it is found, by the image's tables from the boot archive ([`coppice_manifest::Symbols`]),
//! so compiled code keeps no frame pointers for it. Nothing is allocated and no lock is taken: a trap handler does this,
//! because the crash path will run over the frames. What is kept are offsets in the image; names are looked up when
//! somebody asks.
//!
//! What lies on the stack is not believed: each step has to go up, and reads stay on the thread's own stack, below the
//! frame of the proxy that entered the domain.

use core::fmt;
use core::ops::Range;

use coppice_manifest::{Base, Symbols};

/// How many frames are kept, the innermost first.
const DEPTH: usize = 16;

/// Where code was, and what its frame hangs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// The instruction, or where a call would have returned to.
    pub(crate) rip: usize,
    pub(crate) rsp: usize,
    pub(crate) rbp: usize,
    /// Where a stack probe keeps its end; it means something in the innermost frame only.
    pub(crate) r11: usize,
    /// Whether `rip` is a return address, behind the call that it is about.
    pub(crate) is_return: bool,
}

/// The functions of one image that a thread was in.
#[derive(Clone, Copy)]
pub(crate) struct Backtrace {
    /// Offsets in the image, of the very instruction: in a caller, the last byte of its call.
    offsets: [u32; DEPTH],
    len: usize,
}

impl Backtrace {
    /// Nothing known.
    pub(crate) const NONE: Self = Self { offsets: [0; DEPTH], len: 0 };

    /// Walks a stack on which `code` ran, with `symbols` of the image that `code` is.
    ///
    /// # Safety
    /// `stack` is a readable part of it.
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
            // Whoever jumped to nowhere or into data may just have called it.
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

    /// The frames from the one that failed on, without those that only carry a panic to the kernel.
    pub(crate) fn frames(
        &self,
        symbols: Option<Symbols<'static>>,
        image: &'static str,
    ) -> impl Iterator<Item = Frame> + use<> {
        let frame = move |offset: u32| Frame { offset, symbols, image };
        let known = self.offsets.into_iter().take(self.len).map(frame);
        let carriers = known.clone().take_while(Frame::carries_a_panic).count();
        known.skip(carriers)
    }
}

/// A word of `stack`.
///
/// # Safety
/// `stack` is readable.
unsafe fn read(stack: &Range<usize>, address: usize) -> Option<usize> {
    let fits = address.is_multiple_of(8) && address >= stack.start && address.checked_add(8)? <= stack.end;
    // SAFETY: the caller's promise; whatever lies there is a number.
    fits.then(|| unsafe { core::ptr::with_exposed_provenance::<usize>(address).read_volatile() })
}

/// One function that a thread was in.
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

    /// Whether it is a part of how a panic gets from where it happens to the kernel.
    fn carries_a_panic(&self) -> bool {
        const CARRIERS: [&str; 3] =
            ["coppice_runtime::entry::", "__rustc::rust_begin_unwind", "core::panicking::"];
        self.function().is_some_and(|(name, _)| CARRIERS.iter().any(|carrier| name.starts_with(carrier)))
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

    /// Where the code of these tests is said to lie; nobody runs or reads it.
    const CODE: Range<usize> = 0x10_0000..0x10_1000;

    /// At 0x100 a leaf, at 0x200 one with a frame of 32 bytes, at 0x300 one that keeps `rbp`, at 0x400 one that hangs on it.
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
    fn frames_of_each_kind_are_passed() {
        let mut stack = [0; 16];
        let frame = |index: usize, stack: &[usize; 16]| stack.as_ptr().addr() + index * 8;
        stack[0] = CODE.start + 0x210; // the leaf's caller
        stack[4] = CODE.start + 0x310; // its caller, with 32 bytes of frame
        stack[5] = frame(9, &stack); // the rbp that this one keeps
        stack[6] = CODE.start + 0x410; // its caller, which hangs on rbp
        stack[10] = 7; // and whose caller is none of the domain's
        assert_eq!(walk(at(CODE.start + 0x100, &stack, 0), &stack), [0x100, 0x20f, 0x30f, 0x40f]);
    }

    #[test]
    fn whoever_called_nothing_is_named() {
        let stack = [CODE.start + 0x205, 0, 0, 0, 0];
        assert_eq!(walk(at(0, &stack, 0), &stack), [0x204]);
        // Data of the image is not code either.
        assert_eq!(walk(at(CODE.start + 0x600, &stack, 0), &stack), [0x204]);
    }

    #[test]
    fn a_stack_that_was_written_over_ends_the_walk() {
        let stack = [CODE.start + 0x410; 64];
        // Downwards, in place, beside the stack, and not aligned.
        for rbp in [
            0,
            stack.as_ptr().addr() - 8,
            stack.as_ptr().addr() + 4096,
            stack.as_ptr().addr() + 4,
            usize::MAX - 8,
        ] {
            assert_eq!(walk(at(CODE.start + 0x400, &stack, rbp), &stack), [0x400], "rbp {rbp:#x}");
        }
        // What looks like the image's first byte is behind no call.
        let stack = [CODE.start; 8];
        assert_eq!(walk(at(CODE.start + 0x100, &stack, 0), &stack), [0x100]);
        // A frame that names itself for ever goes up all the same, and has an end.
        let stack = [CODE.start + 0x101; 64];
        assert_eq!(walk(at(CODE.start + 0x100, &stack, 0), &stack), [0x100; DEPTH]);
    }
}
