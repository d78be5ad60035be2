//! [`Status`]: the status field of a completion (Base 3.3.3.2).

use core::fmt;

/// The status field of a completion queue entry, without the phase tag: 15 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Status(u16);

/// Status Code Type (Base figure 93).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusType {
    /// A status of any command.
    Generic,
    /// A status specific to the command's opcode.
    CommandSpecific,
    /// An error of the medium or its data.
    Media,
    /// An error of the path to the namespace.
    Path,
    /// A vendor-specific status.
    Vendor,
    /// A reserved type.
    Reserved,
}

/// The meaning of a status. Statuses that callers treat alike share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// The command succeeded.
    Success,
    /// The opcode is unknown.
    InvalidOpcode,
    /// A field is reserved, or its value unsupported.
    InvalidField,
    /// The command's identifier is in use.
    IdConflict,
    /// The data could not be transferred.
    DataTransfer,
    /// The controller aborted the command because of a power loss notification.
    PowerLoss,
    /// An error inside the controller.
    Internal,
    /// Aborted: by the host, with its submission queue, or for the controller's reasons.
    Aborted,
    /// There is no such namespace, or its format is wrong.
    InvalidNamespace,
    /// Commands in an invalid sequence.
    Sequence,
    /// An invalid PRP offset or list.
    InvalidPrp,
    /// Blocks beyond the namespace's end.
    LbaOutOfRange,
    /// No capacity is left.
    CapacityExceeded,
    /// The namespace is not ready, or is being formatted.
    NotReady,
    /// Another host holds a reservation of the namespace.
    Reserved,
    /// The namespace is write-protected.
    WriteProtected,
    /// Write Fault.
    WriteFault,
    /// Unrecovered Read Error.
    UnrecoveredRead,
    /// Protection information or stored data do not agree.
    DataCheck,
    /// The compared data differs.
    CompareFailure,
    /// The medium refuses access.
    AccessDenied,
    /// The block was never written, or was deallocated.
    Deallocated,
    /// The path to the namespace is unusable at present.
    Path,
    /// Any other status; see [`Status::code`].
    Other,
}

impl Status {
    /// Successful completion.
    pub const SUCCESS: Self = Self(0);

    /// Creates a status from bits 31 to 17 of a completion's last double word.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x7FFF)
    }

    /// Returns the field as in the completion: code in bits 7 to 0, type in 10 to 8, retry delay in 12 and
    /// 11, More in 13, Do Not Retry in 14.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// Returns true if the command succeeded.
    #[inline]
    pub const fn is_success(self) -> bool {
        self.0 & 0x7FF == 0
    }

    /// Returns the Status Code.
    pub const fn code(self) -> u8 {
        self.0 as u8
    }

    /// Returns the Status Code Type.
    pub const fn status_type(self) -> StatusType {
        match (self.0 >> 8) & 7 {
            0 => StatusType::Generic,
            1 => StatusType::CommandSpecific,
            2 => StatusType::Media,
            3 => StatusType::Path,
            7 => StatusType::Vendor,
            _ => StatusType::Reserved,
        }
    }

    /// More: the error log has an entry on this command.
    pub const fn more(self) -> bool {
        self.0 & 1 << 13 != 0
    }

    /// Do Not Retry: the same command would fail again. Retrying is the caller's policy.
    pub const fn do_not_retry(self) -> bool {
        self.0 & 1 << 14 != 0
    }

    /// Returns the meaning (Base figures 94 to 98; NVM figures 21 and 22).
    pub const fn meaning(self) -> Meaning {
        match (self.status_type(), self.code()) {
            (StatusType::Generic, 0x00) => Meaning::Success,
            (StatusType::Generic, 0x01) => Meaning::InvalidOpcode,
            (StatusType::Generic, 0x02) => Meaning::InvalidField,
            (StatusType::Generic, 0x03) => Meaning::IdConflict,
            (StatusType::Generic, 0x04 | 0x22) => Meaning::DataTransfer,
            (StatusType::Generic, 0x05) => Meaning::PowerLoss,
            (StatusType::Generic, 0x06) => Meaning::Internal,
            (StatusType::Generic, 0x07..=0x0A | 0x21) => Meaning::Aborted,
            (StatusType::Generic, 0x0B) => Meaning::InvalidNamespace,
            (StatusType::Generic, 0x0C) => Meaning::Sequence,
            (StatusType::Generic, 0x13) => Meaning::InvalidPrp,
            (StatusType::Generic, 0x20) => Meaning::WriteProtected,
            (StatusType::Generic, 0x80) => Meaning::LbaOutOfRange,
            (StatusType::Generic, 0x81) => Meaning::CapacityExceeded,
            (StatusType::Generic, 0x82 | 0x84) => Meaning::NotReady,
            (StatusType::Generic, 0x83) => Meaning::Reserved,
            (StatusType::CommandSpecific, 0x82) => Meaning::WriteProtected,
            (StatusType::Media, 0x80) => Meaning::WriteFault,
            (StatusType::Media, 0x81) => Meaning::UnrecoveredRead,
            (StatusType::Media, 0x82..=0x84) => Meaning::DataCheck,
            (StatusType::Media, 0x85) => Meaning::CompareFailure,
            (StatusType::Media, 0x86) => Meaning::AccessDenied,
            (StatusType::Media, 0x87) => Meaning::Deallocated,
            (StatusType::Path, _) => Meaning::Path,
            _ => Meaning::Other,
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?} {:#04x}", self.meaning(), self.status_type(), self.code())?;
        if self.do_not_retry() {
            f.write_str(", do not retry")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_is_decoded_and_only_code_and_type_zero_is_success() {
        for bits in 0..=u16::MAX {
            let status = Status::from_bits(bits);
            assert_eq!(status.is_success(), bits & 0x7FF == 0, "{bits:#x}");
            assert_eq!(status.is_success(), status.meaning() == Meaning::Success, "{bits:#x}");
            assert_eq!(status.to_bits(), bits & 0x7FFF);
        }
    }

    #[test]
    fn flags_and_codes_are_decoded_as_specified() {
        // Unrecovered Read Error, more, do not retry.
        let status = Status::from_bits(0x81 | 2 << 8 | 1 << 13 | 1 << 14);
        assert_eq!(status.meaning(), Meaning::UnrecoveredRead);
        assert_eq!(status.status_type(), StatusType::Media);
        assert!(status.more() && status.do_not_retry());
        assert_eq!(Status::from_bits(0x80).meaning(), Meaning::LbaOutOfRange);
        assert_eq!(Status::from_bits(0x80 | 1 << 8).meaning(), Meaning::Other);
        assert_eq!(Status::from_bits(0x05 | 6 << 8).status_type(), StatusType::Reserved);
    }
}
