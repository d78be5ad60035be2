//! Status of commands (Base, section 3.3.3.2.1; NVM, section 3.2).

/// A status code type and code, and whether trying again is pointless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status {
    /// SCT in bits 10:8, SC in bits 7:0.
    code: u16,
    /// DNR: do not retry.
    final_: bool,
}

/// What a command comes to: completion dword 0, or why it failed.
pub(crate) type Answer = Result<u32, Status>;

impl Status {
    pub(crate) const SUCCESS: Self = Self { code: 0, final_: false };

    // Generic command status, SCT 0.
    pub(crate) const INVALID_OPCODE: Self = Self::never(0x001);
    pub(crate) const INVALID_FIELD: Self = Self::never(0x002);
    pub(crate) const DATA_TRANSFER_ERROR: Self = Self::again(0x004);
    pub(crate) const INTERNAL_ERROR: Self = Self::again(0x006);
    pub(crate) const ABORT_REQUESTED: Self = Self::again(0x007);
    pub(crate) const ABORTED_BY_SQ_DELETION: Self = Self::again(0x008);
    pub(crate) const INVALID_NAMESPACE: Self = Self::never(0x00b);
    pub(crate) const COMMAND_SEQUENCE_ERROR: Self = Self::never(0x00c);
    pub(crate) const PRP_OFFSET_INVALID: Self = Self::never(0x013);
    // Generic command status of the NVM command set.
    pub(crate) const LBA_OUT_OF_RANGE: Self = Self::never(0x080);

    // Command specific status, SCT 1.
    pub(crate) const COMPLETION_QUEUE_INVALID: Self = Self::never(0x100);
    pub(crate) const INVALID_QUEUE_ID: Self = Self::never(0x101);
    pub(crate) const INVALID_QUEUE_SIZE: Self = Self::never(0x102);
    pub(crate) const EVENT_REQUEST_LIMIT: Self = Self::never(0x105);
    pub(crate) const INVALID_VECTOR: Self = Self::never(0x108);
    pub(crate) const INVALID_LOG_PAGE: Self = Self::never(0x109);
    pub(crate) const INVALID_FORMAT: Self = Self::never(0x10a);
    pub(crate) const INVALID_QUEUE_DELETION: Self = Self::never(0x10c);
    pub(crate) const FEATURE_NOT_SAVEABLE: Self = Self::never(0x10d);
    pub(crate) const FEATURE_NOT_PER_NAMESPACE: Self = Self::never(0x10f);

    // Media and data integrity errors, SCT 2.
    pub(crate) const WRITE_FAULT: Self = Self::again(0x280);
    pub(crate) const UNRECOVERED_READ: Self = Self::again(0x281);
    pub(crate) const COMPARE_FAILURE: Self = Self::never(0x285);

    const fn never(code: u16) -> Self {
        Self { code, final_: true }
    }

    const fn again(code: u16) -> Self {
        Self { code, final_: false }
    }

    /// Any status, for fault injection.
    pub(crate) fn from_code(code: u16) -> Self {
        Self { code: code & 0x7ff, final_: false }
    }

    pub(crate) fn is_error(self) -> bool {
        self.code != 0
    }

    /// The status field as it stands in bits 15:1 of the upper half of completion dword 3. `more` says that the error
    /// log has an entry about it.
    pub(crate) fn field(self, more: bool) -> u16 {
        u16::from(self.final_) << 15 | u16::from(more) << 14 | self.code << 1
    }
}
