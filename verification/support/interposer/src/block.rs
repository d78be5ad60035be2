//! A block device with a hook around its exchanges.

use coppice_block::{Batch, BlockDevice, BlockError, BlockInfo, BlockQueue, Busy, Health, OpenError};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::RRef;

use crate::{Hook, Interposable};

impl Interposable for Handle<dyn BlockDevice> {
    fn interposed<H: Hook + Clone>(self, hook: H) -> Self {
        <dyn BlockDevice>::export(Interposed { block: self, hook })
    }
}

struct Interposed<H> {
    block: Handle<dyn BlockDevice>,
    hook: H,
}

impl<H: Hook + Clone> BlockDevice for Interposed<H> {
    fn info(&self) -> RpcResult<BlockInfo> {
        self.block.info()
    }

    fn open(&self, depth: u32) -> RpcResult<Result<Handle<dyn BlockQueue>, OpenError>> {
        let opened = self.block.open(depth)?;
        Ok(opened.map(|queue| <dyn BlockQueue>::export(InterposedQueue { queue, hook: self.hook.clone() })))
    }

    fn health(&self) -> RpcResult<Result<Health, BlockError>> {
        self.block.health()
    }
}

struct InterposedQueue<H> {
    queue: Handle<dyn BlockQueue>,
    hook: H,
}

impl<H: Hook> BlockQueue for InterposedQueue<H> {
    fn exchange(&self, batch: RRef<Batch>, wait_until_ns: u64) -> RpcResult<Result<RRef<Batch>, Busy>> {
        self.hook.before_exchange();
        let completed = self.queue.exchange(batch, wait_until_ns);
        if completed.is_ok() {
            self.hook.after_exchange();
        }
        completed
    }
}
