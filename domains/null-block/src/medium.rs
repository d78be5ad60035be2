//! [`Medium`]: what takes the place of a device.

use alloc::boxed::Box;

use coppice_interfaces::BlockError;
use coppice_interfaces::block::{BlockInfo, Operation, Request};
use coppice_rref::Lent;

use crate::options::Options;

/// What is behind a disk.
pub trait Medium: Send + Sync {
    /// What the disk says of itself.
    fn info(&self) -> BlockInfo;

    /// A way to it for one queue.
    ///
    /// # Errors
    /// Why there is none.
    fn open(&self) -> Result<Box<dyn Channel>, BlockError>;
}

/// One queue's way to a medium.
pub trait Channel: Send {
    /// Does what `request` asks for, which has been checked against the disk, and answers nothing.
    ///
    /// # Errors
    /// Why it is not done.
    fn perform(&mut self, operation: Operation, request: &mut Lent<Request>) -> Result<(), BlockError>;
}

/// Neither takes nor gives data.
pub(crate) struct Nothing(BlockInfo);

impl Nothing {
    pub(crate) fn new(options: &Options) -> Self {
        Self(options.info())
    }
}

impl Medium for Nothing {
    fn info(&self) -> BlockInfo {
        self.0
    }
    fn open(&self) -> Result<Box<dyn Channel>, BlockError> {
        Ok(Box::new(Void))
    }
}

struct Void;

impl Channel for Void {
    fn perform(&mut self, _: Operation, _: &mut Lent<Request>) -> Result<(), BlockError> {
        Ok(())
    }
}
