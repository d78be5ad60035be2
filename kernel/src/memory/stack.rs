//! [`Stack`]: memory for a thread, with a guard page below it.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::frames::{self, FrameOwner};
use crate::platform::machine::{PAGE_SIZE, Protection, machine};
use crate::platform::sync::Lock;

/// How many stacks are kept for the next thread, guard page and all, because changing a page's protection costs more
/// than all the rest of a thread.
const SPARE: usize = 8;

static SPARES: Lock<Vec<Memory>> = Lock::new(Vec::new());

/// Frames of stacks that CPUs idle on.
static IDLE_FRAMES: AtomicUsize = AtomicUsize::new(0);

/// A stack in use.
pub(crate) struct Stack(Option<Memory>);

/// A block whose first page is the guard.
struct Memory {
    block: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it owns its block.
unsafe impl Send for Memory {}

impl Stack {
    /// A stack of `bytes`, rounded up to pages, the guard not counted.
    pub(crate) fn take(bytes: usize) -> Option<Self> {
        let bytes = bytes.next_multiple_of(PAGE_SIZE);
        let mut spares = SPARES.lock();
        if let Some(index) = spares.iter().position(|spare| spare.bytes == bytes) {
            return Some(Self(Some(spares.swap_remove(index))));
        }
        drop(spares);
        let block = frames::take(bytes / PAGE_SIZE + 1, FrameOwner::STACKS)?;
        machine().protect(block.as_ptr() as usize, PAGE_SIZE, Protection::None);
        Some(Self(Some(Memory { block, bytes })))
    }

    /// Makes it a CPU's, for good: its idle thread runs there. Answers with the first address above.
    pub(crate) fn give_to_cpu(self) -> usize {
        IDLE_FRAMES.fetch_add(self.frames(), Ordering::Relaxed);
        let top = self.top();
        core::mem::forget(self);
        top
    }

    /// Frames that it takes, the guard included.
    pub(crate) fn frames(&self) -> usize {
        self.memory().bytes / PAGE_SIZE + 1
    }

    fn memory(&self) -> &Memory {
        self.0.as_ref().expect("only drop takes it")
    }

    /// The lowest usable address.
    pub(crate) fn bottom(&self) -> usize {
        self.memory().block.as_ptr() as usize + PAGE_SIZE
    }

    /// The first address above.
    pub(crate) fn top(&self) -> usize {
        self.bottom() + self.memory().bytes
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let memory = self.0.take().expect("only drop takes it");
        let mut spares = SPARES.lock();
        if spares.len() < SPARE {
            spares.push(memory);
        } else {
            drop(spares);
            free(memory);
        }
    }
}

fn free(memory: Memory) {
    machine().protect(memory.block.as_ptr() as usize, PAGE_SIZE, Protection::ReadWrite);
    frames::give(memory.block);
}

/// Frames of the stacks that CPUs idle on, and of those that are kept for the next thread.
pub(crate) fn frames_without_thread() -> (usize, usize) {
    let spare = SPARES.lock().iter().map(|spare| spare.bytes / PAGE_SIZE + 1).sum();
    (IDLE_FRAMES.load(Ordering::Relaxed), spare)
}

/// Frees the stacks that are kept for later.
pub(crate) fn flush() {
    let spares = core::mem::take(&mut *SPARES.lock());
    spares.into_iter().for_each(free);
}
