//! [`Queue`]: requests in, answers out.

use alloc::boxed::Box;

use coppice_interfaces::block::{Batch, BlockInfo, BlockQueue, Busy, Request};
use coppice_interfaces::{BlockError, RpcResult};
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;

use crate::late::Late;
use crate::medium::Channel;
use crate::options::{Frail, Habits};
use crate::service::Place;

/// One queue.
pub(crate) struct Queue {
    habits: Habits,
    state: ThreadBound<State>,
    _place: Place,
}

struct State {
    worker: Worker,
    /// What is answered later, if that is a habit.
    late: Option<Late>,
}

/// What does requests.
pub(crate) struct Worker {
    info: BlockInfo,
    channel: Box<dyn Channel>,
}

impl Worker {
    /// Does `request` and answers it.
    pub(crate) fn perform(&mut self, request: &mut Lent<Request>) {
        let result = match request.check(&self.info, request.capacity()) {
            Ok(operation) => self.channel.perform(operation, request),
            Err(error) => Err(error),
        };
        request.head_mut().answer(result);
    }
}

impl Queue {
    pub(crate) fn new(
        info: BlockInfo,
        channel: Box<dyn Channel>,
        depth: usize,
        habits: Habits,
        place: Place,
    ) -> Self {
        let late = habits.is_late().then(|| Late::new(habits, depth));
        let worker = Worker { info, channel };
        Self { habits, state: ThreadBound::new(State { worker, late }), _place: place }
    }

    /// Takes back the answers that it is a habit not to give.
    #[cold]
    fn forget_answers(&self, batch: &mut RRef<Batch>, every: u64) {
        for index in 0..batch.len() {
            if let Some(request) = batch.get_mut(index)
                && request.cookie() % every == every - 1
            {
                let command = request.command();
                request.restore(command);
            }
        }
    }
}

impl BlockQueue for Queue {
    fn exchange(&self, mut batch: RRef<Batch>, wait_until_ns: u64) -> RpcResult<Result<RRef<Batch>, Busy>> {
        assert!(self.habits.frail != Some(Frail::Exchange), "this life is frail");
        let Ok(mut state) = self.state.enter() else { return Ok(Err(Busy { batch })) };
        let State { worker, late } = &mut *state;
        match late {
            None => {
                for _ in 0..batch.len() {
                    let Some(mut request) = batch.pop_front() else { break };
                    worker.perform(&mut request);
                    put(&mut batch, request);
                }
            }
            Some(late) => late.exchange(worker, &mut batch, wait_until_ns),
        }
        if let Some(every) = self.habits.unanswered {
            self.forget_answers(&mut batch, every);
        }
        Ok(Ok(batch))
    }
}

/// Answers `request` as one too many.
pub(crate) fn refuse(request: &mut Lent<Request>, depth: usize) {
    request.head_mut().answer(Err(BlockError::QueueFull { depth: depth as u32 }));
}

/// Puts what was taken out of `batch`, or finds room, back in.
pub(crate) fn put(batch: &mut RRef<Batch>, request: Lent<Request>) {
    // What does not fit goes back to its lender, who will miss the answer; there is always room, since as many came out.
    let fits = batch.push_back(request).is_ok();
    debug_assert!(fits);
}
