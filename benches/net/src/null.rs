//! The cost of a queue without a device: cycles per packet of exchanges that return their packets at once.

use core::ops::Deref;

use coppice_bench_harness::{Budget, Samples};
use coppice_net::{Batch, Exchanged, Frames, NetQueue, SHORTEST_FRAME};
use coppice_net_client::PacketPool;
use coppice_rref::RRef;
use coppice_runtime::time::tsc;

use crate::path::{Failure, PACKET_BYTES};

/// The minimum number of frames in a sample, which spreads the clock's own cost.
const FRAMES: usize = 512;
const SAMPLES: u32 = 2000;
const WARM_UP: u32 = 20;

/// Measures cycles per packet of `queue`, through any kind of pointer. One call submits `batch` frames and
/// returns them as received ones, and the next call submits them again. No packet is read between two calls.
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
        // The packets returned must be the packets submitted, or the figures measure something else.
        (None, Some((send, _))) if send.len() == batch => {
            Ok(Samples::sorted(samples, (calls * batch) as u32))
        }
        (None, _) => Err(Failure::NoPacket),
    }
}
