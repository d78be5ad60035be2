//! The mailbox: how the bare machine reaches a device model in another process.
//!
//! It is the shared memory of an ivshmem device (QEMU, docs/specs/ivshmem-spec.rst), 32 KiB, in which the machine asks and the
//! process answers. Both take their constants from here, as a kernel and its images take theirs from `coppice-abi`.
//!
//! ```text
//!   0x0000  who the device is: written once, before the machine boots
//!   0x0100  the machine's words: how many requests there are, whether DMA is permitted, which vectors are open
//!   0x0140  the process's words: how many requests are done, whether it sleeps, the answer
//!   0x1000  the requests, a ring of 1024
//! ```
//!
//! - All numbers are little-endian, all words aligned. [`TAIL`] and [`HEAD`] count and wrap; request `n` is entry
//!   `n % RING_ENTRIES`.
//! - The machine writes a request, then [`TAIL`]. It leaves [`TAIL`] at most [`RING_ENTRIES`] ahead of [`HEAD`].
//! - The process does requests in order. It writes [`ANSWER`], if the request has one, then [`HEAD`]. A write to a register has
//!   none, so it is posted, as on a bus. The machine waits for an answer before it asks for anything else.
//! - Before the process sleeps it sets [`ASLEEP`] and looks at [`TAIL`] once more; the machine looks at [`ASLEEP`] after it has
//!   written [`TAIL`], and rings doorbell 0 of peer [`DEVICE_PEER`] if it is set. So one of them sees the other.
//! - The process moves nothing while [`MASTERING`] is 0. It asks before each access, so a process that the machine has given up
//!   on and that comes to instance again does no more than finish the access that it was in.
//! - Vector `v` is MSI-X entry `v` of the ivshmem device; the process rings it if bit `v` of [`OPEN`] is set.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

/// Bytes of shared memory: a power of two, as BARs are.
pub const BYTES: usize = 0x8000;

/// Vendor and device id of an ivshmem device.
pub const IVSHMEM_ID: (u16, u16) = (0x1af4, 0x1110);
/// The BAR of the ivshmem device with its own registers.
pub const IVSHMEM_REGISTERS: u8 = 0;
/// The BAR of the ivshmem device with the shared memory.
pub const IVSHMEM_MEMORY: u8 = 2;
/// Offset of the ivshmem device's doorbell: peer in the upper half, vector in the lower.
pub const IVSHMEM_DOORBELL: usize = 0x0c;
/// What the process calls itself when it speaks the protocol of an ivshmem server.
pub const DEVICE_PEER: u16 = 0;
/// What it calls the machine.
pub const MACHINE_PEER: u16 = 1;

/// Most interrupt vectors of a device.
pub const VECTOR_LIMIT: u16 = 64;

/// Says that this is a mailbox, and of which version: 64 bits at [`MAGIC_AT`], written after all else that is written once.
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
/// How many BARs there can be.
pub const BAR_COUNT: usize = 6;

/// Offset of the number of requests: 32 bits.
pub const TAIL: usize = 0x100;
/// Offset of what lets the device reach memory and send interrupts, when it is not 0: 32 bits.
pub const MASTERING: usize = 0x104;
/// Offset of the bits of vectors whose interrupts are wanted: 64 bits.
pub const OPEN: usize = 0x108;

/// Offset of the number of requests that are done: 32 bits.
pub const HEAD: usize = 0x140;
/// Offset of what says that the process waits for the doorbell: 32 bits.
pub const ASLEEP: usize = 0x144;
/// Offset of the answer to the last request that has one: 64 bits.
pub const ANSWER: usize = 0x148;
/// Offset of what the process sets when it ends in order: the device is out of its slot. 32 bits.
pub const GONE: usize = 0x150;

/// Offset of the first request.
pub const RING: usize = 0x1000;
/// How many requests there is room for.
pub const RING_ENTRIES: u32 = 1024;
/// Bytes of a request: three words, of 32, 32 and 64 bits.
pub const ENTRY_BYTES: usize = 16;

const _: () = assert!(RING + RING_ENTRIES as usize * ENTRY_BYTES <= BYTES);

/// What the machine asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Read a register; answered by its value.
    Read {
        /// BAR.
        bar: u8,
        /// Offset in it.
        offset: u32,
        /// 1, 2, 4 or 8.
        bytes: u8,
    },
    /// Write a register. Not answered.
    Write {
        /// BAR.
        bar: u8,
        /// Offset in it.
        offset: u32,
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// What.
        value: u64,
    },
    /// Permit DMA and interrupts, or not; answered by 0 when it is so.
    SetBusMaster {
        /// Whether they are permitted.
        on: bool,
    },
    /// A function level reset; answered by 0 when it is over.
    Reset,
    /// Whether transactions are pending; answered by 1 or 0.
    IsBusy,
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const SET_BUS_MASTER: u32 = 3;
const RESET: u32 = 4;
const IS_BUSY: u32 = 5;

impl Request {
    /// Where request number `number` stands.
    pub const fn place(number: u32) -> usize {
        RING + (number % RING_ENTRIES) as usize * ENTRY_BYTES
    }

    /// Whether the machine has to wait for the answer.
    pub const fn is_answered(&self) -> bool {
        !matches!(self, Self::Write { .. })
    }

    /// As the three words of its entry.
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

    /// What three words mean; `None` if nothing.
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
    fn a_request_means_what_was_asked() {
        let requests = [
            Request::Read { bar: 5, offset: 0xffff_fffc, bytes: 4 },
            Request::Write { bar: 0, offset: 0x1000, bytes: 8, value: u64::MAX },
            Request::SetBusMaster { on: true },
            Request::SetBusMaster { on: false },
            Request::Reset,
            Request::IsBusy,
        ];
        for request in requests {
            assert_eq!(Request::decode(request.encode()), Some(request));
        }
    }

    #[test]
    fn what_is_no_request_means_nothing() {
        let (read, write) = (READ | 4 << 16, WRITE | 4 << 16);
        for head in [0, 6, 0xff, READ, read | 6 << 8, WRITE | 3 << 16, write | 0xff << 8] {
            assert_eq!(Request::decode((head, 0, 0)), None, "{head:#x}");
        }
    }

    #[test]
    fn requests_stand_in_a_ring_inside_the_shared_memory() {
        assert_eq!(Request::place(0), RING);
        assert_eq!(Request::place(RING_ENTRIES), RING);
        assert_eq!(Request::place(u32::MAX) + ENTRY_BYTES, RING + RING_ENTRIES as usize * ENTRY_BYTES);
    }
}
