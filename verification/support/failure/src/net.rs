//! A network device with fault injection around its exchanges.

use alloc::sync::Arc;

use coppice_interfaces::{Handle, RpcResult};
use coppice_net::{
    Batch, Busy, Exchanged, Link, NetConfig, NetDevice, NetError, NetInfo, NetQueue, QueueDepth, Statistics,
};
use coppice_rref::RRef;

use crate::trigger::{Injectable, Trigger};

impl Injectable for Handle<dyn NetDevice> {
    fn guarded(self, trigger: Arc<Trigger>) -> Self {
        <dyn NetDevice>::export(Faulty { net: self, trigger })
    }
}

struct Faulty {
    net: Handle<dyn NetDevice>,
    trigger: Arc<Trigger>,
}

impl NetDevice for Faulty {
    fn info(&self) -> RpcResult<NetInfo> {
        self.net.info()
    }

    fn link(&self) -> RpcResult<Result<Link, NetError>> {
        self.net.link()
    }

    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>> {
        self.net.statistics()
    }

    fn config(&self) -> RpcResult<NetConfig> {
        self.net.config()
    }

    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>> {
        self.net.configure(config)
    }

    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>> {
        let opened = self.net.open(depth)?;
        Ok(opened.map(|queue| <dyn NetQueue>::export(FaultyQueue { queue, trigger: self.trigger.clone() })))
    }
}

struct FaultyQueue {
    queue: Handle<dyn NetQueue>,
    trigger: Arc<Trigger>,
}

impl NetQueue for FaultyQueue {
    fn exchange(
        &self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>> {
        self.trigger.check(false);
        let exchanged = self.queue.exchange(send, receive, wait_until_ns)?;
        self.trigger.check(true);
        Ok(exchanged)
    }
}
