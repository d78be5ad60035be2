//! [`Queue`]: one queue of the shadow, while all is well.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use coppice_block::{Batch, BlockError, BlockQueue, Busy, Request};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;

use crate::disk::Disk;
use crate::recovery::Outage;
use crate::slots::Slots;

/// What a client gets for a queue.
pub(crate) struct Queue(ThreadBound<State>);

/// One thread's requests and the driver's queue for them.
pub(crate) struct State {
    pub(crate) disk: Arc<Disk>,
    /// The driver's; `None` while there is none.
    pub(crate) target: Option<Handle<dyn BlockQueue>>,
    pub(crate) slots: Slots,
    /// Slots to be submitted, in this order, before anything newer.
    pub(crate) backlog: VecDeque<u32>,
    /// Answers that the client has not got.
    pub(crate) answers: VecDeque<Lent<Request>>,
    /// Since when nothing was answered, if something is wrong.
    pub(crate) outage: Option<Outage>,
}

impl Queue {
    pub(crate) fn new(disk: Arc<Disk>, target: Handle<dyn BlockQueue>, depth: u32) -> Self {
        let depth = depth as usize;
        Self(ThreadBound::new(State {
            disk,
            target: Some(target),
            slots: Slots::new(depth),
            backlog: VecDeque::with_capacity(depth),
            answers: VecDeque::with_capacity(depth),
            outage: None,
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
        if self.outage.is_some() {
            return self.queue_up(batch, wait_until_ns);
        }
        let Some(target) = &self.target else {
            self.begin_outage();
            return self.queue_up(batch, wait_until_ns);
        };
        if !self.slots.submit_all(&mut batch) {
            submit_one_by_one(&mut self.slots, &mut self.answers, &mut batch);
        }
        if self.slots.is_empty() {
            // Nothing to wait for.
            return self.fill(batch);
        }
        // Who has an answer already need not wait for the next.
        let wait_until_ns = if self.answers.is_empty() { wait_until_ns } else { 0 };
        match target.exchange(batch, wait_until_ns) {
            Ok(Ok(mut batch)) => {
                self.take_in(&mut batch);
                if self.outage.is_some()
                    || !self.answers.is_empty()
                    || (batch.is_empty() && wait_until_ns > 0)
                {
                    return self.wait_for_answers(batch, wait_until_ns);
                }
                batch
            }
            answer => {
                let batch = self.lose(answer);
                self.wait_for_answers(batch, wait_until_ns)
            }
        }
    }

    /// Makes answers of what the driver has put into `batch`.
    #[inline(always)]
    pub(crate) fn take_in(&mut self, batch: &mut RRef<Batch>) {
        let good = self.slots.settle_all(batch);
        if good < batch.len() {
            self.take_in_after(good, batch);
        }
    }

    /// As [`Self::take_in`], when the first `good` answers are settled and the next one is strange.
    #[cold]
    #[inline(never)]
    fn take_in_after(&mut self, good: usize, batch: &mut RRef<Batch>) {
        for index in 0..batch.len() {
            let Some(request) = batch.pop_front() else { break };
            if index < good {
                push(batch, request);
                continue;
            }
            let Some((number, request)) = self.slots.settle(request) else { continue };
            if request.is_pending() {
                self.fault(number, request);
            } else {
                self.slots.release(number);
                push(batch, request);
            }
        }
    }

    /// A driver that gives a request back without an answer is broken: nothing that it has is worth waiting for.
    fn fault(&mut self, number: u32, request: Lent<Request>) {
        log::warn!("the driver gives a request back without an answer: {:?}", request.head());
        self.slots.put_back(number, request);
        self.begin_outage();
    }

    /// Fills what is free of `batch` with answers.
    pub(crate) fn fill(&mut self, mut batch: RRef<Batch>) -> RRef<Batch> {
        while !batch.is_full() {
            let Some(request) = self.answers.pop_front() else { break };
            push(&mut batch, request);
        }
        batch
    }
}

/// Lends on what can be lent on of `batch`; all else is answered.
#[cold]
#[inline(never)]
fn submit_one_by_one(slots: &mut Slots, answers: &mut VecDeque<Lent<Request>>, batch: &mut RRef<Batch>) {
    for _ in 0..batch.len() {
        let Some(request) = batch.pop_front() else { break };
        match slots.submit(request) {
            Ok(request) => push(batch, request),
            Err(request) => answers.push_back(refused(request, slots)),
        }
    }
}

/// Answers a request that there is no slot for, or that cannot be lent on.
#[cold]
#[inline(never)]
pub(crate) fn refused(mut request: Lent<Request>, slots: &Slots) -> Lent<Request> {
    request.head_mut().answer(Err(if slots.is_full() {
        BlockError::QueueFull { depth: slots.depth() as u32 }
    } else {
        // Lent to our client by another one: it may be lent on once, and that is done.
        BlockError::Aborted { status: 0 }
    }));
    request
}

/// Appends to a batch that has room: as many came out of it, or it was looked at.
#[inline(always)]
pub(crate) fn push(batch: &mut RRef<Batch>, request: Lent<Request>) {
    let fits = batch.push_back(request).is_ok();
    debug_assert!(fits, "a batch holds as many as came out of it");
}
