//! [`Model`], the interface of a device model to its host.

use std::fmt;
use std::sync::Arc;

use crate::host::Host;

/// A device model: a PCI function at register level.
///
/// Register accesses may come from any thread; they are quick and never wait. The model does its work on its
/// own thread.
pub trait Model: Send + Sync {
    /// The ids and BARs that the function reports in its configuration space.
    fn identity(&self) -> PciIdentity;

    /// Plugs the model into its host; until then it reaches no memory. Bus mastering starts off.
    ///
    /// # Errors
    /// [`AlreadyAttached`] if the model has a host, which it keeps until it is dropped.
    fn attach(&self, host: Arc<dyn Host>) -> Result<(), AlreadyAttached>;

    /// Reads a register: `size` is 1, 2, 4 or 8 bytes, little-endian.
    ///
    /// Reads of other offsets, and of sizes that the device does not support there, return zero.
    fn read(&self, bar: u8, offset: u64, size: u8) -> u64;

    /// Writes a register; `size` is as for [`read`](Self::read). Writes to other offsets are ignored.
    fn write(&self, bar: u8, offset: u64, size: u8, value: u64);

    /// Permits the device to access memory and to send interrupts, or forbids it.
    ///
    /// Once this has returned with `on` false, every access fails and no interrupt is sent. It waits for an
    /// access under way: at most one copy of a page or so. An unplugged device ignores `on` true.
    fn set_bus_master(&self, on: bool);

    /// Performs a function level reset: when this returns, registers, queues and pending work are as after
    /// power-on, and bus mastering is off. Stored data stays.
    fn reset(&self);

    /// Returns true while accesses to memory are under way: Transactions Pending of PCI Express.
    fn transactions_pending(&self) -> bool;

    /// Returns true if the device is in its slot; otherwise its configuration space reads as ones.
    fn is_present(&self) -> bool {
        true
    }

    /// The number of times that the device was plugged in again. Each time, the device and its configuration
    /// space are as after power-on.
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

/// The model has a host already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AlreadyAttached;

impl fmt::Display for AlreadyAttached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device model is attached to a host already")
    }
}

impl std::error::Error for AlreadyAttached {}

/// The identity of a function (PCI Local Bus Specification 3.0, section 6.2.1).
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
    /// Base address registers, without the one for MSI-X.
    pub bars: Vec<Bar>,
    /// Size and location of the MSI-X table.
    pub msix: MsixLayout,
}

/// The class code of a function.
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
    /// Index, 0 to 5; a 64-bit BAR takes the next index as well.
    pub index: u8,
    /// Size in bytes, a power of two of at least 16.
    pub bytes: u64,
    /// The address range in which it can lie.
    pub kind: BarKind,
}

/// The address range in which a base address register can lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere.
    Memory64,
}

/// The MSI-X table of a function. It has a BAR of its own, so that a model never sees accesses to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixLayout {
    /// Number of vectors, 1 to 2048.
    pub vectors: u16,
    /// The 64-bit BAR that holds the table and the pending bits.
    pub bar: u8,
}
