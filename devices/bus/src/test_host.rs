//! [`TestHost`], the host in tests of models.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::host::{DmaError, Host};

/// The unit of [`TestHost::allocate`], and the smallest page of most devices.
pub const PAGE_BYTES: u64 = 4096;

/// The first address of memory. It is not 0, so that null pointers and small numbers used as addresses are
/// errors.
const BASE: u64 = 0x1_0000;

/// A host with memory from bus address 0x10000 on, and a counter per interrupt vector.
///
/// Memory consists of `AtomicU64` words, so that the threads of model and test race like a device and a CPU.
/// A lock per page would copy faster, but would hide missing memory ordering.
pub struct TestHost {
    words: Box<[AtomicU64]>,
    /// The next address that [`allocate`](Self::allocate) returns.
    free: AtomicU64,
    /// The number of interrupts, by vector.
    raised: Mutex<Box<[u64]>>,
    changed: Condvar,
}

impl TestHost {
    /// A host with `bytes` of memory, rounded up to pages, and interrupt vectors 0 to `vectors` - 1.
    pub fn new(bytes: u64, vectors: u16) -> Self {
        let words = bytes.next_multiple_of(PAGE_BYTES) / 8;
        Self {
            words: (0..words).map(|_| AtomicU64::new(0)).collect(),
            free: AtomicU64::new(BASE),
            raised: Mutex::new(vec![0; usize::from(vectors)].into()),
            changed: Condvar::new(),
        }
    }

    /// Allocates whole pages, which are never freed.
    ///
    /// # Panics
    /// If memory is exhausted, which is an error of the test.
    pub fn allocate(&self, bytes: u64) -> u64 {
        let len = bytes.next_multiple_of(PAGE_BYTES);
        let address = self.free.fetch_add(len, Ordering::Relaxed);
        let end = BASE + 8 * self.words.len() as u64;
        assert!(address + len <= end, "the test host has no {bytes} bytes left");
        address
    }

    /// Reads memory, as a driver would.
    ///
    /// # Panics
    /// If the range is outside of memory.
    pub fn peek(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut found = vec![0; bytes];
        self.read_memory(address, &mut found).expect("tests read inside of memory");
        found
    }

    /// Writes memory, as a driver would.
    ///
    /// # Panics
    /// If the range is outside of memory.
    pub fn poke(&self, address: u64, bytes: &[u8]) {
        self.write_memory(address, bytes).expect("tests write inside of memory");
    }

    /// Reads four bytes atomically, with acquire ordering.
    ///
    /// # Panics
    /// If the address is outside of memory or not aligned.
    pub fn peek_u32(&self, address: u64) -> u32 {
        assert!(address.is_multiple_of(4) && address >= BASE, "{address:#x} is no word of memory");
        let word = self.words[((address - BASE) / 8) as usize].load(Ordering::Acquire);
        (word >> (8 * (address % 8))) as u32
    }

    /// Returns the number of interrupts of `vector`.
    pub fn interrupts(&self, vector: u16) -> u64 {
        self.raised().get(usize::from(vector)).copied().unwrap_or(0)
    }

    /// Waits until `vector` was raised more than `seen` times, and returns its count; `None` if that takes
    /// longer than `limit`.
    pub fn wait_interrupt(&self, vector: u16, seen: u64, limit: Duration) -> Option<u64> {
        let deadline = Instant::now() + limit;
        let mut raised = self.raised();
        loop {
            let count = raised[usize::from(vector)];
            if count > seen {
                return Some(count);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            raised = self.changed.wait_timeout(raised, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn raised(&self) -> MutexGuard<'_, Box<[u64]>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the words that hold `bytes` at `address`, and the offset of the range in the first of them.
    fn span(&self, address: u64, bytes: usize) -> Result<(&[AtomicU64], usize), DmaError> {
        let unreachable = DmaError::Unreachable { address, bytes: bytes as u64 };
        let start =
            usize::try_from(address.checked_sub(BASE).ok_or(unreachable)?).map_err(|_| unreachable)?;
        let end = start.checked_add(bytes).ok_or(unreachable)?;
        let words = self.words.get(start / 8..end.div_ceil(8)).ok_or(unreachable)?;
        Ok((words, start % 8))
    }
}

impl Host for TestHost {
    fn read_memory(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        let (words, skip) = self.span(address, into.len())?;
        let (head, body) = into.split_at_mut(into.len().min((8 - skip) % 8));
        let mut words = words.iter();
        if !head.is_empty() {
            let word = words.next().map_or(0, |word| word.load(Ordering::Acquire)).to_le_bytes();
            head.copy_from_slice(&word[skip..skip + head.len()]);
        }
        let (whole, tail) = body.as_chunks_mut::<8>();
        for (bytes, word) in whole.iter_mut().zip(words.by_ref()) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        if let Some(word) = words.next() {
            let word = word.load(Ordering::Relaxed).to_le_bytes();
            tail.copy_from_slice(&word[..tail.len()]);
        }
        std::sync::atomic::fence(Ordering::Acquire);
        Ok(())
    }

    fn write_memory(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        let (words, skip) = self.span(address, from.len())?;
        let (head, body) = from.split_at(from.len().min((8 - skip) % 8));
        let mut words = words.iter();
        if !head.is_empty()
            && let Some(word) = words.next()
        {
            store_part(word, skip, head);
        }
        let (whole, tail) = body.as_chunks::<8>();
        for (bytes, word) in whole.iter().zip(words.by_ref()) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Release);
        }
        if !tail.is_empty()
            && let Some(word) = words.next()
        {
            store_part(word, 0, tail);
        }
        Ok(())
    }

    fn publish_descriptors(&self, address: u64, descriptors: &[[u64; 2]]) -> Result<(), DmaError> {
        let bytes = 16 * descriptors.len();
        let (words, skip) = self.span(address, bytes)?;
        if skip != 0 {
            return Err(DmaError::Unreachable { address, bytes: bytes as u64 });
        }
        for (word, value) in words.iter().zip(descriptors.as_flattened()) {
            word.store(*value, Ordering::Release);
        }
        Ok(())
    }

    fn prefetch(&self, address: u64, bytes: usize) {
        // Safe code can fetch a line only by a load from it; the processor does not wait for a value without
        // a use.
        let Ok((words, _)) = self.span(address, bytes) else { return };
        for word in words.iter().step_by(8).take(2) {
            std::hint::black_box(word.load(Ordering::Relaxed));
        }
    }

    fn raise(&self, vector: u16) {
        if let Some(count) = self.raised().get_mut(usize::from(vector)) {
            *count += 1;
        }
        self.changed.notify_all();
    }
}

/// Replaces some bytes of a word, and keeps concurrent writes to its other bytes.
fn store_part(word: &AtomicU64, skip: usize, bytes: &[u8]) {
    let replaced = |old: u64| {
        let mut new = old.to_le_bytes();
        new[skip..skip + bytes.len()].copy_from_slice(bytes);
        Some(u64::from_le_bytes(new))
    };
    // The closure always returns `Some`, so this cannot fail.
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, replaced);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stores_any_length_at_any_alignment() {
        let host = TestHost::new(4096, 0);
        for start in 0..9 {
            for bytes in 0..40 {
                host.poke(BASE, &[0xff; 64]);
                let pattern: Vec<u8> = (1..=bytes).collect();
                host.poke(BASE + start, &pattern);
                assert_eq!(host.peek(BASE + start, pattern.len()), pattern);
                let around = host.peek(BASE, 64);
                let end = start as usize + pattern.len();
                assert!(around[..start as usize].iter().chain(&around[end..]).all(|byte| *byte == 0xff));
            }
        }
    }

    #[test]
    fn an_access_beyond_memory_is_refused() {
        let host = TestHost::new(4096, 0);
        assert_eq!(host.write_memory(BASE + 4090, &[0; 6]), Ok(()));
        let beyond = DmaError::Unreachable { address: BASE + 4090, bytes: 7 };
        assert_eq!(host.write_memory(BASE + 4090, &[0; 7]), Err(beyond));
        let below = DmaError::Unreachable { address: 8, bytes: 1 };
        assert_eq!(host.read_memory(8, &mut [0]), Err(below));
        let last = DmaError::Unreachable { address: u64::MAX, bytes: 2 };
        assert_eq!(host.read_memory(u64::MAX, &mut [0; 2]), Err(last));
    }
}
