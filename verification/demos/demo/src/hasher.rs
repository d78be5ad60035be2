//! The hasher: reads the whole image through the driver repeatedly and prints the hash of each pass.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use coppice_block::{Operation, Request, RequestHead};
use coppice_experiment::Failure;
use coppice_rref::RRef;
use coppice_run_protocol::trial::Pass;
use coppice_trial::console;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::queue::Queue;

/// The number of reads in flight.
pub(crate) const DEPTH: usize = 16;
/// The size of one read, if the disk allows it.
const CHUNK_BYTES: u64 = 128 << 10;

/// Hashes the image until the run is over. The run does not end before the first pass is complete
/// ([`Load::needs_more_time`](coppice_trial::Load::needs_more_time)).
pub(crate) fn run(context: &Context) -> Result<(), Failure> {
    let mut hasher = Hasher::new(context)?;
    while let Some(hash) = hasher.pass()? {
        context.trial.print(Pass { us: console::now_us(), hash, bytes: context.plan.image_bytes });
        context.passes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

struct Hasher<'a> {
    context: &'a Context,
    queue: Queue<'a>,
    chunk_blocks: u32,
    spare: Vec<RRef<Request>>,
}

impl<'a> Hasher<'a> {
    fn new(context: &'a Context) -> Result<Self, Failure> {
        let disk = &context.disk;
        let chunk_blocks =
            (CHUNK_BYTES / u64::from(disk.block_bytes)).clamp(1, disk.max_transfer_blocks.into());
        let chunk_blocks = chunk_blocks as u32;
        let head = RequestHead::new(Operation::Read, 0, chunk_blocks);
        let request = || RRef::with_capacity(head, disk.bytes(chunk_blocks) as usize);
        let depth = DEPTH.min(disk.queue_depth as usize);
        let queue = Queue::open(context, depth)?;
        Ok(Self { context, queue, chunk_blocks, spare: (0..depth).map(|_| request()).collect() })
    }

    /// Reads the image once and returns its hash; `None` if the run ended first.
    fn pass(&mut self) -> Result<Option<String>, Failure> {
        let context = self.context;
        let depth = self.spare.len();
        let chunk_bytes = context.disk.bytes(self.chunk_blocks);
        let image_bytes = context.plan.image_bytes;
        let chunks = image_bytes.div_ceil(chunk_bytes);
        // Reads complete in any order, but chunks are hashed in ascending order: chunk `n` waits in slot
        // `n % depth` for its turn.
        let mut unhashed: Vec<Option<RRef<Request>>> = (0..depth).map(|_| None).collect();
        let (mut submitted, mut hashed) = (0, 0);
        let (mut hash, mut completions) = (Sha256::new(), Vec::new());
        while hashed < chunks {
            if context.trial.is_over() {
                self.spare.extend(unhashed.into_iter().flatten());
                let spare = &mut self.spare;
                self.queue.drain(|(_, request)| spare.push(request))?;
                return Ok(None);
            }
            while submitted < chunks
                && let Some(mut request) = self.spare.pop()
            {
                let left = (image_bytes - submitted * chunk_bytes).div_ceil(context.disk.block_bytes.into());
                let blocks = left.min(self.chunk_blocks.into()) as u32;
                request.head_mut().set(Operation::Read, submitted * u64::from(self.chunk_blocks), blocks);
                self.queue.submit((submitted % depth as u64) as usize, request);
                submitted += 1;
            }
            let next = (hashed % depth as u64) as usize;
            self.queue.exchange(unhashed[next].is_none(), &mut completions)?;
            for (slot, request) in completions.drain(..) {
                let bytes = context.disk.bytes(request.head().blocks());
                context.read_bytes.fetch_add(bytes, Ordering::Relaxed);
                unhashed[slot] = Some(request);
            }
            if let Some(request) = unhashed[next].take() {
                let bytes = (image_bytes - hashed * chunk_bytes).min(chunk_bytes);
                hash.update(&request.bytes()[..bytes as usize]);
                self.spare.push(request);
                hashed += 1;
            }
        }
        let mut text = String::new();
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("writing to a String succeeds");
        }
        Ok(Some(text))
    }
}
