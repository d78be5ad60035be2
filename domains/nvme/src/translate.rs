//! Translation between the interface's requests and errors and the driver's.

use coppice_block::{BlockError, Operation, RequestHead};
use nvme_driver::{Command, CommandError, Meaning, Status, SubmitError};

/// Returns the driver's command for a request.
///
/// # Errors
/// [`BlockError::NotSupported`] when the head names no known operation.
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

/// Returns the interface's error for a request that the driver did not accept.
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
        // The shared heap aligns the bytes behind a head of 64 bytes to 64, and each request has a buffer; a
        // queue that waits for a reset is never given a request. A violation is a fault of this domain.
        SubmitError::NoBuffer | SubmitError::Misaligned { .. } | SubmitError::Faulted(_) => {
            panic!("a request could not be submitted: {error}")
        }
    }
}

/// The decision about a command that has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disposition {
    /// Submit it again.
    Retry,
    /// Answer the request with this error.
    Fail(BlockError),
}

/// Decides about a command that failed after `tries` earlier attempts, of `retries` that are allowed.
#[cold]
pub(crate) fn failure(
    error: CommandError,
    head: &RequestHead,
    tries: u64,
    retries: u64,
    timeout_ns: u64,
) -> Disposition {
    let CommandError::Status(status) = error else {
        // The controller was reset. A request that is in flight at each reset may be the cause of them.
        let late = BlockError::TimedOut { after_ns: timeout_ns };
        return if tries < retries { Disposition::Retry } else { Disposition::Fail(late) };
    };
    if tries < retries && !status.do_not_retry() && is_transient(status) {
        return Disposition::Retry;
    }
    let lba = head.lba();
    let bits = status.to_bits();
    Disposition::Fail(match status.meaning() {
        Meaning::LbaOutOfRange | Meaning::CapacityExceeded => {
            BlockError::LbaOutOfRange { lba, blocks: head.blocks(), capacity: 0 }
        }
        Meaning::WriteProtected | Meaning::AccessDenied => BlockError::WriteProtected { lba },
        Meaning::WriteFault | Meaning::UnrecoveredRead | Meaning::DataCheck | Meaning::Deallocated => {
            BlockError::Media { lba, status: bits }
        }
        // "Command Abort Requested": only the driver aborts, and only a command that has timed out.
        Meaning::Aborted if status.code() == 0x07 => BlockError::TimedOut { after_ns: timeout_ns },
        Meaning::Aborted => BlockError::Aborted { status: bits },
        _ => BlockError::DeviceFault { status: bits },
    })
}

/// Returns true if a repetition may succeed, judged by the kind of the status.
fn is_transient(status: Status) -> bool {
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

    fn disposition(bits: u16, tries: u64) -> Disposition {
        let head = RequestHead::new(Operation::Read, 7, 1);
        failure(CommandError::Status(Status::from_bits(bits)), &head, tries, 2, 500)
    }

    #[test]
    fn a_transient_error_is_retried_up_to_the_limit() {
        let unrecovered_read = 0x281;
        assert_eq!(disposition(unrecovered_read, 0), Disposition::Retry);
        assert_eq!(disposition(unrecovered_read, 1), Disposition::Retry);
        let lost = BlockError::Media { lba: 7, status: unrecovered_read };
        assert_eq!(disposition(unrecovered_read, 2), Disposition::Fail(lost));
        let status = unrecovered_read | DO_NOT_RETRY;
        assert_eq!(disposition(status, 0), Disposition::Fail(BlockError::Media { lba: 7, status }));
    }

    #[test]
    fn a_permanent_error_is_not_retried() {
        assert_eq!(disposition(0x20, 0), Disposition::Fail(BlockError::WriteProtected { lba: 7 }));
        assert_eq!(disposition(0x02, 0), Disposition::Fail(BlockError::DeviceFault { status: 2 }));
    }

    #[test]
    fn a_request_in_flight_at_too_many_resets_times_out() {
        let head = RequestHead::new(Operation::Read, 7, 1);
        assert_eq!(failure(CommandError::Reset, &head, 1, 2, 500), Disposition::Retry);
        let late = Disposition::Fail(BlockError::TimedOut { after_ns: 500 });
        assert_eq!(failure(CommandError::Reset, &head, 2, 2, 500), late);
    }
}
