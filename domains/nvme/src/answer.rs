//! How the driver's errors are said to clients.

use coppice_block::{BlockError, Operation, RequestHead};
use nvme_driver::{Command, CommandError, Meaning, Status, SubmitError};

/// The driver's command for a request.
///
/// # Errors
/// [`BlockError::NotSupported`].
#[inline]
pub(crate) fn command(head: &RequestHead) -> Result<Command, BlockError> {
    let operation = match head.operation()? {
        Operation::Read => nvme_driver::Operation::Read,
        Operation::Write => nvme_driver::Operation::Write,
        Operation::Flush => nvme_driver::Operation::Flush,
        Operation::WriteZeroes => nvme_driver::Operation::WriteZeroes,
        Operation::Deallocate => nvme_driver::Operation::Deallocate,
    };
    let force_unit_access = head.is_fua();
    Ok(Command { operation, lba: head.lba(), blocks: head.blocks(), offset: 0, force_unit_access })
}

/// Why a request was not submitted.
#[cold]
pub(crate) fn refusal(error: SubmitError, most: u32, head: &RequestHead) -> BlockError {
    match error {
        SubmitError::QueueFull { depth } => BlockError::QueueFull { depth: depth.into() },
        SubmitError::NoBlocks => BlockError::TooLarge { blocks: 0, most },
        SubmitError::LbaOutOfRange { lba, blocks, capacity } => {
            BlockError::LbaOutOfRange { lba, blocks, capacity }
        }
        SubmitError::TooLarge { blocks, limit } => BlockError::TooLarge { blocks, most: limit },
        SubmitError::ShortBuffer { bytes, needed } => {
            BlockError::BufferTooSmall { bytes: needed as u64, capacity: bytes as u64 }
        }
        SubmitError::NotSupported => match head.operation() {
            Ok(operation) => BlockError::NotSupported { operation: operation as u8 },
            Err(error) => error,
        },
        // The shared heap aligns bytes behind a head of 64 to 64, and every request has some; if neither were so, or the
        // queue waited for a reset, it would be this domain's mistake.
        SubmitError::NoBuffer | SubmitError::Misaligned { .. } | SubmitError::Faulted(_) => {
            panic!("a request could not be submitted: {error}")
        }
    }
}

/// What is to become of a command that has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is worth another try.
    Again,
    /// Its submitter hears this.
    Answer(BlockError),
}

/// What a failure means, when it was tried `tries` times before, of `retries` that are allowed.
#[cold]
pub(crate) fn failure(
    error: CommandError,
    head: &RequestHead,
    tries: u64,
    retries: u64,
    timeout_ns: u64,
) -> Verdict {
    let CommandError::Status(status) = error else {
        // The controller was reset. What is submitted again after many resets is what they come from, perhaps.
        let late = BlockError::TimedOut { after_ns: timeout_ns };
        return if tries < retries { Verdict::Again } else { Verdict::Answer(late) };
    };
    if tries < retries && !status.do_not_retry() && is_passing(status) {
        return Verdict::Again;
    }
    let lba = head.lba();
    let bits = status.to_bits();
    Verdict::Answer(match status.meaning() {
        Meaning::LbaOutOfRange | Meaning::CapacityExceeded => {
            BlockError::LbaOutOfRange { lba, blocks: head.blocks(), capacity: 0 }
        }
        Meaning::WriteProtected | Meaning::AccessDenied => BlockError::WriteProtected { lba },
        Meaning::WriteFault | Meaning::UnrecoveredRead | Meaning::DataCheck | Meaning::Deallocated => {
            BlockError::Media { lba, status: bits }
        }
        // Nobody else aborts: it took too long, and the controller could be talked out of it.
        Meaning::Aborted if status.code() == 0x07 => BlockError::TimedOut { after_ns: timeout_ns },
        Meaning::Aborted => BlockError::Aborted { status: bits },
        _ => BlockError::DeviceFault { status: bits },
    })
}

/// Whether a failure may be over the next time, as far as its kind tells.
fn is_passing(status: Status) -> bool {
    !matches!(
        status.meaning(),
        Meaning::InvalidOpcode
            | Meaning::InvalidField
            | Meaning::InvalidNamespace
            | Meaning::InvalidPrp
            | Meaning::LbaOutOfRange
            | Meaning::CapacityExceeded
            | Meaning::WriteProtected
            | Meaning::AccessDenied
            | Meaning::CompareFailure
            | Meaning::Deallocated
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const DO_NOT_RETRY: u16 = 1 << 14;

    fn judged(bits: u16, tries: u64) -> Verdict {
        let head = RequestHead::new(Operation::Read, 7, 1);
        failure(CommandError::Status(Status::from_bits(bits)), &head, tries, 2, 500)
    }

    #[test]
    fn what_may_pass_is_tried_again_and_no_more_often_than_allowed() {
        let unrecovered_read = 0x281;
        assert_eq!(judged(unrecovered_read, 0), Verdict::Again);
        assert_eq!(judged(unrecovered_read, 1), Verdict::Again);
        let lost = BlockError::Media { lba: 7, status: unrecovered_read };
        assert_eq!(judged(unrecovered_read, 2), Verdict::Answer(lost));
        let status = unrecovered_read | DO_NOT_RETRY;
        assert_eq!(judged(status, 0), Verdict::Answer(BlockError::Media { lba: 7, status }));
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        assert_eq!(judged(0x20, 0), Verdict::Answer(BlockError::WriteProtected { lba: 7 }));
        assert_eq!(judged(0x02, 0), Verdict::Answer(BlockError::DeviceFault { status: 2 }));
    }

    #[test]
    fn a_request_that_every_reset_finds_in_flight_is_given_up() {
        let head = RequestHead::new(Operation::Read, 7, 1);
        assert_eq!(failure(CommandError::Reset, &head, 1, 2, 500), Verdict::Again);
        let late = Verdict::Answer(BlockError::TimedOut { after_ns: 500 });
        assert_eq!(failure(CommandError::Reset, &head, 2, 2, 500), late);
    }
}
