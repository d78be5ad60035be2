//! [`Ram`]: a medium that is memory of the domain's own.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use coppice_interfaces::BlockError;
use coppice_interfaces::block::{BlockInfo, Operation, Request};
use coppice_rref::Lent;
use coppice_runtime::sync::Mutex;

use crate::medium::{Channel, Medium};
use crate::options::Options;
use crate::record::Record;

/// Bytes under one lock. Queues that work on different ones do not wait for each other.
const CHUNK: usize = 64 * 1024;

/// Memory in pieces.
pub(crate) struct Ram {
    info: BlockInfo,
    shared: Arc<Shared>,
}

struct Shared {
    chunks: Vec<Mutex<Box<[u8]>>>,
    block_bytes: u64,
    record: Option<Mutex<Record>>,
}

impl Ram {
    pub(crate) fn new(bytes: u64, options: &Options) -> Self {
        let chunks = bytes.div_ceil(CHUNK as u64);
        let chunks = (0..chunks).map(|_| Mutex::new(vec![0; CHUNK].into_boxed_slice())).collect();
        let info = options.info();
        let record = (options.record > 0).then(|| Mutex::new(Record::new(&info, options.record)));
        let shared = Shared { chunks, block_bytes: info.block_bytes.into(), record };
        Self { info, shared: Arc::new(shared) }
    }
}

impl Medium for Ram {
    fn info(&self) -> BlockInfo {
        self.info
    }
    fn open(&self) -> Result<Box<dyn Channel>, BlockError> {
        Ok(Box::new(self.shared.clone()))
    }
}

impl Channel for Arc<Shared> {
    fn perform(&mut self, operation: Operation, request: &mut Lent<Request>) -> Result<(), BlockError> {
        let head = *request.head();
        if let Some(record) = self.record.as_ref().filter(|_| operation != Operation::Read) {
            let (at, entry) = record.lock().next(&head);
            self.write(at, &entry);
        }
        let (start, len) = (head.lba() * self.block_bytes, u64::from(head.blocks()) * self.block_bytes);
        match operation {
            Operation::Read => self.read(start, &mut request.bytes_mut()[..len as usize]),
            Operation::Write => self.write(start, &request.bytes()[..len as usize]),
            // What is deallocated reads as zeroes here.
            Operation::WriteZeroes | Operation::Deallocate => {
                self.for_each(start, len as usize, |bytes, _| bytes.fill(0));
            }
            Operation::Flush => {}
        }
        Ok(())
    }
}

impl Shared {
    fn read(&self, start: u64, into: &mut [u8]) {
        self.for_each(start, into.len(), |bytes, range| into[range].copy_from_slice(bytes));
    }

    fn write(&self, start: u64, from: &[u8]) {
        self.for_each(start, from.len(), |bytes, range| bytes.copy_from_slice(&from[range]));
    }

    /// Visits `len` bytes from `start` in as many pieces as chunks hold them, with the place of each in the whole.
    fn for_each(&self, start: u64, len: usize, mut visit: impl FnMut(&mut [u8], Range<usize>)) {
        let mut done = 0;
        while done < len {
            let place = start + done as u64;
            let (chunk, offset) = ((place / CHUNK as u64) as usize, (place % CHUNK as u64) as usize);
            let part = (CHUNK - offset).min(len - done);
            visit(&mut self.chunks[chunk].lock()[offset..offset + part], done..done + part);
            done += part;
        }
    }
}
