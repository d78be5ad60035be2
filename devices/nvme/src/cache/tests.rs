use super::*;
use crate::disk::MemoryDisk;

const BYTES: usize = 256 << 10;

/// A cached disk with its expected content, and the possible contents of the disk.
struct CacheOracle {
    cached: CachedDisk,
    disk: Arc<MemoryDisk>,
    expected: Vec<u8>,
    /// Per sector, all contents that a loss of power may leave: the last durable version, and all later ones.
    possible: Vec<Vec<u8>>,
    random: SplitMix64,
}

impl CacheOracle {
    fn new(cache_bytes: u64, seed: u64) -> Self {
        let disk = Arc::new(MemoryDisk::new(BYTES as u64));
        Self {
            cached: CachedDisk::new(disk.clone(), cache_bytes),
            disk,
            expected: vec![0; BYTES],
            possible: vec![vec![0]; BYTES / SECTOR as usize],
            random: SplitMix64::new(seed),
        }
    }

    /// A random range, usually short.
    fn range(&mut self) -> (u64, u64) {
        let sectors = BYTES as u64 / SECTOR;
        let limit = if self.random.below(8) == 0 { 128 } else { 12 };
        let first = self.random.below(sectors);
        let count = 1 + self.random.below(limit.min(sectors - first));
        (first * SECTOR, count * SECTOR)
    }

    fn write(&mut self, through: bool) {
        let (offset, bytes) = self.range();
        // One number per sector tells versions apart, because sectors are written as a whole.
        let mut version = self.random.next_u64() as u8;
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
        let source = &mut |chunk: &mut [u8]| {
            chunk.copy_from_slice(&data[done..done + chunk.len()]);
            done += chunk.len();
            true
        };
        self.cached.write(offset, bytes, through, source).expect("memory does not fail");
        assert_eq!(done, data.len());
        self.expected[offset as usize..(offset + bytes) as usize].copy_from_slice(&data);
    }

    fn zero(&mut self) {
        let (offset, bytes) = self.range();
        self.cached.zero(offset, bytes).expect("memory does not fail");
        self.expected[offset as usize..(offset + bytes) as usize].fill(0);
        for sector in offset / SECTOR..(offset + bytes) / SECTOR {
            self.possible[sector as usize] = vec![0];
        }
    }

    fn check_read(&mut self) {
        let (offset, bytes) = self.range();
        let mut found = Vec::new();
        let sink = &mut |chunk: &[u8]| {
            found.extend_from_slice(chunk);
            true
        };
        self.cached.read(offset, bytes, sink).expect("memory does not fail");
        assert!(
            found == self.expected[offset as usize..(offset + bytes) as usize],
            "{offset:#x} + {bytes:#x}"
        );
    }

    fn flush(&mut self) {
        self.cached.flush().expect("memory does not fail");
        assert!(*self.disk.contents() == self.expected);
        assert_eq!(self.cached.free.len(), self.cached.slots.len());
        self.mark_durable();
    }

    fn lose_power(&mut self, survivors: Survivors) {
        self.cached.lose_power(survivors).expect("memory does not fail");
        assert_eq!(self.cached.free.len(), self.cached.slots.len());
        self.expected.clone_from(&self.disk.contents());
        for (sector, possible) in self.possible.iter().enumerate() {
            let found = &self.expected[sector * SECTOR as usize..(sector + 1) * SECTOR as usize];
            let is_whole = found.iter().all(|byte| *byte == found[0]);
            assert!(
                is_whole && possible.contains(&found[0]),
                "sector {sector}: {} of {possible:?}",
                found[0]
            );
        }
        self.mark_durable();
    }

    /// Records that the disk has exactly the expected content.
    fn mark_durable(&mut self) {
        for (sector, possible) in self.possible.iter_mut().enumerate() {
            *possible = vec![self.expected[sector * SECTOR as usize]];
        }
    }
}

#[test]
fn a_cache_reads_back_writes_and_loses_only_unflushed_data() {
    for (seed, cache_bytes) in [(1, 0), (2, GRANULE), (3, 16 << 10), (4, 64 << 10), (5, 1 << 20)] {
        let mut oracle = CacheOracle::new(cache_bytes, seed);
        for _ in 0..4000 {
            match oracle.random.below(64) {
                0 => oracle.flush(),
                1 => oracle.lose_power(Survivors::None),
                2 => {
                    let seed = oracle.random.next_u64();
                    oracle.lose_power(Survivors::Some(seed));
                }
                3..6 => oracle.zero(),
                6..12 => oracle.write(true),
                12..16 => {
                    let (offset, bytes) = oracle.range();
                    oracle.cached.write_back(offset, bytes).expect("memory does not fail");
                    let range = offset as usize..(offset + bytes) as usize;
                    assert!(oracle.disk.contents()[range.clone()] == oracle.expected[range]);
                }
                16..40 => oracle.write(false),
                _ => oracle.check_read(),
            }
        }
    }
}

#[test]
fn a_write_with_missing_data_changes_no_other_block() {
    let disk = Arc::new(MemoryDisk::new(BYTES as u64));
    let mut cached = CachedDisk::new(disk, 16 << 10);
    cached
        .write(0, 8192, false, &mut |chunk| {
            chunk.fill(1);
            true
        })
        .expect("memory does not fail");
    let mut chunks = 0;
    cached
        .write(SECTOR, 8192, false, &mut |chunk| {
            chunks += 1;
            chunk.fill(2);
            chunks < 2
        })
        .expect("memory does not fail");
    let mut found = Vec::new();
    cached
        .read(0, 16384, &mut |chunk| {
            found.extend_from_slice(chunk);
            true
        })
        .expect("memory does not fail");
    assert_eq!(found[..512], [1; 512]);
    assert_eq!(found[512..4096], [2; 3584]);
    assert!(found[8704..].iter().all(|byte| *byte == 0));
}
