//! The volatile write cache (Base, section 5.27.1.4).
//!
//! A [`CachedDisk`] is a disk behind a bounded number of dirty granules. A write goes to a granule; a flush,
//! a forced unit access or lack of room writes granules to the disk, in no promised order; a loss of power
//! drops them. So data that a driver did not flush can really be lost, and all data that a controller reset
//! must keep is kept.
//!
//! Rejected: an undo log over a disk that is written at once. Reads would be a bit faster, but the end of the
//! process would flush everything, and the test that kills the process would pass for drivers that never
//! flush.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;

use device_bus::SplitMix64;

use crate::disk::{DataSink, DataSource, Disk};

/// Bytes of a granule.
const GRANULE: u64 = 4096;
/// Bytes of a sector, the smallest block and the unit of dirtiness.
const SECTOR: u64 = 512;

/// A disk behind a volatile write cache.
pub(crate) struct CachedDisk {
    disk: Arc<dyn Disk>,
    /// The slot of each dirty granule.
    slot_of: HashMap<u64, usize, BuildHasherDefault<GranuleHasher>>,
    slots: Vec<Slot>,
    /// The unused slots.
    free: Vec<usize>,
    /// The slot to write back next when none is free.
    next_victim: usize,
}

struct Slot {
    granule: u64,
    /// One bit per sector.
    dirty: u8,
    bytes: Box<[u8; GRANULE as usize]>,
}

/// The part of the cached data that reaches the disk at a loss of power.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Survivors {
    None,
    /// A random half of the granules, by this seed.
    Some(u64),
}

impl CachedDisk {
    /// A disk with `cache_bytes` of cache; with 0, every write goes to the disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, cache_bytes: u64) -> Self {
        let count = (cache_bytes / GRANULE) as usize;
        Self {
            disk,
            slot_of: HashMap::with_capacity_and_hasher(count, BuildHasherDefault::default()),
            slots: (0..count).map(|_| Slot::empty()).collect(),
            free: (0..count).rev().collect(),
            next_victim: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.disk.bytes()
    }

    pub(crate) fn read(&mut self, offset: u64, bytes: u64, sink: DataSink<'_>) -> io::Result<()> {
        if self.slot_of.is_empty() {
            return self.disk.read(offset, bytes, sink);
        }
        let mut going = true;
        let mut at = offset;
        let end = offset + bytes;
        while at < end && going {
            let mut pass_on = |chunk: &[u8]| {
                going = sink(chunk);
                going
            };
            let stop = match self.dirty_run(at, end) {
                Ok((slot, stop)) => {
                    let from = (at % GRANULE) as usize;
                    pass_on(&self.slots[slot].bytes[from..from + (stop - at) as usize]);
                    stop
                }
                Err(stop) => {
                    self.disk.read(at, stop - at, &mut pass_on)?;
                    stop
                }
            };
            at = stop;
        }
        Ok(())
    }

    /// Writes to the cache, or to the disk if there is no cache or `through` is set.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        bytes: u64,
        through: bool,
        source: DataSource<'_>,
    ) -> io::Result<()> {
        if through || self.slots.is_empty() {
            let written = self.disk.write(offset, bytes, source);
            self.invalidate(offset, bytes);
            return written;
        }
        let mut at = offset;
        let end = offset + bytes;
        while at < end {
            let granule = at / GRANULE;
            let stop = end.min((granule + 1) * GRANULE);
            let slot = self.slot_for(granule)?;
            let from = (at % GRANULE) as usize;
            let chunk = &mut self.slots[slot].bytes[from..from + (stop - at) as usize];
            if !source(chunk) {
                // A part may have arrived over sectors that were dirty before. They stay dirty: a failed
                // write may leave its own blocks undefined, but not others.
                self.free_if_clean(slot);
                break;
            }
            self.slots[slot].dirty |= sectors(at, stop);
            at = stop;
        }
        Ok(())
    }

    /// Zeroes a range on the disk.
    pub(crate) fn zero(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let zeroed = self.disk.zero(offset, bytes);
        self.invalidate(offset, bytes);
        zeroed
    }

    /// Writes a range back to the disk, for a read with forced unit access.
    pub(crate) fn write_back(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        for granule in self.granules(offset, bytes) {
            if let Some(slot) = self.slot_of.get(&granule).copied() {
                self.write_back_slot(slot)?;
            }
        }
        Ok(())
    }

    /// Writes the whole cache back, and flushes the disk.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut failed = Ok(());
        if !self.slot_of.is_empty() {
            for slot in 0..self.slots.len() {
                if self.slots[slot].dirty != 0 {
                    failed = failed.and(self.write_back_slot(slot));
                }
            }
        }
        failed?;
        self.disk.flush()
    }

    /// Empties the cache at a loss of power. Only the part chosen by `survivors` reaches the disk.
    pub(crate) fn lose_power(&mut self, survivors: Survivors) -> io::Result<()> {
        let mut kept = Ok(());
        if let Survivors::Some(seed) = survivors {
            let mut random = SplitMix64::new(seed);
            for slot in 0..self.slots.len() {
                // A block is never torn (AWUPF of Identify Controller), so where blocks are larger than a
                // sector, no sector is lost alone: a granule survives as a whole or not at all.
                if self.slots[slot].dirty != 0 && random.below(2) == 0 {
                    kept = kept.and(self.write_back_slot(slot));
                }
            }
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].dirty != 0 {
                self.slots[slot].dirty = 0;
                self.free_if_clean(slot);
            }
        }
        kept
    }

    /// Returns the run from `start` on: `Ok((slot, stop))` for dirty sectors in one slot, `Err(stop)` for
    /// sectors that are not in the cache.
    fn dirty_run(&self, start: u64, end: u64) -> Result<(usize, u64), u64> {
        let state = |at: u64| {
            let slot = *self.slot_of.get(&(at / GRANULE))?;
            (self.slots[slot].dirty & sectors(at, at + 1) != 0).then_some(slot)
        };
        let first = state(start);
        let mut stop = start;
        loop {
            // A granule that is not cached is one step.
            let step = if self.slot_of.contains_key(&(stop / GRANULE)) { SECTOR } else { GRANULE };
            stop = (stop / step + 1) * step;
            if stop >= end || state(stop) != first {
                let stop = stop.min(end);
                return first.map(|slot| (slot, stop)).ok_or(stop);
            }
        }
    }

    /// Returns a slot for `granule`: its own, a free one, or one that is written back for it.
    fn slot_for(&mut self, granule: u64) -> io::Result<usize> {
        if let Some(slot) = self.slot_of.get(&granule) {
            return Ok(*slot);
        }
        if self.free.is_empty() {
            let slot = self.next_victim;
            self.next_victim = (self.next_victim + 1) % self.slots.len();
            self.write_back_slot(slot)?;
        }
        let slot = self.free.pop().expect("a slot has been written back if none was free");
        self.slots[slot].granule = granule;
        self.slot_of.insert(granule, slot);
        Ok(slot)
    }

    /// Writes the dirty sectors of a slot to the disk and frees it. On an error the slot stays dirty.
    fn write_back_slot(&mut self, slot: usize) -> io::Result<()> {
        let Slot { granule, dirty, bytes } = &self.slots[slot];
        let base = granule * GRANULE;
        let mut sector = 0;
        while sector < GRANULE / SECTOR {
            let length = u64::from((dirty >> sector).trailing_ones());
            if length > 0 {
                let from = (sector * SECTOR) as usize;
                let run = &bytes[from..from + (length * SECTOR) as usize];
                let mut done = 0;
                self.disk.write(base + sector * SECTOR, length * SECTOR, &mut |chunk| {
                    chunk.copy_from_slice(&run[done..done + chunk.len()]);
                    done += chunk.len();
                    true
                })?;
            }
            sector += length + 1;
        }
        self.slots[slot].dirty = 0;
        self.free_if_clean(slot);
        Ok(())
    }

    /// Drops a range from the cache, because the disk has newer data.
    fn invalidate(&mut self, offset: u64, bytes: u64) {
        for granule in self.granules(offset, bytes) {
            if let Some(slot) = self.slot_of.get(&granule).copied() {
                let from = offset.max(granule * GRANULE);
                let to = (offset + bytes).min((granule + 1) * GRANULE);
                self.slots[slot].dirty &= !sectors(from, to);
                self.free_if_clean(slot);
            }
        }
    }

    /// The granules of a range that may be cached: none if the cache is empty, and only cached ones if the
    /// range is larger than the cache.
    fn granules(&self, offset: u64, bytes: u64) -> Vec<u64> {
        if self.slot_of.is_empty() || bytes == 0 {
            return Vec::new();
        }
        let range = offset / GRANULE..=(offset + bytes - 1) / GRANULE;
        if range.end() - range.start() < self.slot_of.len() as u64 {
            range.collect()
        } else {
            self.slot_of.keys().copied().filter(|granule| range.contains(granule)).collect()
        }
    }

    /// Frees a slot that is not dirty.
    fn free_if_clean(&mut self, slot: usize) {
        if self.slots[slot].dirty == 0 && self.slot_of.remove(&self.slots[slot].granule).is_some() {
            self.free.push(slot);
        }
    }
}

impl Slot {
    fn empty() -> Self {
        Self { granule: 0, dirty: 0, bytes: Box::new([0; GRANULE as usize]) }
    }
}

/// The bits of the sectors that a range within one granule touches.
fn sectors(from: u64, to: u64) -> u8 {
    let first = from % GRANULE / SECTOR;
    let count = (to - from / SECTOR * SECTOR).div_ceil(SECTOR);
    (((1_u16 << count) - 1) << first) as u8
}

/// A cheap hash of granule numbers, which are not chosen by an adversary.
#[derive(Default)]
struct GranuleHasher(u64);

impl Hasher for GranuleHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing, with the halves of the product folded, because the map uses bits of both ends.
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests;
