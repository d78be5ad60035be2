//! [`Shadow`]: the exported object, the device as its clients see it.

use alloc::sync::Arc;

use coppice_interfaces::{Handle, RpcResult};
use coppice_net::{Link, NetConfig, NetDevice, NetError, NetInfo, NetQueue, QueueDepth, Statistics};
use coppice_shadow_queue::nanoseconds;

use crate::device::{Device, TargetError};
use crate::queue::Queue;

/// The domain's export.
pub(crate) struct Shadow(pub(crate) Arc<Device>);

impl Shadow {
    /// Returns the result for a client: calls that fail are RPC errors, all other errors are those of the
    /// device.
    fn reply<R>(&self, answer: Result<R, TargetError>) -> RpcResult<Result<R, NetError>> {
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(TargetError::Rpc(error)) => Err(error),
            Err(TargetError::Refused(error)) => Ok(Err(error)),
            Err(TargetError::Unavailable) => {
                Ok(Err(NetError::Gone { waited_ns: nanoseconds(self.0.timeouts.recovery) }))
            }
            Err(TargetError::OtherDevice) => Ok(Err(NetError::Gone { waited_ns: 0 })),
        }
    }
}

impl NetDevice for Shadow {
    fn info(&self) -> RpcResult<NetInfo> {
        self.0.info(self.0.timeouts.deadline())
    }

    fn link(&self) -> RpcResult<Result<Link, NetError>> {
        self.reply(self.0.query(self.0.timeouts.deadline(), |target| target.link()))
    }

    fn statistics(&self) -> RpcResult<Result<Statistics, NetError>> {
        self.reply(self.0.statistics(self.0.timeouts.deadline()))
    }

    fn config(&self) -> RpcResult<NetConfig> {
        self.0.config(self.0.timeouts.deadline())
    }

    fn configure(&self, config: NetConfig) -> RpcResult<Result<(), NetError>> {
        self.reply(self.0.configure(config, self.0.timeouts.deadline()))
    }

    fn open(&self, depth: QueueDepth) -> RpcResult<Result<Handle<dyn NetQueue>, NetError>> {
        let opened = self.0.open(depth, self.0.timeouts.deadline());
        let export = |queue| <dyn NetQueue>::export(Queue::new(self.0.clone(), queue, depth));
        self.reply(opened.map(export))
    }
}
