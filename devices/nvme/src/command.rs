//! [`Command`], a submission queue entry (Base, section 3.3.3.1).

use crate::spec::COMMAND_BYTES;
use crate::status::Status;

/// A fetched command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    words: [u32; COMMAND_BYTES / 4],
    /// The id of its submission queue.
    pub(crate) sq: u16,
}

impl Command {
    pub(crate) fn new(bytes: &[u8; COMMAND_BYTES], sq: u16) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        Self { words: std::array::from_fn(|index| u32::from_le_bytes(words[index])), sq }
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.words[0] as u8
    }

    pub(crate) fn id(&self) -> u16 {
        (self.words[0] >> 16) as u16
    }

    /// Refuses fused operations and SGLs, which the controller supports for no command.
    pub(crate) fn check_flags(&self) -> Result<(), Status> {
        const FUSE_PSDT: u32 = 0b1100_0011 << 8;
        if self.words[0] & FUSE_PSDT == 0 { Ok(()) } else { Err(Status::INVALID_FIELD) }
    }

    pub(crate) fn nsid(&self) -> u32 {
        self.words[1]
    }

    pub(crate) fn prp1(&self) -> u64 {
        self.long(6)
    }

    pub(crate) fn prp2(&self) -> u64 {
        self.long(8)
    }

    /// Command dword `index`.
    pub(crate) fn dword(&self, index: usize) -> u32 {
        self.words[index]
    }

    /// Command dwords `index` and `index + 1`, as one number.
    pub(crate) fn long(&self, index: usize) -> u64 {
        u64::from(self.words[index]) | u64::from(self.words[index + 1]) << 32
    }
}
