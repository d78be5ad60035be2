//! [`Requests`]: the requests of one queue of the shadow, each in the slot that the relay of its head names.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use coppice_block::{Batch, BlockError, Command, Request, RequestHead};
use coppice_block_client::{InFlightTable, Settled};
use coppice_rref::{Lent, RRef, Subloan};

/// The requests that clients have lent to the shadow and that it has not answered. Those in flight are lent
/// on to the driver; the others are held, to be submitted later.
pub(crate) struct Requests {
    table: InFlightTable<Subloan<Request>, Submission>,
    /// The number of requests that have come so far.
    count: u64,
}

/// The record of a request, from which it can be submitted again.
#[derive(Clone, Copy)]
pub(crate) struct Submission {
    /// The number of requests that came before.
    order: u64,
    /// The content of the head. A driver that crashes while it writes to the head leaves anything there.
    command: Command,
}

impl Requests {
    pub(crate) fn new(depth: usize) -> Self {
        let placeholder = Submission { order: 0, command: RequestHead::flush().command() };
        Self { table: InFlightTable::new(depth, placeholder), count: 0 }
    }

    /// The maximum number of requests.
    pub(crate) fn depth(&self) -> usize {
        self.table.depth()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The number of requests that the driver has.
    pub(crate) fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    /// Lends all requests of `batch` on, where they are. Returns false if one of them cannot be lent on, or
    /// if there are more than free slots: then none is.
    #[inline(always)]
    pub(crate) fn submit_all(&mut self, batch: &mut RRef<Batch>) -> bool {
        let (len, first) = (batch.len(), self.count);
        let lend = |index: usize, number: u32| {
            let subloan = batch.lend_at(index)?;
            let request = batch.get_mut(index)?;
            request.set_relay(number.into());
            Some((subloan, Submission { order: first + index as u64, command: request.command() }))
        };
        if let Err(lent) = self.table.insert_all(len, lend) {
            self.table.undo_insert(lent, |index, subloan| {
                let settled = batch.settle_at(index, subloan);
                debug_assert!(settled.is_ok(), "it was lent on a moment ago");
            });
            return false;
        }
        self.count += len as u64;
        true
    }

    /// Settles the answered requests in `batch`, where they are. Returns their number, counted from the front
    /// up to the first request that is not answered or whose relay the driver has changed.
    #[inline(always)]
    pub(crate) fn settle_all(&mut self, batch: &mut RRef<Batch>) -> usize {
        let len = batch.len();
        for index in 0..len {
            let Some(request) = batch.get(index).filter(|request| !request.is_pending()) else {
                return index;
            };
            let number = request.relay();
            if !self.table.settle_with(number, |subloan| batch.settle_at(index, subloan)) {
                return index;
            }
        }
        len
    }

    fn next_submission(&mut self, request: &Lent<Request>) -> Submission {
        self.count += 1;
        Submission { order: self.count - 1, command: request.command() }
    }

    /// Lends a request on.
    ///
    /// # Errors
    /// The request, if no slot is free, or if it cannot be lent on because its lender has borrowed it too.
    pub(crate) fn submit(&mut self, request: Lent<Request>) -> Result<Lent<Request>, Lent<Request>> {
        if self.table.is_full() {
            return Err(request);
        }
        let (subloan, request) = request.lend()?;
        let submission = self.next_submission(&request);
        Ok(self.enter(subloan, request, submission))
    }

    /// Enters a request that is lent on into a slot, of which one is free.
    fn enter(
        &mut self,
        subloan: Subloan<Request>,
        mut request: Lent<Request>,
        submission: Submission,
    ) -> Lent<Request> {
        let Ok(number) = self.table.insert(subloan, submission) else { unreachable!("a slot is free") };
        request.head_mut().set_relay(number.into());
        request
    }

    /// Holds a request, to be submitted later. Returns its slot.
    ///
    /// # Errors
    /// The request, if no slot is free.
    pub(crate) fn hold(&mut self, request: Lent<Request>) -> Result<u32, Lent<Request>> {
        if self.table.is_full() {
            return Err(request);
        }
        let submission = self.next_submission(&request);
        self.table.hold(request, submission)
    }

    /// Lends a held request on, with the head that it had when it came. `None` if the slot holds none.
    ///
    /// # Errors
    /// As [`Self::submit`]; its slot is then free.
    pub(crate) fn resubmit(&mut self, number: u32) -> Option<Result<Lent<Request>, Lent<Request>>> {
        let (request, submission) = self.table.take_held(number)?;
        Some(request.lend().map(|(subloan, mut request)| {
            request.head_mut().restore(submission.command);
            self.enter(subloan, request, submission)
        }))
    }

    /// Settles a request that the driver has returned. `None` if it is none of this queue: it is dropped, and
    /// returns to its lender.
    pub(crate) fn settle(&mut self, request: Lent<Request>) -> Option<Settled<Lent<Request>, Submission>> {
        let number = request.relay();
        let foreign = |request: Lent<Request>| {
            log::warn!("the driver returns a request that it was not given: {:?}", request.head());
        };
        self.table.settle(number, request).map_err(foreign).ok()
    }

    /// Holds a request again that was settled without an answer.
    pub(crate) fn put_back(&mut self, settled: Settled<Lent<Request>, Submission>) {
        let held = self.table.hold(settled.request, settled.context);
        debug_assert!(held.is_ok(), "its slot was freed a moment ago");
    }

    /// Returns true if the request in a slot is a flush.
    pub(crate) fn is_flush(&self, number: u32) -> bool {
        self.table.context(number).command.is_flush()
    }

    /// Collects the requests that a lost driver's queue had. Returns true if all of them are back.
    pub(crate) fn redeem(&mut self) -> bool {
        self.table.redeem()
    }

    /// Appends the slots of the held requests to `backlog`, in the order in which the requests came.
    pub(crate) fn queue_held(&self, backlog: &mut VecDeque<u32>) {
        let mut held: Vec<_> =
            self.table.held().map(|(number, submission)| (submission.order, number)).collect();
        held.sort_unstable();
        backlog.extend(held.into_iter().map(|(_, number)| number));
    }

    /// Takes all held requests out, with the heads that they had when they came.
    pub(crate) fn take_held(&mut self, mut visit: impl FnMut(Lent<Request>)) {
        for number in 0..self.depth() as u32 {
            if let Some((mut request, submission)) = self.table.take_held(number) {
                request.head_mut().restore(submission.command);
                visit(request);
            }
        }
    }

    /// Fails a request that was not accepted by [`Self::submit`], [`Self::hold`] or [`Self::resubmit`].
    #[cold]
    #[inline(never)]
    pub(crate) fn refuse(&self, mut request: Lent<Request>) -> Lent<Request> {
        request.head_mut().answer(Err(if self.table.is_full() {
            BlockError::QueueFull { depth: self.depth() as u32 }
        } else {
            // The client has borrowed it from another domain: a request can be lent on once, and that is
            // done.
            BlockError::Aborted { status: 0 }
        }));
        request
    }
}
