//! [`Queue`]: a queue of the disk, and a ledger of what was asked of it. A request that is answered twice, that nobody asked
//! for, or that is never answered does not go unnoticed.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_block::{Batch, BlockQueue, Request};
use coppice_experiment::Failure;
use coppice_interfaces::Handle;
use coppice_rref::{LentDeque, Loan, RRef};
use coppice_runtime::time;

use crate::stage::Stage;

/// A request that is not answered for so long is lost. Longer than the shadow waits for a next instance.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one exchange waits: short, as somebody may want to stop.
const WAIT: Duration = Duration::from_millis(5);
/// The lower bits of a tag are the request's place in the ledger.
const PLACE_BITS: u32 = 16;

/// A queue, for one thread.
pub(crate) struct Queue<'a> {
    stage: &'a Stage,
    queue: Handle<dyn BlockQueue>,
    /// What the next exchange carries.
    batch: Option<RRef<Batch>>,
    ledger: Vec<Option<Entry>>,
    under_way: usize,
    /// How many were ever submitted.
    serial: u64,
    answered: Duration,
}

struct Entry {
    tag: u64,
    claim: Loan<Request>,
}

/// An answer: the request's place, as it was submitted with, and the request.
pub(crate) type Answer = (usize, RRef<Request>);

impl<'a> Queue<'a> {
    /// A queue for `depth` requests at a time.
    pub(crate) fn open(stage: &'a Stage, depth: usize) -> Result<Self, Failure> {
        let queue = stage
            .device
            .open(depth as u32)?
            .map_err(|error| Failure(format!("a queue of {depth} requests is not opened: {error}")))?;
        Ok(Self {
            stage,
            queue,
            batch: Some(RRef::new(LentDeque::new())),
            ledger: (0..depth).map(|_| None).collect(),
            under_way: 0,
            serial: 0,
            answered: time::now(),
        })
    }

    /// Hands in a request with the next exchange, as number `place` of the queue's depth.
    ///
    /// # Panics
    /// When that place's last request is not answered.
    pub(crate) fn submit(&mut self, place: usize, mut request: RRef<Request>) {
        assert!(self.ledger[place].is_none(), "place {place} is taken");
        let tag = self.serial << PLACE_BITS | place as u64;
        self.serial += 1;
        request.head_mut().set_tag(tag);
        let (claim, lent) = request.lend();
        self.ledger[place] = Some(Entry { tag, claim });
        if self.under_way == 0 {
            self.answered = time::now();
        }
        self.under_way += 1;
        let batch = self.batch.as_mut().expect("it is there between exchanges");
        assert!(batch.push_back(lent).is_ok(), "a queue is no deeper than a batch");
    }

    /// Hands in what was submitted and takes answers in; if `wait`, waits a little for one.
    pub(crate) fn exchange(&mut self, wait: bool, answers: &mut Vec<Answer>) -> Result<(), Failure> {
        let until = if wait { time::now() + WAIT } else { Duration::ZERO };
        let batch = self.batch.take().expect("it is there between exchanges");
        let batch = match self.queue.exchange(batch, until.as_nanos() as u64) {
            Ok(Ok(batch)) => batch,
            Ok(Err(busy)) => return Err(Failure(format!("{busy:?}"))),
            Err(error) => return Err(Failure(format!("a client heard of a death: {error}"))),
        };
        let batch = self.batch.insert(batch);
        let now = time::now();
        while let Some(lent) = batch.pop_front() {
            let tag = lent.head().tag();
            let place = (tag & ((1 << PLACE_BITS) - 1)) as usize;
            let entry = self.ledger.get_mut(place).and_then(|entry| entry.take_if(|entry| entry.tag == tag));
            let Some(Entry { claim, .. }) = entry else {
                self.stage.twice.fetch_add(1, Ordering::Relaxed);
                return Err(Failure(format!("an answer that nobody waits for: {:?}", lent.head())));
            };
            self.under_way -= 1;
            let request = claim.settle(lent).map_err(|(_, lent)| {
                Failure(format!("an answer that is another request: {:?}", lent.head()))
            })?;
            request
                .head()
                .result()
                .map_err(|error| Failure(format!("{:?} failed: {error}", request.head())))?;
            self.stage.ios.fetch_add(1, Ordering::Relaxed);
            self.answered = now;
            answers.push((place, request));
        }
        if self.under_way > 0 && now > self.answered + PATIENCE {
            self.stage.lost.fetch_add(self.under_way as u64, Ordering::Relaxed);
            return Err(Failure(format!("{} requests are not answered for {PATIENCE:?}", self.under_way)));
        }
        Ok(())
    }

    /// Waits until all is answered, and hands each answer to `take`.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Answer)) -> Result<(), Failure> {
        let mut answers = Vec::new();
        while self.under_way > 0 {
            self.exchange(true, &mut answers)?;
            answers.drain(..).for_each(&mut take);
        }
        Ok(())
    }
}
