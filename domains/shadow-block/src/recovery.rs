//! What a queue of the shadow does when the driver's is lost, until all is well again.
//!
//! An outage begins when a call to the driver's queue does not come back, or brings a request without an answer. From then
//! on, in small steps, so that no exchange takes longer than its caller wants to wait:
//!
//! 1. Everything that the driver had comes back. A dead driver's loans are redeemable before its next instance begins; one that lives
//!    gives back what its queue held when that is dropped.
//! 2. A queue of the next instance's is opened, if that has the same disk.
//! 3. All requests are submitted again in the order in which they came, but a flush only when all before it have been answered:
//!    a write that was answered by the last instance, with an answer that nobody has heard, is done again before it.
//! 4. When all are submitted and one has been answered, the outage is over.
//!
//! A driver that dies meanwhile begins it anew at the first step. If nothing is answered for as long as patience lasts, all requests
//! are given back; later ones are tried once and given back as well, until there is a driver again.

use core::time::Duration;

use coppice_block::{Batch, BlockError, Busy};
use coppice_interfaces::RpcResult;
use coppice_rref::RRef;
use coppice_runtime::time;

use crate::disk::{NoQueue, nanoseconds};
use crate::queue::{State, push, refused};

/// How long to leave alone a driver that is about to give something back.
const SETTLE: Duration = Duration::from_micros(20);

/// Something is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// Nothing has been answered since.
    since: Duration,
    /// Something has been answered, by a later instance.
    is_answered: bool,
    /// Patience is over, or it is another disk.
    is_given_up: bool,
}

impl State {
    /// The driver's queue is of no use any more.
    pub(crate) fn begin_outage(&mut self) {
        self.target = None;
        let first = Outage { since: time::now(), is_answered: false, is_given_up: false };
        self.outage.get_or_insert(first).is_answered = false;
    }

    /// What becomes of a batch that the driver did not take, or not give back.
    #[cold]
    #[inline(never)]
    pub(crate) fn lose(&mut self, answer: RpcResult<Result<RRef<Batch>, Busy>>) -> RRef<Batch> {
        let batch = match answer {
            Ok(Ok(batch)) => batch,
            // It takes this thread for another one; a new queue has none yet.
            Ok(Err(Busy { mut batch })) => {
                while let Some(request) = batch.pop_front() {
                    if let Some((number, request)) = self.slots.settle(request) {
                        self.slots.put_back(number, request);
                    }
                }
                batch
            }
            Err(error) => {
                log::debug!("{error}: {} requests under way", self.slots.away());
                RRef::new(Batch::new())
            }
        };
        self.begin_outage();
        batch
    }

    /// An exchange when not all is well: what comes waits for its turn.
    #[cold]
    #[inline(never)]
    pub(crate) fn queue_up(&mut self, mut batch: RRef<Batch>, wait_until_ns: u64) -> RRef<Batch> {
        while let Some(request) = batch.pop_front() {
            match self.slots.keep(request) {
                Ok(number) => self.backlog.push_back(number),
                Err(request) => self.answers.push_back(refused(request, &self.slots)),
            }
        }
        self.wait_for_answers(batch, wait_until_ns)
    }

    /// Has answers in `batch`, which holds nothing else, or nothing; if need be and there is time, after a recovery.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait_for_answers(&mut self, batch: RRef<Batch>, wait_until_ns: u64) -> RRef<Batch> {
        let mut now = time::now();
        let until = Duration::from_nanos(wait_until_ns).min(now.saturating_add(self.disk.most_wait));
        let mut batch = self.fill(batch);
        while batch.is_empty() && !self.slots.is_empty() {
            if self.target.is_some() || self.reconnect(until) {
                batch = self.pump(batch, until);
            }
            now = time::now();
            if let Some(Outage { since, is_given_up, .. }) = self.outage
                && self.target.is_none()
                && (is_given_up || now.saturating_sub(since) >= self.disk.patience)
            {
                self.give_up(now.saturating_sub(since));
            }
            batch = self.fill(batch);
            if now >= until {
                break;
            }
        }
        batch
    }

    /// Has the next driver's queue, if there is one by then, and all requests in the backlog.
    fn reconnect(&mut self, until: Duration) -> bool {
        while !self.slots.redeem() {
            if time::now() >= until {
                return false;
            }
            time::sleep(SETTLE);
        }
        match self.disk.open(self.slots.depth() as u32, until) {
            Ok(target) => {
                self.target = Some(target);
                self.backlog.clear();
                self.slots.in_order(&mut self.backlog);
                if let Some(outage) = &mut self.outage
                    && outage.is_given_up
                {
                    // A new chance for what has come since.
                    *outage = Outage { since: time::now(), is_answered: false, is_given_up: false };
                }
                true
            }
            Err(NoQueue::AnotherDisk) => {
                if let Some(outage) = &mut self.outage {
                    outage.is_given_up = true;
                }
                false
            }
            Err(NoQueue::Refused(error)) => {
                log::debug!("{error}");
                time::sleep_until(until.min(time::now() + SETTLE));
                false
            }
            Err(NoQueue::NotYet(_)) => {
                // Mostly it is that time by now; not if what is missing is stack, say.
                time::sleep_until(until.min(time::now() + SETTLE));
                false
            }
        }
    }

    /// Submits what may be submitted of the backlog, and takes answers in. `batch` is empty.
    fn pump(&mut self, mut batch: RRef<Batch>, until: Duration) -> RRef<Batch> {
        while let Some(&number) = self.backlog.front() {
            let must_wait = self.slots.command(number).is_flush() && self.slots.away() > 0;
            if batch.is_full() || must_wait {
                break;
            }
            self.backlog.pop_front();
            match self.slots.submit_again(number) {
                Some(Ok(request)) => push(&mut batch, request),
                Some(Err(request)) => self.answers.push_back(refused(request, &self.slots)),
                None => {}
            }
        }
        let Some(target) = &self.target else { return batch };
        match target.exchange(batch, nanoseconds(until)) {
            Ok(Ok(mut batch)) => {
                self.take_in(&mut batch);
                self.progress(!batch.is_empty());
                batch
            }
            answer => self.lose(answer),
        }
    }

    /// Looks whether the outage is over.
    fn progress(&mut self, is_answered: bool) {
        let Some(outage) = &mut self.outage else { return };
        if is_answered {
            outage.since = time::now();
            outage.is_answered = true;
        }
        if self.target.is_some() && self.backlog.is_empty() && (outage.is_answered || self.slots.is_empty()) {
            self.outage = None;
        }
    }

    /// Gives all requests back that are here. What a driver has that neither answers nor dies comes back when it does.
    fn give_up(&mut self, waited: Duration) {
        self.slots.redeem();
        let error = BlockError::Gone { waited_ns: nanoseconds(waited) };
        let answers = &mut self.answers;
        self.slots.take_all(|mut request| {
            request.head_mut().answer(Err(error));
            answers.push_back(request);
        });
        self.backlog.clear();
        if let Some(outage) = &mut self.outage {
            outage.is_given_up = true;
        }
    }
}
