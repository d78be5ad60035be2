use super::*;
use crate::disk::MemoryDisk;

const BYTES: usize = 256 << 10;

/// A medium beside plain arrays: what it should read as, and what is on the disk for certain.
struct Twin {
    medium: Medium,
    disk: Arc<MemoryDisk>,
    now: Vec<u8>,
    /// Per sector, all contents that a loss of power may leave: the latest that is certain, and what came after.
    possible: Vec<Vec<u8>>,
    chance: Chance,
}

impl Twin {
    fn new(cache_bytes: u64, seed: u64) -> Self {
        let disk = Arc::new(MemoryDisk::new(BYTES as u64));
        Self {
            medium: Medium::new(disk.clone(), cache_bytes),
            disk,
            now: vec![0; BYTES],
            possible: vec![vec![0]; BYTES / SECTOR as usize],
            chance: Chance::new(seed),
        }
    }

    /// Somewhere, mostly short.
    fn range(&mut self) -> (u64, u64) {
        let sectors = BYTES as u64 / SECTOR;
        let limit = if self.chance.below(8) == 0 { 128 } else { 12 };
        let first = self.chance.below(sectors);
        let count = 1 + self.chance.below(limit.min(sectors - first));
        (first * SECTOR, count * SECTOR)
    }

    fn write(&mut self, through: bool) {
        let (offset, bytes) = self.range();
        // One number per sector is enough to tell versions apart, since sectors are written as a whole.
        let mut version = self.chance.next_u64() as u8;
        let first = (offset / SECTOR) as usize;
        let mut data = Vec::new();
        for sector in first..first + (bytes / SECTOR) as usize {
            version = version.wrapping_add(1);
            data.extend([version; SECTOR as usize]);
            if through {
                self.possible[sector].clear();
            }
            self.possible[sector].push(version);
        }
        let mut done = 0;
        let fetch = &mut |piece: &mut [u8]| {
            piece.copy_from_slice(&data[done..done + piece.len()]);
            done += piece.len();
            true
        };
        self.medium.write(offset, bytes, through, fetch).expect("memory");
        assert_eq!(done, data.len());
        self.now[offset as usize..(offset + bytes) as usize].copy_from_slice(&data);
    }

    fn zero(&mut self) {
        let (offset, bytes) = self.range();
        self.medium.zero(offset, bytes).expect("memory");
        self.now[offset as usize..(offset + bytes) as usize].fill(0);
        for sector in offset / SECTOR..(offset + bytes) / SECTOR {
            self.possible[sector as usize] = vec![0];
        }
    }

    fn check_read(&mut self) {
        let (offset, bytes) = self.range();
        let mut found = Vec::new();
        let give = &mut |piece: &[u8]| {
            found.extend_from_slice(piece);
            true
        };
        self.medium.read(offset, bytes, give).expect("memory");
        assert!(found == self.now[offset as usize..(offset + bytes) as usize], "{offset:#x} + {bytes:#x}");
    }

    fn flush(&mut self) {
        self.medium.flush().expect("memory");
        assert!(*self.disk.contents() == self.now);
        assert_eq!(self.medium.free.len(), self.medium.slots.len());
        self.settle();
    }

    fn lose(&mut self, survivors: Survivors) {
        self.medium.lose(survivors).expect("memory");
        assert_eq!(self.medium.free.len(), self.medium.slots.len());
        self.now.clone_from(&self.disk.contents());
        for (sector, possible) in self.possible.iter().enumerate() {
            let found = &self.now[sector * SECTOR as usize..(sector + 1) * SECTOR as usize];
            let whole = found.iter().all(|byte| *byte == found[0]);
            assert!(whole && possible.contains(&found[0]), "sector {sector}: {} of {possible:?}", found[0]);
        }
        self.settle();
    }

    /// What is on the disk now is certain.
    fn settle(&mut self) {
        for (sector, possible) in self.possible.iter_mut().enumerate() {
            *possible = vec![self.now[sector * SECTOR as usize]];
        }
    }
}

#[test]
fn a_cache_reads_as_written_and_loses_only_what_was_not_flushed() {
    for (seed, cache_bytes) in [(1, 0), (2, GRANULE), (3, 16 << 10), (4, 64 << 10), (5, 1 << 20)] {
        let mut twin = Twin::new(cache_bytes, seed);
        for _ in 0..4000 {
            match twin.chance.below(64) {
                0 => twin.flush(),
                1 => twin.lose(Survivors::None),
                2 => {
                    let seed = twin.chance.next_u64();
                    twin.lose(Survivors::Some(seed));
                }
                3..6 => twin.zero(),
                6..12 => twin.write(true),
                12..16 => {
                    let (offset, bytes) = twin.range();
                    twin.medium.clean(offset, bytes).expect("memory");
                    let range = offset as usize..(offset + bytes) as usize;
                    assert!(twin.disk.contents()[range.clone()] == twin.now[range]);
                }
                16..40 => twin.write(false),
                _ => twin.check_read(),
            }
        }
    }
}

#[test]
fn a_write_whose_data_does_not_come_changes_no_other_block() {
    let disk = Arc::new(MemoryDisk::new(BYTES as u64));
    let mut medium = Medium::new(disk, 16 << 10);
    medium
        .write(0, 8192, false, &mut |piece| {
            piece.fill(1);
            true
        })
        .expect("memory");
    let mut pieces = 0;
    medium
        .write(SECTOR, 8192, false, &mut |piece| {
            pieces += 1;
            piece.fill(2);
            pieces < 2
        })
        .expect("memory");
    let mut found = Vec::new();
    medium
        .read(0, 16384, &mut |piece| {
            found.extend_from_slice(piece);
            true
        })
        .expect("memory");
    assert_eq!(found[..512], [1; 512]);
    assert_eq!(found[512..4096], [2; 3584]);
    assert!(found[8704..].iter().all(|byte| *byte == 0));
}
