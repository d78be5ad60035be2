//! [`Schedule`], the work of a device for a later time: commands with latency, delayed completions.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::command::Command;
use crate::queue::Completion;

/// A unit of scheduled work.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Execute(Command),
    Post(Completion),
}

/// Work ordered by due time, and by arrival for equal times.
pub(crate) struct Schedule {
    heap: BinaryHeap<Scheduled>,
    arrivals: u64,
}

struct Scheduled {
    due_ns: u64,
    arrival: u64,
    work: Work,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(256), arrivals: 0 }
    }

    pub(crate) fn push(&mut self, due_ns: u64, work: Work) {
        self.arrivals += 1;
        self.heap.push(Scheduled { due_ns, arrival: self.arrivals, work });
    }

    /// The time at which the first work is due.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.due_ns)
    }

    /// Takes the first work that is due.
    pub(crate) fn pop(&mut self, now_ns: u64) -> Option<Work> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|entry| entry.work)
    }

    /// Removes a command that was not begun; returns true if it was scheduled.
    pub(crate) fn take_command(&mut self, sq: u16, id: u16) -> bool {
        let before = self.heap.len();
        self.heap.retain(|entry| !matches!(entry.work, Work::Execute(c) if c.sq == sq && c.id() == id));
        self.heap.len() < before
    }

    /// Removes all work of a submission queue; returns the ids of commands that were not begun.
    pub(crate) fn take_queue(&mut self, sq: u16) -> Vec<u16> {
        let mut taken = Vec::new();
        self.heap.retain(|entry| match entry.work {
            Work::Execute(command) if command.sq == sq => {
                taken.push(command.id());
                false
            }
            // The command was executed, but the queue of its completion is gone.
            Work::Post(completion) => completion.sq != sq,
            Work::Execute(_) => true,
        });
        taken
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}

// Reversed: `BinaryHeap` pops the greatest entry, and the earliest is needed first.
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due_ns, other.arrival).cmp(&(self.due_ns, self.arrival))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}
