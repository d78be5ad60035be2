//! [`Disk`]: a block device for who wants to read and write and to wait for it.
//!
//! A call of any length is cut into requests of at most one *piece*, of which several are under way at a time; their buffers are
//! kept for the next call, so that a disk that is used allocates nothing. What is read or written is copied once, between the
//! caller's slice and the buffers that the device reaches. Who cannot afford that uses [`BlockQueue`] itself.
//!
//! A disk is one thread's, as the queue behind it: the thread that uses it first.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod pieces;

use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::{Batch, BlockDevice, BlockError, BlockInfo, BlockQueue, Operation, Request, RequestHead};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::{Lent, Loan, RRef};
use coppice_runtime::time;

pub use error::DiskError;
use pieces::{Piece, Pieces};

/// How long one exchange waits at most. Nobody waits longer than it takes: an answer ends it.
const WAIT: Duration = Duration::from_millis(100);

/// An open disk.
pub struct Disk {
    queue: Handle<dyn BlockQueue>,
    info: BlockInfo,
    /// Bytes of a request's buffer.
    piece_bytes: usize,
    batch: Option<RRef<Batch>>,
    /// One for each request that may be under way; its index is the tag.
    places: Vec<Place>,
}

/// One request, at home or under way.
enum Place {
    /// None made yet.
    Empty,
    Home(RRef<Request>),
    Away(Loan<Request>, Piece),
}

/// What a call wants of the disk.
struct Job<'a> {
    operation: Operation,
    fua: bool,
    data: Data<'a>,
}

enum Data<'a> {
    In(&'a mut [u8]),
    Out(&'a [u8]),
    None,
}

impl Disk {
    /// Opens `block` with a queue of `depth` requests of up to `piece_bytes`, or as many of both as the disk can.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(block: &Handle<dyn BlockDevice>, depth: u32, piece_bytes: usize) -> Result<Self, DiskError> {
        let info = block.info()?;
        let depth = depth.min(info.queue_depth).max(1);
        let queue = block.open(depth)??;
        let most = usize::try_from(info.bytes(info.max_transfer_blocks)).unwrap_or(usize::MAX);
        let block_bytes = info.block_bytes as usize;
        // Whole blocks, one at least.
        let piece_bytes = (piece_bytes.min(most) / block_bytes).max(1) * block_bytes;
        let places = (0..depth).map(|_| Place::Empty).collect();
        Ok(Self { queue, info, piece_bytes, batch: None, places })
    }

    /// What the disk is.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }

    /// Reads as many blocks from `lba` as fill `into`.
    ///
    /// # Errors
    /// [`DiskError`]. What `into` holds then is anything.
    pub fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let blocks = self.blocks_of(into.len())?;
        self.run(lba, blocks, Job { operation: Operation::Read, fua: false, data: Data::In(into) })
    }

    /// Writes `from` to the blocks from `lba`.
    ///
    /// # Errors
    /// [`DiskError`]. What the blocks hold then is in part the old and in part the new.
    pub fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let blocks = self.blocks_of(from.len())?;
        self.run(lba, blocks, Job { operation: Operation::Write, fua: false, data: Data::Out(from) })
    }

    /// As [`Self::write`], and returns when the medium has it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_through(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let blocks = self.blocks_of(from.len())?;
        self.run(lba, blocks, Job { operation: Operation::Write, fua: true, data: Data::Out(from) })
    }

    /// Returns when the medium has all that was written before.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.run(0, 0, Job { operation: Operation::Flush, fua: false, data: Data::None })
    }

    /// Makes `blocks` blocks from `lba` zeroes; with `fua`, on the medium.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write_zeroes(&mut self, lba: u64, blocks: u64, fua: bool) -> Result<(), DiskError> {
        self.run(lba, blocks, Job { operation: Operation::WriteZeroes, fua, data: Data::None })
    }

    /// Says that nobody wants what is in `blocks` blocks from `lba`.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn deallocate(&mut self, lba: u64, blocks: u64) -> Result<(), DiskError> {
        self.run(lba, blocks, Job { operation: Operation::Deallocate, fua: false, data: Data::None })
    }

    fn blocks_of(&self, bytes: usize) -> Result<u64, DiskError> {
        let block_bytes = self.info.block_bytes;
        let bytes = bytes as u64;
        if bytes.is_multiple_of(block_bytes.into()) {
            Ok(bytes / u64::from(block_bytes))
        } else {
            Err(DiskError::Unaligned { bytes, block_bytes })
        }
    }

    /// Does `job` with `blocks` blocks from `lba`, piece by piece. All pieces are tried, and the first error in the order of the
    /// blocks counts.
    fn run(&mut self, lba: u64, blocks: u64, mut job: Job<'_>) -> Result<(), DiskError> {
        let most = match job.operation {
            Operation::Read | Operation::Write => self.piece_bytes as u64 / u64::from(self.info.block_bytes),
            _ => self.info.max_range_blocks.max(1).into(),
        };
        let mut pieces = Pieces::new(lba, blocks, most, job.operation == Operation::Flush);
        let mut first_error: Option<(u64, BlockError)> = None;
        loop {
            let batch = self.fill(&mut pieces, &job);
            if batch.is_empty() && !self.is_away() {
                self.batch = Some(batch);
                return first_error.map_or(Ok(()), |(lba, error)| Err(DiskError::Block { lba, error }));
            }
            match self.exchange(batch) {
                Ok(mut batch) => {
                    while let Some(lent) = batch.pop_front() {
                        if let Err((lba, error)) = self.take_in(lent, &mut job)
                            && first_error.is_none_or(|(first, _)| lba < first)
                        {
                            first_error = Some((lba, error));
                        }
                    }
                    self.batch = Some(batch);
                }
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
            }
        }
    }

    fn exchange(&self, batch: RRef<Batch>) -> Result<RRef<Batch>, DiskError> {
        let until = (time::now() + WAIT).as_nanos();
        let answer: RpcResult<_> = self.queue.exchange(batch, u64::try_from(until).unwrap_or(u64::MAX));
        answer?.map_err(|_| DiskError::Busy)
    }

    /// A batch of as many pieces as have a place at home.
    fn fill(&mut self, pieces: &mut Pieces, job: &Job<'_>) -> RRef<Batch> {
        let mut batch = self.batch.take().unwrap_or_else(|| RRef::new(Batch::new()));
        for (tag, place) in self.places.iter_mut().enumerate() {
            if matches!(place, Place::Away(..)) {
                continue;
            }
            if batch.is_full() {
                break;
            }
            let Some(piece) = pieces.next() else { break };
            let head = RequestHead::new(job.operation, piece.lba, piece.blocks).with_tag(tag as u64);
            let head = if job.fua { head.with_fua() } else { head };
            let mut request = match core::mem::replace(place, Place::Empty) {
                Place::Home(request) => request,
                _ => RRef::with_capacity(head, self.piece_bytes),
            };
            *request.head_mut() = head;
            if let Data::Out(from) = &job.data {
                let range = piece.bytes(self.info.block_bytes);
                request.bytes_mut()[..range.len()].copy_from_slice(&from[range]);
            }
            let (loan, lent) = request.lend();
            *place = Place::Away(loan, piece);
            if batch.push_back(lent).is_err() {
                unreachable!("the batch was not full");
            }
        }
        batch
    }

    /// Takes in an answer; the error with the block where the piece begins.
    fn take_in(&mut self, lent: Lent<Request>, job: &mut Job<'_>) -> Result<(), (u64, BlockError)> {
        let tag = usize::try_from(lent.tag()).unwrap_or(usize::MAX);
        let Some(place) = self.places.get_mut(tag) else { return Ok(()) };
        let Place::Away(loan, piece) = core::mem::replace(place, Place::Empty) else { return Ok(()) };
        match loan.settle(lent) {
            Ok(request) => {
                let result = request.result().map_err(|error| (piece.lba, error));
                if let (Ok(()), Data::In(into)) = (result, &mut job.data) {
                    let range = piece.bytes(self.info.block_bytes);
                    let len = range.len();
                    into[range].copy_from_slice(&request.bytes()[..len]);
                }
                *place = Place::Home(request);
                result
            }
            // Not the one that was lent under this tag; that one is still away.
            Err((loan, _)) => {
                *place = Place::Away(loan, piece);
                Ok(())
            }
        }
    }

    fn is_away(&self) -> bool {
        self.places.iter().any(|place| matches!(place, Place::Away(..)))
    }

    /// Lets go of all that is under way: there will be no answers.
    fn give_up(&mut self) {
        for place in &mut self.places {
            if matches!(place, Place::Away(..)) {
                *place = Place::Empty;
            }
        }
    }
}
