//! Commands of the NVM command set (NVM, section 3.2).

use crate::command::Command;
use crate::controller::Controller;
use crate::namespace::Extent;
use crate::status::{Answer, Status};
use crate::transfer::Transfer;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const COMPARE: u8 = 0x05;
const WRITE_ZEROES: u8 = 0x08;
const DATASET_MANAGEMENT: u8 = 0x09;

/// All of them, for the log of supported commands; whether each changes what is stored.
pub(crate) const SUPPORTED: [(u8, bool); 6] = [
    (FLUSH, false),
    (WRITE, true),
    (READ, false),
    (COMPARE, false),
    (WRITE_ZEROES, true),
    (DATASET_MANAGEMENT, true),
];

/// NSID that means all namespaces.
pub(crate) const ALL_NAMESPACES: u32 = 0xffff_ffff;

const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Dword 11 of Dataset Management: deallocate.
const DEALLOCATE: u32 = 1 << 2;
/// Context attributes, length in blocks, first block.
const RANGE_BYTES: usize = 16;
const RANGES_LIMIT: usize = 256;

impl Controller {
    /// Executes a command of an I/O queue.
    pub(crate) fn execute_io(&mut self, command: &Command) -> Answer {
        command.check_flags()?;
        match command.opcode() {
            FLUSH => self.flush(command),
            READ => self.read(command),
            WRITE => self.write(command),
            COMPARE => self.compare(command),
            WRITE_ZEROES => self.write_zeroes(command),
            DATASET_MANAGEMENT => self.dataset_management(command),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// How long a command takes, beside the time that it really takes.
    pub(crate) fn latency_ns(&self, command: &Command) -> u64 {
        if self.config.latency_ns == 0 && self.config.latency_per_kib_ns == 0 {
            return 0;
        }
        let bytes = match command.opcode() {
            READ | WRITE | COMPARE => self
                .namespace_index(command)
                .map_or(0, |index| block_count(command) * self.namespaces[index].block_bytes()),
            _ => 0,
        };
        self.config.latency_ns + self.config.latency_per_kib_ns * bytes.div_ceil(1024)
    }

    /// Section 7.1 of the Base specification: all that was completed before is on the disk after.
    fn flush(&mut self, command: &Command) -> Answer {
        let flushed = if command.nsid() == ALL_NAMESPACES {
            self.flush_all()
        } else {
            let index = self.namespace_index(command)?;
            self.namespaces[index].medium.flush()
        };
        flushed.map(|()| 0).map_err(|_| Status::WRITE_FAULT)
    }

    fn read(&mut self, command: &Command) -> Answer {
        let (index, extent) = self.data_range(command)?;
        self.log.reads += 1;
        self.log.bytes_read += extent.bytes;
        let Self { namespaces, port, prp, faults, page_bytes, .. } = self;
        let medium = &mut namespaces[index].medium;
        if command.dword(12) & FORCE_UNIT_ACCESS != 0 {
            medium.clean(extent.offset, extent.bytes).map_err(|_| Status::UNRECOVERED_READ)?;
        }
        let segments = prp.walk(port, command, extent.bytes, *page_bytes)?;
        faults.shorten(segments);
        faults.lengthen(segments, *page_bytes);
        let mut transfer = Transfer::new(port, segments);
        let mut given = Ok(());
        let done = medium.read(extent.offset, extent.bytes, &mut |piece| {
            given = transfer.give(piece);
            given.is_ok()
        });
        done.map_err(|_| Status::UNRECOVERED_READ)?;
        given?;
        faults.overrun(&mut transfer)?;
        Ok(0)
    }

    fn write(&mut self, command: &Command) -> Answer {
        let (index, extent) = self.data_range(command)?;
        self.log.writes += 1;
        self.log.bytes_written += extent.bytes;
        let through = command.dword(12) & FORCE_UNIT_ACCESS != 0 || !self.features.write_cache;
        let Self { namespaces, port, prp, faults, page_bytes, .. } = self;
        let segments = prp.walk(port, command, extent.bytes, *page_bytes)?;
        faults.shorten(segments);
        let mut transfer = Transfer::new(port, segments);
        let mut fetched = Ok(());
        let done = namespaces[index].medium.write(extent.offset, extent.bytes, through, &mut |piece| {
            fetched = transfer.fetch(piece);
            fetched.is_ok()
        });
        fetched?;
        done.map(|()| 0).map_err(|_| Status::WRITE_FAULT)
    }

    fn compare(&mut self, command: &Command) -> Answer {
        let (index, extent) = self.data_range(command)?;
        let Self { namespaces, port, prp, page_bytes, scratch, .. } = self;
        let segments = prp.walk(port, command, extent.bytes, *page_bytes)?;
        let mut transfer = Transfer::new(port, segments);
        let mut compared = Ok(());
        let done = namespaces[index].medium.read(extent.offset, extent.bytes, &mut |piece| {
            for part in piece.chunks(4096) {
                scratch.resize(part.len(), 0);
                compared = transfer
                    .fetch(scratch)
                    .and_then(|()| if scratch == part { Ok(()) } else { Err(Status::COMPARE_FAILURE) });
                if compared.is_err() {
                    return false;
                }
            }
            true
        });
        done.map_err(|_| Status::UNRECOVERED_READ)?;
        compared.map(|()| 0)
    }

    /// No data, so no limit of MDTS; zeros go to the disk at once.
    fn write_zeroes(&mut self, command: &Command) -> Answer {
        let (index, extent) = self.range(command)?;
        self.namespaces[index]
            .medium
            .zero(extent.offset, extent.bytes)
            .map(|()| 0)
            .map_err(|_| Status::WRITE_FAULT)
    }

    /// Deallocated blocks read as zeros (DLFEAT of Identify Namespace). The other attributes are hints, which may be
    /// ignored.
    fn dataset_management(&mut self, command: &Command) -> Answer {
        let index = self.namespace_index(command)?;
        let count = (command.dword(10) & 0xff) as usize + 1;
        let mut ranges = [0; RANGE_BYTES * RANGES_LIMIT];
        let ranges = &mut ranges[..RANGE_BYTES * count];
        self.fetch_data(command, ranges)?;
        let namespace = &self.namespaces[index];
        let (ranges, _) = ranges.as_chunks::<RANGE_BYTES>();
        let extent = |range: &[u8; RANGE_BYTES]| {
            let blocks = u32::from_le_bytes(std::array::from_fn(|byte| range[4 + byte]));
            let first = u64::from_le_bytes(std::array::from_fn(|byte| range[8 + byte]));
            namespace.extent(first, u64::from(blocks))
        };
        let extents: Option<Vec<Extent>> = ranges.iter().map(extent).collect();
        let extents = extents.ok_or(Status::LBA_OUT_OF_RANGE)?;
        if command.dword(11) & DEALLOCATE != 0 {
            for Extent { offset, bytes } in extents {
                self.namespaces[index].medium.zero(offset, bytes).map_err(|_| Status::WRITE_FAULT)?;
            }
        }
        Ok(0)
    }

    /// Which of `namespaces` a command is about.
    pub(crate) fn namespace_index(&self, command: &Command) -> Result<usize, Status> {
        let index = command.nsid().wrapping_sub(1) as usize;
        if index < self.namespaces.len() { Ok(index) } else { Err(Status::INVALID_NAMESPACE) }
    }

    /// The blocks in dwords 10 to 12, which must exist.
    fn range(&self, command: &Command) -> Result<(usize, Extent), Status> {
        let index = self.namespace_index(command)?;
        let extent = self.namespaces[index].extent(command.long(10), block_count(command));
        Ok((index, extent.ok_or(Status::LBA_OUT_OF_RANGE)?))
    }

    /// The same for commands with data, which MDTS limits.
    fn data_range(&self, command: &Command) -> Result<(usize, Extent), Status> {
        let index = self.namespace_index(command)?;
        let bytes = block_count(command) * self.namespaces[index].block_bytes();
        if self.config.mdts != 0 && bytes > 4096 << self.config.mdts {
            return Err(Status::INVALID_FIELD);
        }
        self.range(command)
    }
}

/// NLB counts from 0.
fn block_count(command: &Command) -> u64 {
    u64::from(command.dword(12) & 0xffff) + 1
}
