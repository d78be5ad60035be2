//! A block device with fault injection around its exchanges.

use alloc::sync::Arc;

use coppice_block::{Batch, BlockDevice, BlockError, BlockInfo, BlockQueue, Busy, Health, OpenError};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::RRef;

use crate::trigger::{Injectable, Trigger};

impl Injectable for Handle<dyn BlockDevice> {
    fn guarded(self, trigger: Arc<Trigger>) -> Self {
        <dyn BlockDevice>::export(Faulty { block: self, trigger })
    }
}

struct Faulty {
    block: Handle<dyn BlockDevice>,
    trigger: Arc<Trigger>,
}

impl BlockDevice for Faulty {
    fn info(&self) -> RpcResult<BlockInfo> {
        self.block.info()
    }

    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>> {
        let opened = self.block.open(depth)?;
        Ok(opened.map(|queue| <dyn BlockQueue>::export(FaultyQueue { queue, trigger: self.trigger.clone() })))
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        self.block.health()
    }
}

struct FaultyQueue {
    queue: Handle<dyn BlockQueue>,
    trigger: Arc<Trigger>,
}

impl BlockQueue for FaultyQueue {
    fn exchange(&self, batch: RRef<Batch>, wait_until_ns: u64) -> RpcResult<Result<RRef<Batch>, Busy>> {
        self.trigger.check(false);
        let completed = self.queue.exchange(batch, wait_until_ns)?;
        self.trigger.check(true);
        Ok(completed)
    }
}
