//! [`Queue`]: one queue of the shadow.
//!
//! While all is well an exchange is handed on as it is. When the driver dies in the middle of one, both batches are gone with
//! it, and the packets in them are their lender's again, like those that its rings had. What the client gets are two empty batches
//! and another epoch, which says so. From then on, until there is a driver's queue again, it gets back what it hands in.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_interfaces::{Handle, RpcResult};
use coppice_net::{Batch, Busy, Exchanged, FIRST_EPOCH, NetQueue, QueueDepth, QueueState};
use coppice_rref::RRef;
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;

use crate::device::{Device, Trouble};

/// What a client gets for a queue.
pub(crate) struct Queue(ThreadBound<State>);

/// One thread's way to the device.
struct State {
    device: Arc<Device>,
    /// The driver's queue; `None` while there is none.
    target: Option<Handle<dyn NetQueue>>,
    depth: QueueDepth,
    /// How often the client's packets went back to it.
    epoch: u32,
    /// The epoch of the driver's queue.
    target_epoch: u32,
    outage: Option<Outage>,
}

/// There is no driver.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Duration,
    /// Patience is over, or it is another device.
    is_given_up: bool,
}

impl Queue {
    pub(crate) fn new(device: Arc<Device>, target: Handle<dyn NetQueue>, depth: QueueDepth) -> Self {
        Self(ThreadBound::new(State {
            device,
            target: Some(target),
            depth,
            epoch: FIRST_EPOCH,
            target_epoch: FIRST_EPOCH,
            outage: None,
        }))
    }
}

impl NetQueue for Queue {
    fn exchange(
        &self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>> {
        let Ok(mut state) = self.0.enter() else { return Ok(Err(Busy { send, receive })) };
        Ok(Ok(state.exchange(send, receive, wait_until_ns)))
    }
}

impl State {
    #[inline(always)]
    fn exchange(&mut self, send: RRef<Batch>, receive: RRef<Batch>, wait_until_ns: u64) -> Exchanged {
        let Some(target) = &self.target else { return self.do_without(send, receive, wait_until_ns) };
        let handed_in = send.len();
        match target.exchange(send, receive, wait_until_ns) {
            Ok(Ok(mut exchanged)) => {
                if exchanged.epoch != self.target_epoch {
                    self.follow(exchanged.epoch);
                }
                exchanged.epoch = self.epoch;
                exchanged
            }
            answer => self.lose(answer, handed_in, wait_until_ns),
        }
    }

    /// The driver's queue has lost packets.
    #[cold]
    fn follow(&mut self, epoch: u32) {
        self.epoch = self.epoch.wrapping_add(1);
        self.target_epoch = epoch;
    }

    /// The driver's queue is of no use any more. The outgoing batch had `handed_in` packets.
    #[cold]
    #[inline(never)]
    fn lose(
        &mut self,
        answer: RpcResult<Result<Exchanged, Busy>>,
        handed_in: usize,
        wait_until_ns: u64,
    ) -> Exchanged {
        self.target = None;
        self.epoch = self.epoch.wrapping_add(1);
        self.outage.get_or_insert_with(|| Outage { since: time::now(), is_given_up: false });
        let (send, receive) = match answer {
            // It takes this thread for another one; a new queue has none yet. What is in `receive` has not been received, so
            // it is not given back as if it were; it goes to its lender.
            Ok(Err(Busy { send, .. })) => (send, RRef::new(Batch::new())),
            Err(error) => {
                log::debug!("{error}");
                self.device.count_crashed(handed_in);
                (RRef::new(Batch::new()), RRef::new(Batch::new()))
            }
            Ok(Ok(Exchanged { send, receive, .. })) => (send, receive),
        };
        // The client is to know as soon as it can wait for nothing better, that is, when there is a driver.
        self.reconnect(wait_until_ns);
        self.give_back(send, receive)
    }

    /// An exchange without a driver, or with the next one.
    #[cold]
    #[inline(never)]
    fn do_without(&mut self, send: RRef<Batch>, receive: RRef<Batch>, wait_until_ns: u64) -> Exchanged {
        self.reconnect(wait_until_ns);
        if self.target.is_some() {
            return self.exchange(send, receive, wait_until_ns);
        }
        self.give_back(send, receive)
    }

    /// Nothing was taken and nothing is given.
    fn give_back(&self, send: RRef<Batch>, receive: RRef<Batch>) -> Exchanged {
        let state = match self.outage {
            None => QueueState::Running,
            Some(Outage { is_given_up: false, .. }) => QueueState::Recovering,
            Some(Outage { is_given_up: true, .. }) => QueueState::Gone,
        };
        Exchanged { send, receive, epoch: self.epoch, state }
    }

    /// Has a queue of the driver's that is there, or comes in the time that there is.
    fn reconnect(&mut self, wait_until_ns: u64) {
        let until =
            Duration::from_nanos(wait_until_ns).min(time::now().saturating_add(self.device.most_wait));
        let trouble = match self.device.open(self.depth, until) {
            Ok(target) => {
                self.target = Some(target);
                self.target_epoch = FIRST_EPOCH;
                self.outage = None;
                return;
            }
            Err(trouble) => trouble,
        };
        let Some(outage) = &mut self.outage else { return };
        let waited = time::now().saturating_sub(outage.since);
        if trouble == Trouble::AnotherDevice || waited >= self.device.patience {
            outage.is_given_up = true;
        }
        // There is a driver, and it refuses: whoever wants to wait does not do so by asking without end.
        if !matches!(trouble, Trouble::NotYet) {
            time::sleep_until(until);
        }
    }
}
