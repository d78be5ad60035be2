//! The volatile write cache (Base, section 5.27.1.4).
//!
//! A [`Medium`] is a disk with a bounded number of dirty granules in front of it. A write lands in a granule; a flush, a
//! forced unit access, or lack of room brings granules to the disk, in no promised order; a loss of power drops them.
//! So what a driver did not flush can really be lost, and everything that a controller reset must keep is kept.
//!
//! An undo log over a disk that is written at once would be a bit faster to read, but an end of the process would then
//! flush all, and the honest test, killing it, would pass for drivers that never flush.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::sync::Arc;

use device_bus::Chance;

use crate::disk::{Disk, Fetch, Give};

const GRANULE: u64 = 4096;
/// Dirtiness is kept per sector, the smallest block.
const SECTOR: u64 = 512;

/// A disk behind a cache.
pub(crate) struct Medium {
    disk: Arc<dyn Disk>,
    /// Dirty granules, and the slots that hold them.
    places: HashMap<u64, usize, BuildHasherDefault<GranuleHasher>>,
    slots: Vec<Slot>,
    /// Slots that hold nothing.
    free: Vec<usize>,
    /// Where to look for a slot to clean when none is free.
    hand: usize,
}

struct Slot {
    granule: u64,
    /// One bit per sector.
    dirty: u8,
    bytes: Box<[u8; GRANULE as usize]>,
}

/// Which part of what only the cache holds a loss of power leaves on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Survivors {
    None,
    /// Each sector or not, by chance.
    Some(u64),
}

impl Medium {
    /// `cache_bytes` of cache; 0 makes every write go to the disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, cache_bytes: u64) -> Self {
        let count = (cache_bytes / GRANULE) as usize;
        Self {
            disk,
            places: HashMap::with_capacity_and_hasher(count, BuildHasherDefault::default()),
            slots: (0..count).map(|_| Slot::empty()).collect(),
            free: (0..count).rev().collect(),
            hand: 0,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.disk.bytes()
    }

    pub(crate) fn read(&mut self, offset: u64, bytes: u64, give: Give<'_>) -> io::Result<()> {
        if self.places.is_empty() {
            return self.disk.read(offset, bytes, give);
        }
        let mut going = true;
        let mut place = offset;
        let end = offset + bytes;
        while place < end && going {
            let mut give = |piece: &[u8]| {
                going = give(piece);
                going
            };
            let stop = match self.dirty_run(place, end) {
                Ok((slot, stop)) => {
                    let from = (place % GRANULE) as usize;
                    give(&self.slots[slot].bytes[from..from + (stop - place) as usize]);
                    stop
                }
                Err(stop) => {
                    self.disk.read(place, stop - place, &mut give)?;
                    stop
                }
            };
            place = stop;
        }
        Ok(())
    }

    /// Writes to the cache if there is one, or to the disk if there is none or `through` is set.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        bytes: u64,
        through: bool,
        fetch: Fetch<'_>,
    ) -> io::Result<()> {
        if through || self.slots.is_empty() {
            let written = self.disk.write(offset, bytes, fetch);
            self.forget(offset, bytes);
            return written;
        }
        let mut place = offset;
        let end = offset + bytes;
        while place < end {
            let granule = place / GRANULE;
            let stop = end.min((granule + 1) * GRANULE);
            let slot = self.slot_for(granule)?;
            let from = (place % GRANULE) as usize;
            let piece = &mut self.slots[slot].bytes[from..from + (stop - place) as usize];
            if !fetch(piece) {
                // Half a piece may have arrived, over sectors that were dirty before: they stay so, since a write
                // that fails may leave its blocks with anything but not others.
                self.settle(slot);
                break;
            }
            self.slots[slot].dirty |= sectors(place, stop);
            place = stop;
        }
        Ok(())
    }

    /// Makes a range zero on the disk.
    pub(crate) fn zero(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        let zeroed = self.disk.zero(offset, bytes);
        self.forget(offset, bytes);
        zeroed
    }

    /// Brings a range to the disk: what a read with forced unit access asks for.
    pub(crate) fn clean(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        for granule in self.granules(offset, bytes) {
            if let Some(slot) = self.places.get(&granule).copied() {
                self.clean_slot(slot)?;
            }
        }
        Ok(())
    }

    /// Brings everything to the disk.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut failed = Ok(());
        if !self.places.is_empty() {
            for slot in 0..self.slots.len() {
                if self.slots[slot].dirty != 0 {
                    failed = failed.and(self.clean_slot(slot));
                }
            }
        }
        failed?;
        self.disk.flush()
    }

    /// The power fails: the cache is empty, and of what it held there is on the disk what `survivors` says.
    pub(crate) fn lose(&mut self, survivors: Survivors) -> io::Result<()> {
        let mut kept = Ok(());
        if let Survivors::Some(seed) = survivors {
            let mut chance = Chance::new(seed);
            for slot in 0..self.slots.len() {
                // A block is never torn (AWUPF of Identify Controller), so no sector is lost alone where blocks are
                // larger: all blocks of a granule share its fate, and which granules do differs.
                if self.slots[slot].dirty != 0 && chance.below(2) == 0 {
                    kept = kept.and(self.clean_slot(slot));
                }
            }
        }
        for slot in 0..self.slots.len() {
            if self.slots[slot].dirty != 0 {
                self.slots[slot].dirty = 0;
                self.settle(slot);
            }
        }
        kept
    }

    /// From `place`: dirty sectors in one slot up to `Ok(_, stop)`, or none in the cache up to `Err(stop)`.
    fn dirty_run(&self, place: u64, end: u64) -> Result<(usize, u64), u64> {
        let state = |at: u64| {
            let slot = *self.places.get(&(at / GRANULE))?;
            (self.slots[slot].dirty & sectors(at, at + 1) != 0).then_some(slot)
        };
        let start = state(place);
        let mut stop = place;
        loop {
            // A granule that the cache does not know is stepped over at once.
            let step = if self.places.contains_key(&(stop / GRANULE)) { SECTOR } else { GRANULE };
            stop = (stop / step + 1) * step;
            if stop >= end || state(stop) != start {
                let stop = stop.min(end);
                return start.map(|slot| (slot, stop)).ok_or(stop);
            }
        }
    }

    /// A slot for `granule`: its own, a free one, or one that is cleaned for it.
    fn slot_for(&mut self, granule: u64) -> io::Result<usize> {
        if let Some(slot) = self.places.get(&granule) {
            return Ok(*slot);
        }
        if self.free.is_empty() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            self.clean_slot(slot)?;
        }
        let slot = self.free.pop().expect("if none was free, one has just been cleaned");
        self.slots[slot].granule = granule;
        self.places.insert(granule, slot);
        Ok(slot)
    }

    /// Writes a slot's dirty sectors to the disk and frees it; it stays as it is if that fails.
    fn clean_slot(&mut self, slot: usize) -> io::Result<()> {
        let Slot { granule, dirty, bytes } = &self.slots[slot];
        let base = granule * GRANULE;
        let mut sector = 0;
        while sector < GRANULE / SECTOR {
            let length = u64::from((dirty >> sector).trailing_ones());
            if length > 0 {
                let from = (sector * SECTOR) as usize;
                let run = &bytes[from..from + (length * SECTOR) as usize];
                let mut done = 0;
                self.disk.write(base + sector * SECTOR, length * SECTOR, &mut |piece| {
                    piece.copy_from_slice(&run[done..done + piece.len()]);
                    done += piece.len();
                    true
                })?;
            }
            sector += length + 1;
        }
        self.slots[slot].dirty = 0;
        self.settle(slot);
        Ok(())
    }

    /// Drops a range from the cache: the disk has something newer.
    fn forget(&mut self, offset: u64, bytes: u64) {
        for granule in self.granules(offset, bytes) {
            if let Some(slot) = self.places.get(&granule).copied() {
                let from = offset.max(granule * GRANULE);
                let to = (offset + bytes).min((granule + 1) * GRANULE);
                self.slots[slot].dirty &= !sectors(from, to);
                self.settle(slot);
            }
        }
    }

    /// The granules of a range that are worth looking at: none if the cache is empty, all that are cached if the range
    /// is larger than the cache.
    fn granules(&self, offset: u64, bytes: u64) -> Vec<u64> {
        if self.places.is_empty() || bytes == 0 {
            return Vec::new();
        }
        let range = offset / GRANULE..=(offset + bytes - 1) / GRANULE;
        if range.end() - range.start() < self.places.len() as u64 {
            range.collect()
        } else {
            self.places.keys().copied().filter(|granule| range.contains(granule)).collect()
        }
    }

    /// Frees a slot that is not dirty.
    fn settle(&mut self, slot: usize) {
        if self.slots[slot].dirty == 0 && self.places.remove(&self.slots[slot].granule).is_some() {
            self.free.push(slot);
        }
    }
}

impl Slot {
    fn empty() -> Self {
        Self { granule: 0, dirty: 0, bytes: Box::new([0; GRANULE as usize]) }
    }
}

/// The bits of a granule's sectors that a range within it touches.
fn sectors(from: u64, to: u64) -> u8 {
    let first = from % GRANULE / SECTOR;
    let count = (to - from / SECTOR * SECTOR).div_ceil(SECTOR);
    (((1_u16 << count) - 1) << first) as u8
}

/// Spreads granule numbers, which are no adversary's.
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
        // Fibonacci hashing, with the product's halves folded: the map takes bits from both ends.
        let product = u128::from(self.0 ^ number) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests;
