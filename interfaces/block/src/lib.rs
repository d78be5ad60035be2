//! [`BlockDevice`]: a device of numbered blocks. [`BlockQueue`]: submits requests to it and collects
//! completions.
//!
//! # A request
//! A [`Request`] is one shared object: a head of 64 bytes that describes the operation ([`RequestHead`]),
//! followed by the data, which the device reads and writes in place. A client allocates a request with as
//! many bytes as it needs ([`RRef::with_capacity`]), *lends* it, and puts the [`Lent`](coppice_rref::Lent)
//! half into a [`Batch`]. The other half, a [`Loan`](coppice_rref::Loan), keeps the client's right to the
//! request even if the callee crashes. A completed request comes back in a batch as its `Lent`, with its
//! status in the head, and `Loan::settle` joins the two.
//!
//! The `tag` belongs to the submitter, and no callee changes it; `relay` belongs to a domain that passes
//! requests on, such as a shadow, between submitter and driver; `cookie` belongs to the driver. Each field is
//! trusted by its owner alone.
//!
//! # The contract of a queue
//! - One crossing carries many requests and completions: [`BlockQueue::exchange`] takes *all* requests out of
//!   the batch, notifies the device once for all of them, and fills the batch with completions, in any order,
//!   of this exchange and earlier ones. Completions that do not fit come with the next exchange.
//! - A request that does not fit into the queue is completed at once, with [`BlockError::QueueFull`]. So is a
//!   request that cannot be executed. Errors complete a request and never close a queue.
//! - Requests in flight at the same time have no order. A flush covers each write that was *completed* before
//!   the flush was submitted, on any queue. A write with [`RequestHead::with_fua`] is on the medium when it
//!   is completed.
//! - Until it is completed, a write may take effect more than once, in part or as a whole, and after other
//!   writes that were in flight with it: recovery submits it again. A client with two writes to one block in
//!   flight cannot know which of them stays.
//! - The data of a read that is completed with an error are undefined. The data of a write are unchanged by a
//!   correct callee, but the client must not rely on that: a borrower had access to them.
//! - A queue belongs to one thread: the one that uses it first. Another thread gets its batch back
//!   ([`Busy`]), untouched, and opens a queue of its own.
//! - If there is no completion yet, `exchange` may wait for one until a time that the caller gives. It may
//!   also return earlier, because long waits do not fit the deadline for one call. With a time of zero it
//!   never waits, nor does a call with nothing in flight.
//! - Dropping the handle closes the queue. Requests in flight return to their lenders later, when the device
//!   has no access to them any more.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod error;
mod head;
#[cfg(test)]
mod tests;

use core::fmt;

use coppice_interfaces::{Handle, InterfaceEntry, RpcResult, Text, interface};
use coppice_rref::{Buffer, Flat, LentDeque, RRef, Shareable};

pub use error::BlockError;
pub use head::{Command, Operation, RequestHead, Status};

/// The interfaces of this family, for the list of a kernel image.
pub const ALL: &[InterfaceEntry] =
    &[InterfaceEntry::of::<dyn BlockDevice>(), InterfaceEntry::of::<dyn BlockQueue>()];

/// The capacity of a [`Batch`], in requests.
pub const BATCH: usize = 128;

/// A request with its data.
pub type Request = Buffer<RequestHead>;

/// The argument and the result of an exchange: requests to the callee, completions back.
pub type Batch = LentDeque<Request, BATCH>;

/// The set of operations that a device supports.
#[derive(Clone, Copy, PartialEq, Eq, Shareable, Flat)]
pub struct Operations(u8);

impl Operations {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set with `operation` added.
    #[must_use]
    pub const fn with(self, operation: Operation) -> Self {
        Self(self.0 | 1 << operation as u8)
    }

    /// Returns true if `operation` is in the set.
    #[inline]
    pub const fn contains(self, operation: Operation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Operation::ALL.into_iter().filter(|&one| self.contains(one))).finish()
    }
}

/// The identity of a disk. It is the same after a restart of the driver, and different for another disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Identity {
    /// The manufacturer's name for the model.
    pub model: Text<40>,
    /// The device's serial number.
    pub serial: Text<20>,
    /// The namespace of the device, from 1; 1 if there is only one.
    pub namespace: u32,
    /// A globally unique identifier, or zero.
    pub unique: [u8; 16],
}

/// The properties of a disk. They do not change while its [`Identity`] stays the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct BlockInfo {
    /// The size of a block in bytes: a power of two, 512 or more.
    pub block_bytes: u32,
    /// The number of blocks.
    pub blocks: u64,
    /// The largest number of blocks of one read or write.
    pub max_transfer_blocks: u32,
    /// The largest number of blocks of one [`Operation::WriteZeroes`] or [`Operation::Deallocate`].
    pub max_range_blocks: u32,
    /// The largest number of requests in flight on one queue.
    pub queue_depth: u32,
    /// The largest number of queues that are open at a time.
    pub queues: u32,
    /// True if a power failure may lose a completed write that neither a flush nor FUA has made durable.
    pub volatile_write_cache: bool,
    /// The supported operations.
    pub operations: Operations,
    /// The identity of the disk.
    pub identity: Identity,
}

impl BlockInfo {
    /// The size of `blocks` blocks in bytes.
    #[inline]
    pub const fn bytes(&self, blocks: u32) -> u64 {
        self.block_bytes as u64 * blocks as u64
    }

    /// The size of the disk in bytes.
    pub const fn capacity_bytes(&self) -> u64 {
        self.block_bytes as u64 * self.blocks
    }
}

/// The health of a device, as it reports it (NVM Express: the SMART / Health Information log page).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Health {
    /// Warning bits, as the device reports them; zero means none. In NVM Express (Base Specification 2.0,
    /// figure "SMART / Health Information Log Page", byte 0): 0 spare low, 1 temperature, 2 unreliable, 3
    /// read only, 4 backup of volatile memory failed.
    pub critical_warning: u8,
    /// The temperature in degrees Celsius.
    pub temperature_celsius: i16,
    /// The remaining spare capacity in percent.
    pub available_spare: u8,
    /// The used part of the expected endurance in percent; may exceed 100.
    pub percentage_used: u8,
    /// Hours with power on.
    pub power_on_hours: u64,
    /// The number of power losses without a shutdown.
    pub unsafe_shutdowns: u64,
    /// The number of unrecovered data errors.
    pub media_errors: u64,
}

/// An error of [`BlockDevice::open`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum OpenError {
    /// The depth is zero, or more than [`BlockInfo::queue_depth`].
    Depth {
        /// The requested depth.
        depth: u32,
        /// The largest depth.
        most: u32,
    },
    /// All queues are open.
    NoQueue {
        /// The number of queues.
        queues: u32,
    },
    /// The device refused, or there is none.
    Device(BlockError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth { depth, most } => write!(f, "a queue of {depth} requests: 1 to {most} are possible"),
            Self::NoQueue { queues } => write!(f, "all {queues} queues are open"),
            Self::Device(error) => write!(f, "no queue: {error}"),
        }
    }
}

impl core::error::Error for OpenError {}

/// The queue belongs to another thread; the batch comes back unchanged.
#[derive(Shareable)]
pub struct Busy {
    /// The caller's batch, with all its requests.
    pub batch: RRef<Batch>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the queue belongs to another thread ({} requests come back)", self.batch.len())
    }
}

/// A disk.
#[interface]
pub trait BlockDevice {
    /// Returns the disk's properties.
    fn info(&self) -> RpcResult<BlockInfo>;
    /// Opens a queue for up to `depth` requests in flight.
    ///
    /// # Errors
    /// [`OpenError`] when the depth is out of range, all queues are open, or the device refuses.
    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>>;
    /// Returns the SMART / health information. Blocks until the device responds.
    ///
    /// # Errors
    /// [`BlockError::NotSupported`] when the device has no such information; another error when the device
    /// fails.
    fn health(&self) -> RpcResult<Result<Health, BlockError>>;
}

/// One queue of a disk, for one thread.
#[interface]
pub trait BlockQueue {
    /// Takes all requests out of `batch` and puts completions in. If there is none, waits until there is one
    /// or the clock (nanoseconds since boot) passes `wait_until_ns`; it may return earlier, and zero never
    /// waits. The [module](self) has the rest of the contract.
    ///
    /// # Errors
    /// [`Busy`] when the queue belongs to another thread.
    fn exchange(&self, batch: RRef<Batch>, wait_until_ns: u64) -> RpcResult<Result<RRef<Batch>, Busy>>;
}
