//! The domain of an NVM Express controller: serves one of its namespaces as a block device.
//!
//! The driver is the library `nvme-driver`; this crate connects it to the interface. [`Disk`] is a controller
//! with one of its namespaces. It resets a controller that misbehaves. After too many resets it panics: the
//! domain ends, and the shadow in front of it (docs/recovery.md) continues with the restarted domain.
//!
//! [`NvmeDomain`] serves a [`Disk`] that is opened with [`Settings`]. A variant for tests, which injects
//! faults, wraps it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod disk;
mod queue;
mod settings;
mod translate;

use coppice_block::BlockDevice;
use coppice_interfaces::Handle;
use coppice_runtime::{Domain, Environment, StartError, time};
pub use disk::{Disk, DiskError};
pub use settings::{BadArgument, Settings};

/// The domain. Its first device is the controller; its arguments are [`Settings`].
pub struct NvmeDomain;

impl Domain for NvmeDomain {
    type Imports = ();
    type Export = Handle<dyn BlockDevice>;

    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        // An error here is one of the manifest or of the machine; the crash record shows it.
        let settings = Settings::parse(environment.args())?;
        let device = environment.granted_device(0)?;
        let start = time::now();
        let disk = Disk::open(device, settings)?;
        log::info!("{disk}, after {} us", (time::now() - start).as_micros());
        Ok(disk.serve())
    }
}
