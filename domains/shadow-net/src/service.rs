//! [`Shadow`]: the device as clients see it.

use alloc::sync::Arc;
use core::time::Duration;

use coppice_interfaces::{Handle, RpcResult};
use coppice_net::{Link, NetConfig, NetDevice, NetError, NetInfo, NetQueue, QueueDepth, Statistics};
use coppice_runtime::time;

use crate::device::{Device, Trouble, nanoseconds};
use crate::queue::Queue;

/// What the domain exports.
pub(crate) struct Shadow(pub(crate) Arc<Device>);

impl Shadow {
    fn deadline(&self) -> Duration {
        time::now().saturating_add(self.0.patience)
    }

    /// What a client hears of an answer that there is or is not.
    fn say<R>(&self, answer: Result<R, Trouble>) -> RpcResult<Result<R, NetError>> {
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(Trouble::Rpc(error)) => Err(error),
            Err(Trouble::Refused(error)) => Ok(Err(error)),
            Err(Trouble::NotYet) => Ok(Err(NetError::Gone { waited_ns: nanoseconds(self.0.patience) })),
            Err(Trouble::AnotherDevice) => Ok(Err(NetError::Gone { waited_ns: 0 })),
        }
    }
}

impl NetDevice for Shadow {
    fn info(&self) -> RpcResult<NetInfo> {
        self.0.info(self.deadline())
    }

    fn link(&self) -> RpcResult<Result<Link, NetError>> {
        self.say(self.0.look(self.deadline(), |target| target.link()))
    }

    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>> {
        self.say(self.0.statistics(self.deadline()))
    }

    fn config(&self) -> RpcResult<NetConfig> {
        self.0.config(self.deadline())
    }

    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>> {
        self.say(self.0.configure(config, self.deadline()))
    }

    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>> {
        let opened = self.0.open(depth, self.deadline());
        let export = |queue| <dyn NetQueue>::export(Queue::new(self.0.clone(), queue, depth));
        self.say(opened.map(export))
    }
}
