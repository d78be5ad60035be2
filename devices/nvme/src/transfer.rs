//! Data on its way between host memory and the controller.

use device_bus::Port;

use crate::prp::Segment;
use crate::status::Status;

/// Goes through the segments of one command, in order.
pub(crate) struct Transfer<'a> {
    port: &'a Port,
    segments: &'a [Segment],
    /// How far into the first of `segments`.
    done: u64,
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(port: &'a Port, segments: &'a [Segment]) -> Self {
        Self { port, segments, done: 0 }
    }

    /// Writes `from` to the host. What the segments have no room for is not written, and that is no error: they are
    /// as long as the data unless somebody shortened them on purpose.
    pub(crate) fn give(&mut self, mut from: &[u8]) -> Result<(), Status> {
        while !from.is_empty()
            && let Some((address, bytes)) = self.take(from.len())
        {
            let (now, later) = from.split_at(bytes);
            self.port.write(address, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            from = later;
        }
        Ok(())
    }

    /// Reads from the host to fill `into`; zeros where the segments end early.
    pub(crate) fn fetch(&mut self, mut into: &mut [u8]) -> Result<(), Status> {
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

    /// How many bytes the segments still have room for.
    pub(crate) fn room(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() - self.done
    }

    /// The next contiguous piece, at most `limit` bytes.
    fn take(&mut self, limit: usize) -> Option<(u64, usize)> {
        let segment = *self.segments.first()?;
        let address = segment.address + self.done;
        let left = segment.bytes - self.done;
        let taken = left.min(limit as u64);
        if taken == left {
            self.segments = &self.segments[1..];
            self.done = 0;
        } else {
            self.done += taken;
        }
        Some((address, taken as usize))
    }
}
