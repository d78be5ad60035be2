//! [`Disk`]: a blocking client of a block device. [`InFlightTable`]: the bookkeeping of lent requests, for
//! any client of a block queue.
//!
//! A call of any length is split into *pieces* of at most one request each, of which several are in flight at
//! a time. The buffers are kept for the next call, so that a disk in use allocates nothing. Data is copied
//! once, between the caller's slice and the buffers that the device accesses. A client that cannot afford the
//! copy uses [`BlockQueue`] itself.
//!
//! A disk belongs to one thread, like the queue behind it: to the first thread that uses it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
mod in_flight;
mod pieces;

use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::{Batch, BlockDevice, BlockError, BlockInfo, BlockQueue, Operation, Request, RequestHead};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::{Lent, Loan, RRef};
use coppice_runtime::time;

pub use error::DiskError;
pub use in_flight::{InFlightTable, LoanHalf, Settled};
use pieces::{Piece, Pieces};

/// The maximum wait of one exchange. An answer ends the wait.
const MAX_WAIT: Duration = Duration::from_millis(100);

/// An open disk.
pub struct Disk {
    queue: Handle<dyn BlockQueue>,
    info: BlockInfo,
    /// The size of a request's buffer in bytes.
    piece_bytes: usize,
    batch: Option<RRef<Batch>>,
    /// The requests in flight; the number of the slot is the tag.
    in_flight: InFlightTable<Loan<Request>, Piece>,
    /// Requests that were allocated and are not in flight.
    idle: Vec<RRef<Request>>,
}

/// The operation of a call, with the caller's data.
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
    /// Opens a queue of `depth` requests of up to `piece_bytes`, or less of both if the device allows less.
    ///
    /// # Errors
    /// [`DiskError::Rpc`] when a call fails, [`DiskError::Open`] when the device opens no queue.
    pub fn open(block: &Handle<dyn BlockDevice>, depth: u32, piece_bytes: usize) -> Result<Self, DiskError> {
        let info = block.info()?;
        let depth = depth.min(info.queue_depth).max(1);
        let queue = block.open(depth)??;
        let max = usize::try_from(info.bytes(info.max_transfer_blocks)).unwrap_or(usize::MAX);
        let block_bytes = info.block_bytes as usize;
        // A multiple of the block size, and at least one block.
        let piece_bytes = (piece_bytes.min(max) / block_bytes).max(1) * block_bytes;
        let depth = depth as usize;
        let in_flight = InFlightTable::new(depth, Piece::default());
        Ok(Self { queue, info, piece_bytes, batch: None, in_flight, idle: Vec::with_capacity(depth) })
    }

    /// The size, limits and identity of the disk.
    pub fn info(&self) -> &BlockInfo {
        &self.info
    }

    /// Fills `into` with the blocks from `lba`.
    ///
    /// # Errors
    /// Any [`DiskError`] but `Open`. The content of `into` is then undefined.
    pub fn read(&mut self, lba: u64, into: &mut [u8]) -> Result<(), DiskError> {
        let blocks = self.blocks_of(into.len())?;
        self.run(lba, blocks, Job { operation: Operation::Read, fua: false, data: Data::In(into) })
    }

    /// Writes `from` to the blocks from `lba`.
    ///
    /// # Errors
    /// Any [`DiskError`] but `Open`. The blocks then hold old and new data in part.
    pub fn write(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let blocks = self.blocks_of(from.len())?;
        self.run(lba, blocks, Job { operation: Operation::Write, fua: false, data: Data::Out(from) })
    }

    /// Like [`Self::write`], but returns only when the data is on the medium (FUA).
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_through(&mut self, lba: u64, from: &[u8]) -> Result<(), DiskError> {
        let blocks = self.blocks_of(from.len())?;
        self.run(lba, blocks, Job { operation: Operation::Write, fua: true, data: Data::Out(from) })
    }

    /// Writes all earlier writes through to the medium.
    ///
    /// # Errors
    /// Any [`DiskError`] but `Open`.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        self.run(0, 0, Job { operation: Operation::Flush, fua: false, data: Data::None })
    }

    /// Zeroes `blocks` blocks from `lba`; with `fua`, returns only when they are on the medium.
    ///
    /// # Errors
    /// Any [`DiskError`] but `Open`.
    pub fn write_zeroes(&mut self, lba: u64, blocks: u64, fua: bool) -> Result<(), DiskError> {
        self.run(lba, blocks, Job { operation: Operation::WriteZeroes, fua, data: Data::None })
    }

    /// Tells the device that the content of `blocks` blocks from `lba` is no longer needed.
    ///
    /// # Errors
    /// Any [`DiskError`] but `Open`.
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

    /// Runs `job` on `blocks` blocks from `lba`, piece by piece. All pieces are tried; the result is the
    /// first error in the order of the blocks.
    fn run(&mut self, lba: u64, blocks: u64, mut job: Job<'_>) -> Result<(), DiskError> {
        let max = match job.operation {
            Operation::Read | Operation::Write => self.piece_bytes as u64 / u64::from(self.info.block_bytes),
            _ => self.info.max_range_blocks.max(1).into(),
        };
        let mut pieces = Pieces::new(lba, blocks, max, job.operation == Operation::Flush);
        let mut first_error: Option<(u64, DiskError)> = None;
        loop {
            let batch = self.fill(&mut pieces, &job);
            if batch.is_empty() && self.in_flight.in_flight() == 0 {
                self.batch = Some(batch);
                return first_error.map_or(Ok(()), |(_, error)| Err(error));
            }
            let result = self.exchange(batch).and_then(|mut batch| {
                while let Some(lent) = batch.pop_front() {
                    let (lba, result) = self.complete(lent, &mut job)?;
                    if let Err(error) = result
                        && first_error.is_none_or(|(first, _)| lba < first)
                    {
                        first_error = Some((lba, error));
                    }
                }
                self.batch = Some(batch);
                Ok(())
            });
            if let Err(error) = result {
                self.in_flight.abandon();
                return Err(error);
            }
        }
    }

    fn exchange(&self, batch: RRef<Batch>) -> Result<RRef<Batch>, DiskError> {
        let until = (time::now() + MAX_WAIT).as_nanos();
        let answer: RpcResult<_> = self.queue.exchange(batch, u64::try_from(until).unwrap_or(u64::MAX));
        answer?.map_err(|_| DiskError::Busy)
    }

    /// Returns a batch with a request for each free slot, as long as there are pieces.
    fn fill(&mut self, pieces: &mut Pieces, job: &Job<'_>) -> RRef<Batch> {
        let mut batch = self.batch.take().unwrap_or_else(|| RRef::new(Batch::new()));
        while !batch.is_full()
            && !self.in_flight.is_full()
            && let Some(piece) = pieces.next()
        {
            let head = RequestHead::new(job.operation, piece.lba, piece.blocks);
            let head = if job.fua { head.with_fua() } else { head };
            let mut request = self.idle.pop().unwrap_or_else(|| RRef::with_capacity(head, self.piece_bytes));
            *request.head_mut() = head;
            if let Data::Out(from) = &job.data {
                let range = piece.bytes(self.info.block_bytes);
                request.bytes_mut()[..range.len()].copy_from_slice(&from[range]);
            }
            let (loan, mut lent) = request.lend();
            let Ok(tag) = self.in_flight.insert(loan, piece) else { unreachable!("a slot was free") };
            lent.head_mut().set_tag(tag.into());
            if batch.push_back(lent).is_err() {
                unreachable!("the batch was not full");
            }
        }
        batch
    }

    /// Handles an answer. Returns the first block of its piece, and the piece's result.
    ///
    /// # Errors
    /// [`DiskError::UnknownRequest`], if the request is none of those in flight.
    fn complete(
        &mut self,
        lent: Lent<Request>,
        job: &mut Job<'_>,
    ) -> Result<(u64, Result<(), DiskError>), DiskError> {
        let tag = lent.tag();
        let settled =
            self.in_flight.settle(tag, lent).map_err(|_foreign| DiskError::UnknownRequest { tag })?;
        let (piece, request) = (settled.context, &settled.request);
        let result = piece_result(piece.lba, settled.number, tag, request.result());
        if let (Ok(()), Data::In(into)) = (result, &mut job.data) {
            let range = piece.bytes(self.info.block_bytes);
            let len = range.len();
            into[range].copy_from_slice(&request.bytes()[..len]);
        }
        self.idle.push(settled.request);
        Ok((piece.lba, result))
    }
}

/// Returns the result of a piece whose request was sent with the tag `sent` and came back with the tag
/// `returned`. The data of a request with a wrong tag is not trusted, whatever its result.
fn piece_result(lba: u64, sent: u32, returned: u64, result: Result<(), BlockError>) -> Result<(), DiskError> {
    if returned != u64::from(sent) {
        return Err(DiskError::ChangedTag { sent: sent.into(), returned });
    }
    result.map_err(|error| DiskError::Block { lba, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_tag_is_an_error_even_if_the_request_succeeded() {
        assert_eq!(piece_result(9, 3, 3, Ok(())), Ok(()));
        let error = BlockError::QueueFull { depth: 1 };
        assert_eq!(piece_result(9, 3, 3, Err(error)), Err(DiskError::Block { lba: 9, error }));
        let changed = Err(DiskError::ChangedTag { sent: 3, returned: 4 });
        assert_eq!(piece_result(9, 3, 4, Ok(())), changed);
        assert_eq!(piece_result(9, 3, 4, Err(error)), changed);
    }
}
