//! [`PrpWalk`], the physical region pages of a command (Base, section 4.1.1).

use device_bus::DmaPort;

use crate::command::Command;
use crate::status::Status;

/// A contiguous range of host memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) bytes: u64,
}

/// Resolves PRP1 and PRP2 of a command into segments. It keeps its allocations from command to command.
pub(crate) struct PrpWalk {
    segments: Vec<Segment>,
    /// The part of a PRP list that was read last.
    list: Vec<u8>,
}

impl PrpWalk {
    pub(crate) fn new() -> Self {
        Self { segments: Vec::with_capacity(64), list: Vec::with_capacity(4096) }
    }

    /// Returns the segments that hold `bytes` of data; adjacent ones are merged.
    ///
    /// PRP1 may begin inside of a page, at a multiple of 4. If the rest of the data fits one page, PRP2 is
    /// that page; otherwise PRP2 points to a list, at a multiple of 8. A list ends with its page: its last
    /// entry there points to the next list if more than one page of data is left. Only PRP1 has an offset.
    pub(crate) fn walk(
        &mut self,
        port: &DmaPort,
        command: &Command,
        bytes: u64,
        page: u64,
    ) -> Result<&mut Vec<Segment>, Status> {
        self.segments.clear();
        if bytes == 0 {
            return Ok(&mut self.segments);
        }
        let first = command.prp1();
        if !first.is_multiple_of(4) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let taken = bytes.min(page - first % page);
        self.push(first, taken);
        let left = bytes - taken;
        if left == 0 {
        } else if left <= page {
            self.push_page(command.prp2(), left, page)?;
        } else {
            self.walk_list(port, command.prp2(), left, page)?;
        }
        Ok(&mut self.segments)
    }

    fn walk_list(&mut self, port: &DmaPort, mut list: u64, mut left: u64, page: u64) -> Result<(), Status> {
        if !list.is_multiple_of(8) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        while left > 0 {
            // Reads the entries up to the end of the list's page, or fewer if fewer are needed.
            let room = (page - list % page) / 8;
            let wanted = left.div_ceil(page);
            let count = room.min(wanted);
            self.list.resize(8 * count as usize, 0);
            port.read(list, &mut self.list).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            let chained = wanted > room;
            let mut next = 0;
            for index in 0..count as usize {
                let entry = self.entry(index);
                if chained && index + 1 == count as usize {
                    next = entry;
                    break;
                }
                let taken = left.min(page);
                self.push_page(entry, taken, page)?;
                left -= taken;
            }
            if chained {
                if !next.is_multiple_of(page) {
                    return Err(Status::PRP_OFFSET_INVALID);
                }
                list = next;
            }
        }
        Ok(())
    }

    fn entry(&self, index: usize) -> u64 {
        let (entries, _) = self.list.as_chunks::<8>();
        u64::from_le_bytes(entries[index])
    }

    fn push_page(&mut self, address: u64, bytes: u64, page: u64) -> Result<(), Status> {
        if !address.is_multiple_of(page) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        self.push(address, bytes);
        Ok(())
    }

    fn push(&mut self, address: u64, bytes: u64) {
        match self.segments.last_mut() {
            Some(last) if last.address.checked_add(last.bytes) == Some(address) => last.bytes += bytes,
            _ => self.segments.push(Segment { address, bytes }),
        }
    }
}
