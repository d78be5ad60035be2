//! I/O commands: the NVM command set (NVM, section 3.2).

use crate::command::Command;
use crate::controller::Controller;
use crate::namespace::Extent;
use crate::spec::ALL_NAMESPACES;
use crate::spec::io_opcode::{COMPARE, DATASET_MANAGEMENT, FLUSH, READ, WRITE, WRITE_ZEROES};
use crate::status::{CommandResult, Status};
use crate::transfer::Transfer;

const FORCE_UNIT_ACCESS: u32 = 1 << 30;
/// Dword 11 of Dataset Management: deallocate.
const DEALLOCATE: u32 = 1 << 2;
/// Size of a range: context attributes, length in blocks, first block.
const RANGE_BYTES: usize = 16;
const RANGES_LIMIT: usize = 256;

impl Controller {
    /// Executes a command of an I/O queue.
    pub(crate) fn execute_io(&mut self, command: &Command) -> CommandResult {
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

    /// The configured latency of a command, which is added to its execution time.
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

    /// Flush (Base, section 7.1): data of all commands completed before is on the disk afterwards.
    fn flush(&mut self, command: &Command) -> CommandResult {
        let flushed = if command.nsid() == ALL_NAMESPACES {
            self.flush_all()
        } else {
            let index = self.namespace_index(command)?;
            self.namespaces[index].disk.flush()
        };
        flushed.map(|()| 0).map_err(|_| Status::WRITE_FAULT)
    }

    fn read(&mut self, command: &Command) -> CommandResult {
        let (index, extent) = self.data_range(command)?;
        self.log.reads += 1;
        self.log.bytes_read += extent.bytes;
        let Self { namespaces, port, prp, faults, page_bytes, .. } = self;
        let disk = &mut namespaces[index].disk;
        if command.dword(12) & FORCE_UNIT_ACCESS != 0 {
            disk.write_back(extent.offset, extent.bytes).map_err(|_| Status::UNRECOVERED_READ)?;
        }
        let segments = prp.walk(port, command, extent.bytes, *page_bytes)?;
        faults.shorten(segments);
        faults.lengthen(segments, *page_bytes);
        let mut transfer = Transfer::new(port, segments);
        let mut written = Ok(());
        let done = disk.read(extent.offset, extent.bytes, &mut |chunk| {
            written = transfer.write_host(chunk);
            written.is_ok()
        });
        done.map_err(|_| Status::UNRECOVERED_READ)?;
        written?;
        faults.overrun(&mut transfer)?;
        Ok(0)
    }

    fn write(&mut self, command: &Command) -> CommandResult {
        let (index, extent) = self.data_range(command)?;
        self.log.writes += 1;
        self.log.bytes_written += extent.bytes;
        let write_through = command.dword(12) & FORCE_UNIT_ACCESS != 0 || !self.features.write_cache;
        let Self { namespaces, port, prp, faults, page_bytes, .. } = self;
        let segments = prp.walk(port, command, extent.bytes, *page_bytes)?;
        faults.shorten(segments);
        let mut transfer = Transfer::new(port, segments);
        let mut fetched = Ok(());
        let done = namespaces[index].disk.write(extent.offset, extent.bytes, write_through, &mut |chunk| {
            fetched = transfer.read_host(chunk);
            fetched.is_ok()
        });
        fetched?;
        done.map(|()| 0).map_err(|_| Status::WRITE_FAULT)
    }

    fn compare(&mut self, command: &Command) -> CommandResult {
        let (index, extent) = self.data_range(command)?;
        let Self { namespaces, port, prp, page_bytes, scratch, .. } = self;
        let segments = prp.walk(port, command, extent.bytes, *page_bytes)?;
        let mut transfer = Transfer::new(port, segments);
        let mut compared = Ok(());
        let done = namespaces[index].disk.read(extent.offset, extent.bytes, &mut |chunk| {
            for part in chunk.chunks(4096) {
                scratch.resize(part.len(), 0);
                compared = transfer
                    .read_host(scratch)
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

    /// Write Zeroes. MDTS does not apply, as no data is transferred. The zeros go to the disk at once.
    fn write_zeroes(&mut self, command: &Command) -> CommandResult {
        let (index, extent) = self.range(command)?;
        self.namespaces[index]
            .disk
            .zero(extent.offset, extent.bytes)
            .map(|()| 0)
            .map_err(|_| Status::WRITE_FAULT)
    }

    /// Dataset Management. Deallocated blocks read as zeros (DLFEAT of Identify Namespace). The other
    /// attributes are hints, which are ignored.
    fn dataset_management(&mut self, command: &Command) -> CommandResult {
        let index = self.namespace_index(command)?;
        let count = (command.dword(10) & 0xff) as usize + 1;
        let mut ranges = [0; RANGE_BYTES * RANGES_LIMIT];
        let ranges = &mut ranges[..RANGE_BYTES * count];
        self.read_data(command, ranges)?;
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
                self.namespaces[index].disk.zero(offset, bytes).map_err(|_| Status::WRITE_FAULT)?;
            }
        }
        Ok(0)
    }

    /// Checks NSID; returns the index in `namespaces`.
    pub(crate) fn namespace_index(&self, command: &Command) -> Result<usize, Status> {
        let index = command.nsid().wrapping_sub(1) as usize;
        if index < self.namespaces.len() { Ok(index) } else { Err(Status::INVALID_NAMESPACE) }
    }

    /// Checks the blocks in dwords 10 to 12, which must exist.
    fn range(&self, command: &Command) -> Result<(usize, Extent), Status> {
        let index = self.namespace_index(command)?;
        let extent = self.namespaces[index].extent(command.long(10), block_count(command));
        Ok((index, extent.ok_or(Status::LBA_OUT_OF_RANGE)?))
    }

    /// Like [`range`](Self::range), for commands with data, which MDTS limits.
    fn data_range(&self, command: &Command) -> Result<(usize, Extent), Status> {
        let index = self.namespace_index(command)?;
        let bytes = block_count(command) * self.namespaces[index].block_bytes();
        if self.config.mdts != 0 && bytes > 4096 << self.config.mdts {
            return Err(Status::INVALID_FIELD);
        }
        self.range(command)
    }
}

/// The number of blocks; NLB counts from 0.
fn block_count(command: &Command) -> u64 {
    u64::from(command.dword(12) & 0xffff) + 1
}
