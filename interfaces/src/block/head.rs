//! [`RequestHead`]: what a request says of itself, and what is answered.

use core::fmt;

use coppice_rref::{AnyBits, Flat, Shareable};

use super::{BlockError, BlockInfo};

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Operation {
    /// Blocks into the data.
    Read,
    /// The data into blocks.
    Write,
    /// Has the medium keep what writes that were answered have written. The head's blocks do not count.
    Flush,
    /// Zeroes into blocks, without data.
    WriteZeroes,
    /// Says that nobody wants what is in the blocks. What they read as afterwards is zeroes or what they held.
    Deallocate,
}

impl Operation {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Flush, Self::WriteZeroes, Self::Deallocate];

    /// The inverse of `as u8`.
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Not answered.
    Pending,
    /// Done.
    Done,
    /// Not done.
    Failed(BlockError),
}

const PENDING: u16 = 0;
const DONE: u16 = 1;

/// Force unit access: the write is answered when the medium has it.
const FUA: u8 = 1;

/// What a request asks for: the part of its head that its callees have no reason to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    tag: u64,
    lba: u64,
    blocks: u32,
    operation: u8,
    flags: u8,
}

impl Command {
    /// Whether it is a flush.
    pub const fn is_flush(&self) -> bool {
        self.operation == Operation::Flush as u8
    }
}

/// The head of a request: 64 bytes of which any are a value, since a borrower may die while it writes them.
#[derive(Clone, Copy, PartialEq, Eq, Shareable, Flat, AnyBits)]
#[repr(C)]
pub struct RequestHead {
    tag: u64,
    relay: u64,
    cookie: u64,
    lba: u64,
    blocks: u32,
    operation: u8,
    flags: u8,
    status: u16,
    detail: [u64; 3],
}

const _: () = assert!(size_of::<RequestHead>() == 64);

impl RequestHead {
    /// A request to do `operation` with `blocks` blocks from `lba`.
    pub const fn new(operation: Operation, lba: u64, blocks: u32) -> Self {
        let (tag, relay, cookie) = (0, 0, 0);
        Self {
            tag,
            relay,
            cookie,
            lba,
            blocks,
            operation: operation as u8,
            flags: 0,
            status: PENDING,
            detail: [0; 3],
        }
    }

    /// What a borrower that has gone mad may leave.
    #[cfg(test)]
    pub(super) const fn from_bits(
        tag: u64,
        lba: u64,
        blocks: u32,
        operation: u8,
        flags: u8,
        status: u16,
        detail: [u64; 3],
    ) -> Self {
        Self { tag, relay: tag, cookie: tag, lba, blocks, operation, flags, status, detail }
    }

    /// A request to flush.
    pub const fn flush() -> Self {
        Self::new(Operation::Flush, 0, 0)
    }

    /// The same, with the submitter's name for it.
    #[must_use]
    pub const fn with_tag(self, tag: u64) -> Self {
        Self { tag, ..self }
    }

    /// The same, to be answered only when the medium has it. For [`Operation::Write`] and [`Operation::WriteZeroes`].
    #[must_use]
    pub const fn with_fua(self) -> Self {
        Self { flags: self.flags | FUA, ..self }
    }

    /// Makes it another request, to be answered anew; it keeps its tag.
    pub const fn set(&mut self, operation: Operation, lba: u64, blocks: u32) {
        *self = Self::new(operation, lba, blocks).with_tag(self.tag);
    }

    /// What it asks for, to be [`Self::restore`]d.
    #[inline(always)]
    pub const fn command(&self) -> Command {
        let Self { tag, lba, blocks, operation, flags, .. } = *self;
        Command { tag, lba, blocks, operation, flags }
    }

    /// Makes it what it was when it asked for `command`: not answered, whatever a callee has left in it.
    pub const fn restore(&mut self, command: Command) {
        let Command { tag, lba, blocks, operation, flags } = command;
        let detail = [0; 3];
        *self = Self { tag, lba, blocks, operation, flags, status: PENDING, detail, ..*self };
    }

    /// The submitter's name for it.
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// Names it; for the submitter.
    pub const fn set_tag(&mut self, tag: u64) {
        self.tag = tag;
    }

    /// What somebody between submitter and driver has noted.
    pub const fn relay(&self) -> u64 {
        self.relay
    }

    /// Notes something; for who passes it on.
    pub const fn set_relay(&mut self, relay: u64) {
        self.relay = relay;
    }

    /// What the last callee has noted.
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Notes something; for the last callee.
    pub const fn set_cookie(&mut self, cookie: u64) {
        self.cookie = cookie;
    }

    /// The first block.
    pub const fn lba(&self) -> u64 {
        self.lba
    }

    /// How many blocks.
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// What to do.
    ///
    /// # Errors
    /// [`BlockError::NotSupported`] for a number that means nothing.
    pub const fn operation(&self) -> Result<Operation, BlockError> {
        match Operation::from_number(self.operation) {
            Some(operation) => Ok(operation),
            None => Err(BlockError::NotSupported { operation: self.operation }),
        }
    }

    /// Whether the medium must have it before it is answered.
    pub const fn is_fua(&self) -> bool {
        self.flags & FUA != 0
    }

    /// How far it is.
    pub const fn status(&self) -> Status {
        match self.status {
            PENDING => Status::Pending,
            DONE => Status::Done,
            code => Status::Failed(BlockError::decode((code, self.detail))),
        }
    }

    /// Whether it is not answered.
    pub const fn is_pending(&self) -> bool {
        self.status == PENDING
    }

    /// What was answered.
    ///
    /// # Errors
    /// Why it was not done. A request that is not answered was [`BlockError::Aborted`].
    pub const fn result(&self) -> Result<(), BlockError> {
        match self.status() {
            Status::Done => Ok(()),
            Status::Failed(error) => Err(error),
            Status::Pending => Err(BlockError::Aborted { status: 0 }),
        }
    }

    /// Answers it.
    pub const fn answer(&mut self, result: Result<(), BlockError>) {
        match result {
            Ok(()) => self.status = DONE,
            // An error whose number says that there is none would lie.
            Err(BlockError::Unknown { code: PENDING | DONE }) => self.status = u16::MAX,
            Err(error) => (self.status, self.detail) = error.encode(),
        }
    }

    /// Whether a disk that `info` describes can do it with `capacity` bytes of data: what every driver has to look at.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, info: &BlockInfo, capacity: usize) -> Result<Operation, BlockError> {
        let operation = self.operation()?;
        if !info.operations.contains(operation) {
            return Err(BlockError::NotSupported { operation: self.operation });
        }
        let (lba, blocks) = (self.lba, self.blocks);
        let most = match operation {
            Operation::Flush => return Ok(operation),
            Operation::Read | Operation::Write => info.max_transfer_blocks,
            Operation::WriteZeroes | Operation::Deallocate => info.max_range_blocks,
        };
        if blocks == 0 || blocks > most {
            return Err(BlockError::TooLarge { blocks, most });
        }
        if lba.checked_add(blocks.into()).is_none_or(|end| end > info.blocks) {
            return Err(BlockError::LbaOutOfRange { lba, blocks, capacity: info.blocks });
        }
        let bytes = info.bytes(blocks);
        let has_data = matches!(operation, Operation::Read | Operation::Write);
        if has_data && bytes > capacity as u64 {
            return Err(BlockError::BufferTooSmall { bytes, capacity: capacity as u64 });
        }
        Ok(operation)
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, lba, blocks, .. } = self;
        write!(f, "request {tag}: {:?} of {blocks} blocks from {lba}", self.operation())?;
        f.write_str(if self.is_fua() { ", FUA" } else { "" })?;
        write!(f, ", {:?}", self.status())
    }
}
