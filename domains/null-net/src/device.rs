//! [`NullNet`]: the device as a whole.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_interfaces::net::{
    Link, MacAddr, Net, NetConfig, NetError, NetInfo, NetQueue, Offloads, QueueDepth, Statistics,
};
use coppice_interfaces::{Handle, RpcResult, Text};
use coppice_runtime::sync::Mutex;

use crate::counters::Counters;
use crate::options::{Frail, Options};
use crate::queue::Queue;

/// Most packets of a ring.
const MOST_DEPTH: u32 = 4096;

/// The longest frame of any device that has jumbo frames.
const LONGEST_FRAME: u32 = 9728 - 4;

/// The device.
pub struct NullNet {
    options: Options,
    shared: Arc<Shared>,
}

/// What queues and device have in common.
pub(crate) struct Shared {
    /// The longest frame that is set up.
    pub(crate) longest_frame: AtomicU32,
    state: Mutex<State>,
}

struct State {
    config: NetConfig,
    open: Vec<Arc<Counters>>,
    /// What closed queues have counted.
    closed: Statistics,
}

impl Default for NullNet {
    /// As it is without a word in its manifest.
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl NullNet {
    pub(crate) fn new(options: Options) -> Self {
        let config = NetConfig::default();
        let state = State { config, open: Vec::new(), closed: Statistics::default() };
        let longest_frame = AtomicU32::new(config.longest_frame());
        Self { options, shared: Arc::new(Shared { longest_frame, state: Mutex::new(state) }) }
    }

    /// A queue, for whoever is linked with this.
    ///
    /// # Errors
    /// As [`Net::open`].
    pub fn queue(&self, depth: QueueDepth) -> Result<impl NetQueue + use<>, NetError> {
        for depth in [depth.send, depth.receive] {
            if depth == 0 || depth > MOST_DEPTH {
                return Err(NetError::Depth { depth, most: MOST_DEPTH });
            }
        }
        let mut state = self.shared.state.lock();
        if state.open.len() >= self.options.queues as usize {
            return Err(NetError::NoQueue { queues: self.options.queues });
        }
        let counters = Arc::new(Counters::default());
        state.open.push(counters.clone());
        drop(state);
        Ok(Queue::new(self.options, self.shared.clone(), counters, depth))
    }

    fn describe(&self) -> NetInfo {
        let mood = if self.options.moody { self.options.generation.to_be_bytes()[3] } else { 0 };
        NetInfo {
            // Administered by nobody else (IEEE 802, 8.2.2).
            mac: MacAddr([2, 0, 0, 0, mood, 1]),
            model: Text::new("Coppice null network"),
            queues: self.options.queues,
            most_send_depth: MOST_DEPTH,
            most_receive_depth: MOST_DEPTH,
            longest_frame: LONGEST_FRAME,
            least_packet_bytes: self.options.frame_bytes,
            offloads: Offloads::default(),
        }
    }
}

impl Shared {
    /// A queue is closed.
    pub(crate) fn close(&self, counters: &Arc<Counters>) {
        let mut state = self.state.lock();
        counters.add_to(&mut state.closed);
        state.open.retain(|open| !Arc::ptr_eq(open, counters));
    }
}

impl Net for NullNet {
    fn info(&self) -> RpcResult<NetInfo> {
        self.options.fail_in(Frail::Info);
        Ok(self.describe())
    }

    fn link(&self) -> RpcResult<Result<Link, NetError>> {
        Ok(Ok(Link { is_up: true, megabits: 10_000, changes: 1 }))
    }

    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>> {
        let state = self.shared.state.lock();
        let mut sum = state.closed;
        state.open.iter().for_each(|counters| counters.add_to(&mut sum));
        Ok(Ok(sum))
    }

    fn config(&self) -> RpcResult<NetConfig> {
        Ok(self.shared.state.lock().config)
    }

    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>> {
        self.options.fail_in(Frail::Configure);
        if let Err(error) = config.check(&self.describe()) {
            return Ok(Err(error));
        }
        self.shared.state.lock().config = config;
        self.shared.longest_frame.store(config.longest_frame(), Ordering::Relaxed);
        Ok(Ok(()))
    }

    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>> {
        self.options.fail_in(Frail::Open);
        Ok(self.queue(depth).map(<dyn NetQueue>::export))
    }
}
