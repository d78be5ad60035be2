//! [`Shadow`]: stands in for an object of a domain that may crash, so that its clients notice a pause instead
//! of an error.
//!
//! `#[interface]` writes a shadow's methods when each method of a trait says how a call survives a crash of
//! the instance that it was made to:
//!
//! - `#[retry]`: the call is made again to the next instance. For calls that may be repeated.
//! - `#[replay]`: the call configures the target. A call that succeeds is logged, and the log is replayed in
//!   order to each next instance before any other call reaches it; `#[replay(last)]` keeps the method's most
//!   recent call only. Returns `()` or `Result<(), E>`.
//! - `#[fail]`: the call cannot be repeated. The caller gets the error of the instance that died; later calls
//!   wait for the next instance.
//!
//! Calls go through a *gate*: a proxy that leads to one instance, and is moved on to the next one once the
//! log has been replayed to that. So a healthy call costs the crossing and a comparison. The first call that
//! finds the instance dead takes the recovery lock, waits for the next instance, replays, and opens the gate;
//! other calls wait for the lock. No call waits longer than the shadow's timeout. After that, or if the next
//! instance refuses a call that an earlier one accepted, the caller gets the error that it would have got
//! without a shadow.
//!
//! The log is in the shadow's own memory and is lost with it. Objects that the wrapped domain has handed out
//! end with the instance that made them; a shadow does not cover those.

mod gate;
mod lock;
mod log;

use alloc::boxed::Box;
use core::time::Duration;

use coppice_abi::{CrashKind, DomainId, services};

use crate::{Handle, Interface, RpcError, RpcResult};
use gate::Gate;
use lock::DeadlineLock;
pub use log::Keep;
use log::{CallLog, Replay};

/// An interface whose methods say how a call survives a crash. `#[interface]` implements it for `dyn Trait`.
#[diagnostic::on_unimplemented(
    message = "no shadow is generated for `{Self}`",
    label = "its methods do not say how a call survives a crash",
    note = "mark each method of the interface `#[retry]`, `#[replay]` or `#[fail]`"
)]
pub trait Shadowed: Interface {
    /// Makes `shadow` callable by other domains, in place of the object that it wraps.
    fn export_shadow(shadow: Shadow<Self>) -> Handle<Self>;
}

/// Stands in for the object that a domain exports; see the [module](self).
pub struct Shadow<I: Interface + ?Sized> {
    /// The target of calls.
    gate: Gate<I>,
    /// The wired handle, which leads to the current instance.
    wired: Handle<I>,
    timeout: Duration,
    recovery: DeadlineLock<Recovery<I>>,
}

/// The state that it takes to move the gate on to another instance. Only the holder of its lock moves the
/// gate.
struct Recovery<I: ?Sized> {
    log: CallLog<I>,
    /// The latest instance that has received the whole log, or has failed to.
    tried: DomainId,
    /// A later instance, and the number of calls of the log that it has received.
    begun: (DomainId, usize),
}

/// An argument that can be passed to a second instance as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be passed twice",
    label = "not `Clone`",
    note = "a value that moves into an instance is lost with it: borrow it (`&RRef<T>`), or mark the method `#[fail]`"
)]
pub trait Repeatable: Clone {}

#[diagnostic::do_not_recommend]
impl<T: Clone> Repeatable for T {}

/// The result of a `#[replay]` method.
#[diagnostic::on_unimplemented(
    message = "a `#[replay]` method cannot return `{Self}`",
    label = "neither `()` nor `Result<(), E>`",
    note = "the next instance would return another value than the one that the caller has got"
)]
pub trait Acknowledgement {
    /// Returns true if the callee accepted the call.
    fn is_positive(&self) -> bool;
}

impl Acknowledgement for () {
    fn is_positive(&self) -> bool {
        true
    }
}

impl<E> Acknowledgement for Result<(), E> {
    fn is_positive(&self) -> bool {
        self.is_ok()
    }
}

impl<I: Interface + ?Sized> Shadow<I> {
    /// Wraps the object that `wired` leads to. A call that meets a crash waits up to `timeout` for the result
    /// of a later instance.
    ///
    /// # Panics
    /// If the manifest did not wire `wired`, or memory is exhausted.
    pub fn new(wired: Handle<I>, timeout: Duration) -> Self {
        let gate = Gate::new(&wired).expect("a shadow wraps a handle that the manifest wired");
        let (tried, begun) = (gate.instance(), (gate.instance(), 0));
        let recovery = DeadlineLock::new(Recovery { log: CallLog::new(), tried, begun });
        Self { gate, wired, timeout, recovery }
    }

    /// Makes a call, and makes it again to each next instance until one returns.
    ///
    /// # Errors
    /// The errors of `call`; a crash of the wrapped domain only when the timeout has passed.
    #[inline(always)]
    pub fn retry<R>(&self, call: impl Fn(&I) -> RpcResult<R>) -> RpcResult<R> {
        match call(self.gate.target()) {
            Err(error) => self.retry_after(error, call),
            answer => answer,
        }
    }

    /// Makes a call once, after waiting for the next instance if the present one has ended.
    ///
    /// # Errors
    /// The errors of `call`; that the wrapped domain is not running if the timeout passes before the call can
    /// be made.
    #[inline(always)]
    pub fn once<R>(&self, call: impl FnOnce(&I) -> RpcResult<R>) -> RpcResult<R> {
        if !self.gate.is_open() {
            self.recover(self.deadline_ns())?;
        }
        call(self.gate.target())
    }

    /// As [`Self::retry`]. After it has succeeded, each later instance receives the same call before any
    /// other.
    ///
    /// # Errors
    /// As [`Self::retry`].
    pub fn replay<R: Acknowledgement>(
        &self,
        method: &'static str,
        keep: Keep,
        call: impl Fn(&I) -> RpcResult<R> + Send + 'static,
    ) -> RpcResult<R> {
        let mut deadline_ns = self.deadline_ns();
        // Held during the call, so that the log has the order in which the callee received the calls.
        let mut recovery = loop {
            match self.recovery.lock(deadline_ns) {
                Some(recovery) => break recovery,
                // While the instance is alive, the lock's holder is in a slow call, and this one waits as it
                // would for the callee itself.
                None => self.gate.check()?,
            }
            deadline_ns = self.deadline_ns();
        };
        loop {
            match call(self.gate.target()) {
                Ok(answer) => {
                    if answer.is_positive() {
                        let again = move |target: &I| call(target).map(|answer| answer.is_positive());
                        recovery.log.record(method, keep, Box::new(again));
                    }
                    return Ok(answer);
                }
                Err(error) if self.is_recoverable(error, deadline_ns) => {
                    self.reopen(&mut recovery, deadline_ns).map_err(|_| error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn retry_after<R>(&self, mut error: RpcError, call: impl Fn(&I) -> RpcResult<R>) -> RpcResult<R> {
        let deadline_ns = self.deadline_ns();
        while self.is_recoverable(error, deadline_ns) {
            // Returns the crash cause instead of `NotRunning`: it tells the caller more.
            self.recover(deadline_ns).map_err(|_| error)?;
            match call(self.gate.target()) {
                Err(next) => error = next,
                answer => return answer,
            }
        }
        Err(error)
    }

    /// Returns true if `error` says that an instance of the wrapped domain has ended, and there is time left
    /// to wait for the next. Errors of other domains and a lack of stack reach the caller as they would
    /// without a shadow.
    fn is_recoverable(&self, error: RpcError, deadline_ns: u64) -> bool {
        error.domain().slot() == self.gate.instance().slot()
            && error.kind() != CrashKind::NoStack
            && now_ns() < deadline_ns
    }

    /// Moves the gate on to an instance that is alive and has received the log.
    ///
    /// # Errors
    /// That the gate's instance is not running, if the deadline passes first.
    #[cold]
    #[inline(never)]
    fn recover(&self, deadline_ns: u64) -> RpcResult<()> {
        match self.recovery.lock(deadline_ns) {
            Some(mut recovery) => self.reopen(&mut recovery, deadline_ns),
            None => self.gate.check(),
        }
    }

    /// As [`Self::recover`], with the recovery lock held.
    fn reopen(&self, recovery: &mut Recovery<I>, deadline_ns: u64) -> RpcResult<()> {
        while let Err(closed) = self.gate.check() {
            if now_ns() >= deadline_ns || !self.wired.await_instance(recovery.tried, deadline_ns) {
                return Err(closed);
            }
            // Only calls through `next` are sure to reach that instance and no later one: a log that is split
            // over two instances would leave neither of them configured.
            let next = Gate::new(&self.wired).ok_or(closed)?;
            let instance = next.instance();
            if recovery.begun.0 != instance {
                recovery.begun = (instance, 0);
            }
            let Recovery { log, begun: (_, made), .. } = recovery;
            match log.replay(made, next.target()) {
                Replay::Done => self.gate.follow(&next),
                // The call has not reached the instance. A caller with more stack continues from here.
                Replay::Stopped { error: Some(error), .. }
                    if error.kind() == CrashKind::NoStack && error.domain() == instance =>
                {
                    return Err(closed);
                }
                Replay::Stopped { method, error } if next.is_open() => ::log::error!(
                    "generation {} does not accept `{method}` as an earlier one did ({error:?}): \
                     no call is let through to it",
                    instance.generation()
                ),
                // The instance crashed during the replay; the loop waits for the one after it.
                Replay::Stopped { .. } => {}
            }
            recovery.tried = instance;
        }
        Ok(())
    }

    fn deadline_ns(&self) -> u64 {
        let timeout_ns = u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX);
        now_ns().saturating_add(timeout_ns)
    }
}

fn now_ns() -> u64 {
    (services().now_ns)()
}

/// A copy of `value` for another instance. Called by generated shadows.
#[inline(always)]
pub fn repeat<T: Repeatable>(value: &T) -> T {
    value.clone()
}
