//! [`Queue`]: a queue of the disk with a table of the requests in flight. It detects a request that completes
//! twice, one that was never submitted, and one that never completes.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_block::{Batch, BlockQueue, Request};
use coppice_block_client::InFlightTable;
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_rref::{LentDeque, Loan, RRef};
use coppice_runtime::time;

use crate::context::Context;

/// The time after which an incomplete request counts as lost. Longer than the shadow's `recovery-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The time that one exchange waits: short, so that its thread notices the end of the run.
const EXCHANGE_WAIT: Duration = Duration::from_millis(5);
/// The lower bits of a tag are the request's number in the in-flight table; the bits above are a serial
/// number.
const NUMBER_BITS: u32 = 16;

/// A queue of the disk, for one thread.
pub(crate) struct Queue<'a> {
    context: &'a Context,
    queue: Handle<dyn BlockQueue>,
    /// The requests to submit with the next exchange.
    batch: Option<RRef<Batch>>,
    in_flight: InFlightTable<Loan<Request>, Submission>,
    /// The number of requests ever submitted.
    serial: u64,
    /// The time of the last completion, or of the first submission after the queue was empty.
    last_progress: Duration,
}

/// The parts of a submission that its completion must match.
#[derive(Clone, Copy, Default)]
struct Submission {
    serial: u64,
    /// The client's name for the request.
    slot: usize,
}

/// A completed request and the slot that it was submitted with.
pub(crate) type Completion = (usize, RRef<Request>);

impl<'a> Queue<'a> {
    /// Opens a queue for `depth` requests in flight.
    ///
    /// # Errors
    /// When the shadow or the driver refuses to open a queue.
    pub(crate) fn open(context: &'a Context, depth: usize) -> Result<Self, Failure> {
        let queue = context
            .device
            .open(depth as u32)?
            .map_err(|error| Failure(format!("cannot open a queue of {depth} requests: {error}")))?;
        Ok(Self {
            context,
            queue,
            batch: Some(RRef::new(LentDeque::new())),
            in_flight: InFlightTable::new(depth, Submission::default()),
            serial: 0,
            last_progress: time::now(),
        })
    }

    /// Submits a request with the next exchange. Its completion names `slot`.
    ///
    /// # Panics
    /// If the queue is full.
    pub(crate) fn submit(&mut self, slot: usize, request: RRef<Request>) {
        if self.in_flight.is_empty() {
            self.last_progress = time::now();
        }
        let (loan, mut lent) = request.lend();
        let submission = Submission { serial: self.serial, slot };
        let Ok(number) = self.in_flight.insert(loan, submission) else { panic!("the queue is full") };
        lent.head_mut().set_tag(self.serial << NUMBER_BITS | u64::from(number));
        self.serial += 1;
        let batch = self.batch.as_mut().expect("the queue holds its batch between exchanges");
        assert!(batch.push_back(lent).is_ok(), "a queue is no deeper than a batch");
    }

    /// Submits the batch and appends the completed requests to `completions`. With `wait`, waits up to
    /// [`EXCHANGE_WAIT`] for one.
    ///
    /// # Errors
    /// When a crash becomes visible through the shadow, a completion matches no request in flight, a request
    /// fails, or none completes within [`REQUEST_TIMEOUT`].
    pub(crate) fn exchange(&mut self, wait: bool, completions: &mut Vec<Completion>) -> Result<(), Failure> {
        let until = if wait { time::now() + EXCHANGE_WAIT } else { Duration::ZERO };
        let batch = self.batch.take().expect("the queue holds its batch between exchanges");
        let batch = match self.queue.exchange(batch, until.as_nanos() as u64) {
            Ok(Ok(batch)) => batch,
            Ok(Err(busy)) => return Err(Failure(format!("{busy:?}"))),
            Err(error) => return Err(Failure(format!("a crash was visible to a client: {error}"))),
        };
        let batch = self.batch.insert(batch);
        let now = time::now();
        while let Some(lent) = batch.pop_front() {
            let tag = lent.head().tag();
            let settled = self.in_flight.settle(tag & ((1 << NUMBER_BITS) - 1), lent).map_err(|lent| {
                self.context.completed_twice.fetch_add(1, Ordering::Relaxed);
                Failure(format!("a completion of a request that is not in flight: {:?}", lent.head()))
            })?;
            let (request, Submission { serial, slot }) = (settled.request, settled.context);
            if tag != serial << NUMBER_BITS | u64::from(settled.number) {
                return Err(Failure(format!("a completion with the wrong tag: {:?}", request.head())));
            }
            request
                .head()
                .result()
                .map_err(|error| Failure(format!("{:?} failed: {error}", request.head())))?;
            self.context.ios.fetch_add(1, Ordering::Relaxed);
            self.last_progress = now;
            completions.push((slot, request));
        }
        let missing = self.in_flight.in_flight();
        if missing > 0 && now > self.last_progress + REQUEST_TIMEOUT {
            self.context.lost_requests.fetch_add(missing as u64, Ordering::Relaxed);
            return Err(Failure(format!("{missing} requests did not complete within {REQUEST_TIMEOUT:?}")));
        }
        Ok(())
    }

    /// Waits until no request is in flight, and passes each completion to `take`.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Completion)) -> Result<(), Failure> {
        let mut completions = Vec::new();
        while self.in_flight.in_flight() > 0 {
            self.exchange(true, &mut completions)?;
            completions.drain(..).for_each(&mut take);
        }
        Ok(())
    }
}
