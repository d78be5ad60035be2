//! [`DomainId`]: one instance of one domain. [`TypeNumber`]: one type with references inside.

use core::fmt;

/// Maximum number of domains in a system, the kernel included. Per-CPU call counters are an array of this
/// size.
pub const SLOT_LIMIT: usize = 256;

/// One instance of one domain: the slot that the manifest gave the domain, and the number of times that the
/// slot was restarted. No two instances have the same id: a domain is not restarted after the instance with
/// [`DomainId::LAST_GENERATION`].
///
/// It is packed in 64 bits, so that a shared object changes hands with one store. All zero means no domain,
/// which makes zeroed memory a free object.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct DomainId(u64);

impl DomainId {
    /// No domain: the owner of a free slot in the shared heap.
    pub const NONE: Self = Self(0);
    /// The kernel. It is never restarted, so its generation stays 0.
    pub const KERNEL: Self = Self::new(1, 0);
    /// The owner of a shared object that is nested in another one; the owner of the root owns both
    /// (docs/rref.md, R2).
    pub const NESTED: Self = Self(u64::MAX);
    /// The owner of a shared object whose owner died while a call was still reading it (docs/rref.md, R6).
    pub const LIMBO: Self = Self(u64::MAX - 1);

    /// The largest generation of an instance. The next number is left for ids that are not instances.
    pub const LAST_GENERATION: u32 = u32::MAX - 1;

    /// The `generation`th instance of the domain in `slot`.
    pub const fn new(slot: u32, generation: u32) -> Self {
        Self(((generation as u64) << 32) | slot as u64)
    }

    /// The index in the domain table; below [`SLOT_LIMIT`] for every id but the special ones.
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// The number of earlier instances in this slot.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the packed form that object headers hold.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Self::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("no domain"),
            Self::KERNEL => f.write_str("kernel"),
            Self::NESTED => f.write_str("nested"),
            Self::LIMBO => f.write_str("limbo"),
            id => write!(f, "domain {} generation {}", id.slot(), id.generation()),
        }
    }
}

/// The number of a type in the kernel's registry of destructors, valid until the system ends. The header of a
/// shared object holds it, because a fingerprint is too long for one store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct TypeNumber(u64);

impl TypeNumber {
    /// No type: an object without references inside, or one that may be incomplete.
    pub const NONE: Self = Self(0);
    /// The kernel's handle cells.
    pub const HANDLE_CELL: Self = Self(1);

    /// Returns the packed form that object headers hold.
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`Self::to_bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
