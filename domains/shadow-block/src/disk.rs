//! [`Disk`]: the device behind the shadow, through all lives of its driver.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_block::{BlockDevice, BlockError, BlockInfo, BlockQueue, Health, OpenError};
use coppice_interfaces::{CrashKind, Handle, RpcError, RpcResult};
use coppice_runtime::sync::Mutex;
use coppice_runtime::time;

use crate::queue::Queue;

/// How long to let a driver be that is there and has no queue for us yet: it is closing the one before.
const SETTLE: Duration = Duration::from_micros(50);

/// The device, of which one driver after the other says that it has it.
pub(crate) struct Disk {
    target: Handle<dyn BlockDevice>,
    pub(crate) patience: Duration,
    pub(crate) most_wait: Duration,
    /// What the first driver that answered has said. It is the same disk as long as the others say the same.
    known: Mutex<Option<BlockInfo>>,
}

/// Why there is no queue.
pub(crate) enum NoQueue {
    /// There may be one later.
    NotYet(RpcError),
    /// Not of this driver, for another reason.
    Refused(OpenError),
    /// It is another disk.
    AnotherDisk,
}

impl Disk {
    pub(crate) fn new(target: Handle<dyn BlockDevice>, patience: Duration, most_wait: Duration) -> Self {
        Self { target, patience, most_wait, known: Mutex::new(None) }
    }

    /// Calls the driver, and the next one if that dies, until `deadline`.
    fn ask<R>(&self, deadline: Duration, call: impl Fn(&dyn BlockDevice) -> RpcResult<R>) -> RpcResult<R> {
        loop {
            match call(&*self.target) {
                Err(error) if self.is_over(error) => {
                    if !self.target.await_instance(error.domain(), nanoseconds(deadline)) {
                        return Err(error);
                    }
                }
                answer => return answer,
            }
        }
    }

    /// Whether `error` says that a instance of the driver is over. All else would fail again.
    fn is_over(&self, error: RpcError) -> bool {
        error.domain().slot() == self.target.instance().slot() && error.kind() != CrashKind::NoStack
    }

    /// What the disk is. After the first answer nobody is asked.
    fn info(&self, deadline: Duration) -> RpcResult<BlockInfo> {
        if let Some(info) = *self.known.lock() {
            return Ok(info);
        }
        let info = self.ask(deadline, |target| target.info())?;
        // Two may have asked at once; the first answer counts for both.
        Ok(*self.known.lock().get_or_insert(info))
    }

    /// A queue of the present driver's, or of the next one that comes before `deadline`; if it has the same disk.
    pub(crate) fn open(&self, depth: u32, deadline: Duration) -> Result<Handle<dyn BlockQueue>, NoQueue> {
        let known = self.info(deadline).map_err(NoQueue::NotYet)?;
        loop {
            let instance = self.target.instance();
            let info = self.ask(deadline, |target| target.info()).map_err(NoQueue::NotYet)?;
            if info != known {
                log::error!("the driver has another disk now: {info:?}");
                log::error!("and not: {known:?}");
                return Err(NoQueue::AnotherDisk);
            }
            match self.ask(deadline, |target| target.open(depth)).map_err(NoQueue::NotYet)? {
                Ok(queue) if queue.instance() == instance => return Ok(queue),
                // Another instance, which may have been asked for nothing but this queue.
                Ok(_) => {}
                Err(OpenError::NoQueue { .. } | OpenError::Device(_)) if time::now() < deadline => {
                    time::sleep(SETTLE)
                }
                Err(error) => return Err(NoQueue::Refused(error)),
            }
        }
    }
}

/// What the shadow exports.
pub(crate) struct Shadow(pub(crate) Arc<Disk>);

impl Shadow {
    fn deadline(&self) -> Duration {
        time::now().saturating_add(self.0.patience)
    }
}

impl BlockDevice for Shadow {
    fn info(&self) -> RpcResult<BlockInfo> {
        self.0.info(self.deadline())
    }

    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>> {
        let deadline = self.deadline();
        let most = self.0.info(deadline)?.queue_depth;
        if depth == 0 || depth > most {
            return Ok(Err(OpenError::Depth { depth, most }));
        }
        match self.0.open(depth, deadline) {
            Ok(queue) => Ok(Ok(<dyn BlockQueue>::export(Queue::new(self.0.clone(), queue, depth)))),
            Err(NoQueue::NotYet(error)) => Err(error),
            Err(NoQueue::Refused(error)) => Ok(Err(error)),
            Err(NoQueue::AnotherDisk) => Ok(Err(OpenError::Device(BlockError::Gone { waited_ns: 0 }))),
        }
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        self.0.ask(self.deadline(), |target| target.health())
    }
}

pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
