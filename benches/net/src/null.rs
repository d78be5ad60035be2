//! What a queue costs that is no device: cycles per packet of exchanges that bring back at once what they were handed.

use core::ops::Deref;

use coppice_experiment::{Budget, Samples};
use coppice_net::{Batch, Exchanged, Frames, NetQueue, SHORTEST_FRAME};
use coppice_net_client::PacketPool;
use coppice_rref::RRef;
use coppice_runtime::time::tsc;

use crate::target::{Failure, PACKET_BYTES};

/// What a sample comprises at least, so that the clock's own cost is spread.
const FRAMES: usize = 512;
const SAMPLES: u32 = 2000;
const WARM_UP: u32 = 20;

/// Cycles per packet of `queue`, reached by whatever kind of pointer: `batch` frames are handed in by one call and come back by it, as
/// received ones, and are handed in again. Nobody looks at a packet between two calls.
pub(crate) fn cycles<Q: Deref<Target = dyn NetQueue>>(
    queue: &Q,
    batch: usize,
    budget: Budget,
) -> Result<Samples, Failure> {
    let mut pool = PacketPool::new(batch, PACKET_BYTES)?;
    let mut send = RRef::new(Batch::new());
    pool.fill(&mut send, batch);
    for index in 0..batch {
        send.write_frame_at(index, |_| SHORTEST_FRAME);
    }
    let mut batches = Some((send, RRef::new(Batch::new())));
    let calls = FRAMES.div_ceil(batch);
    let mut failure = None;
    let mut sample = || {
        let start = tsc();
        for _ in 0..calls {
            let Some((send, receive)) = batches.take() else { break };
            match queue.exchange(send, receive, 0) {
                Ok(Ok(Exchanged { send, receive, .. })) => batches = Some((receive, send)),
                Ok(Err(_)) => failure = Some(Failure::NoPacket),
                Err(error) => failure = Some(Failure::Rpc(error)),
            }
        }
        (tsc() - start) as f64 / (calls * batch) as f64
    };
    for _ in 0..WARM_UP {
        sample();
    }
    let samples = budget.collect(SAMPLES, sample);
    match (failure, batches) {
        (Some(failure), _) => Err(failure),
        // What came back is what went in, or the figures are of something else.
        (None, Some((send, _))) if send.len() == batch => {
            Ok(Samples::sorted(samples, (calls * batch) as u32))
        }
        (None, _) => Err(Failure::NoPacket),
    }
}
