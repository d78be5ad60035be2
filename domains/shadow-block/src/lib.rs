//! Lets requests to a block device survive the crashes of its driver.
//!
//! It stands between clients and the driver with the same interface. Each request that a client has lent to it is lent on,
//! and what it keeps is the claim. When the driver dies, all claims are redeemable: the same objects with the same bytes are
//! submitted to the next instance of the driver, in the order in which they came, and the clients notice a pause. A healthy request
//! costs a crossing and no lock and no allocation.
//!
//! - [`disk`]: the device as a whole, and which one it is.
//! - [`queue`]: one queue: the healthy path.
//! - [`recovery`]: what it does when the driver's queue is lost.
//! - [`slots`]: the requests that it has.
//!
//! The manifest's words: `recovery-timeout=5s`, how long nothing may be answered before requests are given back with
//! [`BlockError::Gone`](coppice_block::BlockError::Gone); `most-wait=50ms`, how long one exchange waits at most, which has to be
//! less than the domain's own `deadline`, if it has one. So have `patience` and calls other than exchanges, which wait for a driver
//! as long as that.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod disk;
mod queue;
mod recovery;
mod slots;

use alloc::sync::Arc;
use core::time::Duration;

use coppice_block::BlockDevice;
use coppice_interfaces::{Handle, Imports};
use coppice_runtime::{Domain, Environment, StartError, time};

use disk::{Disk, Shadow};

/// Longer than a controller takes to be reset, several times.
const PATIENCE: Duration = Duration::from_secs(5);

/// Short beside the deadline of anybody who may be kept waiting by a call.
const MOST_WAIT: Duration = Duration::from_millis(50);

/// The domain.
pub struct ShadowBlockDomain;

/// What it stands in front of.
#[derive(Imports)]
pub struct Wires {
    target: Handle<dyn BlockDevice>,
}

impl Domain for ShadowBlockDomain {
    type Imports = Wires;
    type Export = Handle<dyn BlockDevice>;

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<Self::Export, StartError> {
        let time = |name, otherwise| {
            environment
                .option(name)
                .map_or(otherwise, |text| time::parse(text).expect("a time such as 500ms is wanted"))
        };
        let (patience, most_wait) = (time("recovery-timeout", PATIENCE), time("most-wait", MOST_WAIT));
        Ok(<dyn BlockDevice>::export(Shadow(Arc::new(Disk::new(wires.target, patience, most_wait)))))
    }
}
