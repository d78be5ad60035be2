//! Constants that several modules share: codes and sizes of the specification, and properties that the
//! controller reports in one place and keeps in another.
//!
//! Register offsets and bits are in [`registers`](crate::registers), status codes in
//! [`status`](crate::status).

/// Size of a submission queue entry in bytes. CC.IOSQES has to be set to it; admin queues have no other size.
pub(crate) const COMMAND_BYTES: usize = 64;
/// Size of a completion queue entry in bytes. CC.IOCQES has to be set to it; admin queues have no other size.
pub(crate) const COMPLETION_BYTES: u64 = 16;

/// The NSID for all namespaces.
pub(crate) const ALL_NAMESPACES: u32 = 0xffff_ffff;

/// Version 2.0.0, of the register VS and of Identify Controller.
pub(crate) const VERSION: u32 = 0x0002_0000;
/// PCI vendor and subsystem vendor. The id is not assigned, so no driver has a list of quirks for it.
pub(crate) const VENDOR: u16 = 0x1234;
/// FR of Identify Controller, and the revision in the log of firmware slots.
pub(crate) const FIRMWARE_REVISION: [u8; 8] = *b"1.0     ";
/// ELPE + 1: the number of entries of the error log.
pub(crate) const ERROR_ENTRIES: usize = 16;
/// AERL + 1: the number of event requests that may be outstanding.
pub(crate) const EVENT_REQUESTS: usize = 4;
/// The initial over temperature threshold, in Kelvin; also WCTEMP.
pub(crate) const WARNING_KELVIN: u16 = 343;

/// Opcodes of admin commands (Base, section 5).
pub(crate) mod admin_opcode {
    pub(crate) const DELETE_SUBMISSION_QUEUE: u8 = 0x00;
    pub(crate) const CREATE_SUBMISSION_QUEUE: u8 = 0x01;
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const DELETE_COMPLETION_QUEUE: u8 = 0x04;
    pub(crate) const CREATE_COMPLETION_QUEUE: u8 = 0x05;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
    pub(crate) const ASYNCHRONOUS_EVENT_REQUEST: u8 = 0x0c;
    pub(crate) const FORMAT: u8 = 0x80;

    /// All admin commands, for the log of supported commands. The flag is set if a command changes stored
    /// data.
    pub(crate) const SUPPORTED: [(u8, bool); 11] = [
        (DELETE_SUBMISSION_QUEUE, false),
        (CREATE_SUBMISSION_QUEUE, false),
        (GET_LOG_PAGE, false),
        (DELETE_COMPLETION_QUEUE, false),
        (CREATE_COMPLETION_QUEUE, false),
        (IDENTIFY, false),
        (ABORT, false),
        (SET_FEATURES, false),
        (GET_FEATURES, false),
        (ASYNCHRONOUS_EVENT_REQUEST, false),
        (FORMAT, true),
    ];
}

/// Opcodes of the NVM command set (NVM, section 3.2).
pub(crate) mod io_opcode {
    pub(crate) const FLUSH: u8 = 0x00;
    pub(crate) const WRITE: u8 = 0x01;
    pub(crate) const READ: u8 = 0x02;
    pub(crate) const COMPARE: u8 = 0x05;
    pub(crate) const WRITE_ZEROES: u8 = 0x08;
    pub(crate) const DATASET_MANAGEMENT: u8 = 0x09;

    /// All I/O commands, for the log of supported commands. The flag is set if a command changes stored data.
    pub(crate) const SUPPORTED: [(u8, bool); 6] = [
        (FLUSH, false),
        (WRITE, true),
        (READ, false),
        (COMPARE, false),
        (WRITE_ZEROES, true),
        (DATASET_MANAGEMENT, true),
    ];
}

/// Identifiers of log pages (Base, section 5.16.1).
pub(crate) mod log_page {
    pub(crate) const SUPPORTED_PAGES: u8 = 0x00;
    pub(crate) const ERRORS: u8 = 0x01;
    pub(crate) const HEALTH: u8 = 0x02;
    pub(crate) const FIRMWARE: u8 = 0x03;
    pub(crate) const CHANGED_NAMESPACES: u8 = 0x04;
    pub(crate) const COMMANDS: u8 = 0x05;
}
