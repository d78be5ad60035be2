//! [`Device`]: the device behind the shadow, as seen across restarts of its driver.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_interfaces::{DomainId, Handle, RpcError, RpcResult};
use coppice_net::{NetConfig, NetDevice, NetError, NetInfo, NetQueue, QueueDepth, Statistics};
use coppice_runtime::sync::{Mutex, MutexGuard};
use coppice_runtime::time;
use coppice_shadow_queue::{CallError, Driver, KnownDevice, OtherDevice, Timeouts, pause_before_retry};

use crate::statistics::StatisticsSum;

/// The time that a driver may take to close the previous queue. After it, other clients hold the queues.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(20);

/// The device, as seen across driver restarts.
pub(crate) struct Device {
    driver: Driver<dyn NetDevice>,
    pub(crate) timeouts: Timeouts,
    /// The count of [`Statistics::crashed`].
    crashed: AtomicU64,
    /// Locked during calls to the driver, but not during the wait for a restart.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: KnownDevice<NetInfo>,
    /// The last configuration that the driver accepted.
    config: Option<NetConfig>,
    /// The instance of the driver that was checked against the one and configured with the other.
    ready: Option<DomainId>,
    statistics: StatisticsSum,
}

/// An error of a call to the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TargetError {
    /// No driver answered in time; a later one may.
    Unavailable,
    /// The call itself cannot be made; a restart of the driver does not help.
    Rpc(RpcError),
    /// The driver has refused.
    Refused(NetError),
    /// The restarted driver has another device.
    OtherDevice,
}

impl From<CallError> for TargetError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoDriver(_) => Self::Unavailable,
            CallError::Rpc(error) => Self::Rpc(error),
        }
    }
}

impl From<OtherDevice> for TargetError {
    fn from(OtherDevice: OtherDevice) -> Self {
        Self::OtherDevice
    }
}

impl Device {
    pub(crate) fn new(target: Handle<dyn NetDevice>, timeouts: Timeouts) -> Self {
        let (driver, crashed) = (Driver::new(target), AtomicU64::new(0));
        Self { driver, timeouts, crashed, state: Mutex::default() }
    }

    /// Calls the driver once it is configured. If it crashes, waits for the restart and repeats the call,
    /// until `deadline`.
    fn call<R>(
        &self,
        deadline: Duration,
        mut call: impl FnMut(&dyn NetDevice, &mut State) -> RpcResult<R>,
    ) -> Result<R, TargetError> {
        // The state is unlocked at the end of each attempt, before the wait for a restart.
        self.driver.call(deadline, |target| {
            let mut state = match self.lock_until(deadline) {
                Ok(state) => state,
                Err(error) => return Ok(Err(error)),
            };
            match self.prepare(&mut state)? {
                Ok(()) => call(target, &mut state).map(Ok),
                Err(error) => Ok(Err(error)),
            }
        })?
    }

    /// Locks the state, unless another thread holds it until `deadline`: its call to the driver may take
    /// long.
    fn lock_until(&self, deadline: Duration) -> Result<MutexGuard<'_, State>, TargetError> {
        loop {
            if let Some(state) = self.state.try_lock() {
                return Ok(state);
            }
            if !pause_before_retry(deadline) {
                return Err(TargetError::Unavailable);
            }
        }
    }

    /// Checks that the present instance has the same device, and applies the configuration, unless that was
    /// done before.
    fn prepare(&self, state: &mut State) -> RpcResult<Result<(), TargetError>> {
        loop {
            let instance = self.driver.instance();
            if state.ready == Some(instance) {
                return Ok(Ok(()));
            }
            let target = self.driver.interface();
            if let Err(error) = state.known.check(target.info()?) {
                return Ok(Err(error.into()));
            }
            if let Some(config) = state.config
                && let Err(error) = target.configure(config)?
            {
                log::error!("the restarted driver refuses the configuration: {error}");
                return Ok(Err(TargetError::Refused(error)));
            }
            // After a restart in between, the new instance has received only a part of these calls.
            if self.driver.instance() == instance {
                state.ready = Some(instance);
            }
        }
    }

    /// Like [`Self::call`], for methods without errors of their own. Without a driver in time, returns the
    /// RPC error of one last attempt.
    fn call_infallible<R>(
        &self,
        deadline: Duration,
        call: impl Fn(&dyn NetDevice, &State) -> RpcResult<R>,
    ) -> RpcResult<R> {
        match self.call(deadline, |target, state| call(target, state)) {
            Ok(answer) => Ok(answer),
            Err(TargetError::Rpc(error)) => Err(error),
            Err(_) => call(self.driver.interface(), &self.state.lock()),
        }
    }

    /// Returns the device's description. Only the first call reaches the driver.
    pub(crate) fn info(&self, deadline: Duration) -> RpcResult<NetInfo> {
        if let Some(known) = self.state.lock().known.get() {
            return Ok(known);
        }
        self.call_infallible(deadline, |target, state| state.known.get().map_or_else(|| target.info(), Ok))
    }

    /// Calls a method that changes no state of the device.
    pub(crate) fn query<R>(
        &self,
        deadline: Duration,
        call: impl Fn(&dyn NetDevice) -> RpcResult<Result<R, NetError>>,
    ) -> Result<R, TargetError> {
        self.call(deadline, |target, _| call(target))?.map_err(TargetError::Refused)
    }

    /// Returns the statistics over all instances of the driver.
    pub(crate) fn statistics(&self, deadline: Duration) -> Result<Statistics, TargetError> {
        loop {
            let counted = self.call(deadline, |target, state| {
                let counted = target.statistics()?;
                // After a restart in between, the values may be those of an instance other than `ready`.
                let is_known = state.ready == Some(self.driver.instance());
                Ok(counted.map(|count| is_known.then(|| state.statistics.record(state.ready, count))))
            })?;
            match counted {
                Ok(Some(sum)) => {
                    let crashed = sum.crashed.wrapping_add(self.crashed.load(Ordering::Relaxed));
                    return Ok(Statistics { crashed, ..sum });
                }
                Ok(None) if time::now() < deadline => {}
                Ok(None) => return Err(TargetError::Unavailable),
                Err(error) => return Err(TargetError::Refused(error)),
            }
        }
    }

    /// Counts packets to send that a crash of the driver took.
    pub(crate) fn count_crashed(&self, packets: usize) {
        self.crashed.fetch_add(packets as u64, Ordering::Relaxed);
    }

    /// Returns the recorded configuration, or the driver's own if no client has set one.
    pub(crate) fn config(&self, deadline: Duration) -> RpcResult<NetConfig> {
        if let Some(config) = self.state.lock().config {
            return Ok(config);
        }
        self.call_infallible(deadline, |target, _| target.config())
    }

    /// Configures the device, now and after each restart of the driver.
    pub(crate) fn configure(&self, config: NetConfig, deadline: Duration) -> Result<(), TargetError> {
        let answer = self.call(deadline, |target, state| {
            let answer = target.configure(config)?;
            if answer.is_ok() {
                state.config = Some(config);
            }
            Ok(answer)
        })?;
        answer.map_err(TargetError::Refused)
    }

    /// Opens a queue of the present instance, or of one that starts before `deadline`.
    pub(crate) fn open(
        &self,
        depth: QueueDepth,
        deadline: Duration,
    ) -> Result<Handle<dyn NetQueue>, TargetError> {
        let retry_until = deadline.min(time::now().saturating_add(CLOSE_TIMEOUT));
        loop {
            let answer = self.call(deadline, |target, state| {
                let answer = target.open(depth)?;
                if answer.as_ref().is_ok_and(|queue| state.ready != Some(queue.instance())) {
                    // The queue is one of an instance that has just started: configure that before the first
                    // use. To drop the queue and to open another would be wrong: a queue is closed some time
                    // after the drop, and only the first of a device's queues gets all frames.
                    let _error = self.prepare(state)?;
                }
                // A queue of an instance that could not be configured is useless; the next attempt returns
                // the error.
                Ok(answer.map(|queue| (state.ready == Some(queue.instance())).then_some(queue)))
            })?;
            match answer {
                Ok(Some(queue)) => return Ok(queue),
                Ok(None) => {}
                Err(NetError::NoQueue { .. } | NetError::Device { .. })
                    if pause_before_retry(retry_until) => {}
                Err(error) => return Err(TargetError::Refused(error)),
            }
        }
    }
}
