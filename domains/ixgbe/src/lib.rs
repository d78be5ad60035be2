//! The domain of an Intel 82599 or X540 (10 Gigabit Ethernet), or of an 82576: serves it as a network device.
//!
//! The driver is the library `ixgbe-driver`; this crate connects it to the interface. [`Nic`] is a
//! controller. It resets a device that misbehaves. After too many resets it panics: the domain ends, and the
//! shadow in front of it (docs/recovery.md) continues with the restarted domain. [`Format`] tells the driver
//! how a client's packets are laid out.
//!
//! [`IxgbeDomain`] serves a [`Nic`] that is opened with [`Settings`]. A variant for tests, which injects
//! faults, wraps it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod counters;
mod format;
mod nic;
mod queue;
mod settings;
mod translate;

use coppice_interfaces::Handle;
use coppice_net::NetDevice;
use coppice_runtime::{Domain, Environment, StartError, time};
pub use format::Format;
pub use nic::Nic;
pub use settings::{BadArgument, Settings};

/// The domain. Its first device is the controller; its arguments are [`Settings`].
pub struct IxgbeDomain;

impl Domain for IxgbeDomain {
    type Imports = ();
    type Export = Handle<dyn NetDevice>;

    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        // An error here is one of the manifest or of the machine; the crash record shows it.
        let settings = Settings::parse(environment.args())?;
        let device = environment.granted_device(0)?;
        let start = time::now();
        let nic = Nic::open(device, settings)?;
        log::info!("{nic}, after {} us", (time::now() - start).as_micros());
        Ok(nic.serve())
    }
}
