//! [`PciFunction`]: all that the kernel needs from a device.
//!
//! Part of the [machine contract](crate::machine): the bare machine implements it on configuration space, the
//! hosted one with a device model. Grants and the order of operations are decided in [`crate::device`]; a
//! machine only executes them.

use coppice_abi::{DeviceInfo, DeviceRefusal, Window};

/// The number of interrupt messages that a machine distinguishes, numbered from 0.
pub const MESSAGE_LIMIT: usize = 160;

/// A PCI function. The kernel makes one call at a time for a function, except for [`Self::read`] and
/// [`Self::write`].
///
/// When the machine reports it, it is no bus master and sends no interrupts of any kind.
pub trait PciFunction: Sync {
    /// The identity, BARs and vectors of the function.
    fn info(&self) -> DeviceInfo;

    /// Returns the register window of a memory BAR, which stays valid for good.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoBar`] if the function has no such memory BAR; [`DeviceRefusal::NotMapped`] if the
    /// BAR overlaps memory, or no page tables are left for it.
    fn window(&self, bar: u8) -> Result<Window, DeviceRefusal>;

    /// Reads `bytes` (1, 2, 4 or 8) at an aligned offset inside one of its BARs. Returns all ones if the
    /// device does not respond.
    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64;

    /// Writes `bytes` at an aligned offset inside one of its BARs.
    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64);

    /// Allows the function to access memory and send messages, or forbids it. When this returns, all its
    /// earlier writes are in memory, and if it is off, none follows (PCI Local Bus Specification 3.0, section
    /// 6.2.2); but see [`Self::has_transactions_pending`].
    fn set_bus_master(&self, on: bool);

    /// Returns true if a request of the function is still under way (PCI Express Base Specification 3.0,
    /// section 7.8.5, Transactions Pending). False if the function does not report it.
    fn has_transactions_pending(&self) -> bool;

    /// Begins a function level reset (PCI Express Base Specification 3.0, section 6.6.2). Returns false if
    /// the function has none, or does not respond.
    fn begin_reset(&self) -> bool;

    /// Returns true if that reset is over. The function is then in the state in which it was reported.
    fn end_reset(&self) -> bool;

    /// Reports interrupt message `vector`, below the number of vectors in [`Self::info`], as message
    /// `number`: by [`crate::trap::interrupt`] on CPU `cpu`, or by [`crate::trap::message`]. A message that
    /// was held back before may be reported too.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoVector`] if the machine cannot route it.
    fn open_vector(&self, vector: u16, number: u8, cpu: usize) -> Result<(), DeviceRefusal>;

    /// Stops reporting the vector. A message under way may still be reported.
    fn close_vector(&self, vector: u16);
}
