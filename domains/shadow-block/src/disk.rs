//! [`Disk`]: the device behind the shadow, as seen across driver restarts. [`Shadow`]: the exported object.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_block::{BlockDevice, BlockError, BlockInfo, BlockQueue, Health, OpenError};
use coppice_interfaces::{Handle, RpcError, RpcResult};
use coppice_runtime::sync::Mutex;
use coppice_shadow_queue::{CallError, Driver, KnownDevice, OtherDevice, Timeouts, pause_before_retry};

use crate::queue::Queue;

/// The device, as seen across driver restarts.
pub(crate) struct Disk {
    driver: Driver<dyn BlockDevice>,
    pub(crate) timeouts: Timeouts,
    known: Mutex<KnownDevice<BlockInfo>>,
}

/// The reason why no queue was opened.
pub(crate) enum NoQueue {
    /// No driver answered; a later one may.
    NoDriver(RpcError),
    /// The driver has refused.
    Refused(OpenError),
    /// The restarted driver has another disk.
    OtherDisk,
}

impl From<CallError> for NoQueue {
    fn from(error: CallError) -> Self {
        Self::NoDriver(error.into())
    }
}

impl From<OtherDevice> for NoQueue {
    fn from(OtherDevice: OtherDevice) -> Self {
        Self::OtherDisk
    }
}

impl Disk {
    pub(crate) fn new(target: Handle<dyn BlockDevice>, timeouts: Timeouts) -> Self {
        Self { driver: Driver::new(target), timeouts, known: Mutex::default() }
    }

    /// Returns the disk's description. Only the first call reaches the driver.
    fn info(&self, deadline: Duration) -> Result<BlockInfo, CallError> {
        if let Some(info) = self.known.lock().get() {
            return Ok(info);
        }
        let info = self.driver.call(deadline, |target| target.info())?;
        // Of two concurrent calls, the first answer counts for both.
        Ok(self.known.lock().record(info))
    }

    /// Opens a queue of the present driver, or of one that starts before `deadline`, if it has the same disk.
    pub(crate) fn open(&self, depth: u32, deadline: Duration) -> Result<Handle<dyn BlockQueue>, NoQueue> {
        self.info(deadline)?;
        loop {
            let instance = self.driver.instance();
            let info = self.driver.call(deadline, |target| target.info())?;
            self.known.lock().check(info)?;
            match self.driver.call(deadline, |target| target.open(depth))? {
                Ok(queue) if queue.instance() == instance => return Ok(queue),
                // After a restart in between, the queue is one of an instance whose disk is not checked.
                Ok(_) => {}
                Err(OpenError::NoQueue { .. } | OpenError::Device(_)) if pause_before_retry(deadline) => {}
                Err(error) => return Err(NoQueue::Refused(error)),
            }
        }
    }
}

/// The domain's export.
pub(crate) struct Shadow(pub(crate) Arc<Disk>);

impl BlockDevice for Shadow {
    fn info(&self) -> RpcResult<BlockInfo> {
        Ok(self.0.info(self.0.timeouts.deadline())?)
    }

    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>> {
        let deadline = self.0.timeouts.deadline();
        let most = self.0.info(deadline)?.queue_depth;
        if depth == 0 || depth > most {
            return Ok(Err(OpenError::Depth { depth, most }));
        }
        match self.0.open(depth, deadline) {
            Ok(queue) => Ok(Ok(<dyn BlockQueue>::export(Queue::new(self.0.clone(), queue, depth)))),
            Err(NoQueue::NoDriver(error)) => Err(error),
            Err(NoQueue::Refused(error)) => Ok(Err(error)),
            Err(NoQueue::OtherDisk) => Ok(Err(OpenError::Device(BlockError::Gone { waited_ns: 0 }))),
        }
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        Ok(self.0.driver.call(self.0.timeouts.deadline(), |target| target.health())?)
    }
}
