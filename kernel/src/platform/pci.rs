//! [`PciFunction`]: all that the kernel asks of a device.
//!
//! Part of the [machine contract](crate::machine): the bare machine answers from configuration space, the hosted one with a
//! model. Who is granted a function, and what it may do when, is [`crate::device`]'s business; a machine only does as told.

use coppice_abi::{DeviceInfo, DeviceRefusal, Window};

/// Most interrupt messages that a machine tells apart: numbers from 0 on.
pub const MESSAGE_LIMIT: usize = 160;

/// A PCI function. The kernel makes no two calls at a time for one function, but for [`Self::read`] and [`Self::write`].
///
/// When a machine reports it, it is no bus master and sends no interrupts of any kind.
pub trait PciFunction: Sync {
    /// What it says that it is.
    fn info(&self) -> DeviceInfo;

    /// Where the registers of a memory BAR are, for good.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoBar`], [`DeviceRefusal::NotMapped`].
    fn window(&self, bar: u8) -> Result<Window, DeviceRefusal>;

    /// Reads `bytes` (1, 2, 4 or 8) at an aligned offset inside a BAR that it has. All ones if it does not answer.
    fn read(&self, bar: u8, offset: usize, bytes: usize) -> u64;

    /// Writes there.
    fn write(&self, bar: u8, offset: usize, bytes: usize, value: u64);

    /// Lets it reach memory and send messages, or not. When this returns, what it wrote before is in memory, and if it is
    /// off, nothing comes after that (PCI Local Bus Specification 3.0, section 6.2.2); but see
    /// [`Self::has_transactions_pending`].
    fn set_bus_master(&self, on: bool);

    /// Whether something that it has asked for is still under way (PCI Express Base Specification 3.0, section 7.8.5,
    /// Transactions Pending). False if it cannot tell.
    fn has_transactions_pending(&self) -> bool;

    /// Begins a function level reset (PCI Express Base Specification 3.0, section 6.6.2). False if it has none, or does
    /// not answer.
    fn begin_reset(&self) -> bool;

    /// Whether that reset is over. If so, the function is as it was when it was reported.
    fn end_reset(&self) -> bool;

    /// Has interrupt message `vector`, below the number of vectors that [`Self::info`] tells, reported as message `number`:
    /// by [`crate::trap::interrupt`], on CPU `cpu`, or by [`crate::trap::message`]. One that it could not send before may be
    /// among them.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoVector`] if the machine cannot.
    fn open_vector(&self, vector: u16, number: u8, cpu: usize) -> Result<(), DeviceRefusal>;

    /// Ends that. A message that is on its way may still be reported.
    fn close_vector(&self, vector: u16);
}
