//! A shadow of a network device: its clients survive crashes of its driver.
//!
//! The shadow stands between clients and the driver, with the same interface on both sides. Batches pass
//! through unchanged. The client lends its packets once, and those that a driver holds when it crashes return
//! to the client's loans directly. So the shadow handles no packets, and an exchange costs it one crossing,
//! whatever the batches carry. The shadow records the device's configuration and the depths of the open
//! queues, and applies them to a restarted driver before the first call of a client reaches it. Frames that
//! the driver held are lost, as on a wire.
//!
//! - [`device`]: the device as a whole: its identity, its configuration, and the calls to its driver.
//! - [`statistics`]: the device's statistics across restarts of the driver.
//! - [`queue`]: one queue: the healthy path, and the recovery after a crash of the driver.
//! - [`service`]: the exported object.
//!
//! The phases of a queue and the calls that survive a restart are those of `coppice-shadow-queue`.
//!
//! Arguments: `recovery-timeout=5s`, the time without a driver after which clients are told so
//! ([`QueueState::Gone`], [`NetError::Gone`]); `max-wait=50ms`, the maximum wait of one exchange for a
//! driver. The domain's own `deadline`, if it has one, must be longer than `max-wait`. It must be longer than
//! `recovery-timeout` too if clients call methods other than `exchange`, which wait for a driver for that
//! time.
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

use coppice_interfaces::{Handle, Imports};
use coppice_net::NetDevice;
use coppice_runtime::{Domain, Environment, StartError};
use coppice_shadow_queue::Timeouts;

use device::Device;
use service::Shadow;

/// The domain.
pub struct ShadowNetDomain;

/// The imports.
#[derive(Imports)]
pub struct Wires {
    /// The driver.
    target: Handle<dyn NetDevice>,
}

impl Domain for ShadowNetDomain {
    type Imports = Wires;
    type Export = Handle<dyn NetDevice>;

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<Self::Export, StartError> {
        let timeouts = Timeouts::parse(environment)?;
        Ok(<dyn NetDevice>::export(Shadow(Arc::new(Device::new(wires.target, timeouts)))))
    }
}
