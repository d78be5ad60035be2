//! A disk that does all that the contract allows: writes in flight take effect in any order, more than once,
//! block by block; its cache is written back at any time; a failed write may have taken effect; a deallocated
//! block has zeroes, ones or its old content.

use std::collections::HashMap;

use coppice_disk_oracle::{Content, Extent, Write};

/// A write in flight.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) write: Write,
    pub(crate) extent: Extent,
    /// The data of each block.
    pub(crate) data: Vec<Content>,
    /// For each block: it took effect at least once.
    effective: Vec<bool>,
}

/// The model of a disk.
pub(crate) struct Disk {
    first: u64,
    /// The contents that a read returns.
    pub(crate) now: Vec<Content>,
    /// The contents that survive a power loss.
    pub(crate) medium: Vec<Content>,
    in_flight: HashMap<u64, Job>,
}

impl Disk {
    pub(crate) fn new(first: u64, blocks: usize) -> Self {
        let zeroes = vec![Content::Zeroes; blocks];
        Self { first, now: zeroes.clone(), medium: zeroes, in_flight: HashMap::new() }
    }

    pub(crate) fn submit(&mut self, number: u64, write: Write, extent: Extent, data: Vec<Content>) {
        let effective = vec![false; data.len()];
        self.in_flight.insert(number, Job { write, extent, data, effective });
    }

    /// Lets one block of a write in flight take effect, perhaps again. `chance` chooses the content of a
    /// deallocated block.
    pub(crate) fn take_effect(&mut self, number: u64, block: usize, chance: u8) {
        let Some(job) = self.in_flight.get_mut(&number) else { return };
        let block = block % job.data.len();
        // A deallocation does not take effect again.
        if job.write == Write::Deallocate && job.effective[block] {
            return;
        }
        job.effective[block] = true;
        let slot = &mut self.now[(job.extent.first - self.first) as usize + block];
        match (job.write, chance % 3) {
            (Write::Deallocate, 0) => {}
            (Write::Deallocate, 1) => *slot = Content::Ones,
            _ => *slot = job.data[block],
        }
    }

    /// Completes a write. If it is `done`, all its blocks have taken effect.
    pub(crate) fn complete(&mut self, number: u64, done: bool, chance: u8) -> Job {
        if done {
            let job = &self.in_flight[&number];
            let missing: Vec<usize> = (0..job.data.len()).filter(|&block| !job.effective[block]).collect();
            missing.into_iter().for_each(|block| self.take_effect(number, block, chance));
        }
        self.in_flight.remove(&number).expect("it is in flight")
    }

    pub(crate) fn persist(&mut self, block: usize) {
        self.medium[block] = self.now[block];
    }

    pub(crate) fn flush(&mut self) {
        self.medium.clone_from(&self.now);
    }

    pub(crate) fn read(&self, lba: u64) -> Content {
        self.now[(lba - self.first) as usize]
    }
}
