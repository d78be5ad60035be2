//! Lets clients of a network device survive the crashes of its driver.
//!
//! It stands between clients and the driver with the same interface. Batches go through it as they are: packets are lent by the
//! client, once, and what a driver had when it died goes back to the client without anybody's help. So the shadow knows no packet,
//! and an exchange costs a crossing, whatever it carries. What it does know is how the device was set up, which queues are
//! open and how deep they are; a new instance of the driver is given that before anybody's call reaches it. Frames that
//! the driver had are lost, as on a wire.
//!
//! - [`device`]: the device as a whole: which one it is, and how it was set up.
//! - [`statistics`]: what it has counted in all its driver's lives.
//! - [`queue`]: one queue: the healthy path, and what becomes of it when the driver's is lost.
//! - [`service`]: what is exported.
//!
//! The manifest's words: `recovery-timeout=5s`, after which it is said that there is no driver ([`QueueState::Gone`],
//! [`NetError::Gone`]); `most-wait=50ms`, how long one exchange waits for a driver at most, which has to be less than the domain's own
//! `deadline`, if it has one. So have `patience` and calls other than exchanges, which wait for a driver as long as that.
//!
//! [`QueueState::Gone`]: coppice_net::QueueState::Gone
//! [`NetError::Gone`]: coppice_net::NetError::Gone

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod device;
mod queue;
mod service;
mod statistics;

use alloc::sync::Arc;
use core::time::Duration;

use coppice_interfaces::{Handle, Imports};
use coppice_net::NetDevice;
use coppice_runtime::{Domain, Environment, StartError, time};

use device::Device;
use service::Shadow;

/// Longer than a device takes to be reset, and a link to come up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Short beside the deadline of anybody who may be kept waiting by a call.
const MOST_WAIT: Duration = Duration::from_millis(50);

/// The domain.
pub struct ShadowNetDomain;

/// What it stands in front of.
#[derive(Imports)]
pub struct Wires {
    target: Handle<dyn NetDevice>,
}

impl Domain for ShadowNetDomain {
    type Imports = Wires;
    type Export = Handle<dyn NetDevice>;

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<Self::Export, StartError> {
        let time = |name, otherwise| {
            environment
                .option(name)
                .map_or(otherwise, |text| time::parse(text).expect("a time such as 500ms is wanted"))
        };
        let (patience, most_wait) = (time("recovery-timeout", PATIENCE), time("most-wait", MOST_WAIT));
        Ok(<dyn NetDevice>::export(Shadow(Arc::new(Device::new(wires.target, patience, most_wait)))))
    }
}
