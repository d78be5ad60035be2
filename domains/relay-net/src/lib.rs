//! Hands each call on to another network device, as it is: one crossing more on the way, for measuring what that costs.

#![no_std]
#![forbid(unsafe_code)]

use coppice_interfaces::net::{
    Batch, Busy, Exchanged, Link, Net, NetConfig, NetError, NetInfo, NetQueue, QueueDepth, Statistics,
};
use coppice_interfaces::{Handle, Imports, RpcResult};
use coppice_rref::RRef;
use coppice_runtime::{Domain, Environment};

/// The domain.
pub struct RelayNetDomain;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    /// Where calls go.
    pub next: Handle<dyn Net>,
}

impl Domain for RelayNetDomain {
    type Imports = Wires;
    type Export = Handle<dyn Net>;

    fn start(_: &Environment<'_>, wires: Wires) -> Self::Export {
        <dyn Net>::export(Relay { next: wires.next })
    }
}

struct Relay {
    next: Handle<dyn Net>,
}

impl Net for Relay {
    fn info(&self) -> RpcResult<NetInfo> {
        self.next.info()
    }

    fn link(&self) -> RpcResult<Result<Link, NetError>> {
        self.next.link()
    }

    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>> {
        self.next.statistics()
    }

    fn config(&self) -> RpcResult<NetConfig> {
        self.next.config()
    }

    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>> {
        self.next.configure(config)
    }

    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>> {
        // The queue, too, is one of ours: exchanges are what is measured.
        Ok(self.next.open(depth)?.map(|queue| <dyn NetQueue>::export(RelayQueue { next: queue })))
    }
}

struct RelayQueue {
    next: Handle<dyn NetQueue>,
}

impl NetQueue for RelayQueue {
    fn exchange(
        &self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>> {
        self.next.exchange(send, receive, wait_until_ns)
    }
}
