//! [`QueueClient`]: the queue of one thread, and its requests.

use alloc::vec::Vec;
use core::mem;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_block::{Batch, BlockQueue, Busy, Request, RequestHead};
use coppice_interfaces::Handle;
use coppice_rref::{Lent, Loan, RRef};
use coppice_runtime::time;

use crate::load::{LoadError, Shared};
use crate::writer::{Completion, Writer};

/// The time that one exchange waits for an answer: long enough to sleep, short enough to notice the end of
/// the load.
const WAIT: Duration = Duration::from_millis(5);

/// The interval at which the requests of a dead domain and the opening of a new queue are polled.
const POLL_INTERVAL: Duration = Duration::from_micros(200);

/// A slot for a request.
enum RequestSlot {
    /// No request is allocated yet, or it was lost.
    Empty,
    Idle(RRef<Request>),
    InFlight(Loan<Request>),
}

/// The queue of one thread.
pub(crate) struct QueueClient<'a> {
    shared: &'a Shared,
    queue: Handle<dyn BlockQueue>,
    writer: Writer,
    slots: Vec<RequestSlot>,
    batch: Option<RRef<Batch>>,
}

impl<'a> QueueClient<'a> {
    pub(crate) fn open(shared: &'a Shared, writer: Writer) -> Result<Self, LoadError> {
        let queue = shared.disk.open(writer.depth() as u32)??;
        let slots = (0..writer.depth()).map(|_| RequestSlot::Empty).collect();
        Ok(Self { shared, queue, writer, slots, batch: None })
    }

    /// Returns true if no more requests should be submitted. A proof is not stopped.
    fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed) && self.writer.is_stoppable()
    }

    pub(crate) fn run(mut self) -> Result<(), LoadError> {
        let pause = self.shared.state.options.pause;
        loop {
            let batch = self.fill();
            if batch.is_empty() && self.writer.is_idle() {
                return Ok(());
            }
            let until = u64::try_from((time::now() + WAIT).as_nanos()).unwrap_or(u64::MAX);
            match self.queue.exchange(batch, until) {
                Ok(Ok(mut batch)) => {
                    while let Some(lent) = batch.pop_front() {
                        self.take(lent);
                    }
                    self.batch = Some(batch);
                    self.take_lost();
                }
                Ok(Err(Busy { batch })) => {
                    drop(batch);
                    self.wait_for_all();
                    return Err(LoadError::Busy);
                }
                Err(_) => self.reopen()?,
            }
            if pause > Duration::ZERO {
                time::sleep(pause);
            }
        }
    }

    /// Returns a batch with a request from each idle slot.
    fn fill(&mut self) -> RRef<Batch> {
        let mut batch = self.batch.take().unwrap_or_else(|| RRef::new(Batch::new()));
        if self.is_stopped() {
            return batch;
        }
        let now = time::now();
        for index in 0..self.slots.len() {
            if batch.is_full() {
                break;
            }
            let mut request = match mem::replace(&mut self.slots[index], RequestSlot::Empty) {
                RequestSlot::Idle(request) => request,
                RequestSlot::Empty => RRef::with_capacity(RequestHead::flush(), self.writer.capacity()),
                in_flight @ RequestSlot::InFlight(_) => {
                    self.slots[index] = in_flight;
                    continue;
                }
            };
            let Some(head) = self.writer.next_request(index, now, request.bytes_mut()) else {
                self.slots[index] = RequestSlot::Idle(request);
                break;
            };
            *request.head_mut() = head;
            let (loan, lent) = request.lend();
            self.slots[index] = RequestSlot::InFlight(loan);
            if batch.push_back(lent).is_err() {
                unreachable!("the batch was not full");
            }
        }
        batch
    }

    /// Handles a returned request.
    fn take(&mut self, lent: Lent<Request>) {
        // The slot that lent the request identifies it, even if its head was changed.
        let index = self.writer.index_of(lent.head());
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else {
            self.writer.take(lent.head(), &[]);
            return;
        };
        let loan = match mem::replace(slot, RequestSlot::Empty) {
            RequestSlot::InFlight(loan) => loan,
            other => {
                *slot = other;
                self.writer.take(lent.head(), &[]);
                return;
            }
        };
        match loan.settle(lent) {
            Ok(request) => {
                // The request is back, even if its head is wrong: it will not complete any other way.
                if self.writer.take(request.head(), request.bytes()) == Completion::Stray
                    && let Some(index) = index
                {
                    self.writer.lose(index);
                }
                *slot = RequestSlot::Idle(request);
            }
            Err((loan, lent)) => {
                *slot = RequestSlot::InFlight(loan);
                self.shared.state.tally.unknown.add(1);
                drop(lent);
            }
        }
    }

    /// Counts requests as lost that came back without an answer or took longer than the timeout.
    fn take_lost(&mut self) {
        let timeout = self.shared.state.options.timeout;
        let before = time::now().saturating_sub(timeout);
        for index in 0..self.slots.len() {
            let is_back = matches!(&self.slots[index], RequestSlot::InFlight(loan) if loan.is_back());
            if !is_back && !self.writer.is_older(index, before) {
                continue;
            }
            self.writer.lose(index);
            // Dropping a loan leaves the object to its borrower.
            if let RequestSlot::InFlight(loan) = mem::replace(&mut self.slots[index], RequestSlot::Empty) {
                match loan.redeem() {
                    Ok(request) => log::error!("request returned without an answer: {:?}", request.head()),
                    Err(_) => log::error!("request {index} not answered within {timeout:?}"),
                }
            }
        }
    }

    /// Opens a new queue after a crash of the queue's domain. Its requests come back; whether they took
    /// effect is unknown.
    fn reopen(&mut self) -> Result<(), LoadError> {
        self.shared.state.tally.interruptions.add(1);
        self.wait_for_all();
        let deadline = time::now() + self.shared.state.options.timeout;
        loop {
            match self.shared.disk.open(self.slots.len() as u32) {
                Ok(Ok(queue)) => {
                    self.queue = queue;
                    return Ok(());
                }
                Ok(Err(error)) if time::now() > deadline => return Err(error.into()),
                Err(error) if time::now() > deadline => return Err(error.into()),
                _ => time::sleep(POLL_INTERVAL),
            }
        }
    }

    /// Waits until the requests in flight are back, up to the timeout. Until then, a write may still happen.
    fn wait_for_all(&mut self) {
        let deadline = time::now() + self.shared.state.options.timeout;
        for index in 0..self.slots.len() {
            let mut slot = mem::replace(&mut self.slots[index], RequestSlot::Empty);
            while let RequestSlot::InFlight(loan) = slot {
                slot = match loan.redeem() {
                    Ok(request) => {
                        self.writer.give_up(index);
                        RequestSlot::Idle(request)
                    }
                    Err(_) if time::now() > deadline => {
                        self.writer.lose(index);
                        RequestSlot::Empty
                    }
                    Err(loan) => {
                        time::sleep(POLL_INTERVAL);
                        RequestSlot::InFlight(loan)
                    }
                };
            }
            self.slots[index] = slot;
        }
    }
}
