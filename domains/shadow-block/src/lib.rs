//! A shadow of a block device: requests survive crashes of its driver.
//!
//! The shadow stands between clients and the driver, with the same interface on both sides. It lends each
//! client's request on to the driver and keeps the subloan. When the driver crashes, all subloans are
//! redeemable: the shadow submits the same objects, with the same bytes, to the restarted driver, in the
//! order in which they came. The clients notice a pause. On the healthy path a request costs one crossing, no
//! lock and no allocation.
//!
//! - [`disk`]: the device as a whole: its identity, the queues that its driver opens, and the exported
//!   object.
//! - [`queue`]: one queue: the healthy path, and the recovery after a crash of the driver.
//! - [`requests`]: the requests of one queue, on the in-flight table of `coppice-block-client`.
//!
//! The phases of a queue and the calls that survive a restart are those of `coppice-shadow-queue`.
//!
//! Arguments: `recovery-timeout=5s`, the time without an answer after which requests fail with
//! [`BlockError::Gone`](coppice_block::BlockError::Gone); `max-wait=50ms`, the maximum wait of one
//! exchange. The domain's own `deadline`, if it has one, must be longer than `max-wait`. It must be longer
//! than `recovery-timeout` too if clients call methods other than `exchange`, which wait for a driver for
//! that time.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod disk;
mod queue;
mod requests;

use alloc::sync::Arc;

use coppice_block::BlockDevice;
use coppice_interfaces::{Handle, Imports};
use coppice_runtime::{Domain, Environment, StartError};
use coppice_shadow_queue::Timeouts;

use disk::{Disk, Shadow};

/// The domain.
pub struct ShadowBlockDomain;

/// The imports.
#[derive(Imports)]
pub struct Wires {
    /// The driver.
    target: Handle<dyn BlockDevice>,
}

impl Domain for ShadowBlockDomain {
    type Imports = Wires;
    type Export = Handle<dyn BlockDevice>;

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<Self::Export, StartError> {
        let timeouts = Timeouts::parse(environment)?;
        Ok(<dyn BlockDevice>::export(Shadow(Arc::new(Disk::new(wires.target, timeouts)))))
    }
}
