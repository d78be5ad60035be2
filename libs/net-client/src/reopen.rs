//! What a port does when its queue is gone: the domain that it is wired to has died.
//!
//! Behind a shadow that is the shadow's death and rare; a client that is wired to a driver meets each crash of that here. The
//! device is set up again before the queue is opened, if the client has set it up.

use core::time::Duration;

use coppice_interfaces::{CrashKind, Handle, RpcError};
use coppice_net::{FIRST_EPOCH, NetError, NetQueue, QueueState};
use coppice_runtime::time;

use crate::PortError;
use crate::port::{Port, Turn};

/// How long to leave alone a driver that is there and has no queue for us yet: it is closing the one before.
const SETTLE: Duration = Duration::from_micros(50);

/// After so long without a queue it is said that there will hardly be one again.
const PATIENCE: Duration = Duration::from_secs(5);

impl Port {
    /// Ends an exchange whose call did not return: the queue is gone, with all packets that it had. If the next queue opens in time, it is
    /// used by the next exchange and not by this one, so that a driver that dies in each exchange does not make calls nest.
    #[cold]
    #[inline(never)]
    pub(crate) fn lose_queue(&mut self, error: RpcError, wait_until_ns: u64) -> Result<Turn, PortError> {
        self.queue = None;
        self.await_packets();
        if !self.is_over(error) {
            return Err(PortError::Rpc(error));
        }
        self.down_since.get_or_insert_with(time::now);
        let state = self.reconnect(wait_until_ns)?;
        Ok(Turn { is_new: true, ..self.idle_turn(state) })
    }

    /// An exchange without a queue: with the next one, if that comes in time.
    #[cold]
    #[inline(never)]
    pub(crate) fn exchange_later(&mut self, wait_until_ns: u64) -> Result<Turn, PortError> {
        match self.reconnect(wait_until_ns)? {
            QueueState::Running => self.exchange(wait_until_ns),
            state => Ok(self.idle_turn(state)),
        }
    }

    /// Opens the next queue, if there is one in time. Returns the state of the port afterwards.
    fn reconnect(&mut self, wait_until_ns: u64) -> Result<QueueState, PortError> {
        if let Some(queue) = self.reopen(Duration::from_nanos(wait_until_ns))? {
            self.queue = Some(queue);
            self.epoch = FIRST_EPOCH;
            self.down_since = None;
            return Ok(QueueState::Running);
        }
        let down = *self.down_since.get_or_insert_with(time::now);
        let is_gone = time::now().saturating_sub(down) >= PATIENCE;
        Ok(if is_gone { QueueState::Gone } else { QueueState::Recovering })
    }

    /// The result of an exchange in which no queue took part.
    fn idle_turn(&mut self, state: QueueState) -> Turn {
        // The received frames are over by now, as after any exchange.
        self.drop_received();
        let (returned, unsent) = self.outgoing_len();
        Turn { received: 0, returned, unsent, written: 0, state, is_new: false }
    }

    /// Whether `error` says that a instance of the device's domain is over. All else would fail again.
    fn is_over(&self, error: RpcError) -> bool {
        error.domain().slot() == self.net.instance().slot() && error.kind() != CrashKind::NoStack
    }

    /// A queue of the present instance, or of the next one that comes before `until`.
    fn reopen(&mut self, until: Duration) -> Result<Option<Handle<dyn NetQueue>>, PortError> {
        loop {
            match self.set_up_and_open() {
                Ok(queue) => return Ok(Some(queue)),
                Err(PortError::Rpc(error)) if self.is_over(error) => {
                    let until_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
                    if time::now() >= until || !self.net.await_instance(error.domain(), until_ns) {
                        return Ok(None);
                    }
                }
                Err(PortError::Net(
                    NetError::NoQueue { .. } | NetError::Device { .. } | NetError::Gone { .. },
                )) => {
                    if time::now() >= until {
                        return Ok(None);
                    }
                    time::sleep(SETTLE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn set_up_and_open(&self) -> Result<Handle<dyn NetQueue>, PortError> {
        if let Some(config) = self.config {
            self.net.configure(config)??;
        }
        Ok(self.net.open(self.depth)??)
    }
}
