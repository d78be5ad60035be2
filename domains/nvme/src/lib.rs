//! Serves a namespace of an NVM Express controller as a block device.
//!
//! The driver is `nvme-driver`; this wires it to the interface. [`Disk`] is a controller with one of its namespaces, and what
//! decides when a controller that misbehaves is reset, and when it is too much: then the domain ends, and what stands in
//! front of it (docs/recovery.md) goes on with its next instance.
//!
//! [`NvmeDomain`] is a [`Disk`] opened with [`Settings`] and served; a variant that injects faults does the same.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod disk;
mod queue;
mod settings;

use coppice_block::BlockDevice;
use coppice_interfaces::Handle;
use coppice_runtime::{Domain, Environment, StartError, time};
pub use disk::{Disk, DiskError};
pub use settings::{BadArgument, Settings};

/// The domain: its first device is the controller, its arguments are [`Settings`].
pub struct NvmeDomain;

impl Domain for NvmeDomain {
    type Imports = ();
    type Export = Handle<dyn BlockDevice>;

    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        let settings = Settings::parse(environment.args())?;
        let device = environment.granted_device(0)?;
        let start = time::now();
        let disk = Disk::open(device, settings)?;
        log::info!("{disk}, after {} us", (time::now() - start).as_micros());
        Ok(disk.serve())
    }
}
