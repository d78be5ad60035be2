//! A demonstration that crashes a disk driver repeatedly under load and checks that no data is lost.
//!
//! A [`hasher`] reads the whole image through the driver repeatedly. [`writer`]s write blocks of a scratch
//! area and verify each block that they read. `coppice-trial` crashes the driver while they run, measures
//! each outage with reads of its own ([`probe`]), and prints the results on the console, where
//! `cargo xtask demo` shows and judges them. All requests go through the shadow, so a crash must appear to
//! its clients as a pause only.
//!
//! [`context`] holds the shared counters, [`queue`] tracks the requests in flight, and [`pattern`] generates
//! the data.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod context;
mod hasher;
mod pattern;
mod plan;
mod probe;
mod queue;
mod writer;

use alloc::sync::Arc;

use coppice_block::BlockDevice;
use coppice_control::Control;
use coppice_experiment::Failure;
use coppice_interfaces::{Handle, Imports};
use coppice_test_interfaces::FaultControl;
use coppice_trial::{Demonstration, Services, Trial, TrialDomain};

pub use context::Context;

/// The imports of the demonstration.
#[derive(Imports)]
pub struct Wires {
    /// The kernel, to kill and to inspect domains.
    control: Handle<dyn Control>,
    /// The disk, behind the shadow.
    disk: Handle<dyn BlockDevice>,
    /// Fault control, to request faults of the driver.
    fault_control: Handle<dyn FaultControl>,
}

/// The demonstration's domain.
pub type DemoDomain = TrialDomain<Wires>;

impl Demonstration for Wires {
    type Load = Context;
    type Device = Handle<dyn BlockDevice>;
    const DRIVER: &'static str = "nvme";
    const NAME: &'static str = "demo";

    fn split(self) -> (Services, Self::Device) {
        let Self { control, disk, fault_control } = self;
        (Services { control, fault_control }, disk)
    }

    fn load(trial: Arc<Trial>, device: Self::Device) -> Result<Context, Failure> {
        Context::new(trial, device)
    }
}
