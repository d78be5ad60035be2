//! [`Service`]: the disk as others see it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_interfaces::block::{Block, BlockInfo, BlockQueue, Health, OpenError};
use coppice_interfaces::{BlockError, Handle, RpcResult, Text};

use crate::medium::Medium;
use crate::options::{Frail, Habits};
use crate::queue::Queue;

/// A disk without a device: a medium, and habits.
pub struct Service {
    medium: Arc<dyn Medium>,
    habits: Habits,
    open: Arc<AtomicU32>,
}

impl Service {
    /// A disk over `medium`.
    pub fn new(medium: Arc<dyn Medium>, habits: Habits) -> Self {
        Self { medium, habits, open: Arc::new(AtomicU32::new(0)) }
    }

    fn fail_in(&self, place: Frail) {
        assert!(self.habits.frail != Some(place), "this life is frail");
    }
}

impl Block for Service {
    fn info(&self) -> RpcResult<BlockInfo> {
        self.fail_in(Frail::Info);
        let mut info = self.medium.info();
        if self.habits.moody {
            info.identity.serial = Text::format(format_args!("{}", self.habits.generation));
        }
        Ok(info)
    }

    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>> {
        self.fail_in(Frail::Open);
        let info = self.medium.info();
        if depth == 0 || depth > info.queue_depth {
            return Ok(Err(OpenError::Depth { depth, most: info.queue_depth }));
        }
        let Some(place) = Place::take(&self.open, info.queues) else {
            return Ok(Err(OpenError::NoQueue { queues: info.queues }));
        };
        match self.medium.open() {
            Ok(channel) => Ok(Ok(<dyn BlockQueue>::export(Queue::new(
                info,
                channel,
                depth as usize,
                self.habits,
                place,
            )))),
            Err(error) => Ok(Err(OpenError::Device(error))),
        }
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        // Memory does not wear out.
        Ok(Ok(Health { available_spare: 100, ..Health::default() }))
    }
}

/// One of as many queues as a disk has.
pub(crate) struct Place(Arc<AtomicU32>);

impl Place {
    fn take(open: &Arc<AtomicU32>, most: u32) -> Option<Self> {
        let take = |count| (count < most).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Self(open.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
