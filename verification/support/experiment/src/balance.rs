//! [`Balance`]: all that is in use and could leak.

use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use coppice_control::{Control, ControlError, InUse};
use coppice_interfaces::{Handle, RpcError, Text};
use coppice_runtime::time;

/// All memory that is not where it is for good, shared objects, and threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balance {
    /// Free memory as [`InUse`] has it, and the observer's own heap. What is lost in the shared heap, the count of its objects and
    /// the kernel's audit find.
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
    /// Something was on its way all the time.
    NeverAtRest(InUse),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Control(error) => write!(f, "the kernel refused: {error:?}"),
            Self::NeverAtRest(InUse { leaving, kernel_work, busy, .. }) => write!(
                f,
                "after {TIMEOUT:?} threads and calls of ended domains: {leaving}, work of the kernel: {kernel_work}, busy \
                 threads: {busy}"
            ),
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

/// How long ended instances may be on their way out, on the busiest host.
const TIMEOUT: Duration = Duration::from_secs(120);

/// How long a system may be at rest and not in balance before that is a leak: longer than the longest period of what its living
/// threads do by the clock.
const DIFFERENT: Duration = Duration::from_secs(10);

/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_micros(500);

impl Balance {
    /// What is in use now, with what may still change it. `observer` is the caller's domain; `stage` holds the control.
    fn take<S>(stage: &Arc<S>, observer: &str) -> Result<(Self, InUse), Trouble>
    where
        S: AsRef<Handle<dyn Control>>,
    {
        let control: &Handle<dyn Control> = (**stage).as_ref();
        let own = control.find(Text::new(observer))??;
        let now = control.in_use()?;
        let balance = Self {
            free_bytes: now.free_bytes + own.heap_bytes,
            shared_objects: now.shared_objects,
            shared_bytes: now.shared_bytes,
            threads: now.threads,
        };
        Ok((balance, now))
    }

    /// The balance once the system is at rest: the last thread of every ended instance has left, the kernel has no work, and every
    /// other thread waits for something. Threads of living domains that do something by the clock come back to that state.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn at_rest<S>(stage: &Arc<S>, observer: &str) -> Result<Self, Trouble>
    where
        S: AsRef<Handle<dyn Control>>,
    {
        let deadline = time::now() + TIMEOUT;
        loop {
            let (balance, now) = Self::take(stage, observer)?;
            if is_at_rest(&now) {
                return Ok(balance);
            }
            if time::now() > deadline {
                return Err(Trouble::NeverAtRest(now));
            }
            time::sleep(PAUSE);
        }
    }

    /// Waits until the balance is as `self`, for what ended a moment ago may still be on its way out. Returns the last one if the
    /// system is at rest and that does not happen.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn returns<S>(self, stage: &Arc<S>, observer: &str) -> Result<Result<(), Self>, Trouble>
    where
        S: AsRef<Handle<dyn Control>>,
    {
        let deadline = time::now() + TIMEOUT;
        let mut at_rest_since = None;
        loop {
            let (balance, now) = Self::take(stage, observer)?;
            if balance == self && now.leaving == 0 && now.kernel_work == 0 {
                return Ok(Ok(()));
            }
            let time = time::now();
            // Other threads may be busy for good. What they do is no reason to wait longer.
            if now.leaving > 0 || now.kernel_work > 0 {
                at_rest_since = None;
            } else if time - *at_rest_since.get_or_insert(time) > DIFFERENT {
                return Ok(Err(balance));
            }
            if time > deadline {
                return Err(Trouble::NeverAtRest(now));
            }
            time::sleep(PAUSE);
        }
    }
}

fn is_at_rest(now: &InUse) -> bool {
    now.leaving == 0 && now.kernel_work == 0 && now.busy == 0
}
