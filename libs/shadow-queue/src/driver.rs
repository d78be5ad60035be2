//! [`Driver`]: calls that survive restarts of the driver.

use core::time::Duration;

use coppice_interfaces::{CrashKind, DomainId, Handle, Interface, RpcError, RpcResult};
use coppice_runtime::time;

use crate::nanoseconds;

/// The pause before another attempt with a running driver that has no free queue yet: it is closing the
/// previous one.
const RETRY_DELAY: Duration = Duration::from_micros(50);

/// The driver behind a shadow, through a handle that follows its restarts.
pub struct Driver<I: Interface + ?Sized>(Handle<I>);

/// The error of a call that no driver has answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallError {
    /// The driver crashed, and no restarted one answered in time.
    NoDriver(RpcError),
    /// The call itself cannot be made. A restart of the driver does not help.
    Rpc(RpcError),
}

impl From<CallError> for RpcError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoDriver(error) | CallError::Rpc(error) => error,
        }
    }
}

impl<I: Interface + ?Sized> Driver<I> {
    /// Creates a driver from the handle that the manifest connects.
    pub fn new(handle: Handle<I>) -> Self {
        Self(handle)
    }

    /// The present instance.
    pub fn instance(&self) -> DomainId {
        self.0.instance()
    }

    /// The driver's interface, for one attempt of a call.
    pub fn interface(&self) -> &I {
        &self.0
    }

    /// Calls the driver. If it crashes, waits for its restart and calls again, until `deadline`.
    ///
    /// # Errors
    /// When no instance has answered by `deadline`, or when the call cannot be made.
    pub fn call<R>(
        &self,
        deadline: Duration,
        mut attempt: impl FnMut(&I) -> RpcResult<R>,
    ) -> Result<R, CallError> {
        loop {
            let error = match attempt(&self.0) {
                Ok(result) => return Ok(result),
                Err(error) if !self.is_instance_end(error) => return Err(CallError::Rpc(error)),
                Err(error) => error,
            };
            let is_late = time::now() >= deadline;
            if is_late || !self.0.await_instance(error.domain(), nanoseconds(deadline)) {
                return Err(CallError::NoDriver(error));
            }
        }
    }

    /// Returns true if `error` reports the end of an instance of the driver. Any other error would recur.
    fn is_instance_end(&self, error: RpcError) -> bool {
        error.domain().slot() == self.0.instance().slot() && error.kind() != CrashKind::NoStack
    }
}

/// Sleeps before another attempt with a driver that is still closing a queue. Returns false, at once, after
/// `until`.
pub fn pause_before_retry(until: Duration) -> bool {
    let is_in_time = time::now() < until;
    if is_in_time {
        time::sleep(RETRY_DELAY);
    }
    is_in_time
}
