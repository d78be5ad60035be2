//! [`Device`]: the device behind the shadow, through all lives of its driver.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_interfaces::{CrashKind, DomainId, Handle, RpcError, RpcResult};
use coppice_net::{NetConfig, NetDevice, NetError, NetInfo, NetQueue, QueueDepth, Statistics};
use coppice_runtime::sync::{Mutex, MutexGuard};
use coppice_runtime::time;

use crate::statistics::Sum;

/// How long to let a driver be that is there and has no queue for us yet: it is closing the one before.
const SETTLE: Duration = Duration::from_micros(50);

/// After so long it has no queue because others have them.
const CLOSING: Duration = Duration::from_millis(20);

/// The device, of which one driver after the other says that it has it.
pub(crate) struct Device {
    target: Handle<dyn NetDevice>,
    pub(crate) patience: Duration,
    pub(crate) most_wait: Duration,
    /// [`Statistics::crashed`].
    crashed: AtomicU64,
    /// Held while the driver is called, but not while one is waited for.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the first driver that answered has said. It is the same device as long as the others say the same.
    known: Option<NetInfo>,
    /// How it was set up last.
    config: Option<NetConfig>,
    /// The instance of the driver that has both.
    ready: Option<DomainId>,
    statistics: Sum,
}

/// Why a call was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// It may be later.
    NotYet,
    /// It would not be, by any instance: it cannot be made from here.
    Rpc(RpcError),
    /// The driver has refused.
    Refused(NetError),
    /// It is another device.
    AnotherDevice,
}

impl Device {
    pub(crate) fn new(target: Handle<dyn NetDevice>, patience: Duration, most_wait: Duration) -> Self {
        Self { target, patience, most_wait, crashed: AtomicU64::new(0), state: Mutex::default() }
    }

    /// Calls the driver when it is set up, and the next one if that dies, until `deadline`.
    fn ask<R>(
        &self,
        deadline: Duration,
        mut call: impl FnMut(&dyn NetDevice, &mut State) -> RpcResult<R>,
    ) -> Result<R, Trouble> {
        loop {
            let mut state = self.lock_until(deadline)?;
            let answer = match self.set_up(&mut state) {
                Ok(Ok(())) => call(&*self.target, &mut state),
                Ok(Err(trouble)) => return Err(trouble),
                Err(error) => Err(error),
            };
            drop(state);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if !self.is_over(error) => return Err(Trouble::Rpc(error)),
                Err(error) => {
                    let is_late = time::now() >= deadline;
                    if is_late || !self.target.await_instance(error.domain(), nanoseconds(deadline)) {
                        return Err(Trouble::NotYet);
                    }
                }
            }
        }
    }

    /// The state, when nobody else has it. A call that others make may take long, and not everybody has the time.
    fn lock_until(&self, deadline: Duration) -> Result<MutexGuard<'_, State>, Trouble> {
        loop {
            if let Some(state) = self.state.try_lock() {
                return Ok(state);
            }
            if time::now() >= deadline {
                return Err(Trouble::NotYet);
            }
            time::sleep(SETTLE);
        }
    }

    /// Gives the present instance what the ones before had, if it has not got it.
    fn set_up(&self, state: &mut State) -> RpcResult<Result<(), Trouble>> {
        loop {
            let instance = self.target.instance();
            if state.ready == Some(instance) {
                return Ok(Ok(()));
            }
            let info = self.target.info()?;
            let known = *state.known.get_or_insert(info);
            if info != known {
                log::error!("the driver has another device now: {info:?}");
                log::error!("and not: {known:?}");
                return Ok(Err(Trouble::AnotherDevice));
            }
            if let Some(config) = state.config
                && let Err(error) = self.target.configure(config)?
            {
                log::error!("the driver does not set the device up as the one before: {error}");
                return Ok(Err(Trouble::Refused(error)));
            }
            // If it is another instance by now, that was asked for some of it only.
            if self.target.instance() == instance {
                state.ready = Some(instance);
            }
        }
    }

    /// Whether `error` says that a instance of the driver is over. All else would fail again.
    fn is_over(&self, error: RpcError) -> bool {
        error.domain().slot() == self.target.instance().slot() && error.kind() != CrashKind::NoStack
    }

    /// As [`Self::ask`], for what has no error of its own: if nobody answers in time, what the last attempt comes to.
    fn insist<R>(
        &self,
        deadline: Duration,
        call: impl Fn(&dyn NetDevice, &State) -> RpcResult<R>,
    ) -> RpcResult<R> {
        match self.ask(deadline, |target, state| call(target, state)) {
            Ok(answer) => Ok(answer),
            Err(Trouble::Rpc(error)) => Err(error),
            Err(_) => call(&*self.target, &self.state.lock()),
        }
    }

    /// What the device is. After the first answer nobody is asked.
    pub(crate) fn info(&self, deadline: Duration) -> RpcResult<NetInfo> {
        if let Some(known) = self.state.lock().known {
            return Ok(known);
        }
        self.insist(deadline, |target, state| state.known.map_or_else(|| target.info(), Ok))
    }

    /// Calls what changes nothing.
    pub(crate) fn look<R>(
        &self,
        deadline: Duration,
        call: impl Fn(&dyn NetDevice) -> RpcResult<Result<R, NetError>>,
    ) -> Result<R, Trouble> {
        self.ask(deadline, |target, _| call(target))?.map_err(Trouble::Refused)
    }

    /// What was counted in all lives.
    pub(crate) fn statistics(&self, deadline: Duration) -> Result<Statistics, Trouble> {
        loop {
            let counted = self.ask(deadline, |target, state| {
                let counted = target.statistics()?;
                // If the driver was restarted in between, its successor may have counted: not the one that is `ready`.
                let is_known = state.ready == Some(self.target.instance());
                Ok(counted.map(|count| is_known.then(|| state.statistics.note(state.ready, count))))
            })?;
            match counted {
                Ok(Some(sum)) => {
                    let crashed = sum.crashed.wrapping_add(self.crashed.load(Ordering::Relaxed));
                    return Ok(Statistics { crashed, ..sum });
                }
                Ok(None) if time::now() < deadline => {}
                Ok(None) => return Err(Trouble::NotYet),
                Err(error) => return Err(Trouble::Refused(error)),
            }
        }
    }

    /// A crash of the driver took `packets` packets that were handed over to be sent.
    pub(crate) fn count_crashed(&self, packets: usize) {
        self.crashed.fetch_add(packets as u64, Ordering::Relaxed);
    }

    /// How it was set up; by nobody, as the driver has it.
    pub(crate) fn config(&self, deadline: Duration) -> RpcResult<NetConfig> {
        if let Some(config) = self.state.lock().config {
            return Ok(config);
        }
        self.insist(deadline, |target, _| target.config())
    }

    /// Sets it up, and each later instance in the same way.
    pub(crate) fn configure(&self, config: NetConfig, deadline: Duration) -> Result<(), Trouble> {
        let answer = self.ask(deadline, |target, state| {
            let answer = target.configure(config)?;
            if answer.is_ok() {
                state.config = Some(config);
            }
            Ok(answer)
        })?;
        answer.map_err(Trouble::Refused)
    }

    /// A queue of the present instance, or of the next one that comes before `deadline`.
    pub(crate) fn open(
        &self,
        depth: QueueDepth,
        deadline: Duration,
    ) -> Result<Handle<dyn NetQueue>, Trouble> {
        let give_up = deadline.min(time::now().saturating_add(CLOSING));
        loop {
            let answer = self.ask(deadline, |target, state| {
                let answer = target.open(depth)?;
                if answer.as_ref().is_ok_and(|queue| state.ready != Some(queue.instance())) {
                    // It is of a instance that began just now: that is set up before anybody uses it. To drop it and to open another one
                    // would be wrong, since it is closed some time later, and only the first of a device's queues gets all frames.
                    let _trouble = self.set_up(state)?;
                }
                // One of a instance that was not set up is of no use; the next attempt says why.
                Ok(answer.map(|queue| (state.ready == Some(queue.instance())).then_some(queue)))
            })?;
            match answer {
                Ok(Some(queue)) => return Ok(queue),
                Ok(None) => {}
                Err(NetError::NoQueue { .. } | NetError::Device { .. }) if time::now() < give_up => {
                    time::sleep(SETTLE);
                }
                Err(error) => return Err(Trouble::Refused(error)),
            }
        }
    }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
