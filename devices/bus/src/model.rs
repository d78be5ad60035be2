//! What a host can ask of a model.

use std::fmt;
use std::sync::Arc;

use crate::host::Host;

/// A device model: a PCI function at register level.
///
/// Register accesses come from any thread, must be quick, and wait for nothing: the work is done on a thread of the
/// model's own.
pub trait Model: Send + Sync {
    /// What the function says of itself in its configuration space.
    fn identity(&self) -> PciIdentity;

    /// Plugs the model into its host; until then it reaches no memory. Bus mastering starts off.
    ///
    /// # Errors
    /// [`AlreadyAttached`]: a model has one host for all its instance.
    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached>;

    /// Reads a register: `size` is 1, 2, 4 or 8 bytes, little-endian.
    ///
    /// What is no register, or no access that the device answers, reads as zero.
    fn read(&self, bar: u8, offset: u64, size: u8) -> u64;

    /// Writes a register; `size` as for [`read`](Self::read). What is no register ignores it.
    fn write(&self, bar: u8, offset: u64, size: u8, value: u64);

    /// Lets the device access memory and send interrupts, or no longer.
    ///
    /// From the moment this returns with `on` false, every access fails and no interrupt is sent. What was begun is
    /// waited for: at most one copy of a page or so. A device that is out of its slot does not hear `on` true.
    fn set_bus_master(&self, on: bool);

    /// Function level reset: registers, queues and pending work are as after power-on, and bus mastering is off, when
    /// this returns. What the device stores stays.
    fn reset(&self);

    /// Whether accesses to memory are under way: Transactions Pending of PCI Express.
    fn transactions_pending(&self) -> bool;

    /// Whether the device is in its slot; its configuration space reads as ones while it is not.
    fn is_present(&self) -> bool {
        true
    }

    /// How often the device was plugged in again. With each time it is as after power-on, and its configuration space with it.
    fn insertions(&self) -> u64 {
        0
    }
}

impl<M: Model + ?Sized> Model for Arc<M> {
    fn identity(&self) -> PciIdentity {
        (**self).identity()
    }

    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached> {
        (**self).attach(host)
    }

    fn read(&self, bar: u8, offset: u64, size: u8) -> u64 {
        (**self).read(bar, offset, size)
    }

    fn write(&self, bar: u8, offset: u64, size: u8, value: u64) {
        (**self).write(bar, offset, size, value);
    }

    fn set_bus_master(&self, on: bool) {
        (**self).set_bus_master(on);
    }

    fn reset(&self) {
        (**self).reset();
    }

    fn transactions_pending(&self) -> bool {
        (**self).transactions_pending()
    }

    fn is_present(&self) -> bool {
        (**self).is_present()
    }

    fn insertions(&self) -> u64 {
        (**self).insertions()
    }
}

/// A model has a host already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlreadyAttached;

impl fmt::Display for AlreadyAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device model is attached to a host already")
    }
}

impl std::error::Error for AlreadyAttached {}

/// What a function says of itself (PCI Local Bus Specification 3.0, section 6.2.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PciIdentity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code.
    pub class: ClassCode,
    /// Revision ID.
    pub revision: u8,
    /// Subsystem Vendor ID.
    pub subsystem_vendor: u16,
    /// Subsystem ID.
    pub subsystem: u16,
    /// Base address registers, the one for MSI-X not included.
    pub bars: Vec<Bar>,
    /// Where its MSI-X table is.
    pub msix: MsixLayout,
}

/// Class code: what kind of device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClassCode {
    /// Base class.
    pub base: u8,
    /// Sub-class.
    pub sub: u8,
    /// Programming interface.
    pub interface: u8,
}

/// A base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Index, 0 to 5; a 64-bit one takes the next as well.
    pub index: u8,
    /// Size in bytes, a power of two of at least 16.
    pub bytes: u64,
    /// What kind of addresses it decodes.
    pub kind: BarKind,
}

/// What kind of addresses a base address register decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere.
    Memory64,
}

/// The MSI-X table of a function, which has a BAR to itself, so that a model never sees accesses to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixLayout {
    /// Vectors, 1 to 2048.
    pub vectors: u16,
    /// The 64-bit BAR with table and pending bits.
    pub bar: u8,
}
