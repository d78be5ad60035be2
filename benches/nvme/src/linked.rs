//! [`Linked`]: the driver as a library of this domain, as in a program without isolation.

use coppice_block::{BlockInfo, Operation, Request};
use coppice_hardware::Device;
use coppice_rref::RRef;
use nvme_driver::{Command, Completion, Controller, IoQueue, Options};

use crate::path::{Failure, RequestPath, Requests};

/// One queue of a controller of our own.
pub(crate) struct Linked {
    queue: IoQueue<RRef<Request>>,
    /// Owns the controller while the queue is open.
    _controller: Controller,
}

impl Linked {
    /// Starts the controller. Its disk must have the format of `like`, so that figures can be compared.
    pub(crate) fn open(device: Device, depth: usize, like: &BlockInfo) -> Result<Self, Failure> {
        let controller = Controller::new(device, Options::default()).map_err(Failure::Driver)?;
        let namespace = controller.namespaces().first().ok_or(Failure::NoDisk)?;
        if (namespace.block_bytes(), namespace.blocks()) != (like.block_bytes, like.blocks) {
            return Err(Failure::Unlike { block_bytes: namespace.block_bytes(), blocks: namespace.blocks() });
        }
        let queue = controller.open_queue(namespace, depth as u16).map_err(Failure::Driver)?;
        Ok(Self { queue, _controller: controller })
    }

    /// Takes completed requests. Returns the error of the first failed one.
    #[inline]
    fn collect(&mut self, done: &mut Requests) -> Result<(), Failure> {
        let mut failure = None;
        let polled = self.queue.poll(usize::MAX, |Completion { token, buffer, outcome }| match outcome {
            Ok(()) => done.extend(buffer),
            Err(error) => failure = Some(Failure::Command { tag: token, error }),
        });
        polled.map_err(Failure::Fault)?;
        failure.map_or(Ok(()), Err)
    }
}

impl RequestPath for Linked {
    #[inline]
    fn exchange(
        &mut self,
        ready: &mut Requests,
        done: &mut Requests,
        wait_until_ns: u64,
    ) -> Result<(), Failure> {
        for request in ready.drain(..) {
            let head = request.head();
            let (tag, lba, blocks) = (head.tag(), head.lba(), head.blocks());
            let command = match head.operation() {
                Ok(Operation::Read) => Command::read(lba, blocks),
                Ok(Operation::Write) => Command::write(lba, blocks),
                Ok(_) => Command::flush(),
                Err(error) => return Err(Failure::Answer { tag, error }),
            };
            let submitted = self.queue.submit(command, Some(request), tag);
            submitted.map_err(|refused| Failure::Refused { tag, error: refused.error })?;
        }
        self.queue.ring();
        self.collect(done)?;
        if done.is_empty() && wait_until_ns > 0 && self.queue.wait(wait_until_ns).map_err(Failure::Fault)? {
            self.collect(done)?;
        }
        Ok(())
    }
}
