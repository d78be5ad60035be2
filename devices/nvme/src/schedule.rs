//! What the device will do later: commands with latency, completions held back.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::command::Command;
use crate::queue::Completion;

/// Something to do at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Execute(Command),
    Post(Completion),
}

/// Work ordered by time, and by arrival where times are equal.
pub(crate) struct Schedule {
    heap: BinaryHeap<Entry>,
    arrivals: u64,
}

struct Entry {
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
        self.heap.push(Entry { due_ns, arrival: self.arrivals, work });
    }

    /// When the first work is due.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.heap.peek().map(|entry| entry.due_ns)
    }

    /// The first work that is due.
    pub(crate) fn pop(&mut self, now_ns: u64) -> Option<Work> {
        if self.next_ns()? > now_ns {
            return None;
        }
        self.heap.pop().map(|entry| entry.work)
    }

    /// Takes out a command that was not begun.
    pub(crate) fn take_command(&mut self, sq: u16, id: u16) -> bool {
        let before = self.heap.len();
        self.heap.retain(|entry| !matches!(entry.work, Work::Execute(c) if c.sq == sq && c.id() == id));
        self.heap.len() < before
    }

    /// Takes out everything of a submission queue; the ids of commands that were not begun.
    pub(crate) fn take_queue(&mut self, sq: u16) -> Vec<u16> {
        let mut taken = Vec::new();
        self.heap.retain(|entry| match entry.work {
            Work::Execute(command) if command.sq == sq => {
                taken.push(command.id());
                false
            }
            // Executed already; answered or not, its queue is gone.
            Work::Post(completion) => completion.sq != sq,
            Work::Execute(_) => true,
        });
        taken
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}

// The heap gives out its greatest: the earliest.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due_ns, other.arrival).cmp(&(self.due_ns, self.arrival))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
