//! A network device with a hook around its exchanges.

use coppice_interfaces::{Handle, RpcResult};
use coppice_net::{
    Batch, Busy, Exchanged, Link, NetConfig, NetDevice, NetError, NetInfo, NetQueue, QueueDepth, Statistics,
};
use coppice_rref::RRef;

use crate::{Hook, Interposable};

impl Interposable for Handle<dyn NetDevice> {
    fn interposed<H: Hook + Clone>(self, hook: H) -> Self {
        <dyn NetDevice>::export(Interposed { net: self, hook })
    }
}

struct Interposed<H> {
    net: Handle<dyn NetDevice>,
    hook: H,
}

impl<H: Hook + Clone> NetDevice for Interposed<H> {
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
        Ok(opened.map(|queue| <dyn NetQueue>::export(InterposedQueue { queue, hook: self.hook.clone() })))
    }
}

struct InterposedQueue<H> {
    queue: Handle<dyn NetQueue>,
    hook: H,
}

impl<H: Hook> NetQueue for InterposedQueue<H> {
    fn exchange(
        &self,
        send: RRef<Batch>,
        receive: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<Exchanged, Busy>> {
        self.hook.before_exchange();
        let exchanged = self.queue.exchange(send, receive, wait_until_ns);
        // The result is passed on as it is: `?` would write it again, which costs 22 instructions.
        if exchanged.is_ok() {
            self.hook.after_exchange();
        }
        exchanged
    }
}
