//! [`RequestHead`]: the operation of a request, and its status.

use core::fmt;

use coppice_rref::{AnyBits, Flat, Shareable};

use crate::{BlockError, BlockInfo};

/// The operation of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Operation {
    /// Copies blocks into the data.
    Read,
    /// Copies the data into blocks.
    Write,
    /// Makes completed writes durable. The head's block range is ignored.
    Flush,
    /// Fills blocks with zeroes. The request carries no data.
    WriteZeroes,
    /// Declares the contents of the blocks unused. They read as zeroes or as their old contents afterwards.
    Deallocate,
}

impl Operation {
    /// All operations, by number.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Flush, Self::WriteZeroes, Self::Deallocate];

    /// The inverse of `as u8`.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        if (number as usize) < Self::ALL.len() { Some(Self::ALL[number as usize]) } else { None }
    }
}

/// The status of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Not completed.
    Pending,
    /// Completed successfully.
    Done,
    /// Completed with an error.
    Failed(BlockError),
}

const PENDING: u16 = 0;
const DONE: u16 = 1;

/// Force unit access: the write is completed when it is on the medium.
const FUA: u8 = 1;

/// The submitter's part of a head, which callees have no reason to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    tag: u64,
    lba: u64,
    blocks: u32,
    operation: u8,
    flags: u8,
}

impl Command {
    /// Returns true for a flush.
    #[inline(always)]
    pub const fn is_flush(&self) -> bool {
        self.operation == Operation::Flush as u8
    }
}

/// The head of a request. Any 64 bytes are a valid head, since a borrower may die while it writes one.
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
    /// A pending request for `operation` on `blocks` blocks from `lba` on.
    #[inline(always)]
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

    /// A head with arbitrary bits, as a faulty borrower may leave it.
    #[cfg(test)]
    pub(crate) const fn from_bits(
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

    /// A pending flush.
    #[inline(always)]
    pub const fn flush() -> Self {
        Self::new(Operation::Flush, 0, 0)
    }

    /// The same head with the submitter's tag.
    #[inline(always)]
    #[must_use]
    pub const fn with_tag(self, tag: u64) -> Self {
        Self { tag, ..self }
    }

    /// The same head with force unit access: the request is completed when it is on the medium. For
    /// [`Operation::Write`] and [`Operation::WriteZeroes`].
    #[inline(always)]
    #[must_use]
    pub const fn with_fua(self) -> Self {
        Self { flags: self.flags | FUA, ..self }
    }

    /// Makes it a new pending request with the same tag.
    #[inline(always)]
    pub const fn set(&mut self, operation: Operation, lba: u64, blocks: u32) {
        *self = Self::new(operation, lba, blocks).with_tag(self.tag);
    }

    /// The submitter's part, for [`Self::restore`].
    #[inline(always)]
    pub const fn command(&self) -> Command {
        let Self { tag, lba, blocks, operation, flags, .. } = *self;
        Command { tag, lba, blocks, operation, flags }
    }

    /// Restores the submitter's part to `command` and makes the request pending, whatever a callee has
    /// written to it.
    #[inline(always)]
    pub const fn restore(&mut self, command: Command) {
        let Command { tag, lba, blocks, operation, flags } = command;
        let detail = [0; 3];
        *self = Self { tag, lba, blocks, operation, flags, status: PENDING, detail, ..*self };
    }

    /// The submitter's tag.
    #[inline(always)]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// Sets the tag. For the submitter.
    #[inline(always)]
    pub const fn set_tag(&mut self, tag: u64) {
        self.tag = tag;
    }

    /// The value of a relay between submitter and driver.
    #[inline(always)]
    pub const fn relay(&self) -> u64 {
        self.relay
    }

    /// Sets the relay's value. For a domain that passes requests on.
    #[inline(always)]
    pub const fn set_relay(&mut self, relay: u64) {
        self.relay = relay;
    }

    /// The driver's value.
    #[inline(always)]
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Sets the driver's value. For the last callee.
    #[inline(always)]
    pub const fn set_cookie(&mut self, cookie: u64) {
        self.cookie = cookie;
    }

    /// The first block.
    #[inline(always)]
    pub const fn lba(&self) -> u64 {
        self.lba
    }

    /// The number of blocks.
    #[inline(always)]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The operation.
    ///
    /// # Errors
    /// [`BlockError::NotSupported`] when no operation has the head's number.
    #[inline(always)]
    pub const fn operation(&self) -> Result<Operation, BlockError> {
        match Operation::from_number(self.operation) {
            Some(operation) => Ok(operation),
            None => Err(BlockError::NotSupported { operation: self.operation }),
        }
    }

    /// Returns true if the request must be on the medium before it is completed.
    #[inline(always)]
    pub const fn is_fua(&self) -> bool {
        self.flags & FUA != 0
    }

    /// The status.
    #[inline(always)]
    pub const fn status(&self) -> Status {
        match self.status {
            PENDING => Status::Pending,
            DONE => Status::Done,
            code => Status::Failed(BlockError::decode((code, self.detail))),
        }
    }

    /// Returns true if the request is not completed.
    #[inline(always)]
    pub const fn is_pending(&self) -> bool {
        self.status == PENDING
    }

    /// The result of the request.
    ///
    /// # Errors
    /// The error that the request was completed with; [`BlockError::Aborted`] when it is not completed.
    #[inline(always)]
    pub const fn result(&self) -> Result<(), BlockError> {
        if self.status == DONE { Ok(()) } else { Err(self.error()) }
    }

    #[cold]
    const fn error(&self) -> BlockError {
        match self.status() {
            Status::Failed(error) => error,
            _ => BlockError::Aborted { status: 0 },
        }
    }

    /// Completes the request.
    #[inline(always)]
    pub const fn answer(&mut self, result: Result<(), BlockError>) {
        match result {
            Ok(()) => self.status = DONE,
            Err(error) => self.fail(error),
        }
    }

    #[cold]
    const fn fail(&mut self, error: BlockError) {
        match error {
            // These codes would read as no error.
            BlockError::Unknown { code: PENDING | DONE } => self.status = u16::MAX,
            error => (self.status, self.detail) = error.encode(),
        }
    }

    /// Checks the request against a disk with the properties `info` and a data buffer of `capacity` bytes.
    /// Every driver has to call this.
    ///
    /// # Errors
    /// The first reason why the disk cannot execute the request.
    #[inline]
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
