//! [`Balance`]: all that is in use and could leak.

use alloc::sync::Arc;
use core::cmp::Reverse;
use core::fmt;
use core::time::Duration;

use coppice_interfaces::{Control, ControlError, Handle, RpcError, Text};
use coppice_runtime::thread::{Builder, Refused};
use coppice_runtime::time;

/// All memory that is not where it is for good, shared objects, and threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balance {
    /// Memory that nobody has, and what the observer's own heap has. Counted as free are also the spans of the shared heap
    /// and the steps of the kernel's heap: how many of them a number of objects takes depends on where they came to lie.
    /// What is lost there, the objects' own count and the kernel's audit find.
    pub free_bytes: u64,
    /// Objects that all domains own at the root.
    pub shared_objects: u64,
    /// What these take.
    pub shared_bytes: u64,
    /// Threads of all domains.
    pub threads: u32,
}

/// Why there is no balance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The kernel did not answer.
    Rpc(RpcError),
    /// It refused.
    Control(ControlError),
    /// The observer has as many threads as it may.
    Refused(Refused),
    /// What is in use keeps changing.
    NeverSteady,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Control(error) => write!(f, "the kernel refused: {error:?}"),
            Self::Refused(refused) => refused.fmt(f),
            Self::NeverSteady => write!(f, "after {PATIENCE:?} what is in use still changes"),
        }
    }
}

impl core::error::Error for Trouble {}

impl From<RpcError> for Trouble {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<ControlError> for Trouble {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// How long what ended may be on its way out.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the best balance is seen before it counts.
const BEST_SEEN: u32 = 4;

/// How often in a row another one is: longer than what is on its way out takes.
const SAME_IN_A_ROW: u32 = 50;

impl Balance {
    /// What is in use, with the caches of all CPUs emptied. `observer` is the caller's domain; `stage` holds the control
    /// over the others, and is shared instead of cloned because a handle's clone would be a shared object itself.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn take<S>(stage: &Arc<S>, observer: &str) -> Result<Self, Trouble>
    where
        S: AsRef<Handle<dyn Control>> + Send + Sync + 'static,
    {
        let control: &Handle<dyn Control> = (**stage).as_ref();
        for cpu in 0..control.cpu_count()? {
            let stage = stage.clone();
            let flush = move || {
                let _ = (*stage).as_ref().memory();
            };
            Builder::new().affinity(1 << cpu).spawn(flush)?.join();
        }
        let memory = control.memory()?;
        let free = memory.free_bytes + memory.shared_bytes + memory.kernel_bytes;
        let own = control.find(Text::new(observer))??;
        let mut balance =
            Self { free_bytes: free + own.heap_bytes, shared_objects: 0, shared_bytes: 0, threads: 0 };
        for number in 0..control.domain_count()? {
            if let Some(info) = control.domain(number)? {
                balance.shared_objects += info.shared_objects;
                balance.shared_bytes += info.shared_bytes;
                balance.threads += info.threads;
            }
        }
        Ok(balance)
    }

    /// The balance once it has come to rest: the best one that is seen several times, or one that does not change for a
    /// while. What is on its way out (the thread that emptied a cache among it) makes a balance worse for a moment; a domain
    /// between two lives makes it better for one that may not come again.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn at_rest<S>(stage: &Arc<S>, observer: &str) -> Result<Self, Trouble>
    where
        S: AsRef<Handle<dyn Control>> + Send + Sync + 'static,
    {
        let deadline = time::now() + PATIENCE;
        let mut last = Self::take(stage, observer)?;
        let mut best = last;
        let (mut seen, mut in_a_row) = (1, 1);
        while seen < BEST_SEEN && in_a_row < SAME_IN_A_ROW {
            if time::now() > deadline {
                return Err(Trouble::NeverSteady);
            }
            time::sleep(Duration::from_millis(1));
            let now = Self::take(stage, observer)?;
            in_a_row = if now == last { in_a_row + 1 } else { 1 };
            if now == best {
                seen += 1;
            } else if now.rank() > best.rank() {
                (best, seen) = (now, 1);
            }
            last = now;
        }
        Ok(if seen < BEST_SEEN { last } else { best })
    }

    /// Which of two balances is better: the one with more memory, then with fewer objects and threads.
    fn rank(&self) -> (u64, Reverse<u64>, Reverse<u32>) {
        (self.free_bytes, Reverse(self.shared_objects), Reverse(self.threads))
    }

    /// Waits until the balance is as `self`, for what ended a moment ago may still be on its way out. Answers with the
    /// last one when that does not happen.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn returns<S>(self, stage: &Arc<S>, observer: &str) -> Result<Result<(), Self>, Trouble>
    where
        S: AsRef<Handle<dyn Control>> + Send + Sync + 'static,
    {
        let deadline = time::now() + PATIENCE;
        loop {
            let now = Self::take(stage, observer)?;
            if now == self {
                return Ok(Ok(()));
            }
            if time::now() > deadline {
                return Ok(Err(now));
            }
            time::sleep(Duration::from_micros(500));
        }
    }
}
