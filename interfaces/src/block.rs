//! [`BlockDevice`]: a device of numbered blocks, and [`BlockQueue`], where requests are handed in and answers collected.
//!
//! # A request
//! A [`Request`] is one shared object: a head of 64 bytes that says what is wanted ([`RequestHead`]), and behind it the data,
//! which the device reads and writes where it lies. Whoever wants something allocates a request with as many bytes as it needs
//! ([`RRef::with_capacity`]), *lends* it, and puts the [`Lent`](coppice_rref::Lent) half into a [`Batch`]. The half that stays,
//! a [`Loan`](coppice_rref::Loan), is the claim to the request, whatever becomes of the callee. When the request is answered
//! its `Lent` comes back in a batch, with its status in the head, and `Loan::settle` makes one of the two.
//!
//! The `tag` is the submitter's and nobody changes it; `relay` belongs to a domain that passes requests on, such as a shadow,
//! between submitter and driver; `cookie` to whoever has the request at last. None of them is believed by anybody but its owner.
//!
//! # The contract of a queue
//! - One crossing each way carries many: [`BlockQueue::exchange`] takes *all* requests out of the batch, tells the device of all
//!   of them at once, and fills the batch with answers, in any order, of this exchange and earlier ones. Answers that find no
//!   room come with the next exchange.
//! - A request that does not fit the queue is answered at once, with [`BlockError::QueueFull`], and so is one that cannot be
//!   done: errors are answers and never close a queue.
//! - Requests that are under way at the same time have no order. A flush covers each write that was *answered* before the
//!   flush was submitted, on whichever queue. A write with [`RequestHead::with_fua`] is on the medium when it is answered.
//! - Until it is answered a write may take effect more than once, in part or in whole, and after others that were under way
//!   with it: recovery submits it again. Who has two writes to one block under way cannot know which one stays.
//! - The data of a read that is answered with an error are anything. The data of a write are as they were, but must not be
//!   believed to be: a borrower had them.
//! - A queue is one thread's: the one that uses it first. Another one gets its batch back ([`Busy`]), untouched, and opens a
//!   queue of its own.
//! - `exchange` may wait for an answer when there is none yet, until a time that the caller says; it may also return earlier, as
//!   long waits do not fit the deadline for one call. Zero never waits, and neither does a call with nothing under way.
//! - Dropping the handle closes the queue. What is under way comes back to its lenders some time later, when the device has no
//!   access to it any more.

mod error;
mod head;
#[cfg(test)]
mod tests;

use core::fmt;

use coppice_interface_macros::interface;
use coppice_rref::{Buffer, Flat, LentDeque, RRef, Shareable};

use crate::{Handle, RpcResult, Text};
pub use error::BlockError;
pub use head::{Command, Operation, RequestHead, Status};

/// How many requests a [`Batch`] carries.
pub const BATCH: usize = 128;

/// A request with its data.
pub type Request = Buffer<RequestHead>;

/// What an exchange carries: requests there, answers back.
pub type Batch = LentDeque<Request, BATCH>;

/// Which of the operations a device can do.
#[derive(Clone, Copy, PartialEq, Eq, Shareable, Flat)]
pub struct Operations(u8);

impl Operations {
    /// None.
    pub const NONE: Self = Self(0);

    /// These, and `operation`.
    #[must_use]
    pub const fn with(self, operation: Operation) -> Self {
        Self(self.0 | 1 << operation as u8)
    }

    /// Whether `operation` is one of them.
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

/// Which disk it is: the same after a restart of its driver, and another one's is different.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Identity {
    /// The maker's name for the kind of device.
    pub model: Text<40>,
    /// The device's serial number.
    pub serial: Text<20>,
    /// Which of the device's disks; 1 for the only one.
    pub namespace: u32,
    /// A worldwide unique number, or zero.
    pub unique: [u8; 16],
}

/// What a disk is and can do. It does not change while the disk is what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct BlockInfo {
    /// Bytes of a block: a power of two, 512 or more.
    pub block_bytes: u32,
    /// How many blocks there are.
    pub blocks: u64,
    /// Most blocks of one read or write.
    pub max_transfer_blocks: u32,
    /// Most blocks of one [`Operation::WriteZeroes`] or [`Operation::Deallocate`].
    pub max_range_blocks: u32,
    /// Most requests that one queue has under way.
    pub queue_depth: u32,
    /// How many queues can be open at a time.
    pub queues: u32,
    /// Whether a write that was answered may still be lost with the power, unless a flush or FUA has seen to it.
    pub volatile_write_cache: bool,
    /// What it can do.
    pub operations: Operations,
    /// Which disk it is.
    pub identity: Identity,
}

impl BlockInfo {
    /// How many bytes `blocks` blocks are.
    #[inline]
    pub const fn bytes(&self, blocks: u32) -> u64 {
        self.block_bytes as u64 * blocks as u64
    }

    /// How many bytes the disk has.
    pub const fn capacity_bytes(&self) -> u64 {
        self.block_bytes as u64 * self.blocks
    }
}

/// How a device fares, by its own account (NVM Express: the SMART / Health Information log page).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Health {
    /// Bits, as the device reports them; zero is well. In NVM Express (Base Specification 2.0, figure "SMART / Health
    /// Information Log Page", byte 0): 0 spare low, 1 temperature, 2 unreliable, 3 read only, 4 backup of volatile memory failed.
    pub critical_warning: u8,
    /// How warm, in degrees Celsius.
    pub temperature_celsius: i16,
    /// Percent of the spare capacity that is left.
    pub available_spare: u8,
    /// Percent of the instance that the maker expects; may exceed 100.
    pub percentage_used: u8,
    /// Hours with power on.
    pub power_on_hours: u64,
    /// How often power went without a warning.
    pub unsafe_shutdowns: u64,
    /// How often data was lost or damaged beyond repair.
    pub media_errors: u64,
}

/// Why a queue is not opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum OpenError {
    /// A queue has room for one request at least, and for [`BlockInfo::queue_depth`] at most.
    Depth {
        /// As asked for.
        depth: u32,
        /// The most.
        most: u32,
    },
    /// All queues are open.
    NoQueue {
        /// How many there are.
        queues: u32,
    },
    /// The device has refused, or there is none.
    Device(BlockError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth { depth, most } => write!(f, "a queue of {depth} requests: 1 to {most} are possible"),
            Self::NoQueue { queues } => write!(f, "all of {queues} queues are open"),
            Self::Device(error) => write!(f, "no queue: {error}"),
        }
    }
}

impl core::error::Error for OpenError {}

/// The queue is another thread's: the batch as it was.
#[derive(Shareable)]
pub struct Busy {
    /// With all requests still in it.
    pub batch: RRef<Batch>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the queue is another thread's ({} requests come back)", self.batch.len())
    }
}

/// A disk.
#[interface]
pub trait BlockDevice {
    /// What it is.
    fn info(&self) -> RpcResult<BlockInfo>;
    /// Opens a queue for up to `depth` requests at a time.
    ///
    /// # Errors
    /// [`OpenError`].
    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>>;
    /// How it fares. Takes as long as the device takes to say so.
    ///
    /// # Errors
    /// [`BlockError::NotSupported`], or what went wrong.
    fn health(&self) -> RpcResult<Result<Health, BlockError>>;
}

/// One queue of a disk, for one thread.
#[interface]
pub trait BlockQueue {
    /// Takes all requests out of `batch`, and puts answers in. If there is none, waits until there is one or the clock
    /// (nanoseconds since boot) passes `wait_until_ns`, or not as long; zero never waits. See the [module](self) for what is
    /// promised about requests.
    ///
    /// # Errors
    /// [`Busy`].
    fn exchange(&self, batch: RRef<Batch>, wait_until_ns: u64) -> RpcResult<Result<RRef<Batch>, Busy>>;
}
