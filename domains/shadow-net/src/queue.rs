//! [`Queue`]: one queue of the shadow.
//!
//! While the driver is healthy, an exchange is forwarded unchanged. When the driver crashes in an exchange,
//! both batches are lost; their packets return to their lender, like those of the driver's rings. The client
//! gets two empty batches and a new epoch, which reports the loss. Until there is a driver's queue again, the
//! client gets its batches back unchanged.

use alloc::sync::Arc;

use coppice_interfaces::{Handle, RpcResult};
use coppice_net::{Batch, Busy, Exchanged, FIRST_EPOCH, NetQueue, QueueDepth, QueueState};
use coppice_rref::RRef;
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;
use coppice_shadow_queue::Phase;

use crate::device::{Device, TargetError};

/// The object that a client opens.
pub(crate) struct Queue(ThreadBound<State>);

/// The state of a queue; it belongs to one thread.
struct State {
    device: Arc<Device>,
    phase: Phase<Handle<dyn NetQueue>>,
    depth: QueueDepth,
    /// The epoch reported to the client: raised each time that packets return to its loans.
    epoch: u32,
    /// The epoch of the driver's queue.
    target_epoch: u32,
}

impl Queue {
    pub(crate) fn new(device: Arc<Device>, target: Handle<dyn NetQueue>, depth: QueueDepth) -> Self {
        Self(ThreadBound::new(State {
            device,
            phase: Phase::Healthy(target),
            depth,
            epoch: FIRST_EPOCH,
            target_epoch: FIRST_EPOCH,
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
        let Phase::Healthy(target) = &self.phase else {
            return self.exchange_after_reconnect(send, receive, wait_until_ns);
        };
        let offered = send.len();
        match target.exchange(send, receive, wait_until_ns) {
            Ok(Ok(mut exchanged)) => {
                if exchanged.epoch != self.target_epoch {
                    self.follow_epoch(exchanged.epoch);
                }
                exchanged.epoch = self.epoch;
                exchanged
            }
            answer => self.lose(answer, offered, wait_until_ns),
        }
    }

    /// Passes on that the driver's queue has lost packets.
    #[cold]
    fn follow_epoch(&mut self, epoch: u32) {
        self.epoch = self.epoch.wrapping_add(1);
        self.target_epoch = epoch;
    }

    /// Drops the driver's queue after a failed exchange whose outgoing batch had `offered` packets.
    #[cold]
    #[inline(never)]
    fn lose(
        &mut self,
        answer: RpcResult<Result<Exchanged, Busy>>,
        offered: usize,
        wait_until_ns: u64,
    ) -> Exchanged {
        self.phase.lose(time::now());
        self.epoch = self.epoch.wrapping_add(1);
        let (send, receive) = match answer {
            // The driver's queue is bound to another thread; a new queue is not bound yet. The packets in
            // `receive` were not received: dropped here, they return to their lender.
            Ok(Err(Busy { send, .. })) => (send, RRef::new(Batch::new())),
            Err(error) => {
                log::debug!("{error}");
                self.device.count_crashed(offered);
                (RRef::new(Batch::new()), RRef::new(Batch::new()))
            }
            Ok(Ok(Exchanged { send, receive, .. })) => (send, receive),
        };
        // The client learns of the loss when there is a driver again, or when its wait ends.
        self.reconnect(wait_until_ns);
        self.give_back(send, receive)
    }

    /// Reconnects, and exchanges with the restarted driver if there is one in time.
    #[cold]
    #[inline(never)]
    fn exchange_after_reconnect(
        &mut self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> Exchanged {
        self.reconnect(wait_until_ns);
        if self.phase.is_healthy() {
            return self.exchange(send, receive, wait_until_ns);
        }
        self.give_back(send, receive)
    }

    /// Returns both batches unchanged.
    fn give_back(&self, send: RRef<Batch>, receive: RRef<Batch>) -> Exchanged {
        let state = match self.phase {
            Phase::Healthy(_) => QueueState::Running,
            Phase::Reconnecting { .. } | Phase::Resubmitting { .. } => QueueState::Recovering,
            Phase::GivenUp { .. } => QueueState::Gone,
        };
        Exchanged { send, receive, epoch: self.epoch, state }
    }

    /// Opens a queue of the driver, or of one that starts before the exchange's wait ends.
    fn reconnect(&mut self, wait_until_ns: u64) {
        let until = self.device.timeouts.wait_until(wait_until_ns, time::now());
        let error = match self.device.open(self.depth, until) {
            Ok(target) => {
                self.phase.reconnect(target, time::now());
                // The client submits its frames itself: nothing is resubmitted here.
                self.phase.finish();
                self.target_epoch = FIRST_EPOCH;
                return;
            }
            Err(error) => error,
        };
        let is_overdue = self.phase.overdue(time::now(), self.device.timeouts.recovery).is_some();
        if error == TargetError::OtherDevice || is_overdue {
            self.phase.give_up();
        }
        // A running driver refuses: sleep, so that a waiting client does not call in a loop.
        if !matches!(error, TargetError::Unavailable) {
            time::sleep_until(until);
        }
    }
}
