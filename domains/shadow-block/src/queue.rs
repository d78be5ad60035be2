//! [`Queue`]: one queue of the shadow.
//!
//! # The healthy path
//! [`State::exchange`] lends the requests of a batch on, passes the batch to the driver's queue, and settles
//! the answers.
//!
//! # Recovery
//! An outage begins when a call to the driver's queue fails, or returns a request without an answer.
//! [`Phase`] is the state of the queue then. Recovery proceeds in small steps, so that no exchange takes
//! longer than its client wants to wait:
//!
//! 1. *Reconnecting*: all requests of the driver come back. The loans of a crashed driver are redeemable
//!    before its restart; a running one returns the requests of a queue when that is dropped. Then a queue of
//!    the restarted driver is opened, if that has the same disk.
//! 2. *Resubmitting*: all requests are submitted again in the order in which they came. A flush is submitted
//!    only when all requests before it are answered: a write whose answer was lost in the crash is repeated
//!    before the flush.
//! 3. *Healthy* again, when all are submitted and one is answered.
//!
//! A driver that crashes during recovery leads back to step 1. If no request is answered for the recovery
//! timeout, the queue is *given up*: all requests fail. Later ones are tried once and fail as well, until
//! there is a driver again.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::time::Duration;

use coppice_block::{Batch, BlockError, BlockQueue, Busy, Request};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;
use coppice_shadow_queue::{Phase, nanoseconds};

use crate::disk::{Disk, NoQueue};
use crate::requests::Requests;

/// The pause before another look at requests that a driver is about to return, and before another attempt to
/// reconnect.
const RETRY_DELAY: Duration = Duration::from_micros(20);

/// The object that a client opens.
pub(crate) struct Queue(ThreadBound<State>);

/// The state of a queue; it belongs to one thread.
struct State {
    disk: Arc<Disk>,
    phase: Phase<Handle<dyn BlockQueue>>,
    requests: Requests,
    /// Slots of held requests, to be submitted in this order.
    backlog: VecDeque<u32>,
    /// Answered requests for the client.
    answers: VecDeque<Lent<Request>>,
}

impl Queue {
    pub(crate) fn new(disk: Arc<Disk>, target: Handle<dyn BlockQueue>, depth: u32) -> Self {
        let depth = depth as usize;
        Self(ThreadBound::new(State {
            disk,
            phase: Phase::Healthy(target),
            requests: Requests::new(depth),
            backlog: VecDeque::with_capacity(depth),
            answers: VecDeque::with_capacity(depth),
        }))
    }
}

impl BlockQueue for Queue {
    fn exchange(&self, batch: RRef<Batch>, wait_until_ns: u64) -> RpcResult<Result<RRef<Batch>, Busy>> {
        let Ok(mut state) = self.0.enter() else { return Ok(Err(Busy { batch })) };
        Ok(Ok(state.exchange(batch, wait_until_ns)))
    }
}

impl State {
    #[inline(always)]
    fn exchange(&mut self, mut batch: RRef<Batch>, wait_until_ns: u64) -> RRef<Batch> {
        let Phase::Healthy(target) = &self.phase else { return self.queue_up(batch, wait_until_ns) };
        if !self.requests.submit_all(&mut batch) {
            submit_one_by_one(&mut self.requests, &mut self.answers, &mut batch);
        }
        if self.requests.is_empty() {
            // No request is in flight, so the driver would not wait either.
            return self.fill(batch);
        }
        // A client that gets an answer in any case does not wait for another one.
        let wait_until_ns = if self.answers.is_empty() { wait_until_ns } else { 0 };
        match target.exchange(batch, wait_until_ns) {
            Ok(Ok(mut batch)) => {
                self.settle(&mut batch);
                if !self.phase.is_healthy()
                    || !self.answers.is_empty()
                    || (batch.is_empty() && wait_until_ns > 0)
                {
                    return self.wait_for_answers(batch, wait_until_ns);
                }
                batch
            }
            result => {
                let batch = self.lose(result);
                self.wait_for_answers(batch, wait_until_ns)
            }
        }
    }

    /// Settles the driver's answers in `batch`. Requests that are not answered, or not this queue's, are
    /// removed from it.
    #[inline(always)]
    fn settle(&mut self, batch: &mut RRef<Batch>) {
        let settled = self.requests.settle_all(batch);
        if settled < batch.len() {
            self.settle_one_by_one(settled, batch);
        }
    }

    /// Settles the requests in `batch` behind the first `settled` ones. The next one is irregular.
    #[cold]
    #[inline(never)]
    fn settle_one_by_one(&mut self, settled: usize, batch: &mut RRef<Batch>) {
        for index in 0..batch.len() {
            let Some(request) = batch.pop_front() else { break };
            if index < settled {
                push(batch, request);
                continue;
            }
            let Some(settled) = self.requests.settle(request) else { continue };
            if settled.request.is_pending() {
                // A driver that returns a request without an answer is broken; do not wait for its other
                // answers.
                log::warn!("the driver returns a request without an answer: {:?}", settled.request.head());
                self.requests.put_back(settled);
                self.phase.lose(time::now());
            } else {
                push(batch, settled.request);
            }
        }
    }

    /// Moves completed requests into the free part of `batch`.
    fn fill(&mut self, mut batch: RRef<Batch>) -> RRef<Batch> {
        while !batch.is_full() {
            let Some(request) = self.answers.pop_front() else { break };
            push(&mut batch, request);
        }
        batch
    }

    /// Begins an outage after an exchange that the driver has refused, or that failed. Returns the batch, or
    /// a new one.
    #[cold]
    #[inline(never)]
    fn lose(&mut self, result: RpcResult<Result<RRef<Batch>, Busy>>) -> RRef<Batch> {
        let batch = match result {
            Ok(Ok(batch)) => batch,
            // The driver's queue is bound to another thread; a new queue is not bound yet.
            Ok(Err(Busy { mut batch })) => {
                while let Some(request) = batch.pop_front() {
                    if let Some(settled) = self.requests.settle(request) {
                        self.requests.put_back(settled);
                    }
                }
                batch
            }
            Err(error) => {
                log::debug!("{error}: {} requests are in flight", self.requests.in_flight());
                RRef::new(Batch::new())
            }
        };
        self.phase.lose(time::now());
        batch
    }

    /// The exchange during an outage: the requests of the batch join the backlog.
    #[cold]
    #[inline(never)]
    fn queue_up(&mut self, mut batch: RRef<Batch>, wait_until_ns: u64) -> RRef<Batch> {
        while let Some(request) = batch.pop_front() {
            match self.requests.hold(request) {
                Ok(number) => self.backlog.push_back(number),
                Err(request) => self.answers.push_back(self.requests.refuse(request)),
            }
        }
        self.wait_for_answers(batch, wait_until_ns)
    }

    /// Returns `batch`, which holds answers only, with more answers if there are any. If it would be empty,
    /// proceeds with the recovery and waits for an answer, until `wait_until_ns`.
    #[cold]
    #[inline(never)]
    fn wait_for_answers(&mut self, batch: RRef<Batch>, wait_until_ns: u64) -> RRef<Batch> {
        let mut now = time::now();
        let timeouts = self.disk.timeouts;
        let until = timeouts.wait_until(wait_until_ns, now);
        let mut batch = self.fill(batch);
        while batch.is_empty() && !self.requests.is_empty() {
            if self.phase.queue().is_some() || self.reconnect(until) {
                batch = self.resubmit(batch, until);
            }
            now = time::now();
            if let Some(waited) = self.phase.overdue(now, timeouts.recovery) {
                self.give_up(waited);
            }
            batch = self.fill(batch);
            if now >= until {
                break;
            }
        }
        batch
    }

    /// Collects the requests of the lost queue, opens a queue of the restarted driver, and puts all requests
    /// into the backlog. Returns false if that is not done at `until`.
    fn reconnect(&mut self, until: Duration) -> bool {
        while !self.requests.redeem() {
            if time::now() >= until {
                return false;
            }
            time::sleep(RETRY_DELAY);
        }
        match self.disk.open(self.requests.depth() as u32, until) {
            Ok(target) => {
                self.phase.reconnect(target, time::now());
                self.backlog.clear();
                self.requests.queue_held(&mut self.backlog);
                return true;
            }
            Err(NoQueue::OtherDisk) => self.phase.give_up(),
            Err(NoQueue::Refused(error)) => {
                log::debug!("{error}");
                time::sleep_until(until.min(time::now() + RETRY_DELAY));
            }
            // Usually `until` has passed; it may not have if the call failed for lack of stack.
            Err(NoQueue::NoDriver(_)) => time::sleep_until(until.min(time::now() + RETRY_DELAY)),
        }
        false
    }

    /// Submits requests of the backlog, and settles completed ones. `batch` is empty.
    fn resubmit(&mut self, mut batch: RRef<Batch>, until: Duration) -> RRef<Batch> {
        while let Some(&number) = self.backlog.front() {
            let must_wait = self.requests.is_flush(number) && self.requests.in_flight() > 0;
            if batch.is_full() || must_wait {
                break;
            }
            self.backlog.pop_front();
            match self.requests.resubmit(number) {
                Some(Ok(request)) => push(&mut batch, request),
                Some(Err(request)) => self.answers.push_back(self.requests.refuse(request)),
                None => {}
            }
        }
        let Some(target) = self.phase.queue() else { return batch };
        match target.exchange(batch, nanoseconds(until)) {
            Ok(Ok(mut batch)) => {
                self.settle(&mut batch);
                if !batch.is_empty() {
                    self.phase.record_answer(time::now());
                }
                if self.backlog.is_empty() && (self.phase.has_answered() || self.requests.is_empty()) {
                    self.phase.finish();
                }
                batch
            }
            result => self.lose(result),
        }
    }

    /// Fails all held requests. Requests of a driver that neither answers nor crashes come back when it does.
    fn give_up(&mut self, waited: Duration) {
        self.requests.redeem();
        let error = BlockError::Gone { waited_ns: nanoseconds(waited) };
        let answers = &mut self.answers;
        self.requests.take_held(|mut request| {
            request.head_mut().answer(Err(error));
            answers.push_back(request);
        });
        self.backlog.clear();
        self.phase.give_up();
    }
}

/// Lends the requests of `batch` on, one by one; those that cannot be lent on are answered.
#[cold]
#[inline(never)]
fn submit_one_by_one(
    requests: &mut Requests,
    answers: &mut VecDeque<Lent<Request>>,
    batch: &mut RRef<Batch>,
) {
    for _ in 0..batch.len() {
        let Some(request) = batch.pop_front() else { break };
        match requests.submit(request) {
            Ok(request) => push(batch, request),
            Err(request) => answers.push_back(requests.refuse(request)),
        }
    }
}

/// Appends to a batch that is known to have room.
#[inline(always)]
fn push(batch: &mut RRef<Batch>, request: Lent<Request>) {
    let fits = batch.push_back(request).is_ok();
    debug_assert!(fits, "the batch has room: it was checked, or a request was removed before");
}
