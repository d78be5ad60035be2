//! [`Ring`]: the lines of one CPU that wait for the console.
//!
//! It has a fixed size and refuses what does not fit. Each domain fills at most a part of it, so a domain
//! that logs without end loses its own records and no others.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use coppice_abi::{DomainId, LogLevel, SLOT_LIMIT};

/// Bytes of a ring, [`RECORD_BYTES`] for each record included.
const RING_BYTES: usize = 32 * 1024;

/// The part of a ring that one domain may fill, in bytes.
const DOMAIN_BYTES: usize = RING_BYTES / 4;

/// The part of a ring that all domains together may fill, in bytes; the rest is the kernel's.
const DOMAINS_BYTES: usize = RING_BYTES / 4 * 3;

/// The charge for a record besides its text.
const RECORD_BYTES: usize = 64;

/// The longest text of a record, in bytes. Longer ones are cut.
pub(super) const TEXT_LIMIT: usize = 512;

/// The form of a line on the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// A log record, with time and source.
    Record(LogLevel),
    /// A line of its own, without either.
    Line,
    /// Typed characters, which do not end a line.
    Echo,
}

/// A record without its text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// The time of the event, which the line shows.
    pub(super) time_ns: u64,
    /// The time at which the record entered the ring, which gives the order between CPUs.
    pub(super) order_ns: u64,
    /// The slot of the domain that the record is charged to.
    pub(super) payer: usize,
    /// The name of the source.
    pub(super) source: &'static str,
    pub(super) form: Form,
}

/// Records in the order of [`Record::order_ns`].
pub(super) struct Ring {
    /// Each with the length of its text.
    records: VecDeque<(Record, usize)>,
    text: VecDeque<u8>,
    /// Bytes in use, by payer.
    used: Box<[u32; SLOT_LIMIT]>,
    /// Their sum, without the kernel's.
    used_by_domains: usize,
    used_in_all: usize,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self {
            records: VecDeque::with_capacity(RING_BYTES / RECORD_BYTES),
            text: VecDeque::with_capacity(RING_BYTES),
            used: Box::new([0; SLOT_LIMIT]),
            used_by_domains: 0,
            used_in_all: 0,
        }
    }

    /// Returns true if a text of `len` bytes that `payer` pays for would fit.
    pub(super) fn has_room(&self, payer: usize, len: usize) -> bool {
        let bytes = RECORD_BYTES + len;
        let fits = self.used_in_all + bytes <= RING_BYTES;
        let is_within_share = payer == DomainId::KERNEL.slot()
            || (self.used[payer] as usize + bytes <= DOMAIN_BYTES
                && self.used_by_domains + bytes <= DOMAINS_BYTES);
        fits && is_within_share
    }

    /// Appends a record, if it fits.
    pub(super) fn push(&mut self, record: Record, text: &str) -> bool {
        if !self.has_room(record.payer, text.len()) {
            return false;
        }
        // Within the capacity of both: no record is smaller than `RECORD_BYTES`.
        self.records.push_back((record, text.len()));
        self.text.extend(text.as_bytes());
        self.account(record.payer, (RECORD_BYTES + text.len()) as isize);
        true
    }

    /// The place of the oldest record in the order between CPUs.
    pub(super) fn first_ns(&self) -> Option<u64> {
        self.records.front().map(|(record, _)| record.order_ns)
    }

    /// Takes the oldest record, and passes the bytes of its text to `visit`.
    pub(super) fn pop<R>(&mut self, visit: impl FnOnce(Record, &[u8]) -> R) -> Option<R> {
        let (record, len) = self.records.pop_front()?;
        let mut text = [0; TEXT_LIMIT];
        text.iter_mut().zip(self.text.drain(..len)).for_each(|(to, from)| *to = from);
        self.account(record.payer, -((RECORD_BYTES + len) as isize));
        Some(visit(record, &text[..len]))
    }

    fn account(&mut self, payer: usize, bytes: isize) {
        self.used[payer] = self.used[payer].saturating_add_signed(bytes as i32);
        self.used_in_all = self.used_in_all.saturating_add_signed(bytes);
        if payer != DomainId::KERNEL.slot() {
            self.used_by_domains = self.used_by_domains.saturating_add_signed(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    const KERNEL: usize = DomainId::KERNEL.slot();

    fn record(payer: usize, order_ns: u64) -> Record {
        Record { time_ns: 0, order_ns, payer, source: "a", form: Form::Line }
    }

    fn drain(ring: &mut Ring) -> Vec<(u64, String)> {
        let text =
            |record: Record, text: &[u8]| (record.order_ns, String::from_utf8_lossy(text).into_owned());
        core::iter::from_fn(|| ring.pop(text)).collect()
    }

    /// Pushes until the ring refuses, and returns the number of records.
    fn fill(ring: &mut Ring, payer: usize, text: &str) -> usize {
        (0..10_000).take_while(|&number| ring.push(record(payer, number), text)).count()
    }

    #[test]
    fn records_come_out_in_order_with_their_text() {
        let mut ring = Ring::new();
        for round in 0..1000_u64 {
            let text = "x".repeat(round as usize * 7 % TEXT_LIMIT);
            assert!(ring.push(record(5, 2 * round), &text));
            assert!(ring.push(record(KERNEL, 2 * round + 1), "kernel"));
            assert_eq!(drain(&mut ring), [(2 * round, text), (2 * round + 1, String::from("kernel"))]);
        }
        assert_eq!((ring.used_in_all, ring.used_by_domains, ring.first_ns()), (0, 0, None));
    }

    #[test]
    fn a_domain_fills_its_part_and_leaves_room_for_others_and_the_kernel() {
        let mut ring = Ring::new();
        let text = "y".repeat(36);
        assert_eq!(fill(&mut ring, 7, &text), DOMAIN_BYTES / 100);
        assert_eq!(fill(&mut ring, 8, &text), DOMAIN_BYTES / 100);
        let third = fill(&mut ring, 9, &text);
        assert!((1..=DOMAIN_BYTES / 100).contains(&third), "{third}");
        fill(&mut ring, 10, &text);
        assert_eq!(fill(&mut ring, 11, &text), 0, "the domains' part is full");
        let of_kernel = fill(&mut ring, KERNEL, &text);
        assert!(of_kernel >= (RING_BYTES - DOMAINS_BYTES) / 100, "{of_kernel}");
        let records_left = (RING_BYTES - ring.used_in_all) / RECORD_BYTES;
        assert_eq!(fill(&mut ring, KERNEL, ""), records_left);
        assert!(ring.records.capacity() >= ring.records.len() && ring.text.len() <= RING_BYTES);
        drain(&mut ring);
        assert!(ring.has_room(10, TEXT_LIMIT));
    }

    #[test]
    fn a_full_ring_keeps_its_capacity() {
        let mut ring = Ring::new();
        let capacities = (ring.records.capacity(), ring.text.capacity());
        fill(&mut ring, KERNEL, "");
        drain(&mut ring);
        fill(&mut ring, KERNEL, &"z".repeat(TEXT_LIMIT));
        assert_eq!((ring.records.capacity(), ring.text.capacity()), capacities);
    }
}
