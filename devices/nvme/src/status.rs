//! Status of commands (Base, section 3.3.3.2.1; NVM, section 3.2).

/// A status code type and status code, with the Do Not Retry bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// SCT in bits 10:8, SC in bits 7:0.
    code: u16,
    /// DNR.
    do_not_retry: bool,
}

/// The outcome of a command: completion dword 0, or the error status.
pub(crate) type CommandResult = Result<u32, Status>;

impl Status {
    pub(crate) const SUCCESS: Self = Self { code: 0, do_not_retry: false };

    // Generic command status, SCT 0.
    pub(crate) const INVALID_OPCODE: Self = Self::permanent(0x001);
    pub(crate) const INVALID_FIELD: Self = Self::permanent(0x002);
    pub(crate) const DATA_TRANSFER_ERROR: Self = Self::retryable(0x004);
    pub(crate) const INTERNAL_ERROR: Self = Self::retryable(0x006);
    pub(crate) const ABORT_REQUESTED: Self = Self::retryable(0x007);
    pub(crate) const ABORTED_BY_SQ_DELETION: Self = Self::retryable(0x008);
    pub(crate) const INVALID_NAMESPACE: Self = Self::permanent(0x00b);
    pub(crate) const COMMAND_SEQUENCE_ERROR: Self = Self::permanent(0x00c);
    pub(crate) const PRP_OFFSET_INVALID: Self = Self::permanent(0x013);
    // Generic command status of the NVM command set.
    pub(crate) const LBA_OUT_OF_RANGE: Self = Self::permanent(0x080);

    // Command specific status, SCT 1.
    pub(crate) const COMPLETION_QUEUE_INVALID: Self = Self::permanent(0x100);
    pub(crate) const INVALID_QUEUE_ID: Self = Self::permanent(0x101);
    pub(crate) const INVALID_QUEUE_SIZE: Self = Self::permanent(0x102);
    pub(crate) const EVENT_REQUEST_LIMIT: Self = Self::permanent(0x105);
    pub(crate) const INVALID_VECTOR: Self = Self::permanent(0x108);
    pub(crate) const INVALID_LOG_PAGE: Self = Self::permanent(0x109);
    pub(crate) const INVALID_FORMAT: Self = Self::permanent(0x10a);
    pub(crate) const INVALID_QUEUE_DELETION: Self = Self::permanent(0x10c);
    pub(crate) const FEATURE_NOT_SAVEABLE: Self = Self::permanent(0x10d);
    pub(crate) const FEATURE_NOT_PER_NAMESPACE: Self = Self::permanent(0x10f);

    // Media and data integrity errors, SCT 2.
    pub(crate) const WRITE_FAULT: Self = Self::retryable(0x280);
    pub(crate) const UNRECOVERED_READ: Self = Self::retryable(0x281);
    pub(crate) const COMPARE_FAILURE: Self = Self::permanent(0x285);

    const fn permanent(code: u16) -> Self {
        Self { code, do_not_retry: true }
    }

    const fn retryable(code: u16) -> Self {
        Self { code, do_not_retry: false }
    }

    /// Makes any status, for fault injection.
    pub(crate) fn from_code(code: u16) -> Self {
        Self { code: code & 0x7ff, do_not_retry: false }
    }

    pub(crate) fn is_error(self) -> bool {
        self.code != 0
    }

    /// The status field in bits 15:1 of the upper half of completion dword 3. `more` states that the error
    /// log has an entry about it.
    pub(crate) fn field(self, more: bool) -> u16 {
        u16::from(self.do_not_retry) << 15 | u16::from(more) << 14 | self.code << 1
    }
}
