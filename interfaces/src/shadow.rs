//! [`Shadow`]: stands in for an object of a domain that may crash, so that its clients notice only a pause.
//!
//! `#[interface]` writes a shadow's methods when each method of a trait says how a call of it survives the instance that
//! it was made to:
//!
//! - `#[retry]`: asked again of the next instance. For what can be asked twice.
//! - `#[replay]`: configures. A call that succeeds is logged, and the log is replayed in order to each next instance
//!   before any other call reaches it; `#[replay(last)]` keeps the method's most recent call only. Answers `()` or
//!   `Result<(), E>`.
//! - `#[fail]`: can't be repeated. The caller gets the error of the instance that died; calls from then on wait for the
//!   next.
//!
//! Calls go through a *gate*: a proxy that leads to one instance, and to the next one once the log has been replayed to
//! it. So a healthy call costs the crossing and a comparison. The first call that finds the instance over takes the
//! recovery's lock, waits for the next instance, replays, and opens the gate; others wait for the lock, and nobody longer
//! than the shadow's patience. Then, or if the next instance refuses what its predecessor accepted, the caller gets the
//! error that it would have got without a shadow.
//!
//! The log is in the shadow's own memory and ends with it. Objects that the wrapped domain has handed out end with
//! the instance that made them: no shadow is put in front of those.

mod gate;
mod log;
mod turn;

use alloc::boxed::Box;
use core::time::Duration;

use coppice_abi::{CrashKind, DomainId, services};

use crate::{Handle, Interface, RpcError, RpcResult};
use gate::Gate;
pub use log::Keep;
use log::{Log, Replay};
use turn::Turn;

/// An interface whose methods say how a call survives a crash: `#[interface]` implements it for `dyn Trait`.
#[diagnostic::on_unimplemented(
    message = "no shadow is generated for `{Self}`",
    label = "its methods do not say how a call survives a crash",
    note = "mark each method of the interface `#[retry]`, `#[replay]` or `#[fail]`"
)]
pub trait Shadowed: Interface {
    /// Makes `shadow` callable by other domains, as the object that it stands in for.
    fn export_shadow(shadow: Shadow<Self>) -> Handle<Self>;
}

/// Stands in for the object that a domain exports; see the [module](self).
pub struct Shadow<I: Interface + ?Sized> {
    /// Where calls go.
    gate: Gate<I>,
    /// Which instance is the present one.
    port: Handle<I>,
    patience: Duration,
    recovery: Turn<Recovery<I>>,
}

/// What it takes to have the gate lead to another instance. Whoever holds it is the only one to move the gate.
struct Recovery<I: ?Sized> {
    log: Log<I>,
    /// The latest instance that has got the whole log, or will not get it.
    tried: DomainId,
    /// A later instance that has got this many calls of the log.
    begun: (DomainId, usize),
}

/// An argument that can be given to a second instance as well.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be given twice",
    label = "not `Clone`",
    note = "what moves into a instance dies with it: borrow it (`&RRef<T>`), or mark the method `#[fail]`"
)]
pub trait Repeatable: Clone {}

#[diagnostic::do_not_recommend]
impl<T: Clone> Repeatable for T {}

/// What a `#[replay]` method answers.
#[diagnostic::on_unimplemented(
    message = "a `#[replay]` method cannot answer `{Self}`",
    label = "neither `()` nor `Result<(), E>`",
    note = "the answer that a caller has got would not be the next instance's"
)]
pub trait Acknowledgement {
    /// Whether the callee did what it was told.
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
    /// Stands in for what `port` leads to. A call that meets a crash waits up to `patience` for an answer of a later
    /// instance.
    ///
    /// # Panics
    /// When `port` is not a handle that the manifest wired, or memory is exhausted.
    pub fn new(port: Handle<I>, patience: Duration) -> Self {
        let gate = Gate::new(&port).expect("a shadow wraps what the manifest wired it to");
        let (tried, begun) = (gate.instance(), (gate.instance(), 0));
        let recovery = Turn::new(Recovery { log: Log::new(), tried, begun });
        Self { gate, port, patience, recovery }
    }

    /// Calls until a instance answers.
    ///
    /// # Errors
    /// Those of `call`, but the wrapped domain's death only when patience ends.
    #[inline(always)]
    pub fn retry<R>(&self, call: impl Fn(&I) -> RpcResult<R>) -> RpcResult<R> {
        match call(self.gate.target()) {
            Err(error) => self.retry_after(error, call),
            answer => answer,
        }
    }

    /// Calls, if need be once the next instance is there.
    ///
    /// # Errors
    /// Those of `call`; that the wrapped domain is not running if patience ends before the call could be made.
    #[inline(always)]
    pub fn once<R>(&self, call: impl FnOnce(&I) -> RpcResult<R>) -> RpcResult<R> {
        if !self.gate.is_open() {
            self.recover(self.deadline_ns())?;
        }
        call(self.gate.target())
    }

    /// As [`Self::retry`]; and once it has succeeded, each later instance gets the same call before any other.
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
        // Held over the call, so that the log's order is the one in which the callee was told.
        let mut recovery = loop {
            match self.recovery.take(deadline_ns) {
                Some(recovery) => break recovery,
                // In a instance that goes on another call takes its time, and this one waits as it would for the callee
                // itself.
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
                Err(error) if self.is_worth_waiting(error, deadline_ns) => {
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
        while self.is_worth_waiting(error, deadline_ns) {
            // Nobody is helped by hearing that nobody is there: what the instance died of says more.
            self.recover(deadline_ns).map_err(|_| error)?;
            match call(self.gate.target()) {
                Err(next) => error = next,
                answer => return answer,
            }
        }
        Err(error)
    }

    /// Whether `error` says that a instance of the wrapped domain is over, and there is time for another. Whatever else
    /// fails, further domains and the caller's stack, fails as it would without us.
    fn is_worth_waiting(&self, error: RpcError, deadline_ns: u64) -> bool {
        error.domain().slot() == self.gate.instance().slot()
            && error.kind() != CrashKind::NoStack
            && now_ns() < deadline_ns
    }

    /// Has the gate lead to a instance that goes on and is configured.
    ///
    /// # Errors
    /// That the instance which it leads to is over, if patience ends before.
    #[cold]
    #[inline(never)]
    fn recover(&self, deadline_ns: u64) -> RpcResult<()> {
        match self.recovery.take(deadline_ns) {
            Some(mut recovery) => self.reopen(&mut recovery, deadline_ns),
            None => self.gate.check(),
        }
    }

    /// As [`Self::recover`], for whoever's turn it is.
    fn reopen(&self, recovery: &mut Recovery<I>, deadline_ns: u64) -> RpcResult<()> {
        while let Err(closed) = self.gate.check() {
            if now_ns() >= deadline_ns || !self.port.await_instance(recovery.tried, deadline_ns) {
                return Err(closed);
            }
            // Only calls through `next` are sure to reach that instance and no later one: half a log in each would be worse
            // than none.
            let next = Gate::new(&self.port).ok_or(closed)?;
            let instance = next.instance();
            if recovery.begun.0 != instance {
                recovery.begun = (instance, 0);
            }
            let Recovery { log, begun: (_, made), .. } = recovery;
            match log.replay(made, next.target()) {
                Replay::Done => self.gate.follow(&next),
                // This call has not reached it. A caller with more stack goes on from here.
                Replay::Stopped { error: Some(error), .. }
                    if error.kind() == CrashKind::NoStack && error.domain() == instance =>
                {
                    return Err(closed);
                }
                Replay::Stopped { method, error } if next.is_open() => ::log::error!(
                    "generation {} does not take `{method}` as one before it did ({error:?}): \
                     nobody is let through to it",
                    instance.generation()
                ),
                // It died of it, or meanwhile: as if it had never been.
                Replay::Stopped { .. } => {}
            }
            recovery.tried = instance;
        }
        Ok(())
    }

    fn deadline_ns(&self) -> u64 {
        let patience_ns = u64::try_from(self.patience.as_nanos()).unwrap_or(u64::MAX);
        now_ns().saturating_add(patience_ns)
    }
}

fn now_ns() -> u64 {
    (services().now_ns)()
}

/// `value` once more, for the next instance.
#[inline(always)]
pub fn again<T: Repeatable>(value: &T) -> T {
    value.clone()
}
