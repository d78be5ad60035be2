//! [`Stack`]: memory for a thread, with a guard page below it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::memory::frames::{self, FrameOwner};
use crate::platform::machine::{PAGE_SIZE, Protection, machine};
use crate::platform::sync::Lock;

/// The number of stacks that are kept for later threads, with their guard pages: changing a page's protection
/// costs more than the rest of a thread's creation.
const SPARE_LIMIT: usize = 8;

static SPARES: Lock<[Option<Memory>; SPARE_LIMIT]> = Lock::new([const { None }; SPARE_LIMIT]);

/// The number of frames in stacks that CPUs idle on.
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
    /// Returns a stack of `bytes`, rounded up to pages, not counting the guard page.
    pub(crate) fn take(bytes: usize) -> Option<Self> {
        let bytes = bytes.next_multiple_of(PAGE_SIZE);
        let fits = |spare: &mut Memory| spare.bytes == bytes;
        if let Some(memory) = SPARES.lock().iter_mut().find_map(|spare| spare.take_if(fits)) {
            return Some(Self(Some(memory)));
        }
        let block = frames::take(bytes / PAGE_SIZE + 1, FrameOwner::STACKS)?;
        machine().protect(block.as_ptr() as usize, PAGE_SIZE, Protection::None);
        Some(Self(Some(Memory { block, bytes })))
    }

    /// Makes it a CPU's for good: the CPU's idle thread runs on it. Returns the first address above the
    /// stack.
    pub(crate) fn give_to_cpu(self) -> usize {
        IDLE_FRAMES.fetch_add(self.frames(), Ordering::Relaxed);
        let top = self.top();
        core::mem::forget(self);
        top
    }

    /// The number of its frames, including the guard page.
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

    /// The first address above the stack.
    pub(crate) fn top(&self) -> usize {
        self.bottom() + self.memory().bytes
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let memory = self.0.take().expect("only drop takes it");
        let mut spares = SPARES.lock();
        if let Some(spare) = spares.iter_mut().find(|spare| spare.is_none()) {
            *spare = Some(memory);
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

/// The number of frames in stacks that CPUs idle on, and in those that are kept for later threads.
pub(crate) fn frames_without_thread() -> (usize, usize) {
    let spare = SPARES.lock().iter().flatten().map(|spare| spare.bytes / PAGE_SIZE + 1).sum();
    (IDLE_FRAMES.load(Ordering::Relaxed), spare)
}

/// Frees the stacks that are kept for later threads.
pub(crate) fn flush() {
    let spares = core::mem::replace(&mut *SPARES.lock(), [const { None }; SPARE_LIMIT]);
    spares.into_iter().flatten().for_each(free);
}
