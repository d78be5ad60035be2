//! [`Late`]: answers that come later, and in another order.

use alloc::collections::VecDeque;

use coppice_interfaces::block::{Batch, Request};
use coppice_rref::{Lent, RRef};
use coppice_runtime::time;
use core::time::Duration;

use crate::options::Habits;
use crate::queue::{Worker, put, refuse};

/// How long one exchange waits at most, whatever it is asked for: far less than any deadline of a driver's.
const WAIT: Duration = Duration::from_millis(1);

/// Requests that are under way.
pub(crate) struct Late {
    habits: Habits,
    depth: usize,
    kept: VecDeque<Kept>,
    count: u64,
}

struct Kept {
    request: Lent<Request>,
    /// Not answered before.
    due: Duration,
    is_done: bool,
}

impl Late {
    pub(crate) fn new(habits: Habits, depth: usize) -> Self {
        Self { habits, depth, kept: VecDeque::with_capacity(depth), count: 0 }
    }

    pub(crate) fn exchange(&mut self, worker: &mut Worker, batch: &mut RRef<Batch>, wait_until_ns: u64) {
        let now = time::now();
        let arrivals = batch.len();
        for _ in 0..arrivals {
            let Some(mut request) = batch.pop_front() else { break };
            if self.kept.len() == self.depth {
                refuse(&mut request, self.depth);
                put(batch, request);
                continue;
            }
            self.count += 1;
            request.head_mut().set_cookie(self.count);
            // Half of them take effect now and half when they are answered, as a crash between the two finds them.
            let is_done = self.count.is_multiple_of(2);
            if is_done {
                worker.perform(&mut request);
            }
            self.kept.push_back(Kept { request, due: now + self.habits.delay, is_done });
        }
        let until = Duration::from_nanos(wait_until_ns).min(now + WAIT);
        let is_awaited = arrivals == 0 && until > now;
        let hold = if is_awaited { 0 } else { self.habits.hold };
        self.answer(worker, batch, now, hold);
        if batch.is_empty()
            && self.kept.len() > hold
            && let Some(due) = self.kept.iter().map(|kept| kept.due).min()
            && until > now
        {
            time::sleep_until(due.min(until));
            self.answer(worker, batch, time::now(), hold);
        }
    }

    /// Answers what is due, as long as more than `hold` are kept and the batch has room.
    fn answer(&mut self, worker: &mut Worker, batch: &mut RRef<Batch>, now: Duration, hold: usize) {
        while self.kept.len() > hold && !batch.is_full() {
            let len = self.kept.len();
            // Any one, but always the same for the same course of events.
            let first = if self.habits.reorder { (self.count as usize).wrapping_mul(7) % len } else { 0 };
            let order = (0..len).map(|step| (first + step) % len);
            let Some(index) = order.into_iter().find(|&index| self.kept[index].due <= now) else { break };
            let Some(mut kept) = self.kept.remove(index) else { break };
            if !kept.is_done {
                worker.perform(&mut kept.request);
            }
            put(batch, kept.request);
        }
    }
}
