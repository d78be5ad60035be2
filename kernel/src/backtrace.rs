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

use crate::domain::{self, Domain};

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

    /// Walks the stack of the running thread, which is in `domain`'s code.
    ///
    /// # Safety
    /// `stack` is a readable part of it.
    pub(crate) unsafe fn walk(domain: &Domain, registers: Registers, stack: &Range<usize>) -> Self {
        let mut backtrace = Self::NONE;
        let code = domain.code();
        let rule = |offset| domain.symbols.as_ref()?.rule(offset);
        let mut at = registers;
        let is_code = code.contains(&at.rip) && rule((at.rip - code.start) as u32).is_some();
        if !is_code && !at.is_return {
            // Whoever jumped to nowhere or into data may just have called it.
            // SAFETY: the caller's promise.
            let Some(rip) = (unsafe { read(stack, at.rsp) }) else { return backtrace };
            at = Registers { rip, rsp: at.rsp + 8, is_return: true, ..at };
        }
        while backtrace.len < DEPTH && code.contains(&at.rip) {
            let offset = (at.rip - code.start) as u32 - u32::from(at.is_return);
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
    pub(crate) fn frames(&self, domain: &'static Domain) -> impl Iterator<Item = Frame> + use<> {
        let frame =
            move |offset: u32| Frame { offset, symbols: domain.symbols, image: &domain.manifest.image };
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

/// An address, as far as it can be said better than by a number that differs in each boot.
pub(crate) struct Place {
    /// Whose code ran.
    pub(crate) domain: coppice_abi::DomainId,
    pub(crate) rip: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = domain::get(self.domain.slot()).filter(|domain| domain.code().contains(&self.rip));
        match domain {
            Some(domain) => write!(f, "{} + {:#x}", domain.manifest.image, self.rip - domain.code().start),
            None => write!(f, "{:#x}", self.rip),
        }
    }
}
