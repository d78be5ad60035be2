//! Serves an Intel 82599 or X540 (10 Gigabit Ethernet), or an 82576, as a network device.
//!
//! The driver is `ixgbe-driver`; this wires it to the interface. [`Nic`] is a controller, and what decides when one that misbehaves is
//! reset, and when it is too much: then the domain ends, and what stands in front of it (docs/recovery.md) goes on with its next
//! instance. [`Format`] is how the driver reads a client's packets.
//!
//! [`IxgbeDomain`] is a [`Nic`] opened with [`Settings`] and served; a variant that injects faults does the same.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod counters;
mod format;
mod nic;
mod queue;
mod settings;

use coppice_interfaces::Handle;
use coppice_net::NetDevice;
use coppice_runtime::{Domain, Environment, StartError, time};
pub use format::Format;
pub use nic::Nic;
pub use settings::{BadWord, Settings};

/// The domain: its first device is the controller, its arguments are [`Settings`].
pub struct IxgbeDomain;

impl Domain for IxgbeDomain {
    type Imports = ();
    type Export = Handle<dyn NetDevice>;

    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        let settings = Settings::parse(environment.args())?;
        let device = environment.granted_device(0)?;
        let start = time::now();
        let nic = Nic::open(device, settings)?;
        log::info!("{nic}, after {} us", (time::now() - start).as_micros());
        Ok(nic.serve())
    }
}
