//! Hashes the image: all of it through the driver, over and over.

use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use coppice_block::{Operation, Request, RequestHead};
use coppice_experiment::Failure;
use coppice_interfaces::Text;
use coppice_rref::RRef;
use coppice_trial::console;
use sha2::{Digest, Sha256};

use crate::queue::Queue;
use crate::stage::Stage;

/// How many reads are under way at a time.
pub(crate) const DEPTH: usize = 16;
/// How much one of them reads, if the disk allows that.
const CHUNK_BYTES: u64 = 128 << 10;

/// Hashes until the run is over. The run is not over before all was read once.
pub(crate) fn run(stage: &Stage) -> Result<(), Failure> {
    let mut hasher = Hasher::new(stage)?;
    while let Some(hash) = hasher.pass()? {
        let (us, bytes) = (console::now_us(), stage.plan.image_bytes);
        stage.trial.say(format_args!(r#""pass":{{"us":{us},"hash":"{hash}","bytes":{bytes}}}"#));
        stage.passes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

struct Hasher<'a> {
    stage: &'a Stage,
    queue: Queue<'a>,
    chunk_blocks: u32,
    /// Requests that are not in use.
    spare: Vec<RRef<Request>>,
}

impl<'a> Hasher<'a> {
    fn new(stage: &'a Stage) -> Result<Self, Failure> {
        let disk = &stage.disk;
        let chunk_blocks =
            (CHUNK_BYTES / u64::from(disk.block_bytes)).clamp(1, disk.max_transfer_blocks.into());
        let chunk_blocks = chunk_blocks as u32;
        let head = RequestHead::new(Operation::Read, 0, chunk_blocks);
        let request = || RRef::with_capacity(head, disk.bytes(chunk_blocks) as usize);
        let depth = DEPTH.min(disk.queue_depth as usize);
        let queue = Queue::open(stage, depth)?;
        Ok(Self { stage, queue, chunk_blocks, spare: (0..depth).map(|_| request()).collect() })
    }

    /// The hash of all of it; `None` if the run was over before.
    fn pass(&mut self) -> Result<Option<Text<64>>, Failure> {
        let stage = self.stage;
        let depth = self.spare.len();
        let chunk_bytes = stage.disk.bytes(self.chunk_blocks);
        let image_bytes = stage.plan.image_bytes;
        let chunks = image_bytes.div_ceil(chunk_bytes);
        // Chunks come in any order and are hashed in theirs: chunk `n` waits in place `n % depth`.
        let mut read: Vec<Option<RRef<Request>>> = (0..depth).map(|_| None).collect();
        let (mut asked, mut hashed) = (0, 0);
        let (mut hash, mut answers) = (Sha256::new(), Vec::new());
        while hashed < chunks {
            if stage.trial.is_over() {
                self.spare.extend(read.into_iter().flatten());
                let spare = &mut self.spare;
                self.queue.drain(|(_, request)| spare.push(request))?;
                return Ok(None);
            }
            while asked < chunks
                && let Some(mut request) = self.spare.pop()
            {
                let left = (image_bytes - asked * chunk_bytes).div_ceil(stage.disk.block_bytes.into());
                let blocks = left.min(self.chunk_blocks.into()) as u32;
                request.head_mut().set(Operation::Read, asked * u64::from(self.chunk_blocks), blocks);
                self.queue.submit((asked % depth as u64) as usize, request);
                asked += 1;
            }
            let next = (hashed % depth as u64) as usize;
            self.queue.exchange(read[next].is_none(), &mut answers)?;
            for (place, request) in answers.drain(..) {
                let bytes = stage.disk.bytes(request.head().blocks());
                stage.read_bytes.fetch_add(bytes, Ordering::Relaxed);
                read[place] = Some(request);
            }
            if let Some(request) = read[next].take() {
                let bytes = (image_bytes - hashed * chunk_bytes).min(chunk_bytes);
                hash.update(&request.bytes()[..bytes as usize]);
                self.spare.push(request);
                hashed += 1;
            }
        }
        let mut text = Text::new("");
        for byte in hash.finalize() {
            write!(text, "{byte:02x}").expect("a text of 64 bytes holds 32 in hexadecimal");
        }
        Ok(Some(text))
    }
}
