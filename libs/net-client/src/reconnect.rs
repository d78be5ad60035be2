//! Recovery of a client whose queue is lost because the domain that it is wired to has crashed.
//!
//! A client behind a shadow gets here only when the shadow crashes, which is rare; a client that is wired to
//! a driver, at each crash of the driver. If the client has configured the device, it does so again before it
//! opens the queue.

use core::time::Duration;

use coppice_interfaces::{CrashKind, Handle, RpcError};
use coppice_net::{FIRST_EPOCH, NetError, NetQueue, QueueState};
use coppice_runtime::time;

use crate::NetClientError;
use crate::client::{ExchangeReport, NetClient};

/// The pause before another attempt with a running driver that has no free queue yet: it is closing the
/// previous one.
const RETRY_DELAY: Duration = Duration::from_micros(50);

/// The time without a queue after which its state is reported as [`QueueState::Gone`].
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(5);

impl NetClient {
    /// Ends an exchange whose call failed: the queue is lost, with all packets that it held. A new queue that
    /// opens in time is used from the next exchange on and not by this one, so that a driver that crashes in
    /// each exchange causes no recursion.
    #[cold]
    #[inline(never)]
    pub(crate) fn lose_queue(
        &mut self,
        error: RpcError,
        wait_until_ns: u64,
    ) -> Result<ExchangeReport, NetClientError> {
        self.queue = None;
        self.await_packets();
        if !self.is_instance_end(error) {
            return Err(NetClientError::Rpc(error));
        }
        self.down_since.get_or_insert_with(time::now);
        let state = self.reconnect(wait_until_ns)?;
        Ok(ExchangeReport { is_new: true, ..self.idle_report(state) })
    }

    /// Opens a new queue and exchanges with it, if it opens in time.
    #[cold]
    #[inline(never)]
    pub(crate) fn exchange_later(&mut self, wait_until_ns: u64) -> Result<ExchangeReport, NetClientError> {
        match self.reconnect(wait_until_ns)? {
            QueueState::Running => self.exchange(wait_until_ns),
            state => Ok(self.idle_report(state)),
        }
    }

    /// Tries to open a new queue until `wait_until_ns`. Returns the state of the client afterwards.
    fn reconnect(&mut self, wait_until_ns: u64) -> Result<QueueState, NetClientError> {
        if let Some(queue) = self.reopen(Duration::from_nanos(wait_until_ns))? {
            self.queue = Some(queue);
            self.epoch = FIRST_EPOCH;
            self.down_since = None;
            return Ok(QueueState::Running);
        }
        let down = *self.down_since.get_or_insert_with(time::now);
        let has_timed_out = time::now().saturating_sub(down) >= RECOVERY_TIMEOUT;
        Ok(if has_timed_out { QueueState::Gone } else { QueueState::Recovering })
    }

    /// The result of an exchange without a queue.
    fn idle_report(&mut self, state: QueueState) -> ExchangeReport {
        // The received frames end here, as in any exchange.
        self.drop_received();
        let (returned, unsent) = self.outgoing_len();
        ExchangeReport { received: 0, returned, unsent, written: 0, state, is_new: false }
    }

    /// Returns true if `error` reports the end of an instance of the device's domain. Any other error would
    /// recur.
    fn is_instance_end(&self, error: RpcError) -> bool {
        error.domain().slot() == self.net.instance().slot() && error.kind() != CrashKind::NoStack
    }

    /// Opens a queue of the present instance, or of one that starts before `until`.
    fn reopen(&mut self, until: Duration) -> Result<Option<Handle<dyn NetQueue>>, NetClientError> {
        loop {
            match self.configure_and_open() {
                Ok(queue) => return Ok(Some(queue)),
                Err(NetClientError::Rpc(error)) if self.is_instance_end(error) => {
                    let until_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
                    if time::now() >= until || !self.net.await_instance(error.domain(), until_ns) {
                        return Ok(None);
                    }
                }
                Err(NetClientError::Net(
                    NetError::NoQueue { .. } | NetError::Device { .. } | NetError::Gone { .. },
                )) => {
                    if time::now() >= until {
                        return Ok(None);
                    }
                    time::sleep(RETRY_DELAY);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Configures the device, if this client has a configuration, and opens a queue.
    fn configure_and_open(&self) -> Result<Handle<dyn NetQueue>, NetClientError> {
        if let Some(config) = self.config {
            self.net.configure(config)??;
        }
        Ok(self.net.open(self.depth)??)
    }
}
