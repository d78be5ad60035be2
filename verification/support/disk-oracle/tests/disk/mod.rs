//! A disk that does all that the contract allows: requests under way happen in any order, more than once, block by block; its cache
//! goes to the medium whenever it likes; a write that fails may have happened; what is let go of is zeroes, ones or what it was.

use std::collections::HashMap;

use coppice_disk_oracle::{Content, Extent, Write};

/// What a write under way does to its blocks.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) write: Write,
    pub(crate) extent: Extent,
    /// Block by block.
    pub(crate) data: Vec<Content>,
    /// Block by block: it has happened at least once.
    happened: Vec<bool>,
}

/// The disk.
pub(crate) struct Disk {
    first: u64,
    /// What a read finds.
    pub(crate) now: Vec<Content>,
    /// What outlasts the power.
    pub(crate) medium: Vec<Content>,
    under_way: HashMap<u64, Job>,
}

impl Disk {
    pub(crate) fn new(first: u64, blocks: usize) -> Self {
        let zeroes = vec![Content::Zeroes; blocks];
        Self { first, now: zeroes.clone(), medium: zeroes, under_way: HashMap::new() }
    }

    pub(crate) fn submit(&mut self, number: u64, write: Write, extent: Extent, data: Vec<Content>) {
        let happened = vec![false; data.len()];
        self.under_way.insert(number, Job { write, extent, data, happened });
    }

    /// One block of one write under way happens, perhaps again. `chance` chooses what is left of a block that is let go of.
    pub(crate) fn happen(&mut self, number: u64, block: usize, chance: u8) {
        let Some(job) = self.under_way.get_mut(&number) else { return };
        let block = block % job.data.len();
        // What was let go of once does not come to instance again.
        if job.write == Write::Deallocate && job.happened[block] {
            return;
        }
        job.happened[block] = true;
        let place = &mut self.now[(job.extent.first - self.first) as usize + block];
        match (job.write, chance % 3) {
            (Write::Deallocate, 0) => {}
            (Write::Deallocate, 1) => *place = Content::Ones,
            _ => *place = job.data[block],
        }
    }

    /// A write is answered; done means that each block has happened.
    pub(crate) fn answer(&mut self, number: u64, done: bool, chance: u8) -> Job {
        if done {
            let job = &self.under_way[&number];
            let missing: Vec<usize> = (0..job.data.len()).filter(|&block| !job.happened[block]).collect();
            missing.into_iter().for_each(|block| self.happen(number, block, chance));
        }
        self.under_way.remove(&number).expect("it is under way")
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
