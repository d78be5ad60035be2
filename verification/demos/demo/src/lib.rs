//! Crashes a disk driver again and again under load, and checks that nothing is lost.
//!
//! A [`hasher`] reads the whole image through the driver, over and over; [`writer`]s write blocks to a scratch area and
//! verify each that they read. What crashes the driver meanwhile, measures how long nobody is answered and says what comes of
//! it on the console, for `cargo xtask demo` to show and to judge, is `coppice-trial`; its own [`probe`]s are reads. All of them
//! go through the shadow, and none of them may notice more than a pause.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod hasher;
mod pattern;
mod plan;
mod probe;
mod queue;
mod stage;
mod writer;

use coppice_block::BlockDevice;
use coppice_control::Control;
use coppice_interfaces::{Handle, Imports};
use coppice_runtime::{Domain, Environment, StartError};
use coppice_test_interfaces::FaultControl;

use stage::Stage;

/// What the manifest wires the demonstration to.
#[derive(Imports)]
pub struct Wires {
    /// To kill, and to look.
    control: Handle<dyn Control>,
    /// The disk, behind the shadow.
    disk: Handle<dyn BlockDevice>,
    /// Has the driver go wrong.
    orders: Handle<dyn FaultControl>,
}

/// The domain.
pub struct DemoDomain;

impl Domain for DemoDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let Wires { control, disk, orders } = wires;
        let make = |trial| Stage::new(trial, disk);
        coppice_trial::start(environment, ["nvme", "demo"], control, orders, make);
        Ok(())
    }
}
