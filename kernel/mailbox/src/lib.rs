//! The mailbox: the protocol by which the bare machine reaches a device model in another process.
//!
//! It is the shared memory of an ivshmem device (QEMU, docs/specs/ivshmem-spec.rst), 32 KiB, with requests of
//! the machine and replies of the process. Both take their constants from here, as a kernel and its images
//! take theirs from `coppice-abi`.
//!
//! ```text
//!   0x0000  identity of the device: written once, before the machine boots
//!   0x0100  words of the machine: number of requests, bus mastering, open vectors
//!   0x0140  words of the process: requests done, asleep flag, reply, heartbeat
//!   0x1000  the requests, a ring of 1024
//! ```
//!
//! - All numbers are little-endian, all words aligned. [`TAIL`] and [`HEAD`] count and wrap; request `n` is
//!   entry `n % RING_ENTRIES`.
//! - The machine writes a request, then [`TAIL`]. It keeps [`TAIL`] at most [`RING_ENTRIES`] ahead of
//!   [`HEAD`].
//! - The process handles requests in order. It writes [`ANSWER`], if the request has a reply, then [`HEAD`].
//!   A write to a register has none, so it is posted, as on a bus. The machine waits for a reply before its
//!   next request.
//! - Before the process sleeps it sets [`ASLEEP`] and checks [`TAIL`] once more; the machine checks
//!   [`ASLEEP`] after it has written [`TAIL`], and rings doorbell 0 of peer [`DEVICE_PEER`] if it is set. So
//!   one of them sees the other.
//! - QEMU drops a ring until it has read from its socket that the process is a peer, which may be some time
//!   after the machine has started. So the process sets [`RUNG`] at the first ring that arrives. While
//!   [`RUNG`] is 0, the machine waits for every request to be done, writes included, and rings again while it
//!   waits ([`Wait`]). A ring of the other direction is not lost: QEMU finds the eventfd's count when it
//!   receives the descriptor.
//! - A thread of the process increments [`BEAT`] every [`BEAT_NS`]. A machine that waits for a process whose
//!   heartbeat has stopped, or that has set [`GONE`], gives the device up.
//! - The process does no DMA while [`MASTERING`] is 0. It checks before each access, so a process that the
//!   machine has given up on and that continues later only finishes its present access.
//! - Vector `v` is MSI-X entry `v` of the ivshmem device; the process rings it if bit `v` of [`OPEN`] is set.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

mod wait;

pub use wait::{Signs, Step, Wait};

/// Bytes of shared memory: a power of two, like every BAR.
pub const BYTES: usize = 0x8000;

/// Vendor and device id of an ivshmem device.
pub const IVSHMEM_ID: (u16, u16) = (0x1af4, 0x1110);
/// The BAR of the ivshmem device with its own registers.
pub const IVSHMEM_REGISTERS: u8 = 0;
/// The BAR of the ivshmem device with the shared memory.
pub const IVSHMEM_MEMORY: u8 = 2;
/// Offset of the ivshmem device's doorbell: peer in the upper half, vector in the lower.
pub const IVSHMEM_DOORBELL: usize = 0x0c;
/// Peer number of the process in the protocol of an ivshmem server.
pub const DEVICE_PEER: u16 = 0;
/// Peer number of the machine.
pub const MACHINE_PEER: u16 = 1;

/// Maximum number of interrupt vectors of a device.
pub const VECTOR_LIMIT: u16 = 64;

/// Identifies a mailbox and its version: 64 bits at [`MAGIC_AT`], written after everything else that is
/// written once.
pub const MAGIC: u64 = u64::from_le_bytes(*b"coppice1");
/// Offset of [`MAGIC`].
pub const MAGIC_AT: usize = 0x00;
/// Offset of the vendor id, and the device id in the upper half: 32 bits.
pub const ID: usize = 0x08;
/// Offset of the revision id, and the class code above it: 32 bits.
pub const CLASS: usize = 0x0c;
/// Offset of the number of interrupt vectors: 32 bits.
pub const VECTORS: usize = 0x10;
/// Offset of the sizes of the BARs, 0 for none: six times 64 bits.
pub const BARS: usize = 0x20;
/// Maximum number of BARs.
pub const BAR_COUNT: usize = 6;

/// Offset of the number of requests: 32 bits.
pub const TAIL: usize = 0x100;
/// Offset of the bus master enable: DMA and interrupts are permitted while it is not 0. 32 bits.
pub const MASTERING: usize = 0x104;
/// Offset of the bits of the open vectors: 64 bits.
pub const OPEN: usize = 0x108;

/// Offset of the number of requests that are done: 32 bits.
pub const HEAD: usize = 0x140;
/// Offset of the flag that the process waits for the doorbell: 32 bits.
pub const ASLEEP: usize = 0x144;
/// Offset of the reply to the last request that has one: 64 bits.
pub const ANSWER: usize = 0x148;
/// Offset of the flag that the process has ended in order: the device is out of its slot. 32 bits.
pub const GONE: usize = 0x150;

/// Offset of the flag that a ring has arrived, set by the process: QEMU knows the peer from then on. 32 bits.
pub const RUNG: usize = 0x154;
/// Offset of the heartbeat, a number that changes while the process runs: 32 bits.
pub const BEAT: usize = 0x158;
/// Time between two changes of [`BEAT`].
pub const BEAT_NS: u64 = 100_000_000;

/// Offset of the first request.
pub const RING: usize = 0x1000;
/// Number of entries in the ring.
pub const RING_ENTRIES: u32 = 1024;
/// Bytes of a request: three words, of 32, 32 and 64 bits.
pub const ENTRY_BYTES: usize = 16;

const _: () = assert!(RING + RING_ENTRIES as usize * ENTRY_BYTES <= BYTES);

/// A request of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailboxRequest {
    /// Reads a register; the reply is its value.
    Read {
        /// BAR.
        bar: u8,
        /// Offset in the BAR, in bytes.
        offset: u32,
        /// Width in bytes: 1, 2, 4 or 8.
        bytes: u8,
    },
    /// Writes a register. No reply.
    Write {
        /// BAR.
        bar: u8,
        /// Offset in the BAR, in bytes.
        offset: u32,
        /// Width in bytes: 1, 2, 4 or 8.
        bytes: u8,
        /// The value to write.
        value: u64,
    },
    /// Permits or forbids DMA and interrupts; the reply is 0, when it is done.
    SetBusMaster {
        /// True to permit them.
        on: bool,
    },
    /// A function level reset; the reply is 0, when it is complete.
    Reset,
    /// Queries pending transactions; the reply is 1 if there are any, else 0.
    IsBusy,
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const SET_BUS_MASTER: u32 = 3;
const RESET: u32 = 4;
const IS_BUSY: u32 = 5;

impl MailboxRequest {
    /// Returns the offset of request number `number`.
    pub const fn offset(number: u32) -> usize {
        RING + (number % RING_ENTRIES) as usize * ENTRY_BYTES
    }

    /// Returns true if the machine has to wait for a reply.
    pub const fn has_reply(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    /// Returns the three words of its entry.
    pub const fn encode(self) -> (u32, u32, u64) {
        match self {
            Self::Read { bar, offset, bytes } => (READ | (bar as u32) << 8 | (bytes as u32) << 16, offset, 0),
            Self::Write { bar, offset, bytes, value } => {
                (WRITE | (bar as u32) << 8 | (bytes as u32) << 16, offset, value)
            }
            Self::SetBusMaster { on } => (SET_BUS_MASTER, 0, on as u64),
            Self::Reset => (RESET, 0, 0),
            Self::IsBusy => (IS_BUSY, 0, 0),
        }
    }

    /// Decodes three words; `None` if they are no request.
    pub const fn decode((head, offset, value): (u32, u32, u64)) -> Option<Self> {
        let bar = (head >> 8) as u8;
        let bytes = (head >> 16) as u8;
        let is_access = (bar as usize) < BAR_COUNT && matches!(bytes, 1 | 2 | 4 | 8);
        Some(match head & 0xff {
            READ if is_access => Self::Read { bar, offset, bytes },
            WRITE if is_access => Self::Write { bar, offset, bytes, value },
            SET_BUS_MASTER => Self::SetBusMaster { on: value != 0 },
            RESET => Self::Reset,
            IS_BUSY => Self::IsBusy,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_decode_to_themselves() {
        let requests = [
            MailboxRequest::Read { bar: 5, offset: 0xffff_fffc, bytes: 4 },
            MailboxRequest::Write { bar: 0, offset: 0x1000, bytes: 8, value: u64::MAX },
            MailboxRequest::SetBusMaster { on: true },
            MailboxRequest::SetBusMaster { on: false },
            MailboxRequest::Reset,
            MailboxRequest::IsBusy,
        ];
        for request in requests {
            assert_eq!(MailboxRequest::decode(request.encode()), Some(request));
        }
    }

    #[test]
    fn malformed_requests_are_refused() {
        let (read, write) = (READ | 4 << 16, WRITE | 4 << 16);
        for head in [0, 6, 0xff, READ, read | 6 << 8, WRITE | 3 << 16, write | 0xff << 8] {
            assert_eq!(MailboxRequest::decode((head, 0, 0)), None, "{head:#x}");
        }
    }

    #[test]
    fn request_entries_form_a_ring_inside_the_shared_memory() {
        assert_eq!(MailboxRequest::offset(0), RING);
        assert_eq!(MailboxRequest::offset(RING_ENTRIES), RING);
        assert_eq!(
            MailboxRequest::offset(u32::MAX) + ENTRY_BYTES,
            RING + RING_ENTRIES as usize * ENTRY_BYTES
        );
    }
}
