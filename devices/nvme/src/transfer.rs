//! [`Transfer`], the copies of one command between host memory and the controller.

use device_bus::DmaPort;

use crate::prp::Segment;
use crate::status::Status;

/// A cursor over the segments of one command.
pub(crate) struct Transfer<'a> {
    port: &'a DmaPort,
    segments: &'a [Segment],
    /// The offset in the first of `segments`.
    offset: u64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(port: &'a DmaPort, segments: &'a [Segment]) -> Self {
        Self { port, segments, offset: 0 }
    }

    /// Writes `from` to the host. Data beyond the segments is dropped without an error: the segments are as
    /// long as the data unless fault injection has shortened them.
    pub(crate) fn write_host(&mut self, mut from: &[u8]) -> Result<(), Status> {
        while !from.is_empty()
            && let Some((address, bytes)) = self.take(from.len())
        {
            let (now, later) = from.split_at(bytes);
            self.port.write(address, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            from = later;
        }
        Ok(())
    }

    /// Fills `into` from the host, and with zeros beyond the segments.
    pub(crate) fn read_host(&mut self, mut into: &mut [u8]) -> Result<(), Status> {
        while !into.is_empty() {
            let Some((address, bytes)) = self.take(into.len()) else {
                into.fill(0);
                break;
            };
            let (now, later) = into.split_at_mut(bytes);
            self.port.read(address, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            into = later;
        }
        Ok(())
    }

    /// The number of bytes left in the segments.
    pub(crate) fn remaining(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() - self.offset
    }

    /// Takes the next contiguous part, at most `limit` bytes: its address and length.
    fn take(&mut self, limit: usize) -> Option<(u64, usize)> {
        let segment = *self.segments.first()?;
        let address = segment.address + self.offset;
        let left = segment.bytes - self.offset;
        let taken = left.min(limit as u64);
        if taken == left {
            self.segments = &self.segments[1..];
            self.offset = 0;
        } else {
            self.offset += taken;
        }
        Some((address, taken as usize))
    }
}
